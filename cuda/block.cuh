// One warp, one tile of 8 rows, 64 slots (half `half`) of a block in shared memory.
//
//   logit = key_scale (sum_d code_d q'_d - offset sum_d q'_d) + <mean, q'>        s8 x u8 and s8 x s8 MMAs
//   out   = sum_s w_s (code_s - offset_s),  w = 2^(logit - m) value_scale         u8 x u8 MMAs, w in 16-bit integers
//
// Codes are multiplied where they lie in their bytes (profile.cuh); both limbs of q' and w come out of the same MMA, in
// rows g and g + 8. Per half block and D = 128: 64 + 4 MMAs, 32 KB/4 of LDS.128 by the warp.
// Lane 4 g + i holds logits[group][j] of slot 64 half + 32 st + 8 (j / 2) + 2 i + j % 2: also V's operand order. With one
// set of tokens group = st; with two, MMA rows 0-3 take st = 0 and rows 4-7 st = 1, through zeros in the other's rows of
// the A operands.
#pragma once
#include <cstddef>

#include "profile.cuh"
#include "state.cuh"

namespace oscar::cuda {

// Scale byte e of a pair, without its base: format/scale.h in two integer instructions.
__device__ __forceinline__ float scale_of(uint32_t pair, int e, uint32_t exponent) {
  return __uint_as_float(and_or<0x07f80000u>(e ? pair << 11 : pair << 19, exponent));
}
inline constexpr uint32_t kScaleExponent = (127 - 15) << 23;

template <class P, int kSets>
struct BlockTile {
  // Groups of 8 slots that a lane has logits of: both steps, or with two sets the step of the lane's set.
  static constexpr int kGroups = 2 / kSets;
  static constexpr BlockLayout kL = P::kLayout;
  const uint8_t* block;
  int half, lane;

  __device__ __forceinline__ uint32_t word(uint32_t at) const { return *reinterpret_cast<const uint32_t*>(block + at); }

  // Few refined tokens: this lane's words of refinement for unit u (16 dims), one word for 8 / plane units.
  static constexpr int kFewKeyWords = P::kFew ? (P::kDk / 16 * P::kKeyPlane + 7) / 8 : 1;
  __device__ __forceinline__ void few_key_words(uint32_t (&few)[kFewKeyWords]) const {
    const bool has = P::kFew && half == 0 && lane / 4 < P::kH;
#pragma unroll
    for (int k = 0; k < kFewKeyWords; ++k)
      few[k] = has ? word(kL.key_refine + ((k * P::kH + lane / 4) * 4 + lane % 4) * 4) : 0u;
  }

  // The word with the refinement of tile t of step st for unit u, and where in its bytes that is.
  __device__ __forceinline__ uint32_t key_refinement(int st, int t, int u, const uint32_t (&few)[kFewKeyWords]) const {
    constexpr int planes = P::kKeyPlane ? 8 / P::kKeyPlane : 1, units = P::kDk / 16;
    if constexpr (!P::kAll) return few[u / planes];
    const int step = half * 2 + st;
    return word(kL.key_refine + ((step * (4 * units / planes) + (t * units + u) / planes) * 32 + lane) * 4);
  }
  static __device__ __forceinline__ constexpr int key_refinement_place(int t, int u) {
    constexpr int planes = P::kKeyPlane ? 8 / P::kKeyPlane : 1;
    return (P::kAll ? t * (P::kDk / 16) + u : u) % planes * P::kKeyPlane;
  }

  // B register: codes of four dims of tile t; `u`: which 16 dims.
  __device__ __forceinline__ uint32_t key_codes(uint32_t base, int st, int t, int u,
                                                const uint32_t (&few)[kFewKeyWords]) const {
    if constexpr (P::kKeyPlane > 0)
      if (P::kAll || (st == 0 && t == 0))
        return joined_codes(base, t, key_refinement(st, t, u, few), key_refinement_place(t, u), P::kKeyPlane);
    return base_codes(base, t);
  }

  __device__ __forceinline__ void key_products(int st, int ks, uint4 query, uint32_t b0, uint32_t b1,
                                               const uint32_t (&few)[kFewKeyWords], int32_t (&c)[4][4]) const {
#pragma unroll
    for (int t = 0; t < 4; ++t)
      mma_s8_u8(c[t], query, key_codes(b0, st, t, 2 * ks, few), key_codes(b1, st, t, 2 * ks + 1, few));
  }

