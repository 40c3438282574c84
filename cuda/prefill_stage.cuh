// Half a block of head_dim 128 in shared memory as operands of wgmma, and the warp group that makes them from packed
// bytes while others multiply. Any number of refined slots and any planes.
//   keys    [slot][dim]  s8: odd integers 2 code - (levels - 1)
//   values  [dim][slot]  FP16: the same
// Both in rows of 128 bytes with permuted 16-byte chunks (prefill_wgmma.cuh).
#pragma once
#include "prefill_tile.cuh"
#include "prefill_wgmma.cuh"

namespace oscar::cuda {

inline constexpr uint32_t kStageDim = 128;
inline constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: its bits plus a small integer n are those of kMagic + n

struct alignas(1024) PackedStage {
  uint8_t keys[kTileTokens * kStageDim];
  uint8_t values[kStageDim * kTileTokens * 2];
  float key_factor[kTileTokens], minus_magic[kTileTokens];  // and -kMagic times it
  float value_factor[kTileTokens];
  uint32_t mean[kStageDim / 4];
  float mean_scale;
  float rescale, reference;  // of the sums of packed values: old / new, and the new one
  uint32_t has_cuts;
  uint32_t n_refined_octets;  // of keys: those begin with refined slots
  uint32_t valid[2];          // with cuts: which slots exist
};

// What a producer thread loads of half a block, ahead of use.
struct PackedWords {
  const uint8_t* block;
  uint4 keys, values, more_keys, more_values;
  float4 header;
  uint32_t key_scale, value_scale, mean;
  uint32_t first, last;
};

__device__ __forceinline__ void sync_writers() { sync_threads<2, 128>(); }

struct StageWriter {
  const PrefillArgs& a;
  const BlockLayout& l;
  uint32_t head, thread;  // of 128
  float reference = 0.0f;

  __device__ __forceinline__ PackedWords load(const SpanEntry& e, uint32_t half) const {
    PackedWords w;
    w.block = a.pool + uint64_t{e.unit} * 64 + a.block_offset + uint64_t{head} * l.bytes;
    const uint32_t at = (half * 2 + thread / 64) * 8 * kStageDim + thread / 32 % 2 * 512 + thread % 32 * 16;
    w.keys = __ldg(reinterpret_cast<const uint4*>(w.block + l.key_codes + at));
    w.values = __ldg(reinterpret_cast<const uint4*>(w.block + l.value_codes + at));
    w.header = __ldg(reinterpret_cast<const float4*>(w.block + l.header));
    const uint32_t slot = half * kTileTokens + thread % kTileTokens;
    w.key_scale = __ldg(w.block + l.key_scales + slot);
    w.value_scale = __ldg(w.block + l.value_scales + slot);
    w.mean = __ldg(reinterpret_cast<const uint32_t*>(w.block + l.key_mean) + thread % 32);
    w.first = e.first;
    w.last = e.last;
    w.more_keys = w.more_values = uint4{};
    if (l.h == kBlockTokens)
      load_all_refinement(w, half);
    else if (n_refined(half) > 0)
      load_few_refinement(w, half);
    return w;
  }

  // Twice the base codes of a plane, in bytes.
  static __device__ __forceinline__ uint32_t doubled(uint32_t word, uint32_t plane) {
    return (plane ? word >> (2 * plane - 1) : word << 1) & 0x06060606u;
  }

  // 2 code - (levels - 1) in each byte, from 2 code: the sum with 129 - levels has no carries, bit 7 is the sign.
  static __device__ __forceinline__ uint32_t odd_bytes(uint32_t twice, uint32_t levels) {
    return (twice + (129 - levels) * 0x01010101u) ^ 0x80808080u;
  }

  // Where this thread's refinement lies if all slots are refined: word n of keys is of plane n, one of values goes with
  // the base word n.
  __device__ __forceinline__ void load_all_refinement(PackedWords& w, uint32_t half) const {
    const uint32_t lane = thread % 32, chunk = thread / 32 % 2, group = half * 2 + thread / 64;
    if (l.key_plane) {
      const uint32_t per_word = 8 / l.key_plane;
      const uint32_t* words = reinterpret_cast<const uint32_t*>(w.block + l.key_refine) + lane;
      const auto word = [&](uint32_t n) {
        return __ldg(words + ((group * 4 + n) * (kStageDim / 16) + chunk * 4) / per_word * 32);
      };
      w.more_keys = make_uint4(word(0), word(1), word(2), word(3));
    }
    if (l.value_plane) {
      const uint32_t per_word = 8 / l.value_plane;
      const uint32_t* words = reinterpret_cast<const uint32_t*>(w.block + l.value_refine) + lane;
      const auto word = [&](uint32_t n) {
        return __ldg(words + ((chunk * 8 + n / 2 * 4) / per_word * (kBlockTokens / 16) + group * 2 + n % 2) * 32);
      };
      w.more_values = make_uint4(word(0), word(1), word(2), word(3));
    }
  }

