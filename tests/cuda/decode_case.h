// A random decode step on the GPU and in the oracle: several sequences and KV heads over one pool laid out as the cache
// lays it out, poisoned wherever nothing valid lies.
#pragma once
#include <algorithm>
#include <cstring>
#include <memory>

#include "attend.h"
#include "backend/cpu.h"
#include "device_buffer.h"
#include "device_map.h"
#include "random_work.h"

namespace oscar::testing {

struct DecodeGeometry {
  BlockShape shape;
  uint32_t n_kv_heads, group;
  std::vector<Geometry> sequences;  // dims, group, map, window, scale-free: the same in all; lengths differ
  bool padding;                     // one more row that belongs to nobody
  cuda::Dtype q_dtype;
  float softcap;
};

// Part of a step: some new tokens of a sequence.
struct Slice {
  uint32_t sequence, first, n_new;
};

// A launch over part of a step: KV heads [first_head, first_head + n_heads), of each `group` query heads from `member`
// on (n_heads > 1: all). Empty slices: the whole step, padding included.
struct DecodeLaunch {
  std::vector<Slice> slices;
  uint32_t first_head, n_heads, member, group;
  uint32_t n_split;  // CTAs at most. Odd numbers: the kernel for few segments; even: the one for many
  bool invariant;
  cuda::Dtype dtype;
};

class DecodeCase {
 public:
  DecodeCase(const DecodeGeometry& geometry, Random& random) : g_(geometry) {
    layout_ = block_layout(g_.shape);
    scale_ = static_cast<float>((0.3 + 0.9 * random.uniform()) / std::sqrt(g_.shape.key_dim));
    for (const Geometry& s : g_.sequences)
      for (uint32_t h = 0; h < g_.n_kv_heads; ++h)
        problems_.push_back(std::make_unique<Problem>(s, random, best_backend()));
    make_tables(random);
    make_pool();
    make_queries();
    make_transforms();
  }

  uint32_t n_rows() const { return n_rows_; }
  uint32_t n_q_heads() const { return g_.n_kv_heads * g_.group; }
  uint32_t n_items() const {
    uint32_t n = 0;
    for (const cuda::SequenceWork& s : sequences_) n += (s.n_blocks + s.n_pages) * g_.n_kv_heads;
    return n;
  }
  const DecodeGeometry& geometry() const { return g_; }
  bool counters_clean() const { return counters_clean_; }  // after run

  DecodeLaunch whole(uint32_t n_split, cuda::Dtype dtype = cuda::Dtype::kF32, bool invariant = false) const {
    return {{}, 0, g_.n_kv_heads, 0, g_.group, n_split, invariant, dtype};
  }

