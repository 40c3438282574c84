#include "cache/footprint.h"

#include <algorithm>

#include "cache/cache.h"
#include "cache/host_engine.h"

namespace oscar {

Footprint::Footprint(const CachePlan& plan, const Backend& backend) {
  const CacheConfig& config = plan.config;
  const uint64_t n_classes = plan.classes.size(), step_tokens = config.max_step_tokens;
  const uint64_t undecided = uint64_t{config.n_recent} + 2 * kBlockTokens + config.max_rollback;
  uint64_t row_elements = 0, row_dims = 0;
  for (const LayerPlan& layer : plan.layers) {
    const LayerClass& c = plan.classes[layer.layer_class];
    const uint32_t group = layer.n_q_heads / c.n_kv_heads;
    max_group = std::max(max_group, group);
    max_kv_heads = std::max(max_kv_heads, c.n_kv_heads);
    row_dims = std::max<uint64_t>(row_dims, uint64_t{group} * std::max(c.key_dim, c.value_dim));
    row_elements = std::max<uint64_t>(row_elements, uint64_t{c.n_kv_heads} * (c.key_dim + c.value_dim));
    backend_scratch_bytes = std::max<uint64_t>(
        backend_scratch_bytes,
        backend.scratch_bytes(c.key_dim, c.value_dim, static_cast<uint32_t>(group * step_tokens)));
  }
  // A cut inside a block leaves a short one behind, so a sequence may have more blocks than whole ones fit.
  max_blocks = 2 * (config.max_tokens / kBlockTokens) + 64;
  max_pages = (config.max_tokens + kPageTokens - 1) / kPageTokens;
  max_entries = std::min<uint64_t>(config.max_sequences, step_tokens);
  max_step_blocks = (step_tokens / kBlockTokens + max_entries * (undecided / kBlockTokens + 1)) * n_classes;
  max_aged_blocks = max_entries * (undecided / kBlockTokens + 1) * n_classes;
  group_rows = max_group * step_tokens;
  row_floats = row_dims * step_tokens;
  vote_floats = (kMaxVoters + config.max_rollback) * (undecided + step_tokens);
  if (step_tokens <= kBlockTokens) return;
  scratch_elements = step_tokens * row_elements;
  // A long entry has more than 128 new tokens and at most `undecided` old ones.
  chunk_tokens = step_tokens + (step_tokens / kBlockTokens + 1) * undecided;
}

uint64_t Footprint::fixed_bytes(const CachePlan& plan, uint64_t calibration_bytes) const {
  const CacheConfig& config = plan.config;
  const uint64_t n_classes = plan.classes.size(), n_sequences = uint64_t{config.max_sequences} + 1;
  uint64_t per_sequence = n_classes * sizeof(ClassState);
  for (const LayerClass& c : plan.classes)
    per_sequence += max_pages * sizeof(Unit) + (c.exact ? 0 : max_blocks * sizeof(BlockEntry));
  const uint64_t per_step = config.max_step_tokens * sizeof(StepEntry) + max_entries * n_classes * sizeof(EntryClass) +
                            max_step_blocks * sizeof(Unit) + plan.layers.size() * sizeof(LayerProgress) +
                            plan.n_scratch * sizeof(uint32_t);
  const uint64_t jobs = n_classes * 3 * sizeof(uint64_t) + max_aged_blocks * sizeof(PackJob) +
                        max_entries * n_classes * (sizeof(CountJob) + sizeof(SideJob));
  return sizeof(Cache) + n_sequences * sizeof(Sequence) + config.max_sequences * per_sequence +
         config.max_open_steps * (sizeof(Step) + per_step) + jobs + HostEngine::bytes(plan, *this) + calibration_bytes +
         Pool::bookkeeping_bytes(plan.pool_units(), plan.main_kind(), config.capacity_bytes);
}

}  // namespace oscar
