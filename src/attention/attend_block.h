// Attention of a tile of rows over one block, on the integer codes.
//
//   logit_s = key_unit_s / 2 * unit_q * (2 <codes_s, q> - (2 offset_s) sum q) + <mean, q'>
//   out_d   = unit_w / 2 * (2 <codes_d, w> - sum_s (2 offset_s) w_s),  w_s = p_s * value_unit_s as 16-bit integers
//
// with code - offset, kept integral by the factor 2. A code is 2^w base + refinement in slots that are refined; the base
// and every part of the refinement are multiplied one by one, and their sums joined. Keys: the unit of a refined slot is
// scale / 2^w, its offset (4 * 2^w - 1) / 2; those of the others scale and 3/2. Values share one unit_w with all slots of
// the block, so there a code counts in 1 / 2^w for every slot: the offset of a slot without refinement is 3/2 * 2^w.
// Every sum of integers is exact, so the order in which a vector unit adds does not matter.
#pragma once
#include "attention/tile.h"

namespace oscar::OSCAR_ISA {

// 127 * 256 + 127: the largest integer that two signed bytes hold symmetrically.
inline constexpr int32_t kQueryCode = 32639;
inline constexpr int32_t kWeightCode = 32639;
inline constexpr int64_t kMaxCode = 255;
static_assert(kMaxCode * kQueryCode * kMaxHeadDim <= INT32_MAX);
// The terms of a logit may wrap around in 32 bits, what is left of them does not: |2 code - 2 offset| <= kMaxCode.
static_assert(2 * kMaxCode * kWeightCode * kBlockTokens <= INT32_MAX);  // weights are positive: less is taken away
// A plane of AVX-512 keeps its place in the byte: 3 * 64 is its largest code. Sums of AVX2 have 16 bits: two codes of at
// most 3 times 128 a column.
static_assert(int64_t{3 * 64} * kQueryCode * kMaxHeadDim <= INT32_MAX);
static_assert(2 * 3 * 128 * kMaxColumns <= INT16_MAX);

inline void prepare_tables(const BlockLayout& layout, LayoutTables& t) {
  for (uint32_t d = 0; d < layout.key_pad; ++d) t.key_place[d] = static_cast<uint16_t>(key_place(layout, d));
  for (uint32_t s = 0; s < kBlockTokens; ++s) {
    const bool refined = s < layout.h;
    const uint32_t key_plane = refined ? layout.key_plane : 0;
    t.fine_place[s] = static_cast<uint8_t>(refined ? fine_place(layout, s) : 0);
    t.key_unit[s] = 1.0f / static_cast<float>(1u << key_plane);
    t.key_factor[s] = 1 << part_width(key_plane);
    t.key_twice_offset[s] = static_cast<int32_t>((4u << key_plane) - 1);
    t.value_twice_offset[s] = static_cast<int32_t>(refined ? (4u << layout.value_plane) - 1 : 3u << layout.value_plane);
  }
}

// q' of one row as integers.
inline void encode_query(const Tile& t, uint32_t r) {
  const float* mapped = t.mapped + r * t.key_pad;
  QueryRow& row = t.row[r];
  float largest = 0.0f;
  bool finite = true;
  for (uint32_t d = 0; d < t.key_pad; ++d) {
    const float magnitude = __builtin_fabsf(mapped[d]);
    finite = finite && magnitude < __builtin_inff();
    largest = magnitude > largest ? magnitude : largest;
  }
  // Below 2^-100 the reciprocal could overflow; such a query sees all tokens alike to the last bit.
  const float inverse = finite && largest > 0x1p-100f ? static_cast<float>(kQueryCode) / largest : 0.0f;
  alignas(64) int16_t by_dim[kMaxHeadDim], stored[kMaxHeadDim];
  int32_t sum = 0;
  for (uint32_t d = 0; d < t.key_pad; ++d) {
    constexpr float kMagic = 12582912.0f;
    const float shifted = (finite ? mapped[d] * inverse : 0.0f) + kMagic;
    const int32_t code = __builtin_bit_cast(int32_t, shifted) - 0x4b400000;
    by_dim[d] = static_cast<int16_t>(code);
    stored[t.tables->key_place[d]] = static_cast<int16_t>(code);
    sum += code;
  }
  split_numbers(stored, t.key_pad, t.operands + r * 2 * t.key_pad);
  split_numbers(by_dim, t.key_pad, t.fine_operands + r * 2 * t.key_pad);
  row.code_sum = sum;
  row.code_unit = finite ? largest / static_cast<float>(kQueryCode) : __builtin_nanf("");
}

// 2^(e - 15) * (1 + m / 16) of the bytes e * 16 + m (format/scale.h).
inline F32 decode_scales(const uint8_t* bytes) {
  return reinterpret_cast<F32>((load_bytes_32(bytes) << 19) + ((127 - 15) << 23));
}

inline void load_scales(const BlockLayout& layout, const LayoutTables& tables, const uint8_t* block, BlockScales& b) {
  __builtin_memcpy(&b.header, block + layout.header, sizeof b.header);
  for (uint32_t s = 0; s < kBlockTokens; s += kLanes) {
    const F32 key = decode_scales(block + layout.key_scales + s) * b.header.key_base;
    store(b.key + s, key * load(tables.key_unit + s));
    store(b.value + s, decode_scales(block + layout.value_scales + s));
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

// Rows in fours: a sum over lanes takes long to arrive, and four of them take as long as one.
inline constexpr uint32_t kFour = 4;

// <mean, q'> of rows first .. first + 3; those beyond the last are copies of it.
inline void mean_logits(const BlockLayout& layout, const uint8_t* block, const Tile& t, uint32_t first) {
  const int8_t* mean = reinterpret_cast<const int8_t*>(block) + layout.key_mean;
  const float* mapped[kFour];
  for (uint32_t i = 0; i < kFour; ++i)
    mapped[i] = t.mapped + (first + i < t.n_rows ? first + i : t.n_rows - 1) * t.key_pad;
  F32 sum[kFour] = {};
  for (uint32_t d = 0; d < layout.key_pad; d += kLanes) {
    const F32 m = to_float(load_bytes_32(mean + d)) * t.scales->header.mean_scale;
    for (uint32_t i = 0; i < kFour; ++i) sum[i] = multiply_add(m, load(mapped[i] + d), sum[i]);
  }
  sum_lanes_4(sum[0], sum[1], sum[2], sum[3], t.mean_logit + first);
}

// Base-2 logits of one row; returns the largest of each lane.
inline F32 block_logits(const AttendWork& work, const Tile& t, uint32_t r) {
  const float scale = work.softcap > 0.0f ? work.scale : work.scale * kLog2e;
  const QueryRow& row = t.row[r];
  const F32 unit = splat(0.5f * row.code_unit * scale), shift = splat(t.mean_logit[r] * scale);
  const U32 code_sum = U32{} + static_cast<uint32_t>(row.code_sum);
  float* logits = t.logits + r * kBlockTokens;
  F32 top = splat(kMinusInfinity);
  for (uint32_t s = 0; s < kBlockTokens; s += kLanes) {
    const U32 twice = reinterpret_cast<U32>(load(t.dots + r * kBlockTokens + s)) * 2 -
                      reinterpret_cast<U32>(load(t.tables->key_twice_offset + s)) * code_sum;
    F32 x = multiply_add(to_float(reinterpret_cast<I32>(twice)) * load(t.scales->key + s), unit, shift);
    if (work.softcap > 0.0f) x = softcap_lanes(x, work.softcap) * kLog2e;
    store(logits + s, x);
    top = larger(x, top);
  }
  return top;
}

// Slots outside of [first, last) get -infinity.
inline void hide_slots(const Tile& t, uint32_t r, const uint8_t* offset, uint32_t first, uint32_t last) {
  float* logits = t.logits + r * kBlockTokens;
  t.block_largest[r] = kMinusInfinity;
  for (uint32_t s = 0; s < kBlockTokens; ++s) {
    if (offset[s] < first || offset[s] >= last) logits[s] = kMinusInfinity;
    if (logits[s] > t.block_largest[r]) t.block_largest[r] = logits[s];
  }
}

// What the upper bits of the first slots' codes and the next part of their refinement are together.
inline void join_key_part(const BlockLayout& layout, const Tile& t, uint32_t r) {
  for (uint32_t s = 0; s < layout.h; s += kLanes) {
    int32_t* dots = t.dots + r * kBlockTokens + s;
    const I32 fine = load(t.fine_dots + r * kBlockTokens + s);
    const I32 refined = load(t.tables->key_factor + s) > 1;  // the others have no refinement codes
    store(dots, load(dots) * load(t.tables->key_factor + s) + (fine & refined));
  }
}

// Turns logits of rows first .. first + 3 into p * scale; p sums to block_sum, the largest weight is block_top. A row that
// does not see the block has neither.
inline void block_softmax(const Tile& t, uint32_t first, const bool* sees) {
  F32 sum[kFour] = {}, top[kFour] = {};
  for (uint32_t i = 0; i < kFour && first + i < t.n_rows; ++i) {
    const uint32_t r = first + i;
    if (!sees[r]) continue;
    float* logits = t.logits + r * kBlockTokens;
    const float reference = softmax_reference(t.block_largest[r]);
    for (uint32_t s = 0; s < kBlockTokens; s += kLanes) {
      const F32 p = exp2_lanes(load(logits + s) - reference);
      const F32 w = p * load(t.scales->value + s);
      sum[i] += p;
      top[i] = larger(w, top[i]);
      store(logits + s, w);
    }
  }
  sum_lanes_4(sum[0], sum[1], sum[2], sum[3], t.block_sum + first);
  largest_lanes_4(top[0], top[1], top[2], top[3], t.block_top + first);
}

// Joins the partial softmax of the block with that of the split, a row to a lane, and fixes the units of the weights.
inline void join_softmax(const BlockLayout& layout, const Tile& t) {
  const F32 unit = splat(0.5f / static_cast<float>(kWeightCode << layout.value_plane) * t.scales->header.value_base);
  for (uint32_t r = 0; r < t.n_rows; r += kLanes) {
    const F32 before = load(t.split.largest + r), here = load(t.block_largest + r), largest = larger(before, here);
    const F32 base = largest == kMinusInfinity ? F32{} : largest;  // softmax_reference
    const F32 old_part = exp2_lanes(before - base), new_part = exp2_lanes(here - base);
    store(t.split.largest + r, largest);
    store(t.split.sum + r, load(t.split.sum + r) * old_part + load(t.block_sum + r) * new_part);
    store(t.rescale + r, old_part);
    const F32 top = load(t.block_top + r);  // >= 2^-15: the scale of a slot with p = 1; 0 for NaN
    store(t.weight_inverse + r, top > 0.0f ? static_cast<float>(kWeightCode) / top : F32{});
    store(t.weight_unit + r, unit * new_part * top);
  }
}

// Weights of one row as operands of the refinement planes.
inline void encode_fine_weights(const BlockLayout& layout, const Tile& t, uint32_t r, const int32_t* by_slot) {
  const uint32_t n = fine_columns(layout) * 8;
  alignas(64) int16_t stored[kBlockTokens];
  for (uint32_t i = 0; i < n; ++i) stored[i] = 0;
  for (uint32_t s = 0; s < layout.h; ++s) stored[t.tables->fine_place[s]] = static_cast<int16_t>(by_slot[s]);
  split_numbers(stored, n, t.fine_weights + r * 2 * n);
}

// Weights of rows first .. first + 3 as operands: of the base planes, and of the refinement planes.
inline void encode_weights(const BlockLayout& layout, const Tile& t, uint32_t first, const bool* sees) {
  const bool refined = layout.h > 0 && layout.value_plane > 0;
  I32 sum[kFour] = {};
  for (uint32_t i = 0; i < kFour && first + i < t.n_rows; ++i) {
    const uint32_t r = first + i;
    if (!sees[r]) continue;
    const float* weights = t.logits + r * kBlockTokens;
    const F32 inverse = splat(t.weight_inverse[r]);
    alignas(64) int32_t by_slot[kBlockTokens];
    for (uint32_t g = 0; g < kBlockTokens; g += 32) {
      I32 w[32 / kLanes];
      for (uint32_t j = 0; j < 32 / kLanes; ++j) {
        const uint32_t s = g + j * kLanes;
        w[j] = round_to_int(load(weights + s) * inverse) << 16 >> 16;  // 16 bits, also where NaN made nonsense
        sum[i] += w[j] * load(t.tables->value_twice_offset + s);
        if (refined) store(by_slot + s, w[j]);
      }
      split_group(w, kBlockTokens, t.weights + r * 2 * kBlockTokens + g);
    }
    if (refined) encode_fine_weights(layout, t, r, by_slot);
  }
  sum_lanes_4(sum[0], sum[1], sum[2], sum[3], t.weight_sum + first);
}

// Dots of a part of the refinement of 32 dims with the weights: t.fine_dots [n_rows][32].
inline void dot_value_refinement(const BlockLayout& layout, const Tile& t, const uint8_t* block, uint32_t part,
                                 uint32_t d0) {
  const uint32_t n = fine_columns(layout);
  if (part_width(layout.value_plane) == 2) {
    fine_value_columns(layout, block, part, d0 / 32, t.fine_columns);
    dot_planes<2>(t.fine_columns, n, t.fine_weights, t.n_rows, 8 * n, t.fine_dots, kGroupDims);
  } else if (d0 % 64 == 0) {
    fine_value_columns(layout, block, part, d0 / 64, t.fine_columns);
    dot_planes<1>(t.fine_columns, n, t.fine_weights, t.n_rows, 8 * n, t.fine_dots, kGroupDims);
  } else {
    dot_planes<1, 4>(t.fine_columns, n, t.fine_weights, t.n_rows, 8 * n, t.fine_dots, kGroupDims);
  }
}

// A part of the block that comes next: blocks lie apart, and no processor foresees where. In small parts between the
// products, since a processor has room for few requests at a time.
inline void prefetch(const uint8_t* next, uint32_t bytes, uint32_t part, uint32_t n_parts) {
  if (!next) return;
  const uint32_t lines = ceil_div(bytes, 64), end = lines * (part + 1) / n_parts;
  for (uint32_t i = lines * part / n_parts; i < end; ++i) __builtin_prefetch(next + i * 64);
}

// t.dots = what it and t.fine_dots are together.
inline void join_value_part(const Tile& t, int width) {
  for (uint32_t i = 0; i < t.n_rows * kGroupDims; i += kLanes)
    store(t.dots + i, (load(t.dots + i) << width) + load(t.fine_dots + i));
}

// split.out += weights * values of the block.
inline void block_values(const BlockLayout& layout, const Tile& t, const uint8_t* block, const bool* sees,
                         const uint8_t* next) {
  constexpr uint32_t kN = kBlockTokens / 8;
  const bool refined = layout.h > 0 && layout.value_plane > 0;
  const uint32_t n_parts = refined ? part_count(layout.value_plane) : 0;
  const int width = static_cast<int>(part_width(layout.value_plane));
  const uint32_t n_groups = layout.value_pad / kGroupDims;
  for (uint32_t d0 = 0; d0 < layout.value_pad; d0 += kGroupDims) {
    if (d0 % 64 == 0) value_columns(layout, block, d0, t.columns);
    prefetch(next, layout.bytes, n_groups + d0 / kGroupDims, 2 * n_groups);
    const U64* columns = t.columns + d0 / kGroupDims % 2 * kRuns * kN;
    dot_planes<2>(columns, kN, t.weights, t.n_rows, kBlockTokens, t.dots, kGroupDims);
    for (uint32_t part = 0; part < n_parts; ++part) {
      if (part > 0) join_value_part(t, width);
      dot_value_refinement(layout, t, block, part, d0);
    }
    for (uint32_t r = 0; r < t.n_rows; ++r) {
      if (!sees[r]) continue;
      float* out = t.split.out + r * t.value_pad + d0;
      const F32 unit = splat(t.weight_unit[r]), old_part = splat(t.rescale[r]);
      const I32 sum = I32{} + t.weight_sum[r];
      for (uint32_t d = 0; d < kGroupDims; d += kLanes) {
        I32 dots = load(t.dots + r * kGroupDims + d) << width;
        if (refined) dots += load(t.fine_dots + r * kGroupDims + d);
        store(out + d, multiply_add(to_float(dots * 2 - sum), unit, load(out + d) * old_part));
      }
    }
  }
}

// next: the block that will come next, or null.
inline void attend_block(const AttendWork& work, const Tile& t, const BlockSpan& span, const uint8_t* next) {
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
  constexpr uint32_t kGroups = kBlockTokens / kGroupSlots;
  for (uint32_t g = 0; g < kGroups; ++g) {
    prefetch(next, layout.bytes, g, 2 * kGroups);
    key_columns(layout, span.bytes, g, t.columns);
    dot_planes<2>(t.columns, layout.key_pad / 8, t.operands, t.n_rows, layout.key_pad, t.dots + g * kGroupSlots,
                  kBlockTokens);
  }
  const bool refined = layout.h > 0 && layout.key_plane > 0;
  for (uint32_t part = 0; refined && part < part_count(layout.key_plane); ++part) {
    dot_key_refinement(layout, span.bytes, part, t.fine_operands, t.n_rows, t.fine_dots, kBlockTokens);
    for (uint32_t r = 0; r < t.n_rows; ++r)
      if (sees[r]) join_key_part(layout, t, r);
  }
  for (uint32_t r = 0; r < t.n_rows; r += kFour) {
    mean_logits(layout, span.bytes, t, r);
    F32 top[kFour] = {};
    for (uint32_t i = 0; i < kFour; ++i)
      top[i] = r + i < t.n_rows && sees[r + i] ? block_logits(work, t, r + i) : splat(kMinusInfinity);
    largest_lanes_4(top[0], top[1], top[2], top[3], t.block_largest + r);
  }
  for (uint32_t r = 0; edge && r < t.n_rows; ++r)
    if (sees[r] && (first[r] > 0 || span.last < kBlockTokens)) hide_slots(t, r, offset, first[r], span.last);
  for (uint32_t r = 0; r < t.n_rows; r += kFour) block_softmax(t, r, sees);
  join_softmax(layout, t);
  for (uint32_t r = 0; r < t.n_rows; r += kFour) encode_weights(layout, t, r, sees);
  block_values(layout, t, span.bytes, sees, next);
}

}  // namespace oscar::OSCAR_ISA
