// A block of head_dim 128 in shared memory as FP16 operands of wgmma, made by one warp group from packed bytes while
// others multiply. Any number of refined slots and any planes.
//   keys    [column][dim'] 4 (code - 1.5) scale / key_base
//   values  [dim][column]  4 (code - 1.5) scale / reference * kValueUnit
// all exact: five bits of scale and at most four of code. Columns and dims of keys are permuted such that a thread has
// eight neighbours in a row (16 bytes) of everything it unpacks:
//   column 32 g + 8 i + 4 (p / 2) + 2 o + p % 2 holds slot 32 g + 8 p + 2 i + o
//   dim' 64 c + 8 (i + 4 (w ^ c)) + 4 q + e holds dim 64 c + 32 w + 16 q + 4 i + (0, 2, 1, 3)[e]
#pragma once
#include "prefill_tile.cuh"
#include "prefill_wgmma.cuh"

namespace oscar::cuda {

inline constexpr uint32_t kWriters = 128;
inline constexpr float kValueUnit = 256.0f;

// First of the four dims d, d + 2, d + 1, d + 3 that keys have at dim' `at`, a multiple of 4.
__device__ __forceinline__ uint32_t first_dim(uint32_t at) {
  const uint32_t c = at / 64, chunk = at % 64 / 8, w = chunk / 4 ^ c;
  return c * 64 + w * 32 + at / 4 % 2 * 16 + chunk % 4 * 4;
}
__device__ __forceinline__ uint32_t slot_of_column(uint32_t column) {
  return column / 32 * 32 + (column / 4 % 2 * 2 + column % 2) * 8 + column / 8 % 4 * 2 + column / 2 % 2;
}

// What all threads must know of a block.
struct BlockMeta {
  float key_unit, mean_scale;  // logit = row_factor (key_unit (keys . q') + mean_scale (mean . q'))
  float rescale, reference;    // of the sums of packed values: old / new, and the new one
  uint32_t has_cuts;
  uint32_t valid[kBlockTokens / 32];  // with cuts: which columns exist
};

__device__ __forceinline__ void sync_writers() { sync_threads<2, kWriters>(); }

// Twice the scale of byte b, without its base, in FP16 in both halves of the result: 2^(e - 14) (1 + m / 16).
__device__ __forceinline__ uint32_t scale_pair(uint32_t bytes_0_and_2) { return (bytes_0_and_2 << 6) + 0x04000400u; }

// FP16 numbers (2 code - 3) k of two codes. Those of planes 1 and 3 are moved to the upper two bits of a significand,
// of planes 0 and 2 to the next two: 1 + code / 4 and 1 + code / 16.
struct Multipliers {
  uint32_t upper, upper_offset, lower, lower_offset;
  __device__ __forceinline__ explicit Multipliers(uint32_t k)
      : upper(mul_f16x2(k, 0x48004800u)), upper_offset(mul_f16x2(k, 0xc980c980u)),    // 8, -11
        lower(mul_f16x2(k, 0x50005000u)), lower_offset(mul_f16x2(k, 0xd060d060u)) {}  // 32, -35
};
template <int kPlane>
__device__ __forceinline__ uint32_t base_pair(uint32_t moved, const Multipliers& k, uint32_t one) {
  return kPlane % 2 ? fma_f16x2(and_or<0x03000300u>(moved, one), k.upper, k.upper_offset)
                    : fma_f16x2(and_or<0x00c000c0u>(moved, one), k.lower, k.lower_offset);
}
// Of plane kPlane: the codes in bytes 0 and 2 of a word, then those in bytes 1 and 3.
template <int kPlane>
__device__ __forceinline__ uint2 base_pairs(uint32_t word, const Multipliers& even, const Multipliers& odd,
                                            uint32_t one) {
  return make_uint2(base_pair<kPlane>(word << (kPlane < 2 ? 6 : 2), even, one),
                    base_pair<kPlane>(word >> (kPlane < 2 ? 2 : 6), odd, one));
}

// kAll: all slots of a block are refined, where they are unpacked; else some are or none, afterwards.
template <bool kAll>
struct BlockUnpacker {
  const BlockLayout& l;
  uint32_t thread;  // of kWriters

