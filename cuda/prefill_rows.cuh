// Linear maps of FP32 rows in shared memory, one warp for its own rows: queries before they become operands, sums of
// packed values before exact ones are added to them.
#pragma once
#include "query.cuh"

namespace oscar::cuda {

inline constexpr int kRowsPerPass = 8;  // of a dense map: rows that share a load of the matrix

inline constexpr int kRowsTogether = 4;  // of a Hadamard map: their shuffles overlap

template <int kPerLane>
__device__ __forceinline__ void hadamard_of_shared_rows(float* rows, int pitch) {
  const int lane = threadIdx.x & 31;
  float x[kRowsTogether][kPerLane];
#pragma unroll
  for (int r = 0; r < kRowsTogether; ++r)
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) x[r][e] = rows[r * pitch + lane * kPerLane + e];
#pragma unroll
  for (int r = 0; r < kRowsTogether; ++r) hadamard_of_row(x[r]);
#pragma unroll
  for (int r = 0; r < kRowsTogether; ++r)
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) rows[r * pitch + lane * kPerLane + e] = x[r][e];
}

// y = x M in place for kRowsPerPass rows; lane l has columns l + 32 e.
template <int kColumns>
__device__ __forceinline__ void dense_of_shared_rows(float* rows, int pitch, int dim, const float* matrix) {
  const int lane = threadIdx.x & 31;
  float y[kRowsPerPass][kColumns] = {};
  for (int j = 0; j < dim; ++j) {
    float m[kColumns];
#pragma unroll
    for (int e = 0; e < kColumns; ++e) m[e] = lane + 32 * e < dim ? __ldg(matrix + j * dim + lane + 32 * e) : 0.0f;
#pragma unroll
    for (int r = 0; r < kRowsPerPass; ++r) {
      const float x = rows[r * pitch + j];
#pragma unroll
      for (int e = 0; e < kColumns; ++e) y[r][e] = fmaf(x, m[e], y[r][e]);
    }
  }
  __syncwarp();
#pragma unroll
  for (int r = 0; r < kRowsPerPass; ++r)
#pragma unroll
    for (int e = 0; e < kColumns; ++e)
      if (lane + 32 * e < dim) rows[r * pitch + lane + 32 * e] = y[r][e];
}

// Rows 0 .. n_rows - 1 of this warp (a multiple of kRowsPerPass of them exists), mapped in place.
__device__ inline void map_shared_rows(const MapView& map, uint32_t head, float* rows, int pitch, int n_rows, int dim) {
  __syncwarp();
  if (map.kind == MapKind::kHadamard) {
#pragma unroll 1
    for (int r = 0; r < n_rows; r += kRowsTogether) {
      float* these = rows + r * pitch;
      if (dim == 64)
        hadamard_of_shared_rows<2>(these, pitch);
      else if (dim == 128)
        hadamard_of_shared_rows<4>(these, pitch);
      else if (dim == 256)
        hadamard_of_shared_rows<8>(these, pitch);
    }
  } else if (map.kind == MapKind::kDense) {
    const float* matrix = map.matrix + uint64_t{head} * dim * dim;
    for (int r = 0; r < n_rows; r += kRowsPerPass) {
      if (dim <= 128)
        dense_of_shared_rows<4>(rows + r * pitch, pitch, dim, matrix);
      else
        dense_of_shared_rows<8>(rows + r * pitch, pitch, dim, matrix);
    }
  }
  __syncwarp();
}

}  // namespace oscar::cuda
