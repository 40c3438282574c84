// One warp, one tile of 8 rows, one page of up to 16 exact rows (BF16) in shared memory: keys, then values, each row
// padded to P::kKeyPitch / kValuePitch bytes. Queries and weights as hi + lo BF16 in A rows g and g + 8, so that a
// product carries 16 bits of both.
#pragma once
#include "profile.cuh"
#include "state.cuh"

namespace oscar::cuda {

// x ~ high + low, two at a time.
__device__ __forceinline__ void split_bf16(float a, float b, uint32_t& high, uint32_t& low) {
  const __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
  const __nv_bfloat162 l = __floats2bfloat162_rn(a - __bfloat162float(h.x), b - __bfloat162float(h.y));
  high = *reinterpret_cast<const uint32_t*>(&h);
  low = *reinterpret_cast<const uint32_t*>(&l);
}

__device__ __forceinline__ bool is_finite(float x) { return fabsf(x) < __int_as_float(0x7f800000); }

// An infinite key: what the upper half of the query makes of it. The lower one may be 0 or have the other sign.
__device__ __forceinline__ float add_low(float high, float low) {
  return fabsf(high) == __int_as_float(0x7f800000) ? high : high + low;
}

// Base-2 logits of rows 2 i, 2 i + 1, 2 i + 8, 2 i + 9 of the page.
template <class P>
__device__ __forceinline__ void page_logits(const uint8_t* page, const uint4* operands, float (&x)[4]) {
  const int lane = threadIdx.x & 31, matrix = lane / 8, row = lane % 8;
  float left[4] = {}, right[4] = {};
  const uint8_t* at = page + (matrix / 2 * 8 + row) * P::kKeyPitch + matrix % 2 * 16;
#pragma unroll
  for (int ks = 0; ks < P::kDk / 16; ++ks) {
    const uint4 query = operands[ks * 32], keys = load_matrices(at + ks * 32);
    mma_bf16(left, query, keys.x, keys.y);
    mma_bf16(right, query, keys.z, keys.w);
  }
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    x[e] = add_low(left[e], left[e + 2]);
    x[2 + e] = add_low(right[e], right[e + 2]);
  }
}

// Weights of a page's rows as A operand. Lane 4 g + i: row g; tokens 2 i, 2 i + 1, 2 i + 8, 2 i + 9.
struct PageWeights {
  uint4 operand;
  uint32_t exists_low, exists_high;  // 16 bits a token: rows that do not exist are other bytes in the stage
  uint32_t seen;                     // bit k: token k of the four
};

// 0 in place of what is not finite.
__device__ __forceinline__ uint32_t only_finite(uint32_t pair) {
  return pair & ~__vcmpeq2(pair & 0x7f807f80u, 0x7f807f80u);
}

// Products of the weights and 16 dims of the values: dims 2 i, 2 i + 1, 2 i + 8, 2 i + 9 of row g. True in some lanes
// of the warp where a value (or a weight) is not finite.
template <bool kOnlyFinite>
__device__ __forceinline__ bool value_products(const uint8_t* at, const PageWeights& w, float (&sums)[4]) {
  uint4 v = load_matrices_transposed(at);
  v = make_uint4(v.x & w.exists_low, v.y & w.exists_high, v.z & w.exists_low, v.w & w.exists_high);
  if constexpr (kOnlyFinite) v = make_uint4(only_finite(v.x), only_finite(v.y), only_finite(v.z), only_finite(v.w));
  float left[4] = {}, right[4] = {};
  mma_bf16(left, w.operand, v.x, v.y);
  mma_bf16(right, w.operand, v.z, v.w);
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    sums[e] = left[e] + left[e + 2];
    sums[2 + e] = right[e] + right[e + 2];
  }
  return !is_finite((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// The same where some values are not finite: they go to the rows that see their tokens, and to no others.
template <class P>
__device__ __forceinline__ void value_products_by_row(const uint8_t* page, int c, const uint8_t* at,
                                                      const PageWeights& w, float (&sums)[4]) {
  value_products<true>(at, w, sums);
  const int lane = threadIdx.x & 31;
  const uint8_t* values = page + kPageTokens * P::kKeyPitch + (c * 16 + lane % 4 * 2) * 2;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const uint32_t high = k < 2 ? w.operand.x : w.operand.z, low = k < 2 ? w.operand.y : w.operand.w;
    const float mine = __uint_as_float(k % 2 ? high & 0xffff0000u : high << 16) +
                       __uint_as_float(k % 2 ? low & 0xffff0000u : low << 16);
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      const float weight = __shfl_sync(~0u, mine, i, 4);
      const bool sees = __shfl_sync(~0u, w.seen >> k & 1, i, 4) != 0;
      const uint8_t* row = values + (k / 2 * 8 + 2 * i + k % 2) * P::kValuePitch;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const uint32_t pair = *reinterpret_cast<const uint32_t*>(row + e / 2 * 16);
        const float v = __uint_as_float(e % 2 ? pair & 0xffff0000u : pair << 16);
        if (sees && !is_finite(v)) sums[e] = fmaf(weight, v, sums[e]);
      }
    }
  }
}

