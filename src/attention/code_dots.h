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
    store_half<0>(out, sums);
    store_half<1>(out + kRows, sums);
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

// A part of the refinement of the keys of a tile of eight slots. Rows are 16 bytes; their planes are units of 16 dims, so a plane has
// its own 16 numbers of the operand, which is in the order of dims. `padded` where the tile has fewer than eight rows.
template <uint32_t kOperands>
inline void dot_key_tile(const BlockLayout& layout, const uint8_t* refine, uint32_t tile, const uint8_t* operands,
                         int32_t* out, uint32_t out_stride) {
  const uint32_t width = part_width(layout.key_plane), log_planes = width == 2 ? 2 : 3, units = layout.key_pad / 16;
  const uint64_t mask = ((uint64_t{1} << width) - 1) * 0x0101010101010101u;
  for (uint32_t run = 0; run < kRuns; ++run) {
    DotSum low[kOperands] = {}, high[kOperands] = {};
    for (uint32_t u = 0; u < units; ++u) {
      const uint32_t unit = tile * units + u, shift = (unit & ((1u << log_planes) - 1)) * width;
      const uint8_t* rows = refine + (unit >> log_planes) * kRows * 16 + run * kQwords * 16;
      U64 column[2] = {load_qwords(rows), load_qwords(rows + kVectorBytes)};
      transpose(column);
      for (uint32_t x = 0; x < 2; ++x) {
        const U64 codes = column[x] >> shift & mask;
        for (uint32_t r = 0; r < kOperands; ++r) {
          const uint8_t* operand = operands + r * 2 * layout.key_pad + u * 16 + x * 8;
          low[r] = dot_part<0>(low[r], codes, repeat_qword(operand));
          high[r] = dot_part<1>(high[r], codes, repeat_qword(operand + layout.key_pad));
        }
      }
    }
    for (uint32_t r = 0; r < kOperands; ++r) {
      const I32 sums = join_parts<2>(low[r], high[r], 0);
      store_half<0>(out + r * out_stride + run * kQwords, add_pairs(sums, sums));
    }
  }
}

// out[operand * out_stride + slot] = <a part of the refinement codes of the slot, operand> for the slots < h, and numbers
// without meaning for those up to the next multiple of eight.
inline void dot_key_refinement(const BlockLayout& layout, const uint8_t* block, uint32_t part, const uint8_t* operands,
                               uint32_t n_operands, int32_t* out, uint32_t out_stride) {
  const uint8_t* refine = block + layout.key_refine + part * layout.key_part;
  alignas(64) uint8_t padded[kRows * kMaxHeadDim];
  if (layout.h < kRows) {  // rows of a short tile, eight to a unit again
    const uint32_t n = ceil_div(layout.key_pad / 16, 8 / part_width(layout.key_plane));
    for (uint32_t i = 0; i < n; ++i)
      __builtin_memcpy(padded + i * kRows * 16, refine + i * layout.h * 16, layout.h * 16);
    refine = padded;
  }
  for (uint32_t tile = 0; tile < ceil_div(layout.h, kRows); ++tile)
    for (uint32_t r = 0; r < n_operands;) {
      const uint8_t* operand = operands + r * 2 * layout.key_pad;
      int32_t* to = out + r * out_stride + tile * kRows;
      if (n_operands - r >= 4) {
        dot_key_tile<4>(layout, refine, tile, operand, to, out_stride);
        r += 4;
      } else {
        dot_key_tile<1>(layout, refine, tile, operand, to, out_stride);
        ++r;
      }
    }
}

}  // namespace oscar::OSCAR_ISA