  __device__ __forceinline__ float mean_logit(const uint4* operands, float unit, float mean_scale) const {
    int32_t c[4] = {};
#pragma unroll
    for (int ks = 0; ks < P::kDk / 32; ++ks)  // every column holds the mean: every lane gets its own row's product
      mma_s8_s8(c, load_shared_again(operands + ks * 32), word(kL.key_mean + ks * 32 + lane % 4 * 4),
                word(kL.key_mean + ks * 32 + 16 + lane % 4 * 4));
    const float logit = static_cast<float>(c[0] * 256 + c[2]) * (unit * mean_scale);
    return kSets == 1 ? logit : __shfl_sync(~0u, logit, lane % 16);  // the operand of set 0 has no other rows
  }

  // Base-2 logits before the soft cap.
  __device__ __forceinline__ void logits(const uint4* operands, float2 unit, float (&x)[kGroups][8]) const {
    const float2 header = *reinterpret_cast<const float2*>(block + kL.header);  // mean_scale, key_base
    const float mean = mean_logit(operands, unit.x, header.x);
    uint32_t few[kFewKeyWords];
    few_key_words(few);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      int32_t c[4][4] = {};
#pragma unroll
      for (int set = 0; set < kSets; ++set) step_products(group + set, operands + set * (P::kDk / 32) * 32, few, c);
      scale_logits(group, c, unit.x * header.y, unit.y * header.y, mean, x[group]);
    }
  }

  // Sums of products of 32 slots.
  __device__ __forceinline__ void step_products(int st, const uint4* operands, const uint32_t (&few)[kFewKeyWords],
                                                int32_t (&c)[4][4]) const {
    const uint8_t* codes = block + kL.key_codes + (half * 2 + st) * 8 * P::kDk;
#pragma unroll
    for (int chunk = 0; chunk < P::kDk / 64; ++chunk) {
      const uint4 w = *reinterpret_cast<const uint4*>(codes + chunk * 512 + lane * 16);
      key_products(st, 2 * chunk, load_shared_again(operands + 2 * chunk * 32), w.x, w.y, few, c);
      key_products(st, 2 * chunk + 1, load_shared_again(operands + (2 * chunk + 1) * 32), w.z, w.w, few, c);
    }
    if constexpr (P::kDk % 64 != 0) {
      const uint2 w = *reinterpret_cast<const uint2*>(codes + P::kDk / 64 * 512 + lane * 8);
      key_products(st, P::kDk / 32 - 1, load_shared_again(operands + (P::kDk / 32 - 1) * 32), w.x, w.y, few, c);
    }
  }