  // Where the refinement of a task lies in the block and how far up in its word, and where its numbers are in shared
  // memory. Task n of keys is slot n / 32 and four dims, of values slots 2 n and 2 n + 1 and dim `thread`. Most blocks have
  // few: those are found once.
  struct Refinement {
    uint32_t at, shift, to;
  };
  static constexpr uint32_t kValueTasks = 2;
  Refinement key_task, value_tasks[kValueTasks];

  // What a thread reads of a block, before it needs it.
  uint4 keys[2], values[2];
  uint32_t key_scales[4], value_scales[2];
  uint32_t key_more, key_more_scale, value_more[kValueTasks], value_more_scales[kValueTasks];

  __device__ __forceinline__ BlockUnpacker(const BlockLayout& l, uint32_t thread) : l(l), thread(thread) {
    if constexpr (!kAll) {
      key_task = key_refinement(thread);
#pragma unroll
      for (uint32_t n = 0; n < kValueTasks; ++n) value_tasks[n] = value_refinement(n);
    }
  }

  __device__ __forceinline__ void load(const uint8_t* block) {
    const uint32_t lane = thread % 32, r = lane / 4;
#pragma unroll
    for (uint32_t n = 0; n < 2 && !kAll; ++n) keys[n] = key_words(block, n), values[n] = value_words(block, n);
#pragma unroll
    for (uint32_t p = 0; p < 4; ++p) key_scales[p] = block[l.key_scales + thread / 32 * 32 + r + p * 8];
    if (!kAll && l.key_plane) load_task(block, key_task, key_more, key_more_scale);
    const uint32_t i = thread % 4, g = thread / 64 * 2 + thread / 4 % 2;
    const uint8_t* scales = block + l.value_scales + g * 32 + i * 2;
    const auto pair = [&](uint32_t p) -> uint32_t { return *reinterpret_cast<const uint16_t*>(scales + p * 8); };
#pragma unroll
    for (uint32_t p = 0; p < 2; ++p) value_scales[p] = pair(2 * p) | pair(2 * p + 1) << 16;
    if constexpr (!kAll) {
#pragma unroll
      for (uint32_t k = 0; k < kValueTasks; ++k)
        if (l.value_plane && k * 2 < l.h)
          load_values_task(block, k, value_tasks[k], value_more[k], value_more_scales[k]);
    }
  }

