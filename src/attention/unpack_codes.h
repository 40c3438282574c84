// Codes of a block as 16-bit integers in the order in which they lie in memory, so that unpacking is shifts and masks
// of whole runs. Whoever multiplies them permutes the other operand instead: queries by key_place, weights by
// store_weights. The orders follow from BlockLayout; tests/unit/attention_unpack_codes.cpp compares code by code.
#pragma once
#include <cstddef>
#include <cstdint>

#include "attention/lanes.h"
#include "format/block.h"

namespace oscar::OSCAR_ISA {

inline constexpr uint32_t kGroupSlots = 32;  // slots whose key codes share bytes
inline constexpr uint32_t kChunkDims = 64;   // dims whose value codes share bytes

// Where the key code of dim d lies within a slot's row.
inline uint32_t key_place(const BlockLayout& layout, uint32_t d) {
  return d / 64 * 64 + layout.key_code(0, d).at - layout.key_codes - d / 64 * 512;
}

// n bytes (a multiple of 32) hold four rows of codes, one in each bit plane; the rows lie `stride` apart.
inline void unpack_planes(const uint8_t* src, uint32_t n, size_t stride, int16_t* out) {
  for (uint32_t i = 0; i < n; i += 2 * kLanes) {
    const I16 bytes = load_bytes_16(src + i);
    for (uint32_t plane = 0; plane < 4; ++plane) store(out + plane * stride + i, bytes >> (2 * plane) & 3);
  }
}

// 16 refinement codes of one unit as bytes, in the order of dims.
typedef uint32_t Unit __attribute__((vector_size(16)));

inline Unit load_unit(const uint8_t* src, uint32_t shift, uint32_t width) {
  Unit v;
  __builtin_memcpy(&v, src, sizeof v);
  return v >> shift & ((1u << width) - 1) * 0x01010101u;
}

// row = base code * 2^w + refinement, for one slot < h. Units of 16 dims lie in the order of dims; the words of four
// (in a tail: two) of them are transposed to the order of the base codes.
inline void refine_key_row(const BlockLayout& layout, const uint8_t* block, uint32_t slot, int16_t* row) {
  const uint32_t width = layout.key_plane, log_planes = width == 2 ? 2 : 3;
  const uint32_t units = layout.key_pad / 16, rows = layout.h < 8 ? layout.h : 8;
  const uint8_t* tile = block + layout.key_refine + slot % 8 * 16;
  const auto unit_at = [&](uint32_t u) {
    const uint32_t unit = slot / 8 * units + u;
    return load_unit(tile + (unit >> log_planes) * rows * 16, (unit & ((1u << log_planes) - 1)) * width, width);
  };
  alignas(64) uint8_t fine[kMaxHeadDim];
  Unit v[4];
  uint32_t u = 0;
  for (; u + 4 <= units; u += 4) {
    const Unit a = unit_at(u), b = unit_at(u + 1), c = unit_at(u + 2), d = unit_at(u + 3);
    const Unit ac0 = __builtin_shufflevector(a, c, 0, 4, 1, 5), ac1 = __builtin_shufflevector(a, c, 2, 6, 3, 7);
    const Unit bd0 = __builtin_shufflevector(b, d, 0, 4, 1, 5), bd1 = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    v[0] = __builtin_shufflevector(ac0, bd0, 0, 4, 1, 5);
    v[1] = __builtin_shufflevector(ac0, bd0, 2, 6, 3, 7);
    v[2] = __builtin_shufflevector(ac1, bd1, 0, 4, 1, 5);
    v[3] = __builtin_shufflevector(ac1, bd1, 2, 6, 3, 7);
    __builtin_memcpy(fine + u * 16, v, 64);
  }
  if (u < units) {
    const Unit a = unit_at(u), b = unit_at(u + 1);
    v[0] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    v[1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    __builtin_memcpy(fine + u * 16, v, 32);
  }
  for (uint32_t i = 0; i < layout.key_pad; i += 2 * kLanes)
    store(row + i, load(row + i) << static_cast<int>(width) | load_bytes_16(fine + i));
}

// Key codes of the slots [32 g, 32 g + 32): out[32][key_pad].
inline void unpack_keys(const BlockLayout& layout, const uint8_t* block, uint32_t g, int16_t* out) {
  const uint32_t pad = layout.key_pad;
  const uint8_t* src = block + layout.key_codes + g * 8 * pad;
  for (uint32_t d = 0; d < pad; d += 64) {
    const uint32_t n = d + 64 <= pad ? 64 : 32;
    for (uint32_t s = 0; s < 8; ++s, src += n) unpack_planes(src, n, 8 * pad, out + s * pad + d);
  }
  for (uint32_t slot = g * kGroupSlots; slot < layout.h && slot < (g + 1) * kGroupSlots && layout.key_plane; ++slot)
    refine_key_row(layout, block, slot, out + slot % kGroupSlots * pad);
}

// The order of slots within a row of values: place of slot y of 32 is y % 8 / 2 * 8 + y / 8 * 2 + y % 2. Reorders the
// weights of 128 slots.
inline void store_weights(const int16_t* __restrict__ by_slot, int16_t* __restrict__ stored) {
  for (uint32_t g = 0; g < kBlockTokens; g += 32)
    for (uint32_t tile = 0; tile < 4; ++tile)
      for (uint32_t pair = 0; pair < 4; ++pair)
        __builtin_memcpy(stored + g + pair * 8 + tile * 2, by_slot + g + tile * 8 + pair * 2, 4);
}

// What joins base codes and refinement, by stored place: prepared once per work.
struct ValueRefinement {
  int16_t mask[kBlockTokens];    // 2^w - 1 where the slot is refined, else 0
  int16_t factor[kBlockTokens];  // 2^w where the slot is refined, else 1
};

inline void prepare_value_refinement(const BlockLayout& layout, ValueRefinement& r) {
  for (uint32_t slot = 0; slot < kBlockTokens; ++slot) {
    const uint32_t y = slot % 32, place = slot / 32 * 32 + y % 8 / 2 * 8 + y / 8 * 2 + y % 2;
    const uint32_t factor = slot < layout.h ? 1u << layout.value_plane : 1;
    r.mask[place] = static_cast<int16_t>(factor - 1);
    r.factor[place] = static_cast<int16_t>(factor);
  }
}

// Refinement bytes of the slots < h for dim d % 8 of a group of units; a byte's bit planes are the units. out[128] in
// stored order.
inline void gather_value_refinement(const BlockLayout& layout, const uint8_t* block, uint32_t unit_group, uint32_t d,
                                    uint8_t* out) {
  const uint32_t tiles = ceil_div(layout.h, 8), words = ceil_div(tiles, 2);
  const uint32_t lanes = layout.h < 8 ? ceil_div(layout.h, 2) : 4, unit_bytes = tiles < 2 ? 2 : 4;
  const uint8_t* src = block + layout.value_refine + (unit_group * words * 8 + d) * lanes * unit_bytes;
  for (uint32_t word = 0; word < words; ++word, src += 8 * lanes * unit_bytes) {
    uint8_t* group = out + word / 2 * 32 + word % 2 * 4;
    for (uint32_t lane = 0; lane < lanes; ++lane) {
      if (unit_bytes == 4)
        __builtin_memcpy(group + lane * 8, src + lane * 4, 4);
      else
        __builtin_memcpy(group + lane * 8, src + lane * 2, 2);
    }
  }
}

// rows[64][128] = base code * 2^w + refinement, for the dims [d0, d0 + n).
inline void refine_value_rows(const BlockLayout& layout, const uint8_t* block, uint32_t d0, uint32_t n,
                              const ValueRefinement& refined, int16_t* rows) {
  const uint32_t width = layout.value_plane, planes = 8 / width, n_slots = round_up(layout.h, 32);
  alignas(64) uint8_t fine[kBlockTokens] = {};
  for (uint32_t unit = 0; unit < n / 8; unit += planes)
    for (uint32_t d = 0; d < 8; ++d) {
      gather_value_refinement(layout, block, (d0 / 8 + unit) / planes, d, fine);
      for (uint32_t plane = 0; plane < planes && unit + plane < n / 8; ++plane) {
        int16_t* row = rows + ((unit + plane) * 8 + d) * kBlockTokens;
        for (uint32_t s = 0; s < n_slots; s += 2 * kLanes) {
          const I16 low = load_bytes_16(fine + s) >> static_cast<int>(plane * width) & load(refined.mask + s);
          store(row + s, load(row + s) * load(refined.factor + s) + low);
        }
      }
    }
}

// Value codes of the dims [d0, d0 + 64) (or 32 in a tail): out[64][128], slots in stored order. `runs`: 2 KiB.
inline void unpack_values(const BlockLayout& layout, const uint8_t* block, uint32_t d0, const ValueRefinement& refined,
                          uint8_t* __restrict__ runs, int16_t* __restrict__ out) {
  const uint32_t halves = d0 + kChunkDims <= layout.value_pad ? 2 : 1, lane_bytes = halves * 8;
  // runs[half][d % 8][128]: bytes whose planes are the dims d, d + 8, d + 16, d + 24 of a half of 32.
  for (uint32_t g = 0; g < 4; ++g) {
    const uint8_t* src = block + layout.value_codes + g * 8 * layout.value_pad + d0 * 8;
    for (uint32_t d = 0; d < 8; ++d)
      for (uint32_t lane = 0; lane < 4; ++lane, src += lane_bytes)
        for (uint32_t half = 0; half < halves; ++half)
          __builtin_memcpy(runs + (half * 8 + d) * kBlockTokens + g * 32 + lane * 8, src + half * 8, 8);
  }
  for (uint32_t i = 0; i < halves * 8; ++i)
    unpack_planes(runs + i * kBlockTokens, kBlockTokens, 8 * kBlockTokens, out + (i / 8 * 32 + i % 8) * kBlockTokens);
  if (layout.h > 0 && layout.value_plane > 0) refine_value_rows(layout, block, d0, halves * 32, refined, out);
}

}  // namespace oscar::OSCAR_ISA