// out += w V. 16 dims at a time; those with values that are not finite are left for a second pass, which is rare.
template <class P>
__device__ __forceinline__ void page_values(const uint8_t* page, const PageWeights& w, State<P::kDv>& s) {
  const int lane = threadIdx.x & 31, matrix = lane / 8, row = lane % 8;
  const uint8_t* at = page + kPageTokens * P::kKeyPitch + (matrix % 2 * 8 + row) * P::kValuePitch + matrix / 2 * 16;
  uint32_t left_out = 0;
#pragma unroll
  for (int c = 0; c < P::kDv / 16; ++c) {
    float sums[4];
    if (__any_sync(~0u, value_products<false>(at + c * 32, w, sums))) {
      left_out |= 1u << c;
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) s.out[2 * c + e / 2][e % 2] += sums[e];
    }
  }
#pragma unroll 1
  for (int c = 0; left_out >> c; ++c) {
    if (!(left_out >> c & 1)) continue;
    float sums[4];
    value_products_by_row<P>(page, c, at + c * 32, w, sums);
#pragma unroll
    for (int k = 0; k < P::kDv / 16; ++k)  // registers have no index that is computed
#pragma unroll
      for (int e = 0; e < 4; ++e) s.out[2 * k + e / 2][e % 2] += k == c ? sums[e] : 0.0f;
  }
}

// Adds rows [first, last) of the page, row k at position start + k.
template <class P, int kSets>
__device__ __forceinline__ void attend_page(const uint8_t* page, uint32_t start, int first, int last,
                                            const uint4* operands, const RowView& row, const Softcap& softcap,
                                            State<P::kDv>& s) {
  const int i = threadIdx.x & 3;
  const bool is_query = kSets == 1 || (threadIdx.x & 31) / 4 < 8 / kSets;
  float x[4];
  page_logits<P>(page, operands, x);
  uint32_t exists[4];
  PageWeights w{};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int token = k / 2 * 8 + 2 * i + k % 2;
    const bool here = token >= first && token < last, seen = here && is_query && row.sees(start + token);
    exists[k] = here ? 0xffffu : 0u;
    w.seen |= seen ? 1u << k : 0u;
    if (softcap.two_over_cap > 0.0f) x[k] = softcap(x[k]);
    if (!seen) x[k] = kUnseen;
  }
  w.exists_low = exists[0] | exists[1] << 16;
  w.exists_high = exists[2] | exists[3] << 16;
  const float largest = quad_max(fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3])));
  raise(s, largest);
  const float reference = fmaxf(s.largest, 0.1f * kUnseen);  // weights of 0 also where nothing has been seen
#pragma unroll
  for (int k = 0; k < 4; ++k) x[k] = exp2_approx(x[k] - reference);
  s.sum += (x[0] + x[1]) + (x[2] + x[3]);
  split_bf16(x[0], x[1], w.operand.x, w.operand.y);
  split_bf16(x[2], x[3], w.operand.z, w.operand.w);
  page_values<P>(page, w, s);
}

}  // namespace oscar::cuda