  // Thread 32 g + 4 r + i has slots 32 g + 8 p + r and dims 16 w + 4 i + (0 .. 3) of keys. Neighbours take different
  // halves of the dims at a time: no bank conflicts.
  __device__ __forceinline__ void unpack_keys(const uint8_t* block, uint8_t* to) const {
    const uint32_t lane = thread % 32, r = lane / 4, i = lane % 4, one = opaque(0x3c003c00u);
    const auto scale = [&](uint32_t p) { return scale_pair(key_scales[p] * 0x00010001u); };
    // Refinement of the slot of plane p, dims 64 c + 32 w + 16 q + 4 i ..: unit 8 (slot / 8) + 4 c + 2 w + q.
    const uint32_t planes_log = 4 - l.key_plane, mask = ((1u << l.key_plane) - 1) * 0x01010101u;
    const auto more = [&](uint32_t p, uint32_t c) {
      const uint32_t unit = (thread / 32 * 4 + p) * (kWideDim / 16) + c * 4;
      const uint8_t* at = block + l.key_refine + (unit >> planes_log) * 128 + lane * 4;
      return *reinterpret_cast<const uint32_t*>(at) >> (unit & ((1u << planes_log) - 1)) * l.key_plane;
    };
    const Multipliers k[4] = {Multipliers(scale(0)), Multipliers(scale(1)), Multipliers(scale(2)),
                              Multipliers(scale(3))};
    const uint32_t column = thread / 32 * 32 + r / 2 * 8 + r % 2 * 2;
#pragma unroll(kAll ? 1 : 2)
    for (uint32_t n = 0; n < 2; ++n) {
      const uint32_t c = n ^ r % 2;
#pragma unroll
      for (uint32_t w = 0; w < 2; ++w) {
        const uint4 v = kAll ? key_words(block, n) : keys[n];
        const uint32_t first = w ? v.z : v.x, second = w ? v.w : v.y;
        const auto store = [&](auto plane) {
          constexpr int kPlane = decltype(plane)::value;
          uint2 a = base_pairs<kPlane>(first, k[kPlane], k[kPlane], one),
                b = base_pairs<kPlane>(second, k[kPlane], k[kPlane], one);
          if (kAll && l.key_plane) {
            const uint32_t u = more(kPlane, c) >> w * 2 * l.key_plane, x = u & mask, y = u >> l.key_plane & mask;
            a = refined(a, x, scale(kPlane), scale(kPlane), l.key_plane);
            b = refined(b, y, scale(kPlane), scale(kPlane), l.key_plane);
          }
          *reinterpret_cast<uint4*>(
              to + c * kHalfBytes +
              chunk_at(column + kPlane / 2 * 4 + kPlane % 2, i + 4 * (w ^ c))) = make_uint4(a.x, a.y, b.x, b.y);
        };
        for_planes(store);
      }
    }
  }

  // Thread 64 (g / 2) + 8 n + 4 (g % 2) + i has slots 32 g + 8 p + 2 i + (0, 1) and dims 8 m + n of values.
  // factor: of scales, in FP16 twice.
  __device__ __forceinline__ void unpack_values(const uint8_t* block, uint32_t factor, uint8_t* to) const {
    const uint32_t i = thread % 4, n = thread / 8 % 8, one = opaque(0x3c003c00u);
    const auto scale = [&](uint32_t bytes) { return mul_f16x2(scale_pair(bytes & 0x00ff00ffu), factor); };
    const uint32_t s[4] = {scale(value_scales[0]), scale(value_scales[0] >> 8), scale(value_scales[1]),
                           scale(value_scales[1] >> 8)};
    const Multipliers k[4] = {Multipliers(s[0]), Multipliers(s[1]), Multipliers(s[2]), Multipliers(s[3])};
    // Refinement of dims 64 c + 32 w + 8 p + n: unit 8 c + 4 w + p. A word has the slots of a base word: those of two tiles.
    const uint32_t planes_log = 4 - l.value_plane, mask = ((1u << l.value_plane) - 1) * 0x01010101u;
    const auto more = [&](uint32_t unit, uint32_t tiles) {
      const uint32_t word = (unit >> planes_log) * (kBlockTokens / 16) + (thread / 64 * 2 + thread / 4 % 2) * 2 + tiles;
      const uint8_t* at = block + l.value_refine + (word * 8 + n) * 16 + i * 4;
      return *reinterpret_cast<const uint32_t*>(at) >> (unit & ((1u << planes_log) - 1)) * l.value_plane & mask;
    };
    uint8_t* half = to + thread / 64 * kHalfBytes;
#pragma unroll(kAll ? 1 : 2)
    for (uint32_t c = 0; c < 2; ++c)
#pragma unroll
      for (uint32_t w = 0; w < 2; ++w) {
        const uint4 v = kAll ? value_words(block, c) : values[c];
        const uint32_t first = w ? v.z : v.x, second = w ? v.w : v.y;
        const auto store = [&](auto plane) {
          constexpr int kPlane = decltype(plane)::value;
          uint2 a = base_pairs<kPlane>(first, k[0], k[1], one), b = base_pairs<kPlane>(second, k[2], k[3], one);
          if (kAll && l.value_plane) {
            a = refined(a, more(c * 8 + w * 4 + kPlane, 0), s[0], s[1], l.value_plane);
            b = refined(b, more(c * 8 + w * 4 + kPlane, 1), s[2], s[3], l.value_plane);
          }
          *reinterpret_cast<uint4*>(half + chunk_at(c * 64 + w * 32 + n + kPlane * 8,
                                                    i + thread / 4 % 2 * 4)) = make_uint4(a.x, a.y, b.x, b.y);
        };
        for_planes(store);
      }
  }

