// Where several CTAs have shared the tokens of a tile: their partial results, joined in their order.
#pragma once
#include "prefill_finish.cuh"

namespace oscar::cuda {

// Grid: tiles x KV heads x groups of rows; one warp a row, lane l has dims l + 32 e.
inline constexpr int kMergeThreads = 256;

__global__ void __launch_bounds__(kMergeThreads) merge_splits_kernel(const __grid_constant__ PrefillLaunch p) {
  launch_dependents();
  wait_for_previous_kernels();
  const PrefillArgs& a = p.args;
  const RowTile t = row_tile(a, blockIdx.x, blockIdx.y, p.tile_rows);
  if (t.n_rows == 0) return;
  if (t.part.sees_nothing()) {
    if (blockIdx.z == 0) store_nothing(a, t);
    return;
  }
  const uint32_t lane = threadIdx.x & 31, dv = a.value_dim;
  const uint64_t first = (uint64_t{t.number} * a.n_kv_heads + t.head) * p.n_splits;
  for (uint32_t r = blockIdx.z * (kMergeThreads / 32) + threadIdx.x / 32; r < t.n_rows;
       r += gridDim.z * (kMergeThreads / 32)) {
    float largest = kUnseen;
    for (uint32_t k = lane; k < p.n_splits; k += 32)
      largest = fmaxf(largest, p.partial_sums[(first + k) * p.tile_rows + r].x);
#pragma unroll
    for (int k = 16; k; k /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, k));
    float sum = 0.0f, out[kMaxHeadDim / 32] = {};
#pragma unroll 4
    for (uint32_t k = 0; k < p.n_splits; ++k) {
      const uint64_t row = (first + k) * p.tile_rows + r;
      const float2 part = p.partial_sums[row];
      const float share = part.x <= kUnseen ? 0.0f : exp2_approx(part.x - largest);
      sum = fmaf(share, part.y, sum);
#pragma unroll
      for (uint32_t e = 0; e < kMaxHeadDim / 32; ++e)
        if (lane + 32 * e < dv) out[e] = fmaf(share, p.partial_out[row * dv + lane + 32 * e], out[e]);
    }
    float shrink;
    sum = with_sink(a, t.query_head(r), largest, shrink, sum);
    const float inverse = sum == 0.0f ? 0.0f : shrink / sum;
#pragma unroll
    for (uint32_t e = 0; e < kMaxHeadDim / 32; ++e)
      if (lane + 32 * e < dv) store_element(a.out, out_at(a, t, r) + lane + 32 * e, out[e] * inverse);
    if (lane == 0) store_lse(a, t, r, largest, sum);
  }
}

}  // namespace oscar::cuda
