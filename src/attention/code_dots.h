// Dot products of unsigned codes of 1 or 2 bits with signed 16-bit integers, exact, on columns (columns.h).
//
// An operand of n numbers is 2 n bytes in two parts, such that a multiplier of 8 bits, or of 16, takes 8 numbers at a
// time from 8 bytes of each part (lanes.h). Sums of the parts are joined at the end.
#pragma once
#include "attention/columns.h"

namespace oscar::OSCAR_ISA {

// AVX-512 has registers for two operands times four planes, the others for two times two.
inline constexpr uint32_t kDotPlanes = kQwords == 8 ? 4 : 2;

// out[0 .. kQwords) and out[kRows ..): sums of the pairs of lanes that belong to one row, of two planes.
inline void store_pair_sums(I32 a, I32 b, int32_t* out) {
  const I32 sums = add_pairs(a, b);
  if constexpr (kQwords == kRows) {
    store(out, sums);
  } else {
    store_part<0, 2>(out, sums);
    store_part<1, 2>(out + kRows, sums);
  }
}

// kOperands operands, part_bytes to a part; planes kFirst .. kFirst + kDotPlanes of codes of kWidth bits.
// out[operand * out_stride + 8 (plane - plane % 4) .. ]: see dot_planes.
template <uint32_t kOperands, uint32_t kWidth, uint32_t kFirst>
inline void dot_some(const U64* columns, uint32_t n, const uint8_t* operands, uint32_t part_bytes, int32_t* out,
                     uint32_t out_stride) {
  for (uint32_t run = 0; run < kRuns; ++run, columns += n) {
    DotSum low[kOperands][kDotPlanes] = {}, high[kOperands][kDotPlanes] = {};
    for (uint32_t i = 0; i < n; ++i) {
      U64 codes[kDotPlanes];
      for (uint32_t p = 0; p < kDotPlanes; ++p) codes[p] = plane_codes<kWidth>(columns[i], kFirst + p);
      for (uint32_t r = 0; r < kOperands; ++r) {
        const uint8_t* operand = operands + r * 2 * part_bytes + i * 8;
        const U64 part0 = repeat_qword(operand), part1 = repeat_qword(operand + part_bytes);
        for (uint32_t p = 0; p < kDotPlanes; ++p) {
          low[r][p] = dot_part<0>(low[r][p], codes[p], part0);
          high[r][p] = dot_part<1>(high[r][p], codes[p], part1);
        }
      }
    }
    for (uint32_t r = 0; r < kOperands; ++r)
      for (uint32_t p = 0; p < kDotPlanes; p += 2) {
        int32_t* to = out + r * out_stride + (kFirst + p) % 4 * kRows + run * kQwords;
        store_pair_sums(join_parts<kWidth>(low[r][p], high[r][p], kFirst + p),
                        join_parts<kWidth>(low[r][p + 1], high[r][p + 1], kFirst + p + 1), to);
      }
  }
}

// out[operand * out_stride + 8 p + row] = <codes of plane first + p and this row, operand>, p < 4, for n columns.
template <uint32_t kWidth, uint32_t kFirst = 0>
inline void dot_planes(const U64* columns, uint32_t n, const uint8_t* operands, uint32_t n_operands,
                       uint32_t part_bytes, int32_t* out, uint32_t out_stride) {
  uint32_t r = 0;
  for (; r + 2 <= n_operands; r += 2) {
    dot_some<2, kWidth, kFirst>(columns, n, operands + r * 2 * part_bytes, part_bytes, out + r * out_stride,
                                out_stride);
    if constexpr (kDotPlanes == 2)
      dot_some<2, kWidth, kFirst + 2>(columns, n, operands + r * 2 * part_bytes, part_bytes, out + r * out_stride,
                                      out_stride);
  }
  if (r == n_operands) return;
  dot_some<1, kWidth, kFirst>(columns, n, operands + r * 2 * part_bytes, part_bytes, out + r * out_stride, out_stride);
  if constexpr (kDotPlanes == 2)
    dot_some<1, kWidth, kFirst + 2>(columns, n, operands + r * 2 * part_bytes, part_bytes, out + r * out_stride,
                                    out_stride);
}

// Keys' refinement: a row is 16 bytes, a register holds kFineRows of them, and the planes of a byte are units of 16 dims,
// each with its own 16 numbers of the operand, which is in the order of dims.
inline constexpr uint32_t kFineRows = kVectorBytes / 16;

// Sums over the four lanes of each row: out[operand * out_stride + row]. With stride 0 for one operand.
inline void store_row_sums(I32 a, I32 b, I32 c, I32 d, int32_t* out, uint32_t out_stride) {
  const I32 sums = add_pairs(add_pairs(a, b), add_pairs(c, d));
  store_part<0, 4>(out, sums);
  store_part<1, 4>(out + out_stride, sums);
  store_part<2, 4>(out + 2 * out_stride, sums);
  store_part<3, 4>(out + 3 * out_stride, sums);
}

// kFineRows rows of a tile; units of the same plane group lie group_bytes apart.
template <uint32_t kOperands>
inline void dot_fine_rows(const BlockLayout& layout, const uint8_t* rows, uint32_t group_bytes, uint32_t first_unit,
                          const uint8_t* operands, int32_t* out, uint32_t out_stride) {
  const uint32_t width = part_width(layout.key_plane), log_planes = width == 2 ? 2 : 3, units = layout.key_pad / 16;
  const uint64_t mask = ((uint64_t{1} << width) - 1) * 0x0101010101010101u;
  DotSum low[kOperands] = {}, high[kOperands] = {};
  for (uint32_t u = 0; u < units; ++u) {
    const uint32_t unit = first_unit + u, shift = (unit & ((1u << log_planes) - 1)) * width;
    const U64 codes = load_qwords(rows + (unit >> log_planes) * group_bytes) >> shift & mask;
    for (uint32_t r = 0; r < kOperands; ++r) {
      const uint8_t* operand = operands + r * 2 * layout.key_pad + u * 16;
      low[r] = dot_part<0>(low[r], codes, repeat_16(operand));
      high[r] = dot_part<1>(high[r], codes, repeat_16(operand + layout.key_pad));
    }
  }
  I32 sums[4];
  for (uint32_t r = 0; r < 4; ++r) sums[r] = join_parts<2>(low[r % kOperands], high[r % kOperands], 0);
  store_row_sums(sums[0], sums[1], sums[2], sums[3], out, kOperands == 4 ? out_stride : 0);
}

// out[operand * out_stride + slot] = <a part of the refinement codes of the slot, operand> for the slots < h, and numbers
// without meaning for those up to the next multiple of eight.
inline void dot_key_refinement(const BlockLayout& layout, const uint8_t* block, uint32_t part, const uint8_t* operands,
                               uint32_t n_operands, int32_t* out, uint32_t out_stride) {
  const uint8_t* refine = block + layout.key_refine + part * layout.key_part;
  alignas(64) uint8_t padded[kRows * kMaxHeadDim];
  uint32_t n_rows = layout.h < kRows ? layout.h : kRows;  // of a tile
  if (n_rows % kFineRows != 0) {                          // whole registers
    const uint32_t n = ceil_div(layout.key_pad / 16, 8 / part_width(layout.key_plane));
    for (uint32_t i = 0; i < n; ++i) __builtin_memcpy(padded + i * kRows * 16, refine + i * n_rows * 16, n_rows * 16);
    refine = padded;
    n_rows = kRows;
  }
  for (uint32_t slot = 0; slot < layout.h; slot += kFineRows) {
    const uint32_t first_unit = slot / kRows * (layout.key_pad / 16);
    const uint8_t* rows = refine + slot % kRows * 16;
    for (uint32_t r = 0; r < n_operands;) {
      const uint8_t* operand = operands + r * 2 * layout.key_pad;
      int32_t* to = out + r * out_stride + slot;
      if (n_operands - r >= 4) {
        dot_fine_rows<4>(layout, rows, n_rows * 16, first_unit, operand, to, out_stride);
        r += 4;
      } else {
        dot_fine_rows<1>(layout, rows, n_rows * 16, first_unit, operand, to, out_stride);
        ++r;
      }
    }
  }
}

}  // namespace oscar::OSCAR_ISA