  // What is refined, once all base codes are in place. Of most blocks loaded ahead, of others here.
  __device__ __forceinline__ void refine_keys(const uint8_t* block, uint8_t* to) const {
    if (thread < l.h * 32) refine_key(key_task, key_more, key_more_scale, to);
#pragma unroll 1
    for (uint32_t n = thread + kWriters; n < l.h * 32; n += kWriters) {
      const Refinement task = key_refinement(n);
      const uint32_t more = *reinterpret_cast<const uint32_t*>(block + task.at);
      refine_key(task, more, block[l.key_scales + n / 32], to);
    }
  }
  __device__ __forceinline__ void refine_values(const uint8_t* block, uint32_t factor, uint8_t* to) const {
#pragma unroll
    for (uint32_t n = 0; n < kValueTasks; ++n)
      if (2 * n < l.h) refine_value(n, value_tasks[n], value_more[n], value_more_scales[n], factor, to);
#pragma unroll 2
    for (uint32_t n = kValueTasks; 2 * n < l.h; ++n) {
      uint32_t more, scales;
      const Refinement task = value_refinement(n);
      load_values_task(block, n, task, more, scales);
      refine_value(n, task, more, scales, factor, to);
    }
  }

 private:
  template <int kPlane>
  struct Plane {
    static constexpr int value = kPlane;
  };
  template <class F>
  static __device__ __forceinline__ void for_planes(const F& f) {
    f(Plane<0>{});
    f(Plane<1>{});
    f(Plane<2>{});
    f(Plane<3>{});
  }

  // What refinement r of plane w adds to a number of scale k: 2 (2^w code + r) - (4 2^w - 1) is 2^w (2 code - 3) and
  // 2 r - (2^w - 1), in units of k / 2^w. Two of them, in bytes 0 and 2; exact.
  static __device__ __forceinline__ uint32_t refined(uint32_t base, uint32_t r, uint32_t k, uint32_t plane) {
    const uint32_t unit = mul_f16x2(k, plane == 2 ? 0x34003400u : 0x38003800u);      // 1/4, 1/2
    const uint32_t n = add_f16x2(r | 0x64006400u, 0xe400e400u);                      // r itself
    const uint32_t least = mul_f16x2(unit, plane == 2 ? 0xc200c200u : 0xbc00bc00u);  // -3, -1
    return add_f16x2(base, fma_f16x2(n, add_f16x2(unit, unit), least));
  }

  // The same of the four codes of a word's bytes, as base_pairs has them.
  static __device__ __forceinline__ uint2 refined(uint2 base, uint32_t r, uint32_t even, uint32_t odd, uint32_t plane) {
    return make_uint2(refined(base.x, r & 0x00ff00ffu, even, plane), refined(base.y, r >> 8 & 0x00ff00ffu, odd, plane));
  }

  __device__ __forceinline__ uint4 key_words(const uint8_t* block, uint32_t n) const {
    const uint32_t lane = thread % 32, c = n ^ lane / 4 % 2;
    return *reinterpret_cast<const uint4*>(block + l.key_codes + thread / 32 * 8 * kWideDim + c * 512 + lane * 16);
  }
  __device__ __forceinline__ uint4 value_words(const uint8_t* block, uint32_t c) const {
    const uint32_t g = thread / 64 * 2 + thread / 4 % 2, at = g * 8 * kWideDim + c * 512 + thread / 8 % 8 * 64;
    return *reinterpret_cast<const uint4*>(block + l.value_codes + at + thread % 4 * 16);
  }