  // out: [row][query head][dim] of the whole step, as bytes; all bits set where the launch wrote nothing.
  void run(const DecodeLaunch& launch, uint32_t n_multiprocessors, std::vector<uint8_t>& out, std::vector<float>& lse) {
    std::vector<cuda::SpanEntry> spans_of_launch = spans_;
    std::vector<cuda::SequenceWork> works = works_of(launch, spans_of_launch);
    uint32_t most = 0;
    uint64_t n_items = 0;
    for (const cuda::SequenceWork& w : works) {
      most = std::max(most, w.n_queries);
      n_items += uint64_t{w.n_blocks + w.n_pages} * launch.n_heads;
    }
    const cuda::AttendShape shape{g_.shape, most, launch.n_split % 2 ? 1u : 1u << 20, launch.invariant};
    const uint32_t n_ctas = cuda::attend_ctas(shape, n_multiprocessors),
                   n_segments = static_cast<uint32_t>(works.size()) * launch.n_heads;
    const uint64_t n_chunks = cuda::chunk_limit(n_items, n_segments);
    std::vector<cuda::CtaStart> starts(n_ctas);
    std::vector<cuda::SegmentCtas> segments(n_segments);
    const cuda::PlanCosts costs{1, launch.n_split / 2 % 2 ? 1000u : 0u};  // segments to themselves, or an even split
    const uint32_t n_split = std::min(launch.n_split, n_ctas), n_works = static_cast<uint32_t>(works.size());
    if (!(launch.invariant ? cuda::plan_step_invariant(works.data(), n_works, spans_of_launch.data(), launch.n_heads,
                                                       n_split, n_chunks, starts.data())
                           : cuda::plan_step(works.data(), n_works, spans_of_launch.data(), launch.n_heads, n_split,
                                             costs, starts.data(), segments.data())))
      std::abort();
    for (uint32_t c = n_split; c < n_ctas; ++c) starts[c] = starts[0];  // idle: c >= n_active
    const uint64_t element = launch.dtype == cuda::Dtype::kF32 ? 4 : 2;
    const uint32_t first_q = launch.first_head * g_.group + launch.member, dk = g_.shape.key_dim,
                   dv = g_.shape.value_dim;
    DeviceBuffer<uint8_t> pool(pool_), q(q_bytes_), mask(mask_), device_out(n_rows_ * n_q_heads() * dv * element);
    DeviceBuffer<cuda::SpanEntry> spans(spans_of_launch);
    DeviceBuffer<cuda::SequenceWork> sequences(works);
    DeviceBuffer<cuda::CtaStart> device_starts(starts);
    DeviceBuffer<cuda::SegmentCtas> device_segments(segments);
    DeviceBuffer<float> device_lse(n_rows_ * n_q_heads()), sinks(sinks_), query_matrix(query_matrix_),
        value_matrix(value_matrix_), mapped(uint64_t{n_rows_} * n_q_heads() * dk);
    DeviceBuffer<uint8_t> workspace(cuda::attend_workspace_bytes(shape, n_multiprocessors, n_segments, n_chunks));
    device_out.fill(0xff);
    device_lse.fill(0xff);
    mapped.fill(0xff);
    workspace.fill(0xff);
    check_cuda(cudaMemset(workspace.get(), 0, n_segments * 4), "counters");

    cuda::AttendArgs a = numbers_of(launch);
    a.pool = pool.get();
    a.spans = spans.get();
    a.sequences = sequences.get();
    a.starts = device_starts.get();
    a.segments = device_segments.get();
    a.q.data = q.get() + uint64_t{first_q} * (dk + 8) * q_element();
    a.out.data = device_out.get() + uint64_t{first_q} * dv * element;
    a.lse = device_lse.get() + first_q;
    a.sink_logits = g_.sequences[0].sink_logits ? sinks.get() + first_q : nullptr;
    a.mask = g_.sequences[0].tree_mask ? mask.get() : nullptr;
    a.query.matrix = query_matrix.get() + uint64_t{launch.first_head} * dk * dk;
    a.value_inverse.matrix = value_matrix.get() + uint64_t{launch.first_head} * dv * dv;
    a.workspace = workspace.get();
    a.n_segments = n_segments;
    a.mapped_queries = mapped.get();
    check_cuda(cuda::attend_launch(shape, a, n_multiprocessors, false, nullptr), "attend_launch");
    check_cuda(cudaDeviceSynchronize(), "attend");
    out = device_out.download();
    lse = device_lse.download();
    const std::vector<uint8_t> left = workspace.download();  // the counters must be ready for the next launch
    counters_clean_ = std::all_of(left.begin(), left.begin() + n_segments * 4, [](uint8_t b) { return b == 0; });
  }

  // An exact row of the pool, key or value: a random one that `sequence` has.
  struct ExactRow {
    uint32_t position;
    uint16_t* elements;
  };
  ExactRow exact_row(uint32_t sequence, uint32_t head, bool is_value, Random& random) {
    const cuda::SequenceWork& w = sequences_[sequence];
    const cuda::SpanEntry& span = spans_[w.span_begin + w.n_blocks + random.below(w.n_pages)];
    const uint32_t row = random.between(span.first, span.last - 1u), dk = g_.shape.key_dim, dv = g_.shape.value_dim;
    uint8_t* page = pool_.data() + uint64_t{span.unit} * 64 + (uint64_t{kLayer} * g_.n_kv_heads + head) * page_bytes();
    const uint64_t at = is_value ? uint64_t{kPageTokens} * dk + row * dv : uint64_t{row} * dk;
    return {span.start + row, reinterpret_cast<uint16_t*>(page) + at};
  }

  uint32_t first_row(uint32_t sequence) const {
    uint32_t row = 0;
    for (uint32_t s = 0; s < sequence; ++s) row += g_.sequences[s].n_new;
    return row;
  }