  __device__ __forceinline__ void scale_logits(int group, const int32_t (&c)[4][4], float step, float sum, float mean,
                                               float (&x)[8]) const {
    const uint32_t exponent = opaque(kScaleExponent);
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const uint32_t scales = scale_pair(kL.key_scales, group, t);
      float code_step = code_unit(t, P::kAll ? P::kKeyPlane : 0);
      const bool may_be_refined = P::kFew && group == 0 && t == 0;  // the tile with refined slots: joined codes
      if (may_be_refined) code_step = kSets == 1 || lane < 16 ? code_unit(0, P::kKeyPlane) : code_unit(0, 0);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float offset = code_offset(P::kAll ? P::kKeyPlane : 0);
        if (may_be_refined && is_refined(e)) offset = code_offset(P::kKeyPlane);
        const float dot = static_cast<float>(c[t][e] * 256 + c[t][e + 2]);
        x[t * 2 + e] = fmaf(fmaf(dot, step * code_step, -offset * sum), scale_of(scales, e, exponent), mean);
      }
    }
  }

  // Which of the 128 tokens a slot holds: ids of the refined tokens first, the others in ascending order.
  __device__ __forceinline__ uint32_t token_offset(uint32_t slot) const {
    if constexpr (P::kFew) {
      if (slot < P::kH) return block[kL.ids + slot];
      uint32_t offset = slot - P::kH;
#pragma unroll
      for (int i = 0; i < P::kH; ++i)
        if (block[kL.ids + i] <= offset) ++offset;
      return offset;
    }
    return slot;
  }

  // Slots outside [first, last) of the token offsets become unseen.
  __device__ __forceinline__ void mask(int first, int last, float (&x)[kGroups][8]) const {
#pragma unroll 1
    for (int t = 0; t < 4 * kGroups; ++t)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int offset = static_cast<int>(
            token_offset(half * 64 + step_of(t / 4) * 32 + t % 4 * 8 + lane % 4 * 2 + e));
        if (offset >= first && offset < last) continue;
#pragma unroll
        for (int j = e; j < 8 * kGroups; j += 2)  // registers have no index that is computed
          if (j / 2 == t) x[j / 8][j % 8] = kUnseen;
      }
  }

  // Turns logits into w = 2^(x - largest) value_scale (without its base); returns the largest w of the row's half block.
  __device__ __forceinline__ float weights(float largest, float (&x)[kGroups][8], float& sum) const {
    const uint32_t exponent = opaque(kScaleExponent);
    float top = 0.0f;
#pragma unroll
    for (int group = 0; group < kGroups; ++group)
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const uint32_t scales = scale_pair(kL.value_scales, group, t);
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float p = exp2_approx(x[group][t * 2 + e] - largest), w = p * scale_of(scales, e, exponent);
          sum += p;
          x[group][t * 2 + e] = w;
          top = fmaxf(top, w);
        }
      }
    return quad_max(top);
  }

  // sum_s w_s offset_s over this lane's slots, of the integers: of small weights, many of which become 0, nothing may be
  // left here that is not in the products.
  __device__ __forceinline__ float offsets(const uint4 (&w)[kGroups]) const {
    uint32_t upper = 0, lower = 0;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      upper = __dp4a(w[group].x, 0x01010101u, __dp4a(w[group].z, 0x01010101u, upper));
      lower = __dp4a(w[group].y, 0x01010101u, __dp4a(w[group].w, 0x01010101u, lower));
    }
    float sum = static_cast<float>(upper * 256u + lower) * code_offset(P::kAll ? P::kValuePlane : 0);
    if constexpr (P::kFew) {
      const uint32_t refined = (is_refined(0) ? 1u : 0u) | (is_refined(1) ? 0x100u : 0u);
      const uint32_t more = __dp4a(w[0].x, refined, 0u) * 256u + __dp4a(w[0].y, refined, 0u);
      sum = fmaf(static_cast<float>(more), code_offset(P::kValuePlane) - code_offset(0), sum);
    }
    return sum;
  }

  // A operands: w * inverse as 16-bit integers, upper bytes in rows 0-7, lower in rows 8-15; no lane moves anything.
  static __device__ __forceinline__ uint4 weight_codes(const float (&w)[8], float inverse) {
    uint32_t u[8];
#pragma unroll
    for (int j = 0; j < 8; ++j)
      u[j] = __float_as_uint(fmaf(w[j], inverse, 8388608.0f));  // 2^23: bits 0-15 are the integer
    const uint32_t a = __byte_perm(u[0], u[1], 0x5140), b = __byte_perm(u[2], u[3], 0x5140);
    const uint32_t c = __byte_perm(u[4], u[5], 0x5140), d = __byte_perm(u[6], u[7], 0x5140);
    return make_uint4(__byte_perm(a, b, 0x7632), __byte_perm(a, b, 0x5410), __byte_perm(c, d, 0x7632),
                      __byte_perm(c, d, 0x5410));
  }

  // Few refined tokens: this lane's pair of slots, for the 8 / plane dim tiles from 8 / plane * k.
  __device__ __forceinline__ uint32_t few_value_pair(int k) const {
    constexpr int lanes = P::kFew ? (P::kH + 1) / 2 : 1;
    const bool has = P::kFew && half == 0 && lane % 4 < lanes;
    return has ? *reinterpret_cast<const uint16_t*>(block + kL.value_refine +
                                                    ((k * 8 + lane / 4) * lanes + lane % 4) * 2)
               : 0u;
  }

  // Refinement of dim tile t (8 dims) for the tokens of operand register b (16 tokens) of step st.
  __device__ __forceinline__ uint32_t value_refinement(int st, int t, int b, uint32_t few) const {
    constexpr int planes = P::kValuePlane ? 8 / P::kValuePlane : 1;
    if constexpr (!P::kAll) return few;
    return word(kL.value_refine + ((t / planes * 8 + (half * 2 + st) * 2 + b) * 32 + lane) * 4);
  }

  __device__ __forceinline__ uint32_t value_codes(uint32_t base, int st, int t, int b, uint32_t few) const {
    constexpr int planes = P::kValuePlane ? 8 / P::kValuePlane : 1;
    if constexpr (P::kValuePlane > 0) {
      if (P::kAll || (st == 0 && b == 0))
        return joined_codes(base, t % 4, value_refinement(st, t, b, few), t % planes * P::kValuePlane, P::kValuePlane);
      return joined_codes(base, t % 4, 0u, 0, P::kValuePlane);  // the same unit as the joined ones of this sum
    }
    return base_codes(base, t % 4);
  }

  // out += w V for dims 64 chunk .. of which kUnits * 32 exist; f: what a step of the weight integers is worth.
  template <int kUnits>
  __device__ __forceinline__ void value_products(int chunk, const uint4 (&w)[2], float f, State<P::kDv>& s) const {
    int32_t c[kUnits * 4][4] = {};
#pragma unroll
    for (int st = 0; st < 2; ++st) {
      const uint8_t* codes = block + kL.value_codes + (half * 2 + st) * 8 * P::kDv + chunk * 512;
      uint4 v{};
      if constexpr (kUnits == 2) {
        v = *reinterpret_cast<const uint4*>(codes + lane * 16);
      } else {
        const uint2 tail = *reinterpret_cast<const uint2*>(codes + lane * 8);
        v = make_uint4(tail.x, tail.y, 0u, 0u);
      }
      constexpr int kFewTiles = P::kFew ? 8 / P::kValuePlane : 8;
      uint32_t few = 0;
#pragma unroll
      for (int t = 0; t < kUnits * 4; ++t) {
        if (st == 0 && t % kFewTiles == 0) few = few_value_pair((chunk * 8 + t) / kFewTiles);
        mma_u8_u8(c[t], w[st], value_codes(t < 4 ? v.x : v.z, st, chunk * 8 + t, 0, few),
                  value_codes(t < 4 ? v.y : v.w, st, chunk * 8 + t, 1, few));
      }
    }
#pragma unroll
    for (int t = 0; t < kUnits * 4; ++t)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        s.out[chunk * 8 + t][e] = fmaf(static_cast<float>(c[t][e] * 256 + c[t][e + 2]),
                                       f * code_unit(t % 4, P::kValuePlane), s.out[chunk * 8 + t][e]);
  }

  __device__ __forceinline__ bool is_refined(int e) const {  // slot 2 i + e of step 0
    return half == 0 && (kSets == 1 || lane < 16) && lane % 4 * 2 + e < P::kH;
  }
  __device__ __forceinline__ int step_of(int group) const { return kSets == 1 ? group : lane / 16; }
  __device__ __forceinline__ uint32_t scale_pair(uint32_t scales, int group, int t) const {
    return *reinterpret_cast<const uint16_t*>(block + scales + (half * 2 + step_of(group)) * 32 + t * 8 + lane % 4 * 2);
  }
};