  template <bool kAll>
  __device__ __forceinline__ void write_keys(const PackedWords& w, PackedStage& stage) const {
    const uint32_t lane = thread % 32, chunk = thread / 32 % 2, group = thread / 64;
    const uint32_t words[4] = {w.keys.x, w.keys.y, w.keys.z, w.keys.w};
    const uint32_t more[4] = {w.more_keys.x, w.more_keys.y, w.more_keys.z, w.more_keys.w};
    uint8_t* row = stage.keys + (group * 32 + lane / 4) * kStageDim + lane % 4 * 4;
    const uint32_t mask = ((1u << l.key_plane) - 1) * 0x01010101u, per_word = 8u >> (l.key_plane ? l.key_plane - 1 : 0);
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t at = ((chunk * 4 + j) ^ lane / 4) * 16;
#pragma unroll
      for (uint32_t plane = 0; plane < 4; ++plane) {
        uint32_t twice = doubled(words[j], plane);
        if constexpr (kAll) {
          const uint32_t shift = (chunk * 4 + j) % per_word * l.key_plane;
          twice = twice << l.key_plane | (more[plane] >> shift & mask) << 1;
        }
        *reinterpret_cast<uint32_t*>(row + plane * 8 * kStageDim + at) = odd_bytes(twice, kAll ? 4u << l.key_plane : 4);
      }
    }
  }

