// From codes in shared memory to the bit planes of a block, in the order of format/block.h. Threads write consecutive
// words, so stores are whole lines.
#pragma once
#include <cstdint>

#include "cuda/pack_side.cuh"

namespace oscar::cuda {

// Codes in shared memory, a byte each, four consecutive dims to a word. The row of a slot has its base codes, and from
// word `fine` on what refines them (of the first h slots, where plane > 0).
struct CodeRows {
  const uint32_t* words;
  uint32_t pitch, fine;        // words
  const uint8_t* row_of_slot;  // null: the slot itself
  uint32_t h, plane;

  __device__ const uint32_t* row(uint32_t slot) const {
    return words + (row_of_slot ? row_of_slot[slot] : slot) * pitch;
  }
  // log2 of the planes of refinement that a byte holds: 8 of one bit or 4 of two.
  __device__ uint32_t log2_planes() const { return 4 - plane; }
};

// A whole code word into base and refinement.
__device__ __forceinline__ uint32_t base_codes(uint32_t word, uint32_t width) { return word >> width & 0x03030303u; }
__device__ __forceinline__ uint32_t fine_codes(uint32_t word, uint32_t width) {
  return word & ((1u << width) - 1) * 0x01010101u;
}

// A word of four dims, or 0 behind the last dimension.
template <uint32_t D>
__device__ __forceinline__ uint32_t four_codes(const uint32_t* row, uint32_t d) {
  return D % kDimUnit == 0 || d < D ? row[d / 4] : 0;
}

// n / d for n < 2^16.
__device__ __forceinline__ uint32_t divide_small(uint32_t n, uint32_t d) {
  return d == 1 ? n : __float2uint_rz(__fdividef(static_cast<float>(n) + 0.5f, static_cast<float>(d)));
}

// A lane's operand at once: 4 (tail: 2) words of dims 16 apart, each of slots n, n + 8, n + 16, n + 24.
template <uint32_t D>
__device__ void write_key_codes(const CodeRows& codes, uint8_t* out) {
  constexpr uint32_t kPad = round_up(D, kDimUnit), kChunks = ceil_div(kPad, 64);
#pragma unroll 1
  for (uint32_t n = threadIdx.x; n < 4 * kChunks * 32; n += kPackThreads) {
    const uint32_t lane = n % 32, chunk = n / 32 % kChunks, group = n / 32 / kChunks;
    const uint32_t d = chunk * 64 + lane % 4 * 4;
    const bool whole = kPad % 64 == 0 || chunk < kPad / 64;
    uint32_t words[4] = {};
#pragma unroll
    for (uint32_t plane = 0; plane < 4; ++plane) {
      const uint32_t* row = codes.row(group * 32 + plane * 8 + lane / 4);
#pragma unroll
      for (uint32_t k = 0; k < 4; ++k)
        if (k < 2 || whole) words[k] += four_codes<D>(row, d + k * 16) << 2 * plane;
    }
    uint8_t* at = out + group * 8 * kPad + chunk * 512;
    if (whole)
      reinterpret_cast<uint4*>(at)[lane] = make_uint4(words[0], words[1], words[2], words[3]);
    else
      reinterpret_cast<uint2*>(at)[lane] = make_uint2(words[0], words[1]);
  }
}

// rows[r]: four dims of token r. Word k of the result: dim k of the four tokens.
__device__ __forceinline__ void transpose_bytes(const uint32_t (&rows)[4], uint32_t (&words)[4]) {
  const uint32_t a = __byte_perm(rows[0], rows[1], 0x5140), b = __byte_perm(rows[2], rows[3], 0x5140);
  const uint32_t c = __byte_perm(rows[0], rows[1], 0x7362), d = __byte_perm(rows[2], rows[3], 0x7362);
  words[0] = __byte_perm(a, b, 0x5410);
  words[1] = __byte_perm(a, b, 0x7632);
  words[2] = __byte_perm(c, d, 0x5410);
  words[3] = __byte_perm(c, d, 0x7632);
}

// Four dims d .. d + 3 and, as planes, those 8, 16 and 24 behind them; slots y, y + 1, y + 8, y + 9.
template <uint32_t D>
__device__ void write_value_codes(const CodeRows& codes, uint8_t* out) {
  constexpr uint32_t kPad = round_up(D, kDimUnit), kRuns = kPad / 32;
#pragma unroll 1
  for (uint32_t n = threadIdx.x; n < 4 * kRuns * 16; n += kPackThreads) {
    const uint32_t i = n % 4, half = n / 4 % 2, quad = n / 8 % 2, run = n / 16 % kRuns, group = n / 16 / kRuns;
    uint32_t rows[4], words[4];
#pragma unroll
    for (uint32_t r = 0; r < 4; ++r) {
      const uint32_t* row = codes.row(group * 32 + half * 16 + 2 * i + (r & 1) + (r >> 1) * 8);
      rows[r] = 0;
#pragma unroll
      for (uint32_t plane = 0; plane < 4; ++plane)
        rows[r] += four_codes<D>(row, run * 32 + quad * 4 + plane * 8) << 2 * plane;
    }
    transpose_bytes(rows, words);
    const bool whole = kPad % 64 == 0 || run / 2 < kPad / 64;
    uint32_t* at = reinterpret_cast<uint32_t*>(out) + group * 2 * kPad + run / 2 * 128;
    at += whole ? (quad * 16 + i) * 4 + run % 2 * 2 + half : (quad * 16 + i) * 2 + half;
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) at[whole ? k * 16 : k * 8] = words[k];
  }
}