  // Whether new token i of the sequence sees the token at `position`.
  bool sees(uint32_t sequence, uint32_t i, uint32_t position) const {
    const Geometry& s = g_.sequences[sequence];
    const uint32_t first = s.n_sinks + s.n_blocks * kBlockTokens + s.n_recent, own = first + i;
    if (position == own) return true;
    if (position > own || (s.window && own - position >= s.window)) return false;
    return !s.tree_mask || position < first ||
           mask_[(first_row(sequence) + i) * static_cast<uint64_t>(mask_stride_) + position - first];
  }

  // The oracle's [row][query head] results; padding rows 0 and minus infinity.
  void reference(std::vector<float>& out, std::vector<float>& lse) const {
    const uint32_t dv = g_.shape.value_dim;
    out.assign(uint64_t{n_rows_} * n_q_heads() * dv, 0.0f);
    lse.assign(uint64_t{n_rows_} * n_q_heads(), -INFINITY);
    for (uint32_t s = 0, row = 0; s < g_.sequences.size(); row += g_.sequences[s++].n_new)
      for (uint32_t h = 0; h < g_.n_kv_heads; ++h) {
        const Problem& p = *problems_[s * g_.n_kv_heads + h];
        AttendWork w = p.work();
        std::vector<BlockSpan> blocks(w.blocks, w.blocks + w.n_blocks);
        for (uint32_t b = 0; b < w.n_blocks; ++b)
          blocks[b].first = cuts_[s][b].first, blocks[b].last = cuts_[s][b].second;
        w.blocks = blocks.data();
        w.scale = scale_;
        w.softcap = g_.softcap;
        w.mask = g_.sequences[0].tree_mask ? mask_.data() + uint64_t{row} * mask_stride_ : nullptr;
        w.mask_stride = mask_stride_;
        w.sink_logits = g_.sequences[0].sink_logits ? sinks_.data() + h * g_.group : nullptr;
        w.n_voters = 0;
        w.transform = &problems_[h]->transform();  // the launch has one per head
        const Result r = attend(reference_backend(), w);
        for (uint32_t i = 0; i < w.n_new * w.group; ++i) {
          const uint64_t at = uint64_t{row + i / w.group} * n_q_heads() + h * g_.group + i % w.group;
          std::copy_n(r.out.data() + uint64_t{i} * dv, dv, out.data() + at * dv);
          lse[at] = r.lse[i];
        }
      }
  }

 private:
  static constexpr uint32_t kLayer = 1, kLayers = 3;  // of its class

  uint64_t page_bytes() const { return uint64_t{kPageTokens} * (g_.shape.key_dim + g_.shape.value_dim) * 2; }
  uint64_t q_element() const { return g_.q_dtype == cuda::Dtype::kF32 ? 4 : 2; }
  int64_t q_row_stride() const { return int64_t{n_q_heads()} * (g_.shape.key_dim + 8) + 3; }

  // What a launch is told beside pointers.
  cuda::AttendArgs numbers_of(const DecodeLaunch& launch) const {
    const Geometry& s = g_.sequences[0];
    cuda::AttendArgs a{};
    a.block_offset = (uint64_t{kLayer} * g_.n_kv_heads + launch.first_head) * layout_.bytes;
    a.page_offset = (uint64_t{kLayer} * g_.n_kv_heads + launch.first_head) * page_bytes();
    a.n_kv_heads = launch.n_heads;
    a.group = launch.group;
    a.n_rows = n_rows_;
    a.q = {nullptr, q_row_stride(), g_.shape.key_dim + 8, g_.q_dtype};
    a.out = {nullptr, int64_t{n_q_heads()} * g_.shape.value_dim, g_.shape.value_dim, launch.dtype};
    a.lse_row_stride = n_q_heads();
    a.mask_row_stride = mask_stride_;
    a.scale = scale_;
    a.softcap = g_.softcap;
    a.window = s.window;
    a.query.kind = device_map_kind(s.map, g_.shape.key_dim);
    a.value_inverse.kind = device_map_kind(s.map, g_.shape.value_dim);
    return a;
  }

