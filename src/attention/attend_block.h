// Attention of a tile of rows over one block, on the integer codes.
//
//   logit_s = key_unit_s / 2 * unit_q * (2 <codes_s, q> - (2 offset_s) sum q) + <mean, q'>
//   out_d   = unit_w / 2 * (2 <codes_d, w> - sum_s (2 offset_s) w_s),  w_s = p_s * value_unit_s as 15-bit integers
//
// with code - offset, offset = (4 * 2^w - 1) / 2, kept integral by the factor 2. Every sum of integers is exact, so the
// order in which a vector unit adds does not matter.
#pragma once
#include "attention/exp2.h"
#include "attention/tile.h"

namespace oscar::OSCAR_ISA {

// 127 * 256 + 127: the largest integer that two signed 8-bit limbs hold symmetrically, for kernels on 8-bit dot
// products.
inline constexpr int32_t kQueryCode = 32639;
inline constexpr int32_t kWeightCode = 32767;
inline constexpr int64_t kMaxCode = 15;
// A query that is not finite becomes arbitrary 16-bit integers (its result is NaN by code_unit): the bounds hold for
// these too.
static_assert(2 * kMaxCode * 32768 * kMaxHeadDim + kMaxCode * 32768 * kMaxHeadDim <= INT32_MAX);
static_assert(2 * kMaxCode * 32768 * kBlockTokens + kMaxCode * 32768 * kBlockTokens <= INT32_MAX);
static_assert(kQueryCode <= 32767 && kWeightCode <= 32767);

inline void prepare_tables(const BlockLayout& layout, LayoutTables& t) {
  for (uint32_t d = 0; d < layout.key_pad; ++d) t.key_place[d] = static_cast<uint16_t>(key_place(layout, d));
  for (uint32_t side = 0; side < 2; ++side)
    for (uint32_t s = 0; s < kBlockTokens; ++s) {
      const uint32_t plane = s < layout.h ? side == 0 ? layout.key_plane : layout.value_plane : 0;
      t.plane_unit[side][s] = 1.0f / static_cast<float>(1u << plane);
      t.twice_offset[side][s] = static_cast<int32_t>((4u << plane) - 1);
    }
  prepare_value_refinement(layout, t.value_refinement);
}

// q' of one row as integers in stored order.
inline void encode_query(const LayoutTables& tables, const float* mapped, uint32_t key_pad, int16_t* codes,
                         QueryRow& row) {
  float largest = 0.0f;
  bool finite = true;
  for (uint32_t d = 0; d < key_pad; ++d) {
    const float magnitude = __builtin_fabsf(mapped[d]);
    finite = finite && magnitude < __builtin_inff();
    largest = magnitude > largest ? magnitude : largest;
  }
  // Below 2^-100 the reciprocal could overflow; such a query sees all tokens alike to the last bit.
  const float inverse = finite && largest > 0x1p-100f ? static_cast<float>(kQueryCode) / largest : 0.0f;
  int32_t sum = 0;
  for (uint32_t d = 0; d < key_pad; ++d) {
    constexpr float kMagic = 12582912.0f;
    const float shifted = (finite ? mapped[d] * inverse : 0.0f) + kMagic;
    const int32_t code = __builtin_bit_cast(int32_t, shifted) - 0x4b400000;
    codes[tables.key_place[d]] = static_cast<int16_t>(code);
    sum += code;
  }
  row.code_sum = sum;
  row.code_unit = finite ? largest / static_cast<float>(kQueryCode) : __builtin_nanf("");
}

// out[r * 128 + c] = <codes[c], x[r]> over `length` (a multiple of 32), for n_codes (a multiple of 4) rows of codes.
inline void dot_tile(const int16_t* codes, uint32_t n_codes, const int16_t* x, uint32_t n_rows, uint32_t length,
                     int32_t* out) {
  for (uint32_t c = 0; c < n_codes; c += 4) {
    const int16_t* c0 = codes + c * length;
    const int16_t *c1 = c0 + length, *c2 = c1 + length, *c3 = c2 + length;
    for (uint32_t r = 0; r < n_rows; ++r) {
      const int16_t* xr = x + r * length;
      I32 s0{}, s1{}, s2{}, s3{};
      for (uint32_t k = 0; k < length; k += 2 * kLanes) {
        const I16 v = load(xr + k);
        s0 = dot_pairs(s0, load(c0 + k), v);
        s1 = dot_pairs(s1, load(c1 + k), v);
        s2 = dot_pairs(s2, load(c2 + k), v);
        s3 = dot_pairs(s3, load(c3 + k), v);
      }
      sum_lanes_4(s0, s1, s2, s3, out + r * kBlockTokens + c);
    }
  }
}

// 2^(e - 15) * (1 + m / 16) of the bytes e * 16 + m (format/scale.h).
inline F32 decode_scales(const uint8_t* bytes) {
  return reinterpret_cast<F32>((load_bytes_32(bytes) << 19) + ((127 - 15) << 23));
}

inline void load_scales(const BlockLayout& layout, const LayoutTables& tables, const uint8_t* block, BlockScales& b) {
  __builtin_memcpy(&b.header, block + layout.header, sizeof b.header);
  for (uint32_t s = 0; s < kBlockTokens; s += kLanes) {
    const F32 key = decode_scales(block + layout.key_scales + s) * b.header.key_base;
    store(b.key + s, key * load(tables.plane_unit[0] + s));
    store(b.value + s, decode_scales(block + layout.value_scales + s) * load(tables.plane_unit[1] + s));
  }
}

// Offsets of the slots of a block, for the blocks at an edge.
inline void slot_offsets(const BlockLayout& layout, const uint8_t* block, uint8_t* offset) {
  bool refined[kBlockTokens] = {};
  const uint32_t h = layout.has_ids() ? layout.h : 0;
  for (uint32_t s = 0; s < h; ++s) {
    offset[s] = block[layout.ids + s] & 127;  // whatever the bytes: memory stays ours
    refined[offset[s]] = true;
  }
  uint32_t slot = h;
  for (uint32_t i = 0; i < kBlockTokens && slot < kBlockTokens; ++i)
    if (!refined[i]) offset[slot++] = static_cast<uint8_t>(i);
}

inline float mean_logit(const BlockLayout& layout, const uint8_t* block, const float* mapped, float mean_scale) {
  const int8_t* mean = reinterpret_cast<const int8_t*>(block) + layout.key_mean;
  F32 sum{};
  for (uint32_t d = 0; d < layout.key_pad; d += kLanes)
    sum = multiply_add(to_float(load_bytes_32(mean + d)), load(mapped + d), sum);
  return sum_lanes(sum) * mean_scale;
}

// Base-2 logits of one row: logits[128]; slots that the row does not see get -infinity.
inline void block_logits(const AttendWork& work, const Tile& t, uint32_t r, float mean, const uint8_t* offset,
                         uint32_t first, uint32_t last, float* logits) {
  const float scale = work.softcap > 0.0f ? work.scale : work.scale * kLog2e;
  const QueryRow& row = t.row[r];
  const F32 unit = splat(0.5f * row.code_unit * scale), shift = splat(mean * scale);
  const I32 sum = I32{} + row.code_sum;
  for (uint32_t s = 0; s < kBlockTokens; s += kLanes) {
    const I32 twice = load(t.dots + r * kBlockTokens + s) * 2 - load(t.tables->twice_offset[0] + s) * sum;
    F32 x = multiply_add(to_float(twice) * load(t.scales->key + s), unit, shift);
    if (work.softcap > 0.0f) x = softcap_lanes(x, work.softcap) * kLog2e;
    store(logits + s, x);
  }
  if (!offset) return;
  for (uint32_t s = 0; s < kBlockTokens; ++s)
    if (offset[s] < first || offset[s] >= last) logits[s] = kMinusInfinity;
}

// Partial softmax of one row over the block: updates largest and sum, leaves the weights as integers in stored order.
inline void block_softmax(const Tile& t, uint32_t r, float* logits) {
  F32 top = splat(kMinusInfinity);
  for (uint32_t s = 0; s < kBlockTokens; s += kLanes) top = larger(load(logits + s), top);
  const float block_largest = largest_lane(top), reference = softmax_reference(block_largest);
  F32 sum{}, top_weight{};
  for (uint32_t s = 0; s < kBlockTokens; s += kLanes) {
    const F32 p = exp2_lanes(load(logits + s) - reference);
    const F32 w = p * load(t.scales->value + s);
    sum += p;
    top_weight = larger(w, top_weight);
    store(logits + s, w);
  }
  const float largest_weight = largest_lane(top_weight);  // >= 2^-17: the scale of a slot with p = 1; 0 for NaN
  const F32 inverse = splat(largest_weight > 0.0f ? static_cast<float>(kWeightCode) / largest_weight : 0.0f);
  alignas(64) int16_t by_slot[kBlockTokens];
  I32 offset_sum{};
  for (uint32_t s = 0; s < kBlockTokens; s += kLanes) {
    I32 w = round_to_int(load(logits + s) * inverse) << 16 >> 16;  // 16 bits, also where NaN made nonsense
    offset_sum += w * load(t.tables->twice_offset[1] + s);
    store_narrow(by_slot + s, w);
  }
  store_weights(by_slot, t.weights + r * kBlockTokens);
  t.weight_sum[r] = sum_lanes(offset_sum);

  QueryRow& row = t.row[r];
  const float largest = row.block_largest > block_largest ? row.block_largest : block_largest;
  const float base = softmax_reference(largest);
  const float old_part = exp2_scalar(row.block_largest - base), new_part = exp2_scalar(block_largest - base);
  row.block_largest = largest;
  row.block_sum = row.block_sum * old_part + sum_lanes(sum) * new_part;
  t.rescale[r] = old_part;
  t.weight_unit[r] = 0.5f * new_part * largest_weight / static_cast<float>(kWeightCode) * t.scales->header.value_base;
}

// block_out += weights * values, 64 dims at a time.
inline void block_values(const BlockLayout& layout, const Tile& t, const uint8_t* block, const bool* sees) {
  for (uint32_t d0 = 0; d0 < layout.value_pad; d0 += kChunkDims) {
    const uint32_t n = layout.value_pad - d0 < kChunkDims ? layout.value_pad - d0 : kChunkDims;
    unpack_values(layout, block, d0, t.tables->value_refinement, t.runs, t.unpacked);
    dot_tile(t.unpacked, n, t.weights, t.n_rows, kBlockTokens, t.dots);
    for (uint32_t r = 0; r < t.n_rows; ++r) {
      if (!sees[r]) continue;
      float* out = t.block_out + r * t.value_pad + d0;
      const F32 unit = splat(t.weight_unit[r]), old_part = splat(t.rescale[r]);
      const I32 sum = I32{} + t.weight_sum[r];
      for (uint32_t d = 0; d < n; d += kLanes) {
        const F32 dot = to_float(load(t.dots + r * kBlockTokens + d) * 2 - sum);
        store(out + d, multiply_add(dot, unit, load(out + d) * old_part));
      }
    }
  }
}

inline void attend_block(const AttendWork& work, const Tile& t, const BlockSpan& span) {
  const BlockLayout& layout = *work.layout;
  bool sees[kTileRows], any = false, edge = false;
  uint32_t first[kTileRows];
  for (uint32_t r = 0; r < t.n_rows; ++r) {
    const uint64_t begin = window_begin(work, t.row[r].position);
    const uint64_t cut = begin > span.start ? begin - span.start : 0;
    first[r] = cut > span.first ? cut > span.last ? span.last : static_cast<uint32_t>(cut) : span.first;
    sees[r] = first[r] < span.last;
    any |= sees[r];
    edge |= sees[r] && (first[r] > 0 || span.last < kBlockTokens);
  }
  if (!any) return;
  load_scales(layout, *t.tables, span.bytes, *t.scales);
  uint8_t offset[kBlockTokens];
  if (edge) slot_offsets(layout, span.bytes, offset);
  for (uint32_t g = 0; g < kBlockTokens / kGroupSlots; ++g) {
    unpack_keys(layout, span.bytes, g, t.unpacked);
    dot_tile(t.unpacked, kGroupSlots, t.codes, t.n_rows, layout.key_pad, t.dots + g * kGroupSlots);
  }
  for (uint32_t r = 0; r < t.n_rows; ++r) {
    if (!sees[r]) continue;
    const float mean = mean_logit(layout, span.bytes, t.mapped + r * t.key_pad, t.scales->header.mean_scale);
    const bool cut = first[r] > 0 || span.last < kBlockTokens;
    float* logits = t.logits + r * kBlockTokens;
    block_logits(work, t, r, mean, cut ? offset : nullptr, first[r], span.last, logits);
    block_softmax(t, r, logits);
  }
  block_values(layout, t, span.bytes, sees);
}

}  // namespace oscar::OSCAR_ISA
