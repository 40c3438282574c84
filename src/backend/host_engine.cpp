#include "backend/host_engine.h"

#include <algorithm>
#include <cstring>

namespace oscar {

namespace {
constexpr size_t kScratchAlignment = 64, kArenaAlignment = 4096;

size_t scratch_bytes(const EnginePlan& plan, const Backend& backend) {
  size_t bytes = 0;
  for (const LayerClass& c : plan.classes) bytes = std::max(bytes, backend.scratch_bytes(c.key_dim, c.value_dim));
  return bytes;
}

// What one thread has, in elements.
struct WorkerSizes {
  uint64_t max_dim = 0, max_value_pad = 0;
  explicit WorkerSizes(const EnginePlan& plan) {
    for (const LayerClass& c : plan.classes) {
      max_dim = std::max<uint64_t>({max_dim, c.key_dim, c.value_dim});
      max_value_pad = std::max<uint64_t>(max_value_pad, round_up(c.value_dim, kDimUnit));
    }
  }
};

uint64_t max_ranges(const EnginePlan& plan, const EngineSizes& sizes) {
  return plan.max_step_tokens / (kTileRows / sizes.max_group) + 2 * sizes.max_entries;
}

uint64_t max_splits(const EnginePlan& plan) { return plan.n_threads > 1 ? plan.max_tokens / kSplitTokens + 2 : 0; }

uint64_t partials(const EnginePlan& plan, uint64_t max_tasks) {
  const uint64_t value_pad = WorkerSizes(plan).max_value_pad;
  return max_tasks * max_splits(plan) * partial_floats(static_cast<uint32_t>(value_pad));
}

}  // namespace

HostEngine::Worker::Worker(const EnginePlan& plan, const EngineSizes& sizes, size_t scratch_bytes,
                           std::pmr::memory_resource* memory)
    : scratch(memory, scratch_bytes, kScratchAlignment), blocks(memory), rows(memory), q(memory), out(memory),
      lse(memory), sinks(memory), votes(memory) {
  const uint64_t max_dim = WorkerSizes(plan).max_dim;
  blocks.reserve(sizes.max_blocks);
  rows.reserve(sizes.max_pages + 2);
  q.resize(kTileRows * max_dim);
  out.resize(kTileRows * max_dim);
  lse.resize(kTileRows);
  sinks.resize(sizes.max_group);
  votes.resize(sizes.vote_floats);
}

HostEngine::HostEngine(const EnginePlan& plan, const Calibration& calibration, const Backend& backend,
                       uint64_t arena_bytes, std::pmr::memory_resource* memory)
    : plan_(plan), sizes_(plan), calibration_(&calibration), backend_(backend),
      arena_(memory, arena_bytes, kArenaAlignment), transforms_(memory), counts_(memory), scratch_(memory),
      workers_(memory), ranges_(memory), max_splits_(max_splits(plan)),
      partial_stride_(partial_floats(static_cast<uint32_t>(WorkerSizes(plan).max_value_pad))), partials_(memory),
      pool_(plan.n_threads, memory) {
  transforms_.resize(plan_.classes.size());
  for (size_t c = 0; c < plan_.classes.size(); ++c) transforms_[c].reserve(plan_.classes[c].heads());
  use_transforms();
  counts_.resize(plan_.classes.size());
  for (size_t c = 0; c < plan_.classes.size(); ++c) counts_[c].resize(plan_.classes[c].n_layers);
  scratch_.reserve(plan_.max_open_steps);
  for (uint32_t i = 0; i < plan_.max_open_steps; ++i) {
    Scratch& s = scratch_.emplace_back(memory);
    s.rows.resize(plan_.n_scratch * sizes_.scratch_elements);
    s.votes.resize(plan_.n_scratch * sizes_.max_kv_heads * sizes_.chunk_tokens);
  }
  const size_t n_scratch = scratch_bytes(plan, backend);
  workers_.reserve(plan_.n_threads);
  for (uint32_t i = 0; i < plan_.n_threads; ++i) workers_.emplace_back(plan, sizes_, n_scratch, memory);
  ranges_.reserve(max_ranges(plan, sizes_));
  partials_.resize(partials(plan, kTasksPerThread * plan.n_threads));
}

void HostEngine::use_transforms() {
  for (auto& of_class : transforms_) of_class.clear();
  for (uint32_t l = 0; l < plan_.layers.size(); ++l) {
    const LayerPlan& layer = plan_.layers[l];
    if (!layer.owns) continue;
    for (uint32_t h = 0; h < plan_.classes[layer.layer_class].n_kv_heads; ++h)
      transforms_[layer.layer_class].push_back(&calibration_->head(l, h));
  }
}

uint64_t HostEngine::footprint(const EnginePlan& plan, const Backend& backend) {
  const EngineSizes sizes(plan);
  const uint64_t n_classes = plan.classes.size();
  uint64_t heads = 0, layers = 0;
  for (const LayerClass& c : plan.classes) heads += c.heads(), layers += c.n_layers;
  const uint64_t tables = n_classes * sizeof(std::pmr::vector<const HeadTransform*>) +
                          heads * sizeof(const HeadTransform*) + n_classes * sizeof(std::pmr::vector<PackCounts>) +
                          layers * sizeof(PackCounts) + max_ranges(plan, sizes) * sizeof(AttendRange) +
                          (plan.n_threads - 1) * sizeof(std::thread);
  const uint64_t scratch = plan.n_scratch * (sizes.scratch_elements * sizeof(uint16_t) +
                                             sizes.max_kv_heads * sizes.chunk_tokens * sizeof(float));
  const uint64_t worker = sizeof(Worker) + scratch_bytes(plan, backend) + sizes.max_blocks * sizeof(BlockSpan) +
                          (sizes.max_pages + 2) * sizeof(RowSpan) +
                          (kTileRows * (2 * WorkerSizes(plan).max_dim + 1) + sizes.max_group + sizes.vote_floats) *
                              sizeof(float);
  return sizeof(HostEngine) + tables + plan.max_open_steps * (sizeof(Scratch) + scratch) + plan.n_threads * worker +
         partials(plan, kTasksPerThread * plan.n_threads) * sizeof(float);
}

HostEngine::Part HostEngine::part_of(const StepView& step, const StepEntry& e, uint32_t layer) const {
  const LayerPlan& l = plan_.layers[layer];
  const StepPart& part = step.parts[e.classes + l.layer_class];
  return {e, part, part.sequence, l, plan_.classes[l.layer_class]};
}

HostEngine::RowPointers HostEngine::row_at(const LayerClass& c, Unit page, uint32_t head_index, uint64_t token) const {
  uint8_t* head = data(page) + head_index * c.head_page_bytes;
  uint16_t* keys = reinterpret_cast<uint16_t*>(head);
  uint16_t* values = keys + kPageTokens * c.key_dim;
  const uint64_t row = token % kPageTokens;
  return {keys + row * c.key_dim, values + row * c.value_dim};
}

HostEngine::RowPointers HostEngine::scratch_row(const StepView& step, const Part& p, uint32_t head, uint64_t row) {
  const uint32_t area = plan_.layers[p.layer.kv_source].scratch;
  uint16_t* keys = scratch_[step.slot].rows.data() + area * sizes_.scratch_elements;
  uint16_t* values = keys + uint64_t{step.n_rows} * p.c.n_kv_heads * p.c.key_dim;
  const uint64_t index = row * p.c.n_kv_heads + head;
  return {keys + index * p.c.key_dim, values + index * p.c.value_dim};
}

float* HostEngine::chunk_votes(const StepView& step, const Part& p, uint32_t head) {
  return scratch_[step.slot].votes.data() +
         (uint64_t{p.layer.scratch} * sizes_.max_kv_heads + head) * sizes_.chunk_tokens + p.step.vote_offset;
}

void HostEngine::append(const StepView& step, uint32_t layer, const TensorView& k, const TensorView& v) {
  for (const StepEntry& e : step.entries)
    if (e.stores()) append_part(step, part_of(step, e, layer), k, v);
}

void HostEngine::append_part(const StepView& step, const Part& p, const TensorView& k, const TensorView& v) {
  const LayerClass& c = p.c;
  auto store = [&](uint64_t row, uint32_t head, const RowPointers& to) {
    load_row_bf16(k, row, head, c.key_dim, to.key);
    load_row_bf16(v, row, head, c.value_dim, to.value);
  };
  for (uint32_t i = 0; i < p.entry.n_new; ++i) {
    const uint64_t token = p.entry.base + i, row = p.entry.row + i;
    const bool persists = token >= p.step.persist_from || token < c.n_sink;
    for (uint32_t head = 0; head < c.n_kv_heads; ++head) {
      if (p.step.uses_scratch) store(row, head, scratch_row(step, p, head, row));
      if (persists)
        store(row, head, row_at(c, p.sequence.pages[token / kPageTokens], head_index(c, p.layer, head), token));
    }
  }
  if (c.votes) clear_votes(step, p);
}

void HostEngine::clear_votes(const StepView& step, const Part& p) {
  const StepEntry& e = p.entry;
  const bool is_big = p.entry.is_big(plan_.max_rollback);
  for (uint32_t head = 0; head < p.c.n_kv_heads; ++head) {
    const VoteArea votes = votes_at(p.c, p.sequence.scores, head_index(p.c, p.layer, head));
    // On the side that end commits; the other one may still hold an old token in the same place of the ring.
    for (uint64_t token = std::max({p.step.persist_from, p.step.packed_end, e.base}); token < e.end(); ++token)
      votes.score(is_big ? p.sequence.side ^ 1 : p.sequence.side, token) = 0.0f;
    const uint64_t first_line = is_big ? e.base + e.n_sure() - plan_.max_rollback : e.base;
    for (uint64_t query = first_line; query < e.end(); ++query)
      std::fill_n(votes.line(query), votes.layout.n_line, uint16_t{0});
    if (p.step.n_blocks == 0) continue;
    float* chunk = chunk_votes(step, p, head);
    for (uint64_t token = p.sequence.packed_end; token < e.end(); ++token)
      chunk[token - p.sequence.packed_end] = token < e.base ? votes.score(p.sequence.side, token) : 0.0f;
  }
}

void HostEngine::copy_unit(uint32_t layer_class, UnitKind kind, Unit from, Unit to) {
  std::memcpy(data(to), data(from), plan_.classes[layer_class].unit_bytes[static_cast<int>(kind)]);
}

// Ascending, so that a row is read before it is overwritten.
void HostEngine::move_accepted(uint32_t layer_class, const SequenceView& s, uint64_t base,
                               std::span<const uint32_t> indices) {
  const LayerClass& c = plan_.classes[layer_class];
  for (uint32_t head = 0; head < c.heads(); ++head) {
    for (uint64_t i = 0; i < indices.size(); ++i) {
      const uint64_t from = base + indices[i], to = base + i;
      if (from == to) continue;
      const RowPointers source = row_at(c, s.pages[from / kPageTokens], head, from);
      const RowPointers target = row_at(c, s.pages[to / kPageTokens], head, to);
      std::memcpy(target.key, source.key, c.key_dim * sizeof(uint16_t));
      std::memcpy(target.value, source.value, c.value_dim * sizeof(uint16_t));
    }
    if (c.votes) move_votes(votes_at(c, s.scores, head), s, base, indices);
  }
}

// The accepted tokens and their queries move together: a vote for a moved token moves within its line.
void HostEngine::move_votes(const VoteArea& votes, const SequenceView& s, uint64_t base,
                            std::span<const uint32_t> indices) {
  const uint64_t reach = votes.layout.n_line;
  for (uint64_t i = 0; i < indices.size(); ++i) {
    const uint64_t from = base + indices[i], to = base + i;
    if (from == to) continue;
    votes.score(s.side, to) = votes.score(s.side, from);
    for (uint64_t token = to > reach ? to - reach : 0; token < base; ++token)
      votes.vote(to, token) = votes.vote(from, token);
    for (uint64_t m = 0; m < i; ++m) votes.vote(to, base + m) = votes.vote(from, base + indices[m]);
  }
}

}  // namespace oscar
