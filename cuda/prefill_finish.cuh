// Ends of a row tile: sums of packed values back to the model's basis, results to the tensors or to partial sums.
#pragma once
#include "prefill_attend.cuh"

namespace oscar::cuda {

// out = (out * unit) F_v^-1, through shared memory; each warp its own rows, kPitch numbers apart.
template <int kPitch, int kDv>
__device__ __forceinline__ void undo_value_map(const PrefillArgs& a, const RowTile& t, float unit, uint8_t* shared,
                                               RowState<kDv>& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane / 4, i = lane % 4;
  float* rows = reinterpret_cast<float*>(shared) + warp * 16 * kPitch;
  float* mine = rows + g * kPitch + i * 2;
#pragma unroll
  for (int n = 0; n < kDv / 8; ++n) {
    *reinterpret_cast<float2*>(mine + n * 8) = make_float2(s.out[n][0] * unit, s.out[n][1] * unit);
    *reinterpret_cast<float2*>(mine + 8 * kPitch + n * 8) = make_float2(s.out[n][2] * unit, s.out[n][3] * unit);
  }
  map_shared_rows(a.value_inverse, t.head, rows, kPitch, min(16, max(0, static_cast<int>(t.n_rows) - warp * 16)), kDv);
#pragma unroll
  for (int n = 0; n < kDv / 8; ++n) {
    const float2 low = *reinterpret_cast<const float2*>(mine + n * 8),
                 high = *reinterpret_cast<const float2*>(mine + 8 * kPitch + n * 8);
    s.out[n][0] = low.x;
    s.out[n][1] = low.y;
    s.out[n][2] = high.x;
    s.out[n][3] = high.y;
  }
  __syncwarp();
}

// Denominator with the sink, in units of 2^largest; both may move.
__device__ __forceinline__ float with_sink(const PrefillArgs& a, uint32_t query_head, float& largest, float& shrink,
                                           float sum) {
  shrink = 1.0f;
  if (a.sink_logits == nullptr) return sum;
  const float sink = a.sink_logits[query_head] * kLog2e, top = fmaxf(sink, largest);
  shrink = exp2_approx(largest - top);
  largest = top;
  return fmaf(sum, shrink, exp2_approx(sink - top));
}

// Natural log-sum-exp; minus infinity where nothing was seen.
__device__ __forceinline__ void store_lse(const PrefillArgs& a, const RowTile& t, uint32_t r, float largest,
                                          float sum) {
  if (a.lse == nullptr) return;
  const float lse = sum == 0.0f ? -__int_as_float(0x7f800000) : (largest + log2f(sum)) * kLn2;
  a.lse[int64_t{t.tensor_row(r)} * a.lse_row_stride + t.query_head(r)] = lse;
}

__device__ __forceinline__ int64_t out_at(const PrefillArgs& a, const RowTile& t, uint32_t r) {
  return int64_t{t.tensor_row(r)} * a.out.row_stride + int64_t{t.query_head(r)} * a.out.head_stride;
}

template <int kDv>
__device__ __forceinline__ void store_results(const PrefillArgs& a, const RowTile& t, RowState<kDv>& s) {
  const int lane = threadIdx.x & 31, g = lane / 4, i = lane % 4;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const uint32_t r = threadIdx.x / 32 * 16 + g + 8 * k;
    float sum = quad_sum(s.sum[k]);
    if (r >= t.n_rows) continue;
    float largest = s.largest[k], shrink;
    sum = with_sink(a, t.query_head(r), largest, shrink, sum);
    const float inverse = sum == 0.0f ? 0.0f : shrink / sum;
    const int64_t at = out_at(a, t, r) + i * 2;
#pragma unroll
    for (int n = 0; n < kDv / 8; ++n) {
      store_element(a.out, at + n * 8, s.out[n][2 * k] * inverse);
      store_element(a.out, at + n * 8 + 1, s.out[n][2 * k + 1] * inverse);
    }
    if (i == 0) store_lse(a, t, r, largest, sum);
  }
}

template <int kDv>
__device__ __forceinline__ void store_partials(const PrefillLaunch& p, const RowTile& t, uint32_t split,
                                               const RowState<kDv>& s) {
  const int lane = threadIdx.x & 31, g = lane / 4, i = lane % 4;
  const uint64_t cta = (uint64_t{t.number} * p.args.n_kv_heads + t.head) * p.n_splits + split;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const uint32_t r = threadIdx.x / 32 * 16 + g + 8 * k;
    const float sum = quad_sum(s.sum[k]);
    if (r >= t.n_rows) continue;
    if (i == 0) p.partial_sums[cta * p.tile_rows + r] = make_float2(s.largest[k], sum);
    float* out = p.partial_out + (cta * p.tile_rows + r) * kDv + i * 2;
#pragma unroll
    for (int n = 0; n < kDv / 8; ++n)
      *reinterpret_cast<float2*>(out + n * 8) = make_float2(s.out[n][2 * k], s.out[n][2 * k + 1]);
  }
}

// Rows that belong to nobody.
__device__ inline void store_nothing(const PrefillArgs& a, const RowTile& t) {
  for (uint32_t r = threadIdx.x / 32; r < t.n_rows; r += blockDim.x / 32) {
    for (uint32_t d = threadIdx.x % 32; d < a.value_dim; d += 32) store_element(a.out, out_at(a, t, r) + d, 0.0f);
    if (threadIdx.x % 32 == 0) store_lse(a, t, r, 0.0f, 0.0f);
  }
}

}  // namespace oscar::cuda
