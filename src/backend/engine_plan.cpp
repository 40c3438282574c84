#include "backend/engine_plan.h"

#include <algorithm>

namespace oscar {

EngineSizes::EngineSizes(const EnginePlan& plan) {
  const uint64_t n_classes = plan.classes.size(), step_tokens = plan.max_step_tokens;
  uint64_t row_elements = 0;
  for (const LayerPlan& layer : plan.layers) {
    const LayerClass& c = plan.classes[layer.layer_class];
    const uint32_t group = layer.n_q_heads / c.n_kv_heads;
    max_group = std::max(max_group, group);
    max_kv_heads = std::max(max_kv_heads, c.n_kv_heads);
    row_elements = std::max<uint64_t>(row_elements, uint64_t{c.n_kv_heads} * (c.key_dim + c.value_dim));
  }
  undecided = uint64_t{plan.n_recent} + 2 * kBlockTokens + plan.max_rollback;
  // A cut inside a block leaves a short one behind, so a sequence may have more blocks than whole ones fit.
  max_blocks = 2 * (plan.max_tokens / kBlockTokens) + 64;
  max_pages = (plan.max_tokens + kPageTokens - 1) / kPageTokens;
  max_entries = std::min<uint64_t>(plan.max_sequences, step_tokens);
  max_aged_blocks = max_entries * (undecided / kBlockTokens + 1) * n_classes;
  max_step_blocks = step_tokens / kBlockTokens * n_classes + max_aged_blocks;
  vote_floats = (kMaxVoters + plan.max_rollback) * (undecided + step_tokens);
  if (step_tokens <= kBlockTokens) return;
  scratch_elements = step_tokens * row_elements;
  // A long entry has more than 128 new tokens and at most `undecided` old ones.
  const uint64_t max_long = std::min<uint64_t>(plan.max_sequences, step_tokens / (kBlockTokens + 1));
  chunk_tokens = step_tokens + max_long * undecided;
}

}  // namespace oscar