// A word of each plane: four dims of row slot % 8 in one unit of 16 dims after the other.
template <uint32_t D>
__device__ void write_key_refinement(const CodeRows& codes, uint8_t* out) {
  if (codes.plane == 0 || codes.h == 0) return;
  constexpr uint32_t kPad = round_up(D, kDimUnit), kUnits = kPad / 16;
  const uint32_t log2_planes = codes.log2_planes(), planes = 1u << log2_planes, rows = min(codes.h, 8u);
  const uint32_t n_units = ceil_div(codes.h, 8) * kUnits;
  for (uint32_t n = threadIdx.x; n < (n_units + planes - 1) >> log2_planes << 5; n += kPackThreads) {
    const uint32_t quad = n % 4, r = n / 4 % 8, first = n / 32 << log2_planes;
    if (r >= rows) continue;
    uint32_t word = 0;
#pragma unroll 4
    for (uint32_t k = 0; k < planes; ++k) {
      const uint32_t unit = first + k, slot = unit / kUnits * 8 + r;
      if (unit < n_units && slot < codes.h)
        word += four_codes<D>(codes.row(slot) + codes.fine, unit % kUnits * 16 + quad * 4) << k * codes.plane;
    }
    reinterpret_cast<uint32_t*>(out)[(n / 32 * rows + r) * 4 + quad] = word;
  }
}

// Four dims of one lane at once: words of the pairs of two 8-token tiles, half words where there is one tile.
template <uint32_t D>
__device__ void write_value_refinement(const CodeRows& codes, uint8_t* out) {
  if (codes.plane == 0 || codes.h == 0) return;
  constexpr uint32_t kPad = round_up(D, kDimUnit);
  const uint32_t log2_planes = codes.log2_planes(), planes = 1u << log2_planes;
  const uint32_t tiles = ceil_div(codes.h, 8), pairs = ceil_div(tiles, 2), lanes = min(ceil_div(codes.h, 2), 4u);
  const uint32_t n_groups = (kPad / 8 + planes - 1) >> log2_planes;
  for (uint32_t n = threadIdx.x; n < n_groups * pairs * 8; n += kPackThreads) {
    const uint32_t lane = n % 4, quad = n / 4 % 2, entry = n / 8, group = divide_small(entry, pairs);
    const uint32_t pair = entry - group * pairs;
    if (lane >= lanes) continue;
    uint32_t rows[4], words[4];
#pragma unroll
    for (uint32_t r = 0; r < 4; ++r) {
      const uint32_t slot = pair * 16 + (r >> 1) * 8 + lane * 2 + (r & 1);
      rows[r] = 0;
      if (slot >= codes.h) continue;
      const uint32_t* row = codes.row(slot) + codes.fine;
#pragma unroll 4
      for (uint32_t k = 0; k < planes; ++k) {
        const uint32_t d = ((group << log2_planes) + k) * 8 + quad * 4;
        if (d < D) rows[r] += row[d / 4] << k * codes.plane;
      }
    }
    transpose_bytes(rows, words);
    const uint32_t at = (entry * 8 + quad * 4) * lanes + lane;
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k)
      if (tiles < 2)
        reinterpret_cast<uint16_t*>(out)[at + k * lanes] = static_cast<uint16_t>(words[k]);
      else
        reinterpret_cast<uint32_t*>(out)[at + k * lanes] = words[k];
  }
  const uint32_t n_bytes = n_groups * pairs * 8 * lanes * (tiles < 2 ? 2 : 4), tail = n_bytes + threadIdx.x;
  if (tail < round_up(n_bytes, 16)) out[tail] = 0;
}

// All planes of one side.
template <uint32_t D>
__device__ void write_planes(const BlockLayout& layout, bool is_key, const CodeRows& codes, uint8_t* block) {
  if (is_key) {
    write_key_codes<D>(codes, block + layout.key_codes);
    write_key_refinement<D>(codes, block + layout.key_refine);
  } else {
    write_value_codes<D>(codes, block + layout.value_codes);
    write_value_refinement<D>(codes, block + layout.value_refine);
  }
}

}  // namespace oscar::cuda
