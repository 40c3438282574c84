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

void CudaEngine::write_parts(const StepView& step, uint32_t layer_class) {
  parts_.clear();
  for (const StepEntry& e : step.entries) {
    PartWork part{};
    part.row = e.row;
    part.n_new = e.n_new;
    part.n_draft = e.n_draft;
    part.base = kPaddingBase;
    if (e.slot != kPaddingSlot) write_sequence(step, layer_class, e, part);
    parts_.push_back(part);
  }
  write(step, part_line(step.slot, layer_class), parts_.data(), parts_.size() * sizeof(PartWork));
}

// Which blocks and pages each CTA of the decode kernel takes; parts_ are those of the class. Steps that it does not
// serve (many queries, or a shape that was not built) are left to the prefill kernel.
void CudaEngine::write_plan(const StepView& step, uint32_t variant) {
  const AttendVariant& v = variants_[variant];
  const LayerClass& c = plan_.classes[v.layer_class];
  AttendShape& shape = states_[step.slot].shapes[variant];
  shape = {block_shape(c), 0, u32(parts_.size()) * c.n_kv_heads};
  bool uses_scratch = false;
  uint32_t max_queries = 0;
  sequences_.clear();
  const auto add = [&](bool padding) {
    for (const PartWork& p : parts_)
      if (p.is_padding() == padding)
        sequences_.push_back({0, p.span_begin, p.n_blocks, p.n_pages, p.row, p.base, 0, p.n_new * v.group});
  };
  add(false);
  add(true);
  for (const PartWork& p : parts_) {
    uses_scratch = uses_scratch || p.uses_scratch;
    max_queries = std::max(max_queries, p.n_new * v.group);
  }
  if (uses_scratch || max_queries > kMaxQueries) return;
  AttendShape wanted = shape;
  wanted.max_queries = max_queries;
  if (!attend_serves(wanted)) return;
  const uint32_t n_ctas = attend_ctas(wanted, sizes_.n_multiprocessors);
  const SpanEntry* spans = reinterpret_cast<const SpanEntry*>(tables_.line(0));
  if (!plan_step(sequences_.data(), u32(sequences_.size()), spans, c.n_kv_heads, n_ctas, PlanCosts{}, starts_.data(),
                 segments_.data()))
    return;
  const uint64_t line = variant_line(step.slot, variant);
  write(step, line, sequences_.data(), sequences_.size() * sizeof(SequenceWork));
  write(step, line + sizes_.starts_line(), starts_.data(), n_ctas * sizeof(CtaStart));
  write(step, line + sizes_.segments_line(), segments_.data(), sequences_.size() * c.n_kv_heads * sizeof(SegmentCtas));
  shape = wanted;
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
  check(attend_launch(states_[step.slot].shapes[variant], args, sizes_.n_multiprocessors, true, stream_), "attend");
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
  args.workspace = areas_[step.slot].prefill_workspace;
  check(prefill_launch(args, sizes_.n_multiprocessors, true, stream_), "attend");
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
  check(votes_launch(args, true, stream_), "votes");
}

void CudaEngine::attend(const StepView& step, const AttendRequest& r, bool votes) {
  on_device([&] {
    float* lse = static_cast<float*>(r.lse.data);
    int64_t lse_row_stride = r.lse.row_stride;
    if (!lse && votes) lse = areas_[step.slot].lse, lse_row_stride = plan_.layers[r.layer].n_q_heads;
    if (states_[step.slot].shapes[layer_variants_[r.layer]].max_queries > 0) {
      attend_decode(step, r, lse, lse_row_stride);
    } else {
      attend_any(step, r, lse, lse_row_stride);
    }
    if (votes) cast_votes(step, r, lse, lse_row_stride);
  });
}

}  // namespace oscar::cuda
