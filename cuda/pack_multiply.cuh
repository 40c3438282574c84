// Products with the matrices of a head: 128 slots x D columns by the 128 threads of a CTA, 8 slots x 4 Q columns each
// in registers, matrix rows streamed through a slab in shared memory. Every sum is one chain in ascending row.
#pragma once
#include <cuda_pipeline.h>

#include "cuda/pack_columns.cuh"

namespace oscar::cuda {

// Rows [first, first + n) and `columns` columns (a multiple of 4) from column0 on of matrix[D][D] to slab, pitch in
// floats.
template <uint32_t D>
__device__ __forceinline__ void stage_matrix(const float* matrix, uint32_t first, uint32_t n, uint32_t column0,
                                             uint32_t columns, uint32_t pitch, float* slab) {
  for (uint32_t k = threadIdx.x; k < n * columns / 4; k += kPackThreads) {
    const uint32_t row = k / (columns / 4), column = k % (columns / 4) * 4;
    __pipeline_memcpy_async(slab + row * pitch + column, matrix + (first + row) * D + column0 + column, 16);
  }
  __pipeline_commit();
}

// Thread: slots 4 t .. 4 t + 3 and 64 + 4 t .., t = thread % 16; columns 4 (8 c + thread / 16) .. + 3 of the pass, c <
// Q.
struct Eight {
  float v[8];
};
__device__ __forceinline__ Eight load_eight(const float* z_row) {
  const float4 a = *reinterpret_cast<const float4*>(z_row + threadIdx.x % 16 * 4);
  const float4 b = *reinterpret_cast<const float4*>(z_row + 64 + threadIdx.x % 16 * 4);
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ __forceinline__ Eight load_eight(const uint16_t* x_row, float factor) {
  const uint2 a = *reinterpret_cast<const uint2*>(x_row + threadIdx.x % 16 * 4);
  const uint2 b = *reinterpret_cast<const uint2*>(x_row + 64 + threadIdx.x % 16 * 4);
  Eight e = {{bf16_low(a.x), bf16_high(a.x), bf16_low(a.y), bf16_high(a.y), bf16_low(b.x), bf16_high(b.x),
              bf16_low(b.y), bf16_high(b.y)}};
#pragma unroll
  for (float& x : e.v) x = __fmul_rn(x, factor);
  return e;
}

// One slab of 8 matrix rows into the sums of column chunks [First, Q).
template <uint32_t First, uint32_t Q, uint32_t Pitch, typename Load>
__device__ __forceinline__ void add_slab(const float* slab, uint32_t row, Load load, float (&sum)[8][4 * Q]) {
#pragma unroll 2
  for (uint32_t r = 0; r < 8; ++r) {
    const Eight x = load(row + r);
#pragma unroll
    for (uint32_t c = First; c < Q; ++c) {
      const float4 f = *reinterpret_cast<const float4*>(slab + r * Pitch + c * 32 + threadIdx.x / 16 * 4);
#pragma unroll
      for (uint32_t t = 0; t < 8; ++t) {
        sum[t][c * 4] = __fmaf_rn(x.v[t], f.x, sum[t][c * 4]);
        sum[t][c * 4 + 1] = __fmaf_rn(x.v[t], f.y, sum[t][c * 4 + 1]);
        sum[t][c * 4 + 2] = __fmaf_rn(x.v[t], f.z, sum[t][c * 4 + 2]);
        sum[t][c * 4 + 3] = __fmaf_rn(x.v[t], f.w, sum[t][c * 4 + 3]);
      }
    }
  }
}

// Columns of one pass of (inputs x matrix) to z. Triangular: the matrix is 0 below the diagonal, and chunks of columns
// that a row does not reach are left out: adding zeros changes no sum. The inputs may lie in z: they are read before a
// barrier that precedes the stores (and a later pass of a triangular product needs none of what was overwritten).
template <uint32_t D, bool Triangular, typename Load>
__device__ void multiply_pass(const float* matrix, uint32_t pass, const GeneralMemory<D>& m, Load load) {
  using Shape = GeneralShape<D>;
  constexpr uint32_t Q = Shape::kQuads, kPitch = Shape::kColumns, kStage = Shape::kSlabRows * kPitch;
  const uint32_t column0 = pass * Shape::kColumns, columns = min(Shape::kColumns, D - column0);
  const uint32_t n_rows = Triangular ? min(D, column0 + Shape::kColumns) : D;
  float sum[8][4 * Q];
#pragma unroll
  for (uint32_t t = 0; t < 8; ++t)
#pragma unroll
    for (uint32_t c = 0; c < 4 * Q; ++c) sum[t][c] = 0.0f;
  stage_matrix<D>(matrix, 0, 8, column0, columns, kPitch, m.slab);
#pragma unroll 1
  for (uint32_t row = 0; row < n_rows; row += 8) {
    const float* slab = m.slab + row / 8 % 2 * kStage;
    if (row + 8 < n_rows) {
      stage_matrix<D>(matrix, row + 8, 8, column0, columns, kPitch, m.slab + (row / 8 + 1) % 2 * kStage);
      __pipeline_wait_prior(1);
    } else {
      __pipeline_wait_prior(0);
    }
    __syncthreads();
    const uint32_t first = !Triangular || row < column0 ? 0 : (row - column0) / 32;
    if (first == 0) add_slab<0, Q, kPitch>(slab, row, load, sum);
    if constexpr (Triangular) {
      if (first == 1) add_slab<1, Q, kPitch>(slab, row, load, sum);
      if (Q > 2 && first == 2) add_slab<2, Q, kPitch>(slab, row, load, sum);
      if (Q > 3 && first == 3) add_slab<3, Q, kPitch>(slab, row, load, sum);
    }
    __syncthreads();
  }
#pragma unroll
  for (uint32_t c = 0; c < 4 * Q; ++c) {
    const uint32_t column = column0 + c / 4 * 32 + threadIdx.x / 16 * 4 + c % 4;
    if (column >= D) continue;
    float* out = m.z + column * kBlockTokens + threadIdx.x % 16 * 4;
    *reinterpret_cast<float4*>(out) = make_float4(sum[0][c], sum[1][c], sum[2][c], sum[3][c]);
    *reinterpret_cast<float4*>(out + 64) = make_float4(sum[4][c], sum[5][c], sum[6][c], sum[7][c]);
  }
}

// z = x M, dense. Ends with a barrier.
template <uint32_t D>
__device__ void multiply_rows(const float* matrix, const GeneralMemory<D>& m, float factor) {
  for (uint32_t pass = 0; pass < GeneralShape<D>::kPasses; ++pass)
    multiply_pass<D, false>(matrix, pass, m,
                            [&](uint32_t i) { return load_eight(m.x + i * GeneralShape<D>::kRowPitch, factor); });
  __syncthreads();
}

// |z R|^2 of the slot; z is lost. To be called between barriers: reads what other threads wrote, ends without one.
template <uint32_t D>
__device__ float metric_norm(const float* root, const GeneralMemory<D>& m) {
  for (uint32_t pass = GeneralShape<D>::kPasses; pass-- > 0;)  // the last columns first: they need all of z
    multiply_pass<D, true>(root, pass, m, [&](uint32_t i) { return load_eight(m.z + i * kBlockTokens); });
  __syncthreads();
  float norm = 0.0f;
#pragma unroll 8
  for (uint32_t j = 0; j < D; ++j) {
    const float y = m.z[j * kBlockTokens + threadIdx.x];
    norm = __fmaf_rn(y, y, norm);
  }
  return norm;
}

}  // namespace oscar::cuda
