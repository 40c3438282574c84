#include "cache/cache.h"

#include "backend/device_engine.h"
#include "backend/host_engine.h"
#include "cache/id.h"
#include "format/error.h"

namespace oscar {

Cache::Cache(CachePlan plan, const Backend& backend)
    : plan_(std::move(plan)), sizes_(plan_), memory_(plan_.config.allocator), calibration_(plan_.calibration()),
      pool_(plan_.pool_units(), plan_.main_kind(), plan_.config.capacity_bytes, &memory_), backend_(backend),
      sequences_(&memory_), steps_(&memory_), units_(&memory_), counts_(&memory_), late_counts_(&memory_),
      packs_(&memory_), sides_(&memory_), watches_(&memory_) {
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
  watches_.resize(plan_.layers.size());
  if (config.device == Device::kCuda)
    engine_ = cuda_engine(plan_, *calibration_, backend, config.device_id, config.device_allocator, pool_.arena_bytes(),
                          &memory_);
  else
    engine_ = std::make_unique<HostEngine>(plan_, *calibration_, backend, pool_.arena_bytes(), &memory_);
  if (plan_.collecting) collector_ = std::make_unique<SelfCalibrator>(*config.self_calibration);
}

uint32_t Cache::slot_of(uint64_t seq) const {
  const auto [slot, generation] = SlotId::split(seq, sequences_.size());
  if (slot == 0 || !sequences_[slot].open || sequences_[slot].generation != generation)
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
  const auto [slot, generation] = SlotId::split(step, steps_.size());
  if (!steps_[slot].open || steps_[slot].generation != generation)
    throw Error(Status::kNotFound, "step %#llx does not exist, or has ended", static_cast<unsigned long long>(step));
  return static_cast<uint32_t>(slot);
}

}  // namespace oscar
