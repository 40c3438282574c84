// A step on the device: its tables, written at begin, and the launches of its layers, which read nothing else.
#include <algorithm>

#include "engine.h"

namespace oscar::cuda {

namespace {

constexpr uint32_t kPagesPerLine = sizeof(TableLine) / sizeof(uint32_t);

TensorView view_of(const oscar::TensorView& t) {
  const Dtype dtype = t.dtype == oscar::Dtype::kF32   ? Dtype::kF32
                      : t.dtype == oscar::Dtype::kF16 ? Dtype::kF16
                                                      : Dtype::kBF16;
  return {t.data, t.row_stride, t.head_stride, dtype};
}

// Exact rows [first, last) by page.
void add_page_spans(std::pmr::vector<SpanEntry>& spans, const SequenceView& s, uint64_t first, uint64_t last) {
  while (first < last) {
    const uint64_t page = first / kPageTokens, stop = std::min(last, (page + 1) * kPageTokens);
    spans.push_back({s.pages[page], u32(page * kPageTokens), static_cast<uint16_t>(first % kPageTokens),
                     static_cast<uint16_t>(stop - page * kPageTokens), 0});
    first = stop;
  }
}

}  // namespace

uint64_t CudaEngine::part_line(uint32_t step_slot, uint32_t layer_class) const {
  return areas_[step_slot].first_line + layer_class * table_lines(sizes_.max_entries, sizeof(PartWork));
}

uint64_t CudaEngine::variant_line(uint32_t step_slot, uint32_t variant) const {
  return part_line(step_slot, static_cast<uint32_t>(classes_.size())) + variant * sizes_.variant_lines();
}

void CudaEngine::write(const StepView& step, uint64_t line, const void* data, uint64_t bytes) {
  tables_.write(line, data, bytes, areas_[step.slot].staging, stream_);
}

// The page table of the sequence, where this step reads it: sinks, and what is not packed.
void CudaEngine::write_pages(const StepView& step, uint32_t layer_class, uint64_t first_line, const SequenceView& s,
                             uint64_t end) {
  const LayerClass& c = plan_.classes[layer_class];
  const uint64_t tail = std::max(s.kept_from, c.exact ? 0 : s.packed_end);
  const auto write_range = [&](uint64_t first, uint64_t last) {
    for (uint64_t line = first / kPageTokens / kPagesPerLine; line * kPagesPerLine * kPageTokens < last; ++line) {
      uint32_t pages[kPagesPerLine];
      for (uint64_t i = 0; i < kPagesPerLine; ++i) {
        const uint64_t page = line * kPagesPerLine + i;
        pages[i] = page < s.pages.size() ? s.pages[page] : kNoPage;
      }
      write(step, first_line + line, pages, sizeof pages);
    }
  };
  write_range(0, c.n_sink);
  write_range(tail, end);
}

void CudaEngine::write_sequence(const StepView& step, uint32_t layer_class, const StepEntry& e, PartWork& part) {
  const LayerClass& c = plan_.classes[layer_class];
  const DeviceClass& d = classes_[layer_class];
  const StepPart& p = step.parts[e.classes + layer_class];
  const SequenceView& s = p.sequence;
  const uint64_t line = sequence_line(layer_class, e.slot), page_line = line + d.max_spans;
  spans_.clear();
  for (const BlockEntry& b : s.blocks) spans_.push_back({b.unit, u32(b.start), b.first, b.last, 0});
  part.n_blocks = u32(spans_.size());
  const uint64_t in_pages = p.uses_scratch ? e.base : e.end();  // tokens before this one are read from pages
  const uint64_t tail = std::max(s.kept_from, c.exact ? 0 : s.packed_end);
  add_page_spans(spans_, s, 0, std::min<uint64_t>(c.n_sink, in_pages));
  add_page_spans(spans_, s, std::max<uint64_t>(tail, c.n_sink), in_pages);
  part.n_pages = u32(spans_.size()) - part.n_blocks;
  write(step, line, spans_.data(), spans_.size() * sizeof(SpanEntry));
  write_pages(step, layer_class, page_line, s, e.end());
  part.base = u32(e.base);
  part.span_begin = u32(line);
  part.uses_scratch = p.uses_scratch;
  part.page_begin = u32(page_line * kPagesPerLine);
  part.persist_from = u32(p.persist_from);
  part.packed_end = u32(s.packed_end);
  part.next_packed_end = u32(p.packed_end);
  part.first_start = u32(p.first_start);
  part.n_chunk_blocks = p.n_blocks;
  part.scores = s.scores;
  part.side = s.side;
  part.vote_offset = u32(p.vote_offset);
}

// In a batch-invariant step: what the part itself is decides, never what stands beside it.
bool CudaEngine::is_decoded(const PartWork& part, uint32_t layer_class) const {
  return plan_.batch_invariant && sizes_.traits.is_hopper && !part.uses_scratch && part.n_new <= kInvariantTokens &&
         attend_serves({block_shape(plan_.classes[layer_class]), kInvariantQueries, 1, true});
}

void CudaEngine::write_parts(const StepView& step, uint32_t layer_class) {
  parts_.clear();
  for (const StepEntry& e : step.entries) {
    PartWork part{};
    part.row = e.row;
    part.n_new = e.n_new;
    part.n_draft = e.n_draft;
    part.is_query_only = e.query_only;
    part.base = kPaddingBase;
    if (e.slot != kPaddingSlot) write_sequence(step, layer_class, e, part);
    part.is_decoded = is_decoded(part, layer_class);
    parts_.push_back(part);
  }
  write(step, part_line(step.slot, layer_class), parts_.data(), parts_.size() * sizeof(PartWork));
}

// The decode kernel's segments of the parts that it serves: of those that see something, or of the others, which come
// last. Returns the most rows that one of them has.
uint32_t CudaEngine::add_sequences(uint32_t group, bool seeing) {
  const uint32_t most = plan_.batch_invariant ? kInvariantQueries : kMaxQueries;
  uint32_t max_queries = 0;
  for (const PartWork& p : parts_) {
    if (p.sees_nothing() == seeing || (plan_.batch_invariant && !p.is_decoded)) continue;
    const uint32_t n_rows = p.n_new * group;
    for (uint32_t row = 0; row < n_rows; row += most)
      sequences_.push_back({0, p.span_begin, p.n_blocks, p.n_pages, p.row, p.base, row, std::min(most, n_rows - row)});
    max_queries = std::max(max_queries, std::min(most, n_rows));
  }
  return max_queries;
}

// Writes which blocks and pages each CTA of the decode kernel takes. False where there are too many.
bool CudaEngine::plan(const StepView& step, uint32_t variant, const AttendShape& shape) {
  const LayerClass& c = plan_.classes[variants_[variant].layer_class];
  const uint32_t n_ctas = attend_ctas(shape, sizes_.traits.n_multiprocessors), n = u32(sequences_.size());
  const SpanEntry* spans = reinterpret_cast<const SpanEntry*>(tables_.line(0));
  const uint64_t line = variant_line(step.slot, variant);
  if (shape.batch_invariant) {
    // The workspace has room for the most chunks that a step of this cache can have.
    if (!plan_step_invariant(sequences_.data(), n, spans, c.n_kv_heads, n_ctas, UINT32_MAX, starts_.data()))
      throw Error(Status::kUnsupported, "a batch-invariant step over more than 2^32 blocks");
  } else {
    if (!plan_step(sequences_.data(), n, spans, c.n_kv_heads, n_ctas, PlanCosts{}, starts_.data(), segments_.data()))
      return false;
    write(step, line + sizes_.segments_line(), segments_.data(), n * c.n_kv_heads * sizeof(SegmentCtas));
  }
  write(step, line, sequences_.data(), n * sizeof(SequenceWork));
  write(step, line + sizes_.starts_line(), starts_.data(), n_ctas * sizeof(CtaStart));
  return true;
}

// Chooses the kernels; parts_ are those of the class. What the decode kernel does not serve (many queries, or a shape that
// was not built) is left to the prefill kernel.
void CudaEngine::write_plan(const StepView& step, uint32_t variant) {
  const AttendVariant& v = variants_[variant];
  const LayerClass& c = plan_.classes[v.layer_class];
  AttendChoice& choice = states_[step.slot].choices[variant];
  choice = {{block_shape(c), 0, 0, plan_.batch_invariant}, true};
  bool few_rows = true, all_decoded = true;
  for (const PartWork& p : parts_) {
    few_rows = few_rows && !p.uses_scratch && p.n_new * v.group <= kMaxDecodeRows;
    all_decoded = all_decoded && p.is_decoded;
  }
  if (!sizes_.traits.is_hopper || (!plan_.batch_invariant && !few_rows)) return;
  sequences_.clear();
  AttendShape wanted = choice.decode;
  wanted.max_queries = add_sequences(v.group, true);
  wanted.max_queries = std::max(wanted.max_queries, add_sequences(v.group, false));
  wanted.n_segments = u32(sequences_.size()) * c.n_kv_heads;
  if (!attend_serves(wanted) || !plan(step, variant, wanted)) return;
  choice = {wanted, plan_.batch_invariant && !all_decoded};
}

void CudaEngine::open(const StepView& step) {
  on_device([&] {
    for (uint32_t c = 0; c < classes_.size(); ++c) {
      write_parts(step, c);
      for (uint32_t v = 0; v < variants_.size(); ++v)
        if (variants_[v].layer_class == c) write_plan(step, v);
    }
    tables_.flush(areas_[step.slot].staging, stream_);
    send_chunk_packs(step);
  });
}

const PartWork* CudaEngine::parts_of(uint32_t step_slot, uint32_t layer_class) const {
  return reinterpret_cast<const PartWork*>(table_ + part_line(step_slot, layer_class));
}

ScratchView CudaEngine::scratch_of(const StepView& step, uint32_t layer) const {
  const StepArea& area = areas_[step.slot];
  if (!area.scratch) return {};
  const LayerPlan& source = plan_.layers[plan_.layers[layer].kv_source];
  const LayerClass& c = plan_.classes[source.layer_class];
  const EngineSizes& sizes = sizes_.engine;
  uint16_t* keys = area.scratch + source.scratch * sizes.scratch_elements;
  return {keys, keys + uint64_t{step.n_rows} * c.n_kv_heads * c.key_dim,
          area.chunk_votes + uint64_t{source.scratch} * sizes.max_kv_heads * sizes.chunk_tokens, sizes.chunk_tokens};
}

void CudaEngine::append(const StepView& step, uint32_t layer, const oscar::TensorView& k, const oscar::TensorView& v) {
  const LayerPlan& l = plan_.layers[layer];
  const DeviceClass& d = classes_[l.layer_class];
  on_device([&] {
    check(append_launch({d.view, scratch_of(step, layer), parts_of(step.slot, l.layer_class), u32(step.entries.size()),
                         step.n_rows, l.index_in_class * d.view.n_kv_heads, view_of(k), view_of(v)},
                        false, stream_),
          "append");
  });
}

// What the decode and the prefill kernels are told alike.
template <class Args>
void CudaEngine::describe(Args& args, const StepView& step, const AttendRequest& r, float* lse,
                          int64_t lse_row_stride) const {
  const LayerPlan& l = plan_.layers[r.layer];
  const LayerClass& c = plan_.classes[l.layer_class];
  const uint32_t first_head = l.index_in_class * c.n_kv_heads;
  args.pool = pool_.base();
  args.block_offset = uint64_t{first_head} * c.layout.bytes;
  args.page_offset = first_head * c.head_page_bytes;
  args.spans = reinterpret_cast<const SpanEntry*>(table_);
  args.n_kv_heads = c.n_kv_heads;
  args.group = l.n_q_heads / c.n_kv_heads;
  args.n_rows = step.n_rows;
  args.q = view_of(r.q);
  args.out = view_of(r.out);
  args.lse = lse;
  args.lse_row_stride = lse_row_stride;
  args.sink_logits = static_cast<const float*>(r.sink_logits.data);
  args.mask = static_cast<const uint8_t*>(r.mask.data);
  args.mask_row_stride = r.mask.row_stride;
  args.scale = r.scale;
  args.softcap = r.softcap;
  args.window = c.window;
  args.query = layer_maps_[l.kv_source].query;
  args.value_inverse = layer_maps_[l.kv_source].value_inverse;
}

void CudaEngine::attend_decode(const StepView& step, const AttendRequest& r, float* lse, int64_t lse_row_stride) {
  const StepArea& area = areas_[step.slot];
  const uint32_t variant = layer_variants_[r.layer];
  const TableLine* table = table_ + variant_line(step.slot, variant);
  AttendArgs args{};
  describe(args, step, r, lse, lse_row_stride);
  args.sequences = reinterpret_cast<const SequenceWork*>(table);
  args.starts = reinterpret_cast<const CtaStart*>(table + sizes_.starts_line());
  args.segments = reinterpret_cast<const SegmentCtas*>(table + sizes_.segments_line());
  args.workspace = area.attend_workspace;
  args.n_segments = sizes_.max_segments;
  args.mapped_queries = area.mapped_queries;
  check(attend_launch(states_[step.slot].choices[variant].decode, args, sizes_.traits.n_multiprocessors, true, stream_),
        "attend");
}

void CudaEngine::attend_any(const StepView& step, const AttendRequest& r, float* lse, int64_t lse_row_stride) {
  const uint32_t layer_class = plan_.layers[r.layer].layer_class;
  const LayerClass& c = plan_.classes[layer_class];
  const ScratchView scratch = scratch_of(step, r.layer);
  PrefillArgs args{};
  describe(args, step, r, lse, lse_row_stride);
  args.head_page_bytes = c.head_page_bytes;
  args.parts = parts_of(step.slot, layer_class);
  args.n_parts = u32(step.entries.size());
  args.key_dim = c.key_dim;
  args.value_dim = c.value_dim;
  args.layout = c.layout;
  args.scratch_keys = scratch.keys;
  args.scratch_values = scratch.values;
  args.batch_invariant = plan_.batch_invariant;
  args.is_hopper = sizes_.traits.is_hopper;
  args.workspace = areas_[step.slot].prefill_workspace;
  check(prefill_launch(args, sizes_.traits.n_multiprocessors, args.is_hopper, stream_), "attend");
}

void CudaEngine::cast_votes(const StepView& step, const AttendRequest& r, const float* lse, int64_t lse_row_stride) {
  const LayerPlan& l = plan_.layers[r.layer];
  const DeviceClass& d = classes_[l.layer_class];
  VoteArgs args{};
  args.c = d.view;
  args.scratch = scratch_of(step, r.layer);
  args.parts = parts_of(step.slot, l.layer_class);
  args.n_parts = u32(step.entries.size());
  args.n_rows = step.n_rows;
  args.first_head = l.index_in_class * d.view.n_kv_heads;
  args.group = l.n_q_heads / d.view.n_kv_heads;
  args.q = view_of(r.q);
  args.lse = lse;
  args.lse_row_stride = lse_row_stride;
  args.mask = static_cast<const uint8_t*>(r.mask.data);
  args.mask_row_stride = r.mask.row_stride;
  args.scale = r.scale;
  args.softcap = r.softcap;
  args.window = plan_.classes[l.layer_class].window;
  check(votes_launch(args, sizes_.traits.is_hopper, stream_), "votes");
}

void CudaEngine::attend(const StepView& step, const AttendRequest& r, bool votes) {
  on_device([&] {
    float* lse = static_cast<float*>(r.lse.data);
    int64_t lse_row_stride = r.lse.row_stride;
    if (!lse && votes) lse = areas_[step.slot].lse, lse_row_stride = plan_.layers[r.layer].n_q_heads;
    const AttendChoice& choice = states_[step.slot].choices[layer_variants_[r.layer]];
    if (choice.decode.max_queries > 0) attend_decode(step, r, lse, lse_row_stride);
    if (choice.prefill) attend_any(step, r, lse, lse_row_stride);
    if (votes) cast_votes(step, r, lse, lse_row_stride);
  });
}

}  // namespace oscar::cuda
