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

// Base-2 logits of rows 2 i, 2 i + 1, 2 i + 8, 2 i + 9 of the page.
template <class P>
__device__ __forceinline__ void page_logits(const uint8_t* page, const uint4* operands, float (&x)[4]) {
  const int lane = threadIdx.x & 31, matrix = lane / 8, row = lane % 8;
  float low[4] = {}, high[4] = {};
  const uint8_t* at = page + (matrix / 2 * 8 + row) * P::kKeyPitch + matrix % 2 * 16;
#pragma unroll
  for (int ks = 0; ks < P::kDk / 16; ++ks) {
    const uint4 query = operands[ks * 32], keys = load_matrices(at + ks * 32);
    mma_bf16(low, query, keys.x, keys.y);
    mma_bf16(high, query, keys.z, keys.w);
  }
  x[0] = low[0] + low[2];
  x[1] = low[1] + low[3];
  x[2] = high[0] + high[2];
  x[3] = high[1] + high[3];
}

// out += w V. Rows that do not exist are other bytes in the stage: masked, for 0 times them could be NaN.
template <class P>
__device__ __forceinline__ void page_values(const uint8_t* page, uint4 weights, uint32_t exists_low,
                                            uint32_t exists_high, State<P::kDv>& s) {
  const int lane = threadIdx.x & 31, matrix = lane / 8, row = lane % 8;
  const uint8_t* at = page + kPageTokens * P::kKeyPitch + (matrix % 2 * 8 + row) * P::kValuePitch + matrix / 2 * 16;
#pragma unroll
  for (int c = 0; c < P::kDv / 16; ++c) {
    const uint4 v = load_matrices_transposed(at + c * 32);
    float left[4] = {}, right[4] = {};
    mma_bf16(left, weights, v.x & exists_low, v.y & exists_high);
    mma_bf16(right, weights, v.z & exists_low, v.w & exists_high);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      s.out[2 * c][e] += left[e] + left[e + 2];
      s.out[2 * c + 1][e] += right[e] + right[e + 2];
    }
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
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int token = k / 2 * 8 + 2 * i + k % 2;
    const bool here = token >= first && token < last;
    exists[k] = here ? 0xffffu : 0u;
    if (softcap.two_over_cap > 0.0f) x[k] = softcap(x[k]);
    if (!here || !is_query || !row.sees(start + token)) x[k] = kUnseen;
  }
  const float largest = quad_max(fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3])));
  raise(s, largest);
#pragma unroll
  for (int k = 0; k < 4; ++k) x[k] = exp2_approx(x[k] - s.largest);
  s.sum += (x[0] + x[1]) + (x[2] + x[3]);
  uint4 weights;
  split_bf16(x[0], x[1], weights.x, weights.y);
  split_bf16(x[2], x[3], weights.z, weights.w);
  page_values<P>(page, weights, exists[0] | exists[1] << 16, exists[2] | exists[3] << 16, s);
}

}  // namespace oscar::cuda
