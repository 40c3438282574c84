// Codes of a block arranged for dot products whose sums stay in their lanes.
//
// A row is what lies together for one slot (keys) or one dim (values); eight rows share their bytes' bit planes. Column i
// is the i-th 8 bytes of each of the eight rows: kRuns vectors, kQwords rows to a vector. A dot product then multiplies
// column i with the i-th 8 bytes of the operand, the same for all rows, and adds nothing across rows.
// docs/format.md has the order of codes; tests/unit/attention_code_dots.cpp compares with it code by code.
#pragma once
#include <cstddef>
#include <cstdint>

#include "attention/lanes.h"
#include "format/block.h"

namespace oscar::OSCAR_ISA {

inline constexpr uint32_t kRows = 8;
inline constexpr uint32_t kRuns = kRows / kQwords;  // vectors to a column
inline constexpr uint32_t kGroupSlots = 32;         // slots whose key codes share bytes: four planes of eight
inline constexpr uint32_t kGroupDims = 32;          // dims whose value codes share bytes
inline constexpr uint32_t kMaxColumns = 32;         // of a row of 256 key codes; a row of 128 value codes has 16

// v, kN * kQwords qwords of memory, as kQwords rows of kN: afterwards v[x] holds the x-th of each row. An unzip of the
// whole memory turns the bits of an index by one; as many of them as x has bits make x the upper part.
template <uint32_t kN>
inline void transpose(U64 (&v)[kN]) {
  for (uint32_t bit = 1; bit < kN; bit *= 2) {
    U64 unzipped[kN];
    for (uint32_t i = 0; i < kN / 2; ++i) {
      unzipped[i] = even_qwords(v[2 * i], v[2 * i + 1]);
      unzipped[kN / 2 + i] = odd_qwords(v[2 * i], v[2 * i + 1]);
    }
    for (uint32_t i = 0; i < kN; ++i) v[i] = unzipped[i];
  }
}

// Columns first, first + 1, .. of eight rows of kRowBytes: place(x) is where column x goes, run k of it kRunStride
// vectors further.
template <uint32_t kRowBytes, typename Place>
inline void gather_columns(const uint8_t* rows, uint32_t run_stride, Place place) {
  constexpr uint32_t kAll = kRowBytes / 8;
  if constexpr (kAll < kQwords) {  // a vector holds two rows of a tail
    U64 v[kAll];
    for (uint32_t i = 0; i < kAll; ++i) v[i] = load_qwords(rows + i * kVectorBytes);
    transpose(v);
    for (uint32_t x = 0; x < kAll; ++x) *place(x) = v[x];
  } else {
    for (uint32_t run = 0; run < kRuns; ++run)
      for (uint32_t x = 0; x < kAll; x += kQwords) {
        U64 v[kQwords];
        for (uint32_t i = 0; i < kQwords; ++i) v[i] = load_qwords(rows + (run * kQwords + i) * kRowBytes + x * 8);
        transpose(v);
        for (uint32_t i = 0; i < kQwords; ++i) place(x + i)[run * run_stride] = v[i];
      }
  }
}

// Where the key code of dim d lies within a slot's row.
inline uint32_t key_place(const BlockLayout& layout, uint32_t d) {
  return d / 64 * 64 + layout.key_code(0, d).at - layout.key_codes - d / 64 * 512;
}

// Keys of the slots [32 g, 32 g + 32): columns[kRuns][key_pad / 8], plane p and row s are slot 8 p + s.
inline void key_columns(const BlockLayout& layout, const uint8_t* block, uint32_t g, U64* columns) {
  const uint32_t pad = layout.key_pad, n = pad / 8;
  const uint8_t* rows = block + layout.key_codes + g * kRows * pad;
  uint32_t d = 0;
  for (; d + 64 <= pad; d += 64, rows += 512)
    gather_columns<64>(rows, n, [&](uint32_t x) { return columns + d / 8 + x; });
  if (d < pad) gather_columns<32>(rows, n, [&](uint32_t x) { return columns + d / 8 + x; });
}

// Where the weight of a slot lies within a row of values: 128 codes in the order of their bytes.
inline uint32_t value_place(uint32_t slot) { return slot / 32 * 32 + slot % 8 / 2 * 8 + slot % 32 / 8 * 2 + slot % 2; }

// Values of the dims [d0, d0 + 64), or 32 in a tail: columns[half][kRuns][16], plane p and row d are dim 32 half + 8 p + d.
inline void value_columns(const BlockLayout& layout, const uint8_t* block, uint32_t d0, U64* columns) {
  constexpr uint32_t kN = kBlockTokens / 8;
  const bool whole = d0 + 64 <= layout.value_pad;
  for (uint32_t g = 0; g < 4; ++g) {
    const uint8_t* rows = block + layout.value_codes + g * kRows * layout.value_pad + d0 * 8;
    if (whole)
      gather_columns<64>(rows, kN, [&](uint32_t x) { return columns + x % 2 * kRuns * kN + g * 4 + x / 2; });
    else
      gather_columns<32>(rows, kN, [&](uint32_t x) { return columns + g * 4 + x; });
  }
}

// A part of the refinement of values. A row holds what lies together for one dim % 8: the slots < h, eight to a column where h <= 8,
// else sixteen to two columns.
inline uint32_t fine_columns(const BlockLayout& layout) { return layout.h <= 8 ? 1 : ceil_div(layout.h, 16) * 2; }

// Where the weight of a slot < h lies within such a row.
inline uint32_t fine_place(const BlockLayout& layout, uint32_t slot) {
  return layout.h <= 8 ? slot : slot / 16 * 16 + slot % 8 / 2 * 4 + slot % 16 / 8 * 2 + slot % 2;
}

// columns[kRuns][fine_columns] of the dims whose planes share bytes: 32 dims of 2 bits, or 64 of 1 bit, from the
// unit_group-th on.
inline void fine_value_columns(const BlockLayout& layout, const uint8_t* block, uint32_t part, uint32_t unit_group,
                               U64* columns) {
  const uint32_t n = fine_columns(layout), words = ceil_div(layout.h, 16);
  const uint32_t row_bytes = layout.h <= 8 ? (layout.h + 1) / 2 * 2 : 16;  // of a word
  const uint8_t* refine = block + layout.value_refine + part * layout.value_part;
  const uint8_t* src = refine + unit_group * words * kRows * row_bytes;
  uint64_t* to = reinterpret_cast<uint64_t*>(columns);
  const auto at = [&](uint32_t row, uint32_t i) -> uint64_t& {
    return to[(row / kQwords * n + i) * kQwords + row % kQwords];
  };
  if (row_bytes == 4) {  // of the default profile: no detour over words of memory, which a vector load would wait for
    for (uint32_t run = 0; run < kRuns; ++run) columns[run] = widen_words(src + run * kQwords * 4);
    return;
  }
  if (layout.h <= 8) {
    for (uint32_t row = 0; row < kRows; ++row) {
      uint64_t bytes = 0;
      __builtin_memcpy(&bytes, src + row * row_bytes, row_bytes);
      at(row, 0) = bytes;
    }
    return;
  }
  for (uint32_t word = 0; word < words; ++word)
    for (uint32_t row = 0; row < kRows; ++row, src += 16) {
      __builtin_memcpy(&at(row, 2 * word), src, 8);
      __builtin_memcpy(&at(row, 2 * word + 1), src + 8, 8);
    }
}

}  // namespace oscar::OSCAR_ISA