  // The works of a launch. Slices get spans of their own behind the others: their last page ends with their last token.
  std::vector<cuda::SequenceWork> works_of(const DecodeLaunch& launch, std::vector<cuda::SpanEntry>& spans) const {
    std::vector<cuda::SequenceWork> works;
    const auto add = [&](cuda::SequenceWork w, uint32_t n_queries) {
      const uint32_t most = launch.invariant ? cuda::kInvariantQueries : cuda::kMaxQueries;
      for (uint32_t r = 0; r < n_queries; r += most) {
        w.query_begin = r;
        w.n_queries = std::min(most, n_queries - r);
        works.push_back(w);
      }
    };
    std::vector<Slice> slices = launch.slices;
    if (slices.empty())
      for (uint32_t s = 0; s < g_.sequences.size(); ++s) slices.push_back({s, 0, g_.sequences[s].n_new});
    for (const Slice& slice : slices) {
      cuda::SequenceWork w = sequences_[slice.sequence];
      w.first_row += slice.first;
      w.first_position += slice.first;
      const uint32_t end = w.first_position + slice.n_new, from = w.span_begin, n_pages = w.n_pages;
      w.span_begin = static_cast<uint32_t>(spans.size());
      w.n_pages = 0;
      for (uint32_t k = 0; k < w.n_blocks + n_pages; ++k) {
        cuda::SpanEntry span = spans_[from + k];
        if (k >= w.n_blocks) {
          if (span.start + span.first >= end) continue;
          span.last = static_cast<uint16_t>(std::min<uint32_t>(span.last, end - span.start));
          ++w.n_pages;
        }
        spans.push_back(span);
      }
      add(w, slice.n_new * launch.group);
    }
    if (g_.padding && launch.slices.empty()) add(sequences_.back(), g_.group);
    return works;
  }

  // Cuts (the same for all heads), spans, sequences.
  void make_tables(Random& random) {
    uint64_t unit = 1;  // unit 0 stays poison
    const uint64_t block_units = (kLayers * g_.n_kv_heads * layout_.bytes + 63) / 64;
    const uint64_t page_units = (kLayers * g_.n_kv_heads * page_bytes() + 63) / 64;
    for (const Geometry& s : g_.sequences) {
      cuda::SequenceWork w{};
      w.span_begin = static_cast<uint32_t>(spans_.size());
      w.first_row = n_rows_;
      w.n_blocks = s.n_blocks;
      const uint32_t packed_end = s.n_sinks + s.n_blocks * kBlockTokens, n_past = packed_end + s.n_recent;
      w.first_position = n_past;
      cuts_.emplace_back();
      for (uint32_t b = 0; b < s.n_blocks; ++b) {
        uint32_t first = 0, last = kBlockTokens;
        if (s.cut_blocks && random.chance(0.5)) first = random.below(kBlockTokens);
        if (s.cut_blocks && random.chance(0.5)) last = random.between(first + 1, kBlockTokens);
        cuts_.back().push_back({first, last});
        spans_.push_back({static_cast<uint32_t>(unit), s.n_sinks + b * kBlockTokens, static_cast<uint16_t>(first),
                          static_cast<uint16_t>(last), 0});
        unit += block_units;
      }
      for (uint32_t page = 0; page * kPageTokens < n_past + s.n_new; ++page)
        for (const auto& [from, to] : {std::pair{0u, s.n_sinks}, std::pair{packed_end, n_past + s.n_new}}) {
          const uint32_t begin = page * kPageTokens, a = std::max(from, begin), b = std::min(to, begin + kPageTokens);
          if (a >= b) continue;
          spans_.push_back({static_cast<uint32_t>(unit), begin, static_cast<uint16_t>(a - begin),
                            static_cast<uint16_t>(b - begin), 0});
          unit += page_units;
          ++w.n_pages;
        }
      sequences_.push_back(w);
      n_rows_ += s.n_new;
      mask_stride_ = std::max<int64_t>(mask_stride_, s.n_new);
    }
    if (g_.padding) {
      cuda::SequenceWork w{};
      w.first_row = n_rows_++;
      w.n_queries = g_.group;
      sequences_.push_back(w);
    }
    pool_.assign(unit * 64, 0xff);
    mask_.resize(n_rows_ * mask_stride_);
    for (uint8_t& m : mask_) m = random.chance(0.5);
    for (uint32_t h = 0; h < n_q_heads(); ++h) sinks_.push_back(3.0f * random.normal());
  }