  template <bool kAll>
  __device__ __forceinline__ void write_values(const PackedWords& w, PackedStage& stage) const {
    const uint32_t lane = thread % 32, chunk = thread / 32 % 2, group = thread / 64;
    const uint32_t words[4] = {w.values.x, w.values.y, w.values.z, w.values.w};
    const uint32_t more[4] = {w.more_values.x, w.more_values.y, w.more_values.z, w.more_values.w};
    uint8_t* row = stage.values + (chunk * 64 + lane / 4) * kTileTokens * 2 + lane % 4 * 4;
    const uint32_t mask = ((1u << l.value_plane) - 1) * 0x01010101u;
    const uint32_t per_word = 8u >> (l.value_plane ? l.value_plane - 1 : 0);
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j)
#pragma unroll
      for (uint32_t plane = 0; plane < 4; ++plane) {
        const uint32_t d = j / 2 * 32 + plane * 8;
        uint32_t twice = doubled(words[j], plane);
        if constexpr (kAll) {
          const uint32_t shift = (j / 2 * 4 + plane) % per_word * l.value_plane;
          twice = twice << l.value_plane | (more[j] >> shift & mask) << 1;
        }
#pragma unroll
        for (uint32_t k = 0; k < 2; ++k)
          *reinterpret_cast<uint32_t*>(row + d * kTileTokens * 2 + ((group * 4 + j % 2 * 2 + k) ^ lane / 4) * 16) =
              odd_integers(twice, k ? 0x4342 : 0x4140, kAll ? 4u << l.value_plane : 4);
      }
  }

  // Some refined slots: their base codes are in place and are replaced. Of keys task n is slot n / 32 and four dims, of
  // values the slots 2 (n / 128) and 2 (n / 128) + 1 and one dim. With r the refinement, levels of the plane alone,
  //   2 (4 code + r) - (4 levels - 1) = levels (2 code - 3) + 2 r - (levels - 1)
  // What is loaded ahead is not touched before it is used.
  __device__ __forceinline__ uint32_t key_refinement_word(const uint8_t* block, uint32_t half, uint32_t n) const {
    return __ldg(
        reinterpret_cast<const uint32_t*>(block + l.key_refinement(half * kTileTokens + n / 32, n % 32 * 4).at));
  }
  __device__ __forceinline__ uint32_t value_refinement_word(const uint8_t* block, uint32_t half, uint32_t n) const {
    const CodeAt r = l.value_refinement(half * kTileTokens + n / 128 * 2, n % 128);
    return __ldg(reinterpret_cast<const uint16_t*>(block + r.at));
  }
  __device__ __forceinline__ void refine_keys(uint32_t n, uint32_t half, uint32_t word, PackedStage& stage) const {
    const uint32_t slot = n / 32, d = n % 32 * 4, shift = l.key_refinement(half * kTileTokens + slot, d).shift;
    const uint32_t more = word >> shift & ((1u << l.key_plane) - 1) * 0x01010101u;
    uint32_t* at = reinterpret_cast<uint32_t*>(stage.keys + slot * kStageDim + (d / 16 ^ slot % 8) * 16 + d % 16);
    const uint32_t moved = (*at & (0xffu >> l.key_plane) * 0x01010101u) << l.key_plane;
    *at = __vadd4(moved, odd_bytes(more << 1, 1u << l.key_plane));
  }
  __device__ __forceinline__ void refine_values(uint32_t n, uint32_t half, uint32_t word, PackedStage& stage) const {
    const uint32_t slot = n / 128 * 2, d = n % 128, shift = l.value_refinement(half * kTileTokens + slot, d).shift;
    const uint32_t more = word >> shift & ((1u << l.value_plane) - 1) * 0x0101u;
    uint32_t* at = reinterpret_cast<uint32_t*>(stage.values + d * kTileTokens * 2 + (slot / 8 ^ d % 8) * 16 +
                                               slot % 8 * 2);
    const uint32_t levels = 0x3c003c00u + l.value_plane * 0x04000400u;  // 2^w in FP16
    const uint32_t refined = fma_f16x2(*at, levels, odd_integers(more << 1, 0x4140, 1u << l.value_plane));
    *at = half * kTileTokens + slot + 1 < l.h ? refined : __byte_perm(refined, *at, 0x7610);
  }

  __device__ __forceinline__ uint32_t n_refined(uint32_t half) const {
    return l.h > half * kTileTokens ? min(l.h - half * kTileTokens, kTileTokens) : 0;
  }
  __device__ __forceinline__ void load_few_refinement(PackedWords& w, uint32_t half) const {
    const uint32_t n = n_refined(half);
    if (l.key_plane && thread < n * 32) w.more_keys.x = key_refinement_word(w.block, half, thread);
    if (l.value_plane && n > 0) w.more_values.x = value_refinement_word(w.block, half, thread);
    if (l.value_plane && n > 2) w.more_values.y = value_refinement_word(w.block, half, thread + 128);
  }
  __device__ __forceinline__ void refine_few(const PackedWords& w, uint32_t half, PackedStage& stage) const {
    const uint32_t n = n_refined(half), n_pairs = (n + 1) / 2;
    if (l.key_plane) {
      if (thread < n * 32) refine_keys(thread, half, w.more_keys.x, stage);
      for (uint32_t k = thread + 128; k < n * 32; k += 128)
        refine_keys(k, half, key_refinement_word(w.block, half, k), stage);
    }
    if (l.value_plane) {
      refine_values(thread, half, w.more_values.x, stage);
      if (n_pairs > 1) refine_values(thread + 128, half, w.more_values.y, stage);
      for (uint32_t k = 2; k < n_pairs; ++k)
        refine_values(thread + k * 128, half, value_refinement_word(w.block, half, thread + k * 128), stage);
    }
  }

  __device__ __forceinline__ void write_factors(const PackedWords& w, uint32_t half, PackedStage& stage) {
    const float before = reference;
    reference = fmaxf(reference, w.header.z);
    const uint32_t slot = half * kTileTokens + thread % kTileTokens;
    const bool has_cuts = w.first != 0 || w.last != kBlockTokens;
    if (thread < kTileTokens) {
      const float key = decode_scale(static_cast<uint8_t>(w.key_scale), w.header.y) * slot_unit(slot, l.h, l.key_plane);
      stage.key_factor[thread] = key;
      stage.minus_magic[thread] = -kMagic * key;
      stage.value_factor[thread] = decode_scale(static_cast<uint8_t>(w.value_scale),
                                                w.header.z / reference * kPackedWeight) *
                                   slot_unit(slot, l.h, l.value_plane);
      if (has_cuts) {
        const uint32_t token = slot_token(l, w.block, slot);
        const uint32_t valid = __ballot_sync(~0u, token >= w.first && token < w.last);
        if (thread % 32 == 0) stage.valid[thread / 32] = valid;
      }
    } else if (thread < kTileTokens + 32) {
      stage.mean[thread % 32] = w.mean;
    } else if (thread == kTileTokens + 32) {
      stage.mean_scale = w.header.x;
      stage.rescale = before / reference;
      stage.reference = reference;
      stage.has_cuts = has_cuts;
      stage.n_refined_octets = l.key_plane ? (n_refined(half) + 7) / 8 : 0;
    }
  }

  __device__ __forceinline__ void write(const PackedWords& w, uint32_t half, PackedStage& stage) {
    write_factors(w, half, stage);
    if (l.h == kBlockTokens && l.key_plane)
      write_keys<true>(w, stage);
    else
      write_keys<false>(w, stage);
    if (l.h == kBlockTokens && l.value_plane)
      write_values<true>(w, stage);
    else
      write_values<false>(w, stage);
    if (l.h < kBlockTokens && n_refined(half) > 0) {
      sync_writers();
      refine_few(w, half, stage);
    }
  }
};

}  // namespace oscar::cuda
