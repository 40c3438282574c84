#include "choice_options.h"

#include "text.h"

namespace oscar::cli {

void add_model_options(Command& command, ChoiceOptions& options) {
  command.positional("MODEL", options.model, "config.json, its folder, or a GGUF file")
      .text("-c,--context", options.context, "TOKENS", "tokens of a sequence (default: the model's longest)")
      .number("-b,--batch", options.batch, 1, 1u << 20, "N", "sequences (default 1)");
}

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
  choice.n_sequences = options.batch;
  choice.n_sink = options.sink;
  choice.n_recent = options.recent;
  choice.max_rollback = options.rollback;
  choice.max_step_tokens = options.step_tokens;
  choice.n_threads = options.threads;
  return choice;
}

uint64_t context_of(const ChoiceOptions& options, const Model& model) {
  if (!options.context.empty()) return parse_count(options.context, "--context");
  return model.max_positions > 0 ? model.max_positions : 32768;
}

}  // namespace oscar::cli