  void make_pool() {
    for (uint32_t i = 0; i < g_.sequences.size(); ++i)
      for (uint32_t k = 0; k < sequences_[i].n_blocks + sequences_[i].n_pages; ++k)
        for (uint32_t h = 0; h < g_.n_kv_heads; ++h) put(sequences_[i], i, k, h);
  }

  void put(const cuda::SequenceWork& w, uint32_t sequence, uint32_t k, uint32_t head) {
    Problem& p = *problems_[sequence * g_.n_kv_heads + head];
    const cuda::SpanEntry& span = spans_[w.span_begin + k];
    uint8_t* unit = pool_.data() + uint64_t{span.unit} * 64;
    if (k < w.n_blocks) {
      std::memcpy(unit + (kLayer * g_.n_kv_heads + head) * layout_.bytes, p.work().blocks[k].bytes, layout_.bytes);
      return;
    }
    uint8_t* page = unit + (kLayer * g_.n_kv_heads + head) * page_bytes();
    for (uint32_t i = span.first; i < span.last; ++i) {
      const uint32_t dk = g_.shape.key_dim, dv = g_.shape.value_dim;
      std::memcpy(page + i * dk * 2, p.key(span.start + i), dk * 2);
      std::memcpy(page + (kPageTokens * dk + i * dv) * 2, p.value(span.start + i), dv * 2);
    }
  }

  // Queries as the launch gets them; the oracle gets the same rounded values.
  void make_queries() {
    const uint64_t element = q_element();
    q_bytes_.assign(n_rows_ * q_row_stride() * element, 0xff);
    for (uint32_t s = 0, row = 0; s < g_.sequences.size(); row += g_.sequences[s++].n_new)
      for (uint32_t h = 0; h < g_.n_kv_heads; ++h) {
        std::vector<float>& q = problems_[s * g_.n_kv_heads + h]->queries();
        for (size_t i = 0; i < q.size(); ++i) {
          const uint32_t r = static_cast<uint32_t>(i / g_.shape.key_dim),
                         d = static_cast<uint32_t>(i % g_.shape.key_dim);
          const uint64_t at = (row + r / g_.group) * q_row_stride() +
                              uint64_t{h * g_.group + r % g_.group} * (g_.shape.key_dim + 8) + d;
          store(q[i], q_bytes_.data() + at * element);
        }
      }
  }

  void store(float& x, uint8_t* at) const {
    if (g_.q_dtype == cuda::Dtype::kF16) {
      const _Float16 half = static_cast<_Float16>(x);
      x = static_cast<float>(half);
      std::memcpy(at, &half, 2);
    } else if (g_.q_dtype == cuda::Dtype::kBF16) {
      const uint16_t bits = f32_to_bf16(x);
      x = bf16_to_f32(bits);
      std::memcpy(at, &bits, 2);
    } else {
      std::memcpy(at, &x, 4);
    }
  }

  // One transform per head for all sequences: those of sequence 0, here and in the oracle.
  void make_transforms() {
    for (uint32_t h = 0; h < g_.n_kv_heads; ++h) {
      const HeadTransform& t = problems_[h]->transform();
      add_device_matrix(t.query, g_.shape.key_dim, query_matrix_);
      add_device_matrix(t.value_inverse, g_.shape.value_dim, value_matrix_);
    }
  }

  bool counters_clean_ = false;
  DecodeGeometry g_;
  BlockLayout layout_;
  float scale_;
  std::vector<std::unique_ptr<Problem>> problems_;  // [sequence][head]
  std::vector<std::vector<std::pair<uint32_t, uint32_t>>> cuts_;
  std::vector<cuda::SpanEntry> spans_;
  std::vector<cuda::SequenceWork> sequences_;  // of whole steps; n_queries and query_begin are the launch's
  uint32_t n_rows_ = 0;
  int64_t mask_stride_ = 1;
  std::vector<uint8_t> pool_, q_bytes_, mask_;
  std::vector<float> sinks_, query_matrix_, value_matrix_;
};

}  // namespace oscar::testing
