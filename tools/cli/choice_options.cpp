#include "choice_options.h"

#include "text.h"

namespace oscar::cli {

void add_choice_options(Command& command, ChoiceOptions& options) {
  constexpr uint32_t kMost = UINT32_MAX - 1;
  command.one_of("--device", options.device, {"cpu", "cuda"}, "cpu (default) or cuda")
      .number("--sink", options.sink, 0, kMost, "TOKENS", "first tokens that stay exact for ever (default 16)")
      .number("--recent", options.recent, 0, kMost, "TOKENS", "newest tokens that are exact (default 128)")
      .number("--rollback", options.rollback, 0, kMost, "TOKENS", "newest tokens that can be taken back (default 8)")
      .number("--step-tokens", options.step_tokens, 0, kMost, "TOKENS", "new tokens of one step at most (default 2048)")
      .number("--threads", options.threads, 1, 1024, "N", "threads within a call, on the CPU (default 1)");
}

Choice choice_of(const ChoiceOptions& options) {
  Choice choice;
  choice.device = options.device;
  choice.n_sink = options.sink;
  choice.n_recent = options.recent;
  choice.max_rollback = options.rollback;
  choice.max_step_tokens = options.step_tokens;
  choice.n_threads = options.threads;
  return choice;
}

uint64_t context_of(const std::string& given, const Model& model) {
  if (!given.empty()) return parse_count(given, "--context");
  return model.max_positions > 0 ? model.max_positions : 32768;
}

}  // namespace oscar::cli
