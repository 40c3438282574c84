// Half a block (64 slots) as FP16 operands in shared memory: small odd integers 2 code - (levels - 1), exact. A token's
// scale with the 2^-w of its plane and the factor 1/2 becomes one FP32 factor. Any number of refined slots, any planes.
#pragma once
#include "format/scale.h"
#include "prefill_plan.h"
#include "prefill_ptx.cuh"

namespace oscar::cuda {

// Which token offset of the block a slot holds.
__device__ __forceinline__ uint32_t slot_token(const BlockLayout& l, const uint8_t* block, uint32_t slot) {
  if (!l.has_ids()) return slot;
  if (slot < l.h) return block[l.ids + slot];
  uint32_t offset = slot - l.h;  // the others ascend: step over every refined one before it
  for (uint32_t i = 0; i < l.h; ++i)
    if (block[l.ids + i] <= offset) ++offset;
  return offset;
}

// What 2 code - (levels - 1) of a slot is worth: its scale / 2 / 2^w.
__device__ __forceinline__ float slot_unit(uint32_t slot, uint32_t h, uint32_t plane) {
  return slot < h ? 0.5f / static_cast<float>(1u << plane) : 0.5f;
}

// The two bytes of `codes` that `selector` names (0x4140: bytes 0 and 1, 0x4342: 2 and 3): 0x6400 | 2 code is
// 1024 + 2 code in FP16, and 1024 + levels - 1 is subtracted. doubled: 2 code in each byte.
__device__ __forceinline__ uint32_t odd_integers(uint32_t doubled, uint32_t selector, uint32_t levels) {
  const uint32_t x = __byte_perm(doubled, 0x64646464u, selector), offset = (levels - 1) * 0x00010001u | 0xe400e400u;
  return fma_f16x2(x, 0x3c003c00u, offset);
}

// Where the two words of a lane lie: 32 slots x 32 dims of base codes of a side, `pad` dims padded.
__device__ __forceinline__ uint2 base_words(const uint8_t* codes, uint32_t pad, uint32_t group, uint32_t unit,
                                            uint32_t lane) {
  const uint8_t* at = codes + group * 8 * pad + unit / 2 * 512;
  at += unit / 2 * 64 + 64 <= pad ? lane * 16 + unit % 2 * 8 : lane * 8;
  return __ldg(reinterpret_cast<const uint2*>(at));
}

// Keys: rows[slot % 64][dim], `pitch` bytes a row.
__device__ inline void unpack_keys(const BlockLayout& l, const uint8_t* block, uint32_t half, uint32_t dim,
                                   uint8_t* rows, uint32_t pitch) {
  const uint32_t n_tasks = 2 * (l.key_pad / kDimUnit) * 32, levels = 4u << l.key_plane;
  for (uint32_t task = threadIdx.x; task < n_tasks; task += blockDim.x) {
    const uint32_t lane = task % 32, unit = task / 32 / 2, group = half * 2 + task / 32 % 2;
    const uint2 words = base_words(block + l.key_codes, l.key_pad, group, unit, lane);
#pragma unroll
    for (uint32_t k = 0; k < 2; ++k) {
      const uint32_t d = unit * 32 + k * 16 + lane % 4 * 4, word = k ? words.y : words.x;
      if (d >= dim) continue;
#pragma unroll
      for (uint32_t plane = 0; plane < 4; ++plane) {
        const uint32_t slot = group * 32 + plane * 8 + lane / 4;
        uint32_t codes = word >> 2 * plane & 0x03030303u, n_levels = 4;
        if (slot < l.h && l.key_plane) {
          const CodeAt r = l.key_refinement(slot, d);
          const uint32_t refinement = __ldg(reinterpret_cast<const uint32_t*>(block + r.at)) >> r.shift;
          codes = codes << l.key_plane | (refinement & ((1u << l.key_plane) - 1) * 0x01010101u);
          n_levels = levels;
        }
        codes <<= 1;
        *reinterpret_cast<uint2*>(rows + slot % kTileTokens * pitch + d * 2) = make_uint2(
            odd_integers(codes, 0x4140, n_levels), odd_integers(codes, 0x4342, n_levels));
      }
    }
  }
}

// The refinement of two neighbouring slots in bytes 0 and 1 (slot even, below h).
__device__ __forceinline__ uint32_t value_refinement_pair(const BlockLayout& l, const uint8_t* block, uint32_t slot,
                                                          uint32_t d) {
  const CodeAt r = l.value_refinement(slot, d);
  const uint32_t pair = __ldg(reinterpret_cast<const uint16_t*>(block + r.at)) >> r.shift;
  return pair & ((1u << l.value_plane) - 1) * 0x0101u;
}

// Values, transposed: rows[dim][slot % 64].
__device__ inline void unpack_values(const BlockLayout& l, const uint8_t* block, uint32_t half, uint32_t dim,
                                     uint8_t* rows, uint32_t pitch) {
  const uint32_t n_tasks = 2 * (l.value_pad / kDimUnit) * 32, levels = 4u << l.value_plane;
  for (uint32_t task = threadIdx.x; task < n_tasks; task += blockDim.x) {
    const uint32_t lane = task % 32, unit = task / 32 / 2, group = half * 2 + task / 32 % 2;
    const uint2 words = base_words(block + l.value_codes, l.value_pad, group, unit, lane);
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {  // two slots each: k % 2 names the half word, k / 2 the word
      const uint32_t slot = group * 32 + k / 2 * 16 + k % 2 * 8 + lane % 4 * 2;
      const uint32_t pairs = (k / 2 ? words.y : words.x) >> k % 2 * 16 & 0xffffu;
#pragma unroll
      for (uint32_t plane = 0; plane < 4; ++plane) {
        const uint32_t d = unit * 32 + plane * 8 + lane / 4;
        if (d >= dim) continue;
        const uint32_t base = pairs >> 2 * plane & 0x0303u;
        uint32_t value = odd_integers(base << 1, 0x4140, 4);
        if (slot < l.h && l.value_plane) {
          const uint32_t codes = base << l.value_plane | value_refinement_pair(l, block, slot, d);
          const uint32_t refined = odd_integers(codes << 1, 0x4140, levels);
          value = slot + 1 < l.h ? refined : __byte_perm(refined, value, 0x7610);
        }
        *reinterpret_cast<uint32_t*>(rows + d * pitch + slot % kTileTokens * 2) = value;
      }
    }
  }
}

}  // namespace oscar::cuda
