// A random step for the prefill kernels, on the GPU and in the oracle: several sequences and KV heads over one pool laid
// out as the cache lays it out, new tokens in pages or in the scratch, poisoned wherever nothing valid lies.
#pragma once
#include <algorithm>
#include <cstring>
#include <memory>

#include "backend/cpu.h"
#include "device_buffer.h"
#include "device_map.h"
#include "prefill.h"
#include "prefill_plan.h"
#include "random_work.h"

namespace oscar::testing {

struct PrefillGeometry {
  BlockShape shape;
  uint32_t n_kv_heads, group;
  std::vector<Geometry> sequences;  // dims, group, map, window, softcap: the same in all; lengths differ
  std::vector<bool> uses_scratch;
  bool padding;     // rows at the end that belong to nobody
  bool empty_part;  // a part without rows before the last sequence
  cuda::Dtype q_dtype;
};

struct BadToken {  // of a sequence's new tokens, in all heads
  uint32_t sequence, token;
  bool is_key;
  uint16_t bits;
};

class PrefillCase {
 public:
  PrefillCase(const PrefillGeometry& geometry, Random& random) : g_(geometry), layout_(block_layout(geometry.shape)) {
    scale_ = static_cast<float>((0.3 + 0.9 * random.uniform()) / std::sqrt(g_.shape.key_dim));
    for (const Geometry& s : g_.sequences)
      for (uint32_t h = 0; h < g_.n_kv_heads; ++h)
        problems_.push_back(std::make_unique<Problem>(s, random, best_backend()));
    make_tables(random);
    make_queries();
    make_transforms();
  }

  const PrefillGeometry& geometry() const { return g_; }
  uint32_t n_rows() const { return n_rows_; }
  uint32_t n_q_heads() const { return g_.n_kv_heads * g_.group; }
  uint32_t first_row(uint32_t sequence) const { return parts_[part_of_[sequence]].row; }

  // Whether new token i of the sequence sees its new token j.
  bool sees(uint32_t sequence, uint32_t i, uint32_t j) const {
    const Geometry& s = g_.sequences[sequence];
    if (i == j) return true;
    if (j > i || (s.window && i - j >= s.window)) return false;
    return !s.tree_mask || mask_[uint64_t{first_row(sequence) + i} * mask_stride_ + j] != 0;
  }

  bool is_hopper = true;  // false: the kernels of every device

  // One launch as on a device with n_multiprocessors; out in `dtype`, as bytes.
  void run(uint32_t n_multiprocessors, cuda::Dtype dtype, const BadToken* bad, std::vector<uint8_t>& out,
           std::vector<float>& lse) {
    make_pool(bad);
    const uint64_t element = dtype == cuda::Dtype::kF32 ? 4 : 2;
    const cuda::PrefillShape shape{g_.shape.key_dim, g_.shape.value_dim, n_q_heads(), g_.n_kv_heads, n_rows_};
    if (!cuda::prefill_serves(shape, 232448)) std::abort();
    DeviceBuffer<uint8_t> pool(pool_), q(q_bytes_), mask(mask_),
        device_out(uint64_t{n_rows_} * n_q_heads() * g_.shape.value_dim * element),
        workspace(cuda::prefill_workspace_bytes(shape, n_multiprocessors));
    DeviceBuffer<cuda::SpanEntry> spans(spans_);
    DeviceBuffer<cuda::PartWork> parts(parts_);
    DeviceBuffer<float> device_lse(uint64_t{n_rows_} * n_q_heads()), sinks(sinks_), query_matrix(query_matrix_),
        value_matrix(value_matrix_);
    DeviceBuffer<uint16_t> scratch_keys(scratch_keys_), scratch_values(scratch_values_);
    device_out.fill(0xff);
    device_lse.fill(0xff);
    workspace.fill(0xff);

    const Geometry& s = g_.sequences[0];
    cuda::PrefillArgs a{};
    a.pool = pool.get();
    a.block_offset = uint64_t{kLayer} * g_.n_kv_heads * layout_.bytes;
    a.page_offset = uint64_t{kLayer} * g_.n_kv_heads * page_bytes();
    a.head_page_bytes = page_bytes();
    a.spans = spans.get();
    a.parts = parts.get();
    a.n_parts = static_cast<uint32_t>(parts_.size());
    a.n_rows = n_rows_;
    a.n_kv_heads = g_.n_kv_heads;
    a.group = g_.group;
    a.key_dim = g_.shape.key_dim;
    a.value_dim = g_.shape.value_dim;
    a.layout = layout_;
    a.scratch_keys = scratch_keys.get();
    a.scratch_values = scratch_values.get();
    a.q = {q.get(), q_row_stride(), g_.shape.key_dim + 8, g_.q_dtype};
    a.out = {device_out.get(), int64_t{n_q_heads()} * g_.shape.value_dim, g_.shape.value_dim, dtype};
    a.lse = device_lse.get();
    a.lse_row_stride = n_q_heads();
    a.sink_logits = s.sink_logits ? sinks.get() : nullptr;
    a.mask = s.tree_mask ? mask.get() : nullptr;
    a.mask_row_stride = mask_stride_;
    a.scale = scale_;
    a.softcap = s.softcap;
    a.window = s.window;
    a.query = {map_kind(g_.shape.key_dim), query_matrix.get()};
    a.value_inverse = {map_kind(g_.shape.value_dim), value_matrix.get()};
    a.workspace = workspace.get();
    a.is_hopper = is_hopper;
    check_cuda(cuda::prefill_launch(a, n_multiprocessors, false, nullptr), "prefill_launch");
    check_cuda(cudaDeviceSynchronize(), "prefill");
    out = device_out.download();
    lse = device_lse.download();
  }

