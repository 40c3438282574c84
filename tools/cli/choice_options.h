// The options of a cache that several commands share.
#pragma once
#include <string>

#include "command.h"
#include "serving.h"

namespace oscar::cli {

struct ChoiceOptions {
  std::string model, context, device = "cpu";
  uint32_t batch = 1;
  uint32_t sink = OSCAR_DEFAULT, recent = OSCAR_DEFAULT, rollback = OSCAR_DEFAULT, step_tokens = OSCAR_DEFAULT,
           threads = OSCAR_DEFAULT;
};

inline constexpr const char* kProfiles = "2bit (default), 2bit-plain, k3v2, 3bit, 4bit, 8bit, exact";

void add_model_options(Command& command, ChoiceOptions& options);
void add_choice_options(Command& command, ChoiceOptions& options);
Choice choice_of(const ChoiceOptions& options);

// The context asked for, else the model's longest, else 32K.
uint64_t context_of(const ChoiceOptions& options, const Model& model);

}  // namespace oscar::cli
