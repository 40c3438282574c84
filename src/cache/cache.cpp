#include "cache/cache.h"

#include "format/error.h"

namespace oscar {

namespace {

constexpr size_t kScratchAlignment = 64;

std::shared_ptr<const Calibration> calibration_of(const CacheConfig& config) {
  if (config.calibration) return config.calibration;
  std::vector<LayerGeometry> geometry;
  for (const LayerConfig& l : config.layers) geometry.push_back({l.n_kv_heads, l.key_dim, l.value_dim});
  return std::make_shared<const Calibration>(Calibration::data_free(geometry));
}

}  // namespace

Cache::Cache(CachePlan plan, const Backend& backend)
    : plan_(std::move(plan)), backend_(backend), memory_(plan_.config.allocator),
      calibration_(calibration_of(plan_.config)),
      pool_(plan_.pool_units(), plan_.main_kind(), plan_.config.capacity_bytes, &memory_), sequences_(&memory_),
      steps_(&memory_), transforms_(&memory_), class_layers_(&memory_), sizes_(plan_, backend), block_spans_(&memory_),
      row_spans_(&memory_), q_(&memory_), out_(&memory_), lse_(&memory_), sinks_(&memory_), votes_(&memory_),
      units_(&memory_) {
  const CacheConfig& config = plan_.config;
  const size_t n_classes = plan_.classes.size();
  transforms_.resize(n_classes);
  class_layers_.resize(n_classes);
  for (size_t c = 0; c < n_classes; ++c) {
    transforms_[c].reserve(plan_.classes[c].heads());
    class_layers_[c].reserve(plan_.classes[c].n_layers);
  }
  for (uint32_t l = 0; l < plan_.layers.size(); ++l) {
    const LayerPlan& layer = plan_.layers[l];
    if (!layer.owns) continue;
    class_layers_[layer.layer_class].push_back(l);
    for (uint32_t h = 0; h < plan_.classes[layer.layer_class].n_kv_heads; ++h)
      transforms_[layer.layer_class].push_back(&calibration_->head(l, h));
  }

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
    step.entries.reserve(config.max_step_tokens);
    step.entry_classes.reserve(sizes_.max_entries * n_classes);
    step.blocks.reserve(sizes_.max_step_blocks);
    step.progress.resize(plan_.layers.size());
    step.scratch.resize(plan_.n_scratch * sizes_.scratch_elements);
    step.chunk_votes.resize(plan_.n_scratch * sizes_.max_kv_heads * sizes_.chunk_tokens);
    step.scratch_layer.resize(plan_.n_scratch);
  }

  block_spans_.reserve(sizes_.max_blocks);
  row_spans_.reserve(sizes_.max_pages + 2);
  q_.resize(sizes_.row_floats);
  out_.resize(sizes_.row_floats);
  lse_.resize(sizes_.group_rows);
  sinks_.resize(sizes_.max_group);
  votes_.resize(sizes_.vote_floats);
  units_.resize(n_classes * 3);
  backend_scratch_ = memory_.allocate(sizes_.backend_scratch_bytes, kScratchAlignment);
}

Cache::~Cache() {
  if (backend_scratch_) memory_.deallocate(backend_scratch_, sizes_.backend_scratch_bytes, kScratchAlignment);
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

Cache::RowPointers Cache::row_at(const LayerClass& c, Unit page, uint32_t head_index, uint64_t token) const {
  uint8_t* head = pool_.data(page) + head_index * c.head_page_bytes;
  uint16_t* keys = reinterpret_cast<uint16_t*>(head);
  uint16_t* values = keys + kPageTokens * c.key_dim;
  const uint64_t row = token % kPageTokens;
  return {keys + row * c.key_dim, values + row * c.value_dim};
}

}  // namespace oscar
