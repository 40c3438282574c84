// q' = q M for a dense query map, before the attention launch: mapped[row][query head][dim].
//
// Grid: (KV heads) x (tiles of 8 rows of a head) x (32 output dims); block: 8 warps, warp w sums the products of every
// 8th input dim for all 8 rows, then the warps are added in order. The matrices come from L2: D^2 * 4 bytes a KV head.
#pragma once
#include "query.cuh"

namespace oscar::cuda {

inline constexpr int kMapRows = 8, kMapWarps = 8;

__global__ void __launch_bounds__(kMapWarps * 32) map_queries_kernel(const __grid_constant__ AttendArgs args, int dim) {
  __shared__ float q[kMapRows][kMaxHeadDim];
  __shared__ float sums[kMapWarps][kMapRows][32];
  launch_dependents();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, d = blockIdx.z * 32 + lane;
  const uint32_t head = blockIdx.x, n_rows = args.n_rows * args.group;
  // The matrix is older than the kernels before: its column is on its way while they end.
  const float* matrix = args.query.matrix + uint64_t{head} * dim * dim + d;
  float m[kMaxHeadDim / kMapWarps];
#pragma unroll
  for (int i = 0; i < kMaxHeadDim / kMapWarps; ++i) {
    const int j = warp + i * kMapWarps;
    m[i] = j < dim ? __ldg(matrix + int64_t{j} * dim) : 0.0f;
  }
  wait_for_previous_kernels();
  for (int r = warp; r < kMapRows; r += kMapWarps) {
    const uint32_t row = blockIdx.y * kMapRows + r;
    if (row >= n_rows) continue;
    const int64_t at = int64_t{row / args.group} * args.q.row_stride +
                       (int64_t{head} * args.group + row % args.group) * args.q.head_stride;
    for (int j = lane; j < dim; j += 32) q[r][j] = load_element(args.q, at + j);
  }
  __syncthreads();
  float y[kMapRows] = {};
#pragma unroll
  for (int i = 0; i < kMaxHeadDim / kMapWarps; ++i) {
    const int j = warp + i * kMapWarps;
    if (j >= dim) break;
#pragma unroll
    for (int r = 0; r < kMapRows; ++r) y[r] = fmaf(q[r][j], m[i], y[r]);
  }
#pragma unroll
  for (int r = 0; r < kMapRows; ++r) sums[warp][r][lane] = y[r];
  __syncthreads();
  const uint32_t row = blockIdx.y * kMapRows + warp;
  if (row >= n_rows) return;
  float sum = 0.0f;
#pragma unroll
  for (int w = 0; w < kMapWarps; ++w) sum += sums[w][warp][lane];
  const int64_t q_head = int64_t{head} * args.group + row % args.group;
  args.mapped_queries[(int64_t{row / args.group} * args.n_kv_heads * args.group + q_head) * dim + d] = sum;
}

}  // namespace oscar::cuda
