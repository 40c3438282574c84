#include "cache/cache.h"

#include "backend/host_engine.h"

#include "format/error.h"

namespace oscar {

namespace {

std::shared_ptr<const Calibration> calibration_of(const CacheConfig& config) {
  if (config.calibration) return config.calibration;
  std::vector<LayerGeometry> geometry;
  for (const LayerConfig& l : config.layers) geometry.push_back({l.n_kv_heads, l.key_dim, l.value_dim});
  return std::make_shared<const Calibration>(Calibration::data_free(geometry));
}

}  // namespace

Cache::Cache(CachePlan plan, const Backend& backend)
    : plan_(std::move(plan)), sizes_(plan_), memory_(plan_.config.allocator),
      calibration_(calibration_of(plan_.config)),
      pool_(plan_.pool_units(), plan_.main_kind(), plan_.config.capacity_bytes, &memory_), sequences_(&memory_),
      steps_(&memory_), units_(&memory_), counts_(&memory_), late_counts_(&memory_), packs_(&memory_),
      sides_(&memory_) {
  const CacheConfig& config = plan_.config;
  const size_t n_classes = plan_.classes.size();
  sequences_.reserve(config.max_sequences + 1);
  for (uint32_t i = 0; i <= config.max_sequences; ++i) {
    Sequence& seq = sequences_.emplace_back(&memory_);
    if (i == 0) continue;
    seq.classes.reserve(n_classes);
    for (const LayerClass& c : plan_.classes) {
      ClassState& s = seq.classes.emplace_back(&memory_);
      if (!c.exact) s.blocks.reserve(sizes_.max_blocks);
      s.pages.reserve(sizes_.max_pages);
    }
  }
  steps_.reserve(config.max_open_steps);
  for (uint32_t i = 0; i < config.max_open_steps; ++i) {
    Step& step = steps_.emplace_back(&memory_);
    step.slot = i;
    step.entries.reserve(config.max_step_tokens);
    step.parts.reserve(sizes_.max_entries * n_classes);
    step.blocks.reserve(sizes_.max_step_blocks);
    step.progress.resize(plan_.layers.size());
    step.scratch_layer.resize(plan_.n_scratch);
  }
  units_.resize(n_classes * 3);
  counts_.reserve(sizes_.max_entries * n_classes);
  late_counts_.reserve(sizes_.max_entries * n_classes);
  packs_.reserve(sizes_.max_aged_blocks);
  sides_.reserve(sizes_.max_entries * n_classes);
  engine_ = std::make_unique<HostEngine>(plan_, *calibration_, backend, pool_.arena(), &memory_);
}

// An id is slot + (generation << 32); generations start at 1, so no id is 0.
uint32_t Cache::slot_of(uint64_t seq) const {
  const uint64_t slot = seq & 0xffffffffu;
  if (slot == 0 || slot >= sequences_.size() || !sequences_[slot].open || sequences_[slot].generation != seq >> 32)
    throw Error(Status::kNotFound, "sequence %#llx does not exist, or no longer", static_cast<unsigned long long>(seq));
  return static_cast<uint32_t>(slot);
}

uint32_t Cache::idle_slot_of(uint64_t seq) const {
  const uint32_t slot = slot_of(seq);
  if (sequences_[slot].in_step)
    throw Error(Status::kState, "sequence %#llx is in an open step", static_cast<unsigned long long>(seq));
  return slot;
}

uint32_t Cache::step_slot(uint64_t step) const {
  const uint64_t slot = step & 0xffffffffu;
  if (slot >= steps_.size() || !steps_[slot].open || steps_[slot].generation != step >> 32)
    throw Error(Status::kNotFound, "step %#llx does not exist, or has ended", static_cast<unsigned long long>(step));
  return static_cast<uint32_t>(slot);
}

}  // namespace oscar