  // The oracle's [row][query head] results; padding rows 0 and minus infinity.
  void reference(std::vector<float>& out, std::vector<float>& lse) const {
    const uint32_t dv = g_.shape.value_dim;
    out.assign(uint64_t{n_rows_} * n_q_heads() * dv, 0.0f);
    lse.assign(uint64_t{n_rows_} * n_q_heads(), -INFINITY);
    for (uint32_t s = 0; s < g_.sequences.size(); ++s)
      for (uint32_t h = 0; h < g_.n_kv_heads; ++h) {
        const uint32_t row = first_row(s);
        const Problem& p = *problems_[s * g_.n_kv_heads + h];
        AttendWork w = p.work();
        std::vector<BlockSpan> blocks(w.blocks, w.blocks + w.n_blocks);
        for (uint32_t b = 0; b < w.n_blocks; ++b)
          blocks[b].first = cuts_[s][b].first, blocks[b].last = cuts_[s][b].second;
        w.blocks = blocks.data();
        w.scale = scale_;
        w.softcap = g_.sequences[0].softcap;
        w.mask = g_.sequences[0].tree_mask ? mask_.data() + uint64_t{row} * mask_stride_ : nullptr;
        w.mask_stride = static_cast<uint64_t>(mask_stride_);
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
  int64_t q_row_stride() const { return int64_t{n_q_heads()} * (g_.shape.key_dim + 8) + 3; }
  MapKind map_kind(uint32_t dim) const { return device_map_kind(g_.sequences[0].map, dim); }

  void make_tables(Random& random) {
    uint64_t unit = 1;  // unit 0 stays poison
    for (uint32_t s = 0; s < g_.sequences.size(); ++s) {
      if (g_.empty_part && s + 1 == g_.sequences.size()) add_part({});
      add_sequence(s, random, unit);
    }
    if (g_.padding) {
      cuda::PartWork w{};
      w.n_new = random.between(1, 3);
      w.base = cuda::kPaddingBase;
      add_part(w);
    }
    n_units_ = unit;
    mask_.resize(n_rows_ * mask_stride_);
    for (uint8_t& m : mask_) m = random.chance(0.5);
    for (uint32_t h = 0; h < n_q_heads(); ++h) sinks_.push_back(3.0f * random.normal());
  }

  void add_part(cuda::PartWork w) {
    w.row = n_rows_;
    n_rows_ += w.n_new;
    mask_stride_ = std::max<int64_t>(mask_stride_, w.base == cuda::kPaddingBase ? 1 : w.n_new);
    parts_.push_back(w);
  }

  void add_sequence(uint32_t index, Random& random, uint64_t& unit) {
    const Geometry& s = g_.sequences[index];
    const uint64_t block_units = (kLayers * g_.n_kv_heads * layout_.bytes + 63) / 64;
    const uint64_t page_units = (kLayers * g_.n_kv_heads * page_bytes() + 63) / 64;
    cuda::PartWork w{};
    w.span_begin = static_cast<uint32_t>(spans_.size());
    w.n_blocks = s.n_blocks;
    w.n_new = s.n_new;
    w.uses_scratch = g_.uses_scratch[index];
    const uint32_t packed_end = s.n_sinks + s.n_blocks * kBlockTokens, n_past = packed_end + s.n_recent;
    const uint32_t page_end = n_past + (w.uses_scratch ? 0 : s.n_new);
    w.base = n_past;
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
    for (uint32_t page = 0; page * kPageTokens < page_end; ++page)
      for (const auto& [from, to] : {std::pair{0u, s.n_sinks}, std::pair{packed_end, page_end}}) {
        const uint32_t begin = page * kPageTokens, a = std::max(from, begin), b = std::min(to, begin + kPageTokens);
        if (a >= b) continue;
        spans_.push_back({static_cast<uint32_t>(unit), begin, static_cast<uint16_t>(a - begin),
                          static_cast<uint16_t>(b - begin), 0});
        unit += page_units;
        ++w.n_pages;
      }
    part_of_.push_back(static_cast<uint32_t>(parts_.size()));
    add_part(w);
  }

  void make_pool(const BadToken* bad) {
    pool_.assign(n_units_ * 64, 0xff);
    scratch_keys_.assign(uint64_t{n_rows_} * g_.n_kv_heads * g_.shape.key_dim, 0xffff);
    scratch_values_.assign(uint64_t{n_rows_} * g_.n_kv_heads * g_.shape.value_dim, 0xffff);
    for (uint32_t s = 0; s < g_.sequences.size(); ++s) {
      const cuda::PartWork& w = parts_[part_of_[s]];
      for (uint32_t h = 0; h < g_.n_kv_heads; ++h) {
        for (uint32_t k = 0; k < w.n_blocks + w.n_pages; ++k) put_span(w, s, k, h, bad);
        for (uint32_t i = 0; w.uses_scratch && i < w.n_new; ++i) {
          const uint64_t row = (uint64_t{w.row} + i) * g_.n_kv_heads + h;
          put_token(s, h, w.base + i, bad, scratch_keys_.data() + row * g_.shape.key_dim,
                    scratch_values_.data() + row * g_.shape.value_dim);
        }
      }
    }
  }

  void put_span(const cuda::PartWork& w, uint32_t sequence, uint32_t k, uint32_t head, const BadToken* bad) {
    Problem& p = *problems_[sequence * g_.n_kv_heads + head];
    const cuda::SpanEntry& span = spans_[w.span_begin + k];
    uint8_t* unit = pool_.data() + uint64_t{span.unit} * 64;
    if (k < w.n_blocks) {
      std::memcpy(unit + (kLayer * g_.n_kv_heads + head) * layout_.bytes, p.work().blocks[k].bytes, layout_.bytes);
      return;
    }
    auto* page = reinterpret_cast<uint16_t*>(unit + (kLayer * g_.n_kv_heads + head) * page_bytes());
    for (uint32_t i = span.first; i < span.last; ++i)
      put_token(sequence, head, span.start + i, bad, page + i * g_.shape.key_dim,
                page + kPageTokens * g_.shape.key_dim + i * g_.shape.value_dim);
  }

  void put_token(uint32_t sequence, uint32_t head, uint32_t position, const BadToken* bad, uint16_t* key,
                 uint16_t* value) {
    Problem& p = *problems_[sequence * g_.n_kv_heads + head];
    std::memcpy(key, p.key(position), g_.shape.key_dim * 2);
    std::memcpy(value, p.value(position), g_.shape.value_dim * 2);
    if (bad && bad->sequence == sequence && position == parts_[part_of_[sequence]].base + bad->token)
      (bad->is_key ? key : value)[position % 64] = bad->bits;
  }

  // Queries as the launch gets them; the oracle gets the same rounded values.
  void make_queries() {
    const uint64_t element = g_.q_dtype == cuda::Dtype::kF32 ? 4 : 2;
    q_bytes_.assign(static_cast<uint64_t>(n_rows_ * q_row_stride()) * element, 0xff);
    for (uint32_t s = 0; s < g_.sequences.size(); ++s)
      for (uint32_t h = 0; h < g_.n_kv_heads; ++h) {
        std::vector<float>& q = problems_[s * g_.n_kv_heads + h]->queries();
        for (size_t i = 0; i < q.size(); ++i) {
          const uint32_t r = static_cast<uint32_t>(i / g_.shape.key_dim),
                         d = static_cast<uint32_t>(i % g_.shape.key_dim);
          const uint64_t at = (first_row(s) + r / g_.group) * static_cast<uint64_t>(q_row_stride()) +
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

  PrefillGeometry g_;
  BlockLayout layout_;
  float scale_;
  std::vector<std::unique_ptr<Problem>> problems_;  // [sequence][head]
  std::vector<std::vector<std::pair<uint32_t, uint32_t>>> cuts_;
  std::vector<cuda::SpanEntry> spans_;
  std::vector<cuda::PartWork> parts_;
  std::vector<uint32_t> part_of_;  // of a sequence
  uint32_t n_rows_ = 0;
  uint64_t n_units_ = 0;
  int64_t mask_stride_ = 1;
  std::vector<uint8_t> pool_, q_bytes_, mask_;
  std::vector<uint16_t> scratch_keys_, scratch_values_;
  std::vector<float> sinks_, query_matrix_, value_matrix_;
};

}  // namespace oscar::testing