// Adds the half block to the state. first, last: token offsets that this lane's row may see.
template <class P, int kSets>
__device__ __forceinline__ void attend_block(const uint8_t* block, int half, const uint4* operands, float2 unit,
                                             int first, int last, const Softcap& softcap, State<P::kDv>& s) {
  using Tile = BlockTile<P, kSets>;
  const Tile tile{block, not_earlier(half), not_earlier(threadIdx.x & 31)};
  float x[Tile::kGroups][8];
  tile.logits(operands, unit, x);
  if (softcap.two_over_cap > 0.0f) {
#pragma unroll
    for (int j = 0; j < 8 * Tile::kGroups; ++j) x[j / 8][j % 8] = softcap(x[j / 8][j % 8]);
  }
  if (__any_sync(~0u, first > 0 || last < static_cast<int>(kBlockTokens))) tile.mask(first, last, x);
  float largest = kUnseen;
#pragma unroll
  for (int j = 0; j < 8 * Tile::kGroups; ++j) largest = fmaxf(largest, x[j / 8][j % 8]);
  largest = quad_max(largest);

  float sum = 0.0f;
  const float top = tile.weights(largest, x, sum);
  const float inverse = __fdividef(65535.0f, fmaxf(top, 1e-30f));
  uint4 codes[Tile::kGroups];
#pragma unroll
  for (int group = 0; group < Tile::kGroups; ++group) codes[group] = tile.weight_codes(x[group], inverse);
  const float offset = tile.offsets(codes);
  uint4 w[2];
  if constexpr (kSets == 1) {
    w[0] = codes[0], w[1] = codes[1];
  } else {
    w[0] = tile.lane < 16 ? codes[0] : make_uint4(0, 0, 0, 0);
    w[1] = tile.lane >= 16 ? codes[0] : make_uint4(0, 0, 0, 0);
  }
  const float value_base = *reinterpret_cast<const float*>(block + P::kLayout.header +
                                                           offsetof(BlockHeader, value_base));
  const float share = raise(s, largest);
  s.sum = fmaf(sum, share, s.sum);
  const float f = share * top * (1.0f / 65535.0f) * value_base;
  s.offset = fmaf(-offset, f, s.offset);
#pragma unroll
  for (int chunk = 0; chunk < P::kDv / 64; ++chunk) tile.template value_products<2>(chunk, w, f, s);
  if constexpr (P::kDv % 64 != 0) tile.template value_products<1>(P::kDv / 64, w, f, s);
}

}  // namespace oscar::cuda