  // Shifts instead of BlockLayout's divisions, which cost as much as all the rest.
  __device__ __forceinline__ Refinement key_refinement(uint32_t n) const {
    const uint32_t planes_log = 4 - l.key_plane, slot = n / 32, d = n % 32 * 4,
                   unit = slot / 8 * (kWideDim / 16) + d / 16;
    const uint32_t c = d / 64, p = slot / 8 % 4;
    const uint32_t column = slot / 32 * 32 + slot % 8 / 2 * 8 + p / 2 * 4 + slot % 2 * 2 + p % 2;
    return {l.key_refine + (((unit >> planes_log) * min(l.h, 8u) + slot % 8) * 4 + d % 16 / 4) * 4,
            (unit & ((1u << planes_log) - 1)) * l.key_plane,
            c * kHalfBytes + chunk_at(column, d % 16 / 4 + 4 * (d / 32 % 2 ^ c)) + d / 16 % 2 * 8};
  }
  __device__ __forceinline__ Refinement value_refinement(uint32_t n) const {
    const uint32_t planes_log = 4 - l.value_plane, slot = 2 * n, d = thread, unit = d / 8, tile = slot / 8;
    const uint32_t tiles = (l.h + 7) / 8, lanes = min((l.h + 1) / 2, 4u), p = tile % 4;
    return {l.value_refine +
                ((((unit >> planes_log) * ((tiles + 1) / 2) + tile / 2) * 8 + d % 8) * lanes + slot % 8 / 2) *
                    (tiles < 2 ? 2 : 4) +
                tile % 2 * 2,
            (unit & ((1u << planes_log) - 1)) * l.value_plane,
            slot / 64 * kHalfBytes + chunk_at(d, slot % 64 / 32 * 4 + slot % 8 / 2) + (p / 2 * 4 + p % 2) * 2};
  }

  __device__ __forceinline__ void load_task(const uint8_t* block, const Refinement& task, uint32_t& more,
                                            uint32_t& scale) const {
    if (thread >= l.h * 32) return;
    more = *reinterpret_cast<const uint32_t*>(block + task.at);
    scale = block[l.key_scales + thread / 32];
  }
  __device__ __forceinline__ void load_values_task(const uint8_t* block, uint32_t n, const Refinement& task,
                                                   uint32_t& more, uint32_t& scales) const {
    more = *reinterpret_cast<const uint16_t*>(block + task.at);
    scales = *reinterpret_cast<const uint16_t*>(block + l.value_scales + 2 * n);
  }

  __device__ __forceinline__ void refine_key(const Refinement& task, uint32_t more, uint32_t scale, uint8_t* to) const {
    const uint32_t r = more >> task.shift & ((1u << l.key_plane) - 1) * 0x01010101u;
    const uint32_t k = scale_pair(scale * 0x00010001u);
    uint2& four = *reinterpret_cast<uint2*>(to + task.to);
    four = make_uint2(refined(four.x, r & 0x00ff00ffu, k, l.key_plane),
                      refined(four.y, r >> 8 & 0x00ff00ffu, k, l.key_plane));
  }
  __device__ __forceinline__ void refine_value(uint32_t n, const Refinement& task, uint32_t more, uint32_t scales,
                                               uint32_t factor, uint8_t* to) const {
    const uint32_t r = more >> task.shift & ((1u << l.value_plane) - 1) * 0x0101u;
    const uint32_t k = mul_f16x2(scale_pair(__byte_perm(scales, 0, 0x4140)), factor);
    uint16_t* two = reinterpret_cast<uint16_t*>(to + task.to);
    const uint32_t pair = refined(two[0] | static_cast<uint32_t>(two[2]) << 16, __byte_perm(r, 0, 0x4140), k,
                                  l.value_plane);
    two[0] = static_cast<uint16_t>(pair);
    if (2 * n + 1 < l.h) two[2] = static_cast<uint16_t>(pair >> 16);
  }
};

}  // namespace oscar::cuda
