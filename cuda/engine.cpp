#include "engine.h"

#include <algorithm>
#include <cstdio>

namespace oscar::cuda {

namespace {

uint32_t group_of(const EnginePlan& plan, const LayerPlan& l) {
  return l.n_q_heads / plan.classes[l.layer_class].n_kv_heads;
}

uint32_t find_variant(std::pmr::vector<AttendVariant>& variants, AttendVariant wanted) {
  for (uint32_t i = 0; i < variants.size(); ++i)
    if (variants[i].layer_class == wanted.layer_class && variants[i].group == wanted.group) return i;
  variants.push_back(wanted);
  return static_cast<uint32_t>(variants.size()) - 1;
}

uint32_t n_variants(const EnginePlan& plan) {
  std::pmr::vector<AttendVariant> variants;
  for (const LayerPlan& l : plan.layers) find_variant(variants, {l.layer_class, group_of(plan, l)});
  return static_cast<uint32_t>(variants.size());
}

// Spans of exact rows of one sequence: sinks, and what is not packed, the new tokens of a short step included.
uint64_t max_page_spans(const LayerClass& c, const EngineSizes& sizes, const EnginePlan& plan) {
  const uint64_t all = sizes.max_pages + 2;
  if (c.exact) return all;
  return std::min(all, (c.n_sink + sizes.undecided + plan.max_step_tokens) / kPageTokens + 6);
}

// Chunks of a batch-invariant step of one layer, at most: as many tokens as the decode kernel may be given, each in
// segments as long as the longest sequence. 0 where steps are not batch-invariant.
uint64_t max_chunks(const EnginePlan& plan, const LayerPlan& l, const EngineSizes& sizes) {
  if (!plan.batch_invariant) return 0;
  const LayerClass& c = plan.classes[l.layer_class];
  const uint64_t n_tokens = std::min<uint64_t>(plan.max_step_tokens, uint64_t{kInvariantTokens} * plan.max_sequences),
                 n_segments = n_tokens * invariant_segments(group_of(plan, l)) * c.n_kv_heads,
                 n_items = (c.exact ? 0 : sizes.max_blocks) + max_page_spans(c, sizes, plan);
  return chunk_limit(n_segments * n_items, n_segments);
}

void size_class(DeviceClass& d, const LayerClass& c, const EngineSizes& sizes, const EnginePlan& plan) {
  d.max_spans = (c.exact ? 0 : sizes.max_blocks) + max_page_spans(c, sizes, plan);
  d.page_lines = table_lines(sizes.max_pages, sizeof(uint32_t));
  d.sequence_lines = d.max_spans + d.page_lines;
}

}  // namespace

DeviceSizes::DeviceSizes(const EnginePlan& plan, int device)
    : engine(plan), traits(device), max_entries(plan.max_step_tokens), max_sequences(0), max_ctas(0), max_segments(0),
      max_q_heads(0) {
  for (const LayerPlan& l : plan.layers) {
    const LayerClass& c = plan.classes[l.layer_class];
    // A segment of many rows has more than one token; a batch-invariant one may have a part of a token's.
    const uint32_t of_token = plan.batch_invariant ? invariant_segments(group_of(plan, l)) : 1;
    max_sequences = std::max(max_sequences, max_entries * of_token);
    max_q_heads = std::max(max_q_heads, l.n_q_heads);
    max_segments = std::max(max_segments, max_entries * of_token * c.n_kv_heads);
    mapped_floats = std::max<uint64_t>(mapped_floats, uint64_t{plan.max_step_tokens} * l.n_q_heads * c.key_dim);
    prefill_workspace = std::max(prefill_workspace, prefill_workspace_bytes({c.key_dim, c.value_dim, l.n_q_heads,
                                                                             c.n_kv_heads, plan.max_step_tokens},
                                                                            traits.n_multiprocessors));
  }
  for (const LayerPlan& l : plan.layers) {
    if (!traits.is_hopper) break;  // no decode kernels
    const LayerClass& c = plan.classes[l.layer_class];
    const uint64_t n_chunks = max_chunks(plan, l, engine);
    for (uint32_t queries = 1; queries <= (plan.batch_invariant ? kInvariantQueries : kMaxQueries); ++queries)
      for (const uint32_t segments : {1u, max_segments}) {
        const AttendShape shape{block_shape(c), queries, segments, plan.batch_invariant};
        max_ctas = std::max(max_ctas, attend_ctas(shape, traits.n_multiprocessors));
        attend_workspace = std::max(attend_workspace,
                                    attend_workspace_bytes(shape, traits.n_multiprocessors, max_segments, n_chunks));
      }
  }
  uint64_t heads = 0;
  n_lines = 0;
  for (const LayerClass& c : plan.classes) {
    DeviceClass d;
    size_class(d, c, engine, plan);
    n_lines += plan.max_sequences * d.sequence_lines;
    heads = std::max(heads, c.heads());
  }
  max_counts = engine.max_entries * plan.classes.size();
  max_packs = engine.max_aged_blocks + plan.n_scratch * engine.max_step_blocks;
  max_arrivals = std::max(engine.max_aged_blocks * heads, engine.max_step_blocks * engine.max_kv_heads);
  max_moved = plan.n_recent + engine.undecided / kPageTokens + 2;
  step_lines = plan.classes.size() * table_lines(max_entries, sizeof(PartWork)) + n_variants(plan) * variant_lines();
  n_lines += plan.max_open_steps * step_lines;
}

CudaEngine::CudaEngine(const EnginePlan& plan, const Calibration& calibration, const Backend& host, int device,
                       std::pmr::memory_resource* memory)
    : plan_(plan), calibration_(calibration), host_(host), device_(device), sizes_(plan, device), classes_(memory),
      variants_(memory), layer_variants_(memory), layer_maps_(memory), areas_(memory), states_(memory), tables_(memory),
      spans_(memory), parts_(memory), sequences_(memory), starts_(memory), segments_(memory), counts_(memory),
      sides_(memory), packs_(memory), move_(memory) {
  variants_.reserve(n_variants(plan_));
  layer_variants_.reserve(plan_.layers.size());
  for (const LayerPlan& l : plan_.layers)
    layer_variants_.push_back(find_variant(variants_, {l.layer_class, group_of(plan_, l)}));
  classes_.resize(plan_.classes.size());
  layer_maps_.resize(plan_.layers.size());
  areas_.resize(plan_.max_open_steps);
  states_.reserve(plan_.max_open_steps);
  for (uint32_t i = 0; i < plan_.max_open_steps; ++i) {
    StepState& s = states_.emplace_back(memory);
    s.choices.resize(variants_.size());
    s.chunk_packs.resize(classes_.size() + 1);
  }
  uint64_t max_spans = 0;
  for (uint32_t i = 0; i < classes_.size(); ++i) {
    size_class(classes_[i], plan_.classes[i], sizes_.engine, plan_);
    max_spans = std::max(max_spans, classes_[i].max_spans);
  }
  spans_.reserve(max_spans);
  parts_.reserve(sizes_.max_entries);
  sequences_.reserve(sizes_.max_sequences);
  starts_.resize(sizes_.max_ctas);
  segments_.resize(sizes_.max_segments);
  counts_.reserve(sizes_.max_counts);
  sides_.reserve(sizes_.max_counts);
  packs_.reserve(sizes_.max_packs);
  move_.reserve(sizes_.max_moved);
  tables_.resize(sizes_.n_lines);
}

void CudaEngine::allocate(const DeviceAllocator& allocator, uint64_t arena_bytes) {
  const DeviceGuard guard(device_);
  if (sizes_.traits.is_hopper) check(attend_prepare(), "preparing the decode kernels");
  check(prefill_prepare(sizes_.traits.is_hopper), "preparing the prefill kernels");
  check(prepare_pack(), "preparing the packing kernels");
  pool_.allocate(allocator, arena_bytes);
  fixed_.allocate(allocator, fixed_device_bytes());
  check(cudaMemset(fixed_.base(), 0, fixed_.bytes()), "cudaMemset");
  place(fixed_);
  check(cudaDeviceSynchronize(), "setting up");
  tables_.attach(table_);
}

CudaEngine::~CudaEngine() {
  if (!fixed_.base()) return;
  // Memory goes back to its allocator only when no kernel uses it any more.
  int previous = 0;
  cudaGetDevice(&previous);
  cudaSetDevice(device_);
  cudaDeviceSynchronize();
  fixed_.release();
  pool_.release();
  cudaSetDevice(previous);
}

// Everything of fixed size on the device. On an arena without memory it only counts.
void CudaEngine::place(DeviceArena& arena) {
  table_ = arena.take<TableLine>(sizes_.n_lines);
  n_non_finite_ = arena.take<unsigned long long>(1);
  uint64_t line = 0;
  for (uint32_t i = 0; i < classes_.size(); ++i) {
    const LayerClass& c = plan_.classes[i];
    DeviceClass& d = classes_[i];
    d.first_line = line;
    line += plan_.max_sequences * d.sequence_lines;
    d.view.pool = pool_.base();
    d.view.pages = reinterpret_cast<const uint32_t*>(table_);
    d.view.n_kv_heads = c.n_kv_heads;
    d.view.n_heads = static_cast<uint32_t>(c.heads());
    d.view.key_dim = c.key_dim;
    d.view.value_dim = c.value_dim;
    d.view.n_sink = c.n_sink;
    d.view.n_recent = plan_.n_recent;
    d.view.max_rollback = plan_.max_rollback;
    d.view.has_votes = c.votes;
    d.view.n_scores = c.vote_layout.n_scores;
    d.view.n_lines = c.vote_layout.n_lines;
    d.view.n_line = c.vote_layout.n_line;
    d.view.head_page_bytes = c.head_page_bytes;
    d.view.head_vote_bytes = c.vote_layout.bytes();
  }
  place_maps(arena);
  const bool maps_queries = std::any_of(layer_maps_.begin(), layer_maps_.end(),
                                        [](const LayerMaps& m) { return m.query.kind == MapKind::kDense; });
  const uint64_t scratch = sizes_.engine.scratch_elements ? plan_.n_scratch : 0;
  for (StepArea& a : areas_) {
    a.staging = arena.take<TableChange>(TableMirror::kMaxChanges);
    a.counts = arena.take<CountWork>(2 * sizes_.max_counts);
    a.sides = arena.take<SideWork>(sizes_.max_counts);
    a.packs = arena.take<PackJob>(sizes_.max_packs);
    a.arrivals = arena.take<uint32_t>(sizes_.max_arrivals);
    a.move = arena.take<uint32_t>(sizes_.max_moved);
    a.scratch = arena.take<uint16_t>(scratch * sizes_.engine.scratch_elements);
    a.chunk_votes = arena.take<float>(scratch * sizes_.engine.max_kv_heads * sizes_.engine.chunk_tokens);
    a.lse = arena.take<float>(uint64_t{plan_.max_step_tokens} * sizes_.max_q_heads);
    a.mapped_queries = arena.take<float>(maps_queries ? sizes_.mapped_floats : 0);
    a.attend_workspace = arena.take<uint8_t>(sizes_.attend_workspace);
    a.prefill_workspace = arena.take<uint8_t>(sizes_.prefill_workspace);
    a.first_line = line;
    line += sizes_.step_lines;
  }
}

uint64_t CudaEngine::fixed_device_bytes() {
  DeviceArena counter;
  place(counter);
  return counter.used();
}

void CudaEngine::copy_unit(uint32_t layer_class, UnitKind kind, Unit from, Unit to) {
  on_device([&] {
    const ClassView& v = classes_[layer_class].view;
    check(cudaMemcpyAsync(v.unit(to), v.unit(from), plan_.classes[layer_class].unit_bytes[static_cast<int>(kind)],
                          cudaMemcpyDeviceToDevice, stream_),
          "copying a unit");
  });
}

// The pages that the path touches, then its indices; the page table begins before them, so that positions index it.
void CudaEngine::move_accepted(uint32_t layer_class, const SequenceView& s, uint64_t base,
                               std::span<const uint32_t> indices) {
  if (indices.empty()) return;
  const uint64_t first_page = base / kPageTokens, last_page = (base + indices.back()) / kPageTokens;
  move_.assign(s.pages.begin() + static_cast<int64_t>(first_page),
               s.pages.begin() + static_cast<int64_t>(last_page) + 1);
  const uint64_t n_pages = move_.size();
  move_.insert(move_.end(), indices.begin(), indices.end());
  on_device([&] {
    uint32_t* device = areas_[0].move;
    check(cudaMemcpyAsync(device, move_.data(), move_.size() * sizeof(uint32_t), cudaMemcpyHostToDevice, stream_),
          "uploading an accepted path");
    MoveArgs args{classes_[layer_class].view,
                  0u - static_cast<uint32_t>(first_page),
                  static_cast<uint32_t>(base),
                  s.scores,
                  s.side,
                  device + n_pages,
                  static_cast<uint32_t>(indices.size())};
    args.c.pages = device;
    check(move_launch(args, stream_), "moving an accepted path");
  });
}

}  // namespace oscar::cuda
