// Shared memory of the kernel for wide tiles (prefill_wide.cuh), and the queries in it.
#pragma once
#include <cstddef>

#include "prefill_block.cuh"
#include "prefill_finish.cuh"

namespace oscar::cuda {

inline constexpr uint32_t kGroupThreads = 128, kGroupRows = 64;  // of a warp group that multiplies
inline constexpr uint32_t kWideGroups = kWideTileRows / kGroupRows, kWideConsumers = kWideGroups * kGroupThreads;
inline constexpr uint32_t kWideThreads = kWideConsumers + kWriters;
inline constexpr uint32_t kStages = 2;                     // of keys, of values
inline constexpr uint32_t kMeanBlocks = 8;                 // whose means are multiplied together
inline constexpr uint32_t kMeanPitch = kWideDim * 2 + 16;  // no bank conflicts
inline constexpr uint32_t kRawBytes = 17792, kMostRaw = 2;

struct ExactMeta {
  uint32_t position[kBlockTokens];
  const uint4 *key[kBlockTokens], *value[kBlockTokens];  // or null
  uint32_t bad[kBlockTokens / 32];                       // tokens whose value is not finite
};

struct WideMemory {
  // Packed: of a block (prefill_block.cuh). Exact: BF16, [token][dim]. Before: the queries as FP32 rows.
  uint8_t keys[kStages][kMatrixBytes], values[kStages][kMatrixBytes];
  // Packed: upper and lower FP16 numbers of q', [row][dim'] (prefill_block.cuh). Exact: upper and lower BF16 numbers of q,
  // [row][dim]. Between them: sums of packed values, [row][dim] FP32.
  uint8_t queries[2][kMatrixBytes];
  uint8_t raw[kRawBytes];                      // blocks as they arrive
  uint8_t means[2][kMeanBlocks * kMeanPitch];  // FP16, [block][dim']
  float row_factor[kWideTileRows];
  float mean_products[kWideTileRows][kMeanBlocks];  // of the batch: row_factor (mean . q')
  BlockMeta blocks[kStages];
  ExactMeta exact[kStages];
  uint64_t raw_full[kMostRaw], keys_full[kStages], keys_empty[kStages], values_full[kStages], values_empty[kStages];
  uint64_t exact_full[kStages], exact_empty[kStages];
};
inline constexpr uint32_t kStagingPitch = kWideDim + 4;
static_assert(kWideTileRows * kStagingPitch * 4 <= offsetof(WideMemory, queries));
static_assert(kWideTileRows * kWideDim * 4 <= 2 * kMatrixBytes);
static_assert(kRawBytes >= block_layout({kWideDim, kWideDim, kBlockTokens, 2, 2}).bytes);
inline constexpr uint32_t kWideBytes = sizeof(WideMemory) + 1024;  // begins at a multiple of 1024
static_assert(kWideBytes <= 232448);

// One lane of each warp arrives, after the warp has synchronised; compute-sanitizer's racecheck does not understand that.
#ifdef OSCAR_RACECHECK
inline constexpr uint32_t kArrivingLanes = 32;
#else
inline constexpr uint32_t kArrivingLanes = 1;
#endif
__device__ __forceinline__ void warp_arrives(uint64_t* barrier) {
  __syncwarp();
  if (threadIdx.x % 32 < kArrivingLanes) barrier_arrive(barrier);
}

// Named barrier of the warp groups that have rows, and kMore threads. The counts are constants: of one in a register,
// synccheck believes that threads that have returned are waited for.
template <int kBarrier, int kMore>
__device__ __forceinline__ void sync_groups(uint32_t n_groups) {
  if (n_groups == kWideGroups)
    sync_threads<kBarrier, kWideConsumers + kMore>();
  else
    sync_threads<kBarrier, kGroupThreads + kMore>();
}

// Of tile n in a ring of kStages.
__device__ __forceinline__ void wait_full(uint64_t* full, uint32_t n) {
  barrier_wait(&full[n % kStages], n / kStages & 1);
}
__device__ __forceinline__ void wait_empty(uint64_t* empty, uint32_t n) {
  if (n >= kStages) barrier_wait(&empty[n % kStages], (n / kStages - 1) & 1);
}

// Power of two near the largest magnitude of a row, within what has a normal reciprocal.
__device__ __forceinline__ float row_unit(float largest) {
#pragma unroll
  for (int step = 16; step; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  return __uint_as_float(min(max(__float_as_uint(largest) >> 23, 2u), 252u) << 23);
}

__device__ __forceinline__ bool all_finite(const float (&x)[4]) {
  bool finite = true;
#pragma unroll
  for (int e = 0; e < 4; ++e) finite = finite && fabsf(x[e]) < __int_as_float(0x7f800000);
  return __all_sync(~0u, finite);
}
__device__ __forceinline__ float largest_of(const float (&x)[4]) {
  return fmaxf(fmaxf(fabsf(x[0]), fabsf(x[1])), fmaxf(fabsf(x[2]), fabsf(x[3])));
}

// A negative scale goes to the query, so that row factors are not negative.
__device__ __forceinline__ float row_factor(const PrefillArgs& a, float unit, bool finite) {
  return finite ? fabsf(a.scale) * kLog2e * unit : __int_as_float(0x7fffffff);
}

// One mapped row by one warp: lane l has dims first_dim(4 l) .. + 3.
__device__ __forceinline__ void encode_packed_query(const PrefillArgs& a, float4 v, uint32_t r, WideMemory& memory) {
  const uint32_t lane = threadIdx.x & 31;
  float x[4] = {v.x, v.y, v.z, v.w};
  const bool finite = all_finite(x);
  const float unit = row_unit(largest_of(x)), inverse = finite ? copysignf(256.0f / unit, a.scale) : 0.0f;
  uint32_t high[4], low[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const float y = finite ? x[e] * inverse : 0.0f;
    const __half h = __float2half_rn(y);
    high[e] = __half_as_ushort(h);
    low[e] = __half_as_ushort(__float2half_rn(y - __half2float(h)));
  }
  const uint32_t at = lane / 16 * kHalfBytes + chunk_at(r, lane % 16 / 2) + lane % 2 * 8;
  *reinterpret_cast<uint2*>(memory.queries[0] + at) = make_uint2(high[0] | high[2] << 16, high[1] | high[3] << 16);
  *reinterpret_cast<uint2*>(memory.queries[1] + at) = make_uint2(low[0] | low[2] << 16, low[1] | low[3] << 16);
  if (lane == 0) memory.row_factor[r] = row_factor(a, unit / 256.0f, finite);
}

// This warp's 16 rows, lane l with elements 4 l .. 4 l + 3; rows of nobody are 0. Many loads are under way together: the
// type is not asked for at each.
template <class T, class Use>
__device__ __forceinline__ void for_query_rows_of(const PrefillArgs& a, const RowTile& t, const Use& use) {
  const uint32_t first = threadIdx.x / 32 * 16, lane = threadIdx.x & 31;
#pragma unroll 1
  for (uint32_t k = 0; k < 16; k += 8) {
    T x[8][4];
#pragma unroll
    for (uint32_t r = 0; r < 8; ++r) {
      const uint32_t row = min(first + k + r, t.n_rows - 1);
      const T* at = static_cast<const T*>(a.q.data) + int64_t{t.tensor_row(row)} * a.q.row_stride +
                    int64_t{t.query_head(row)} * a.q.head_stride + lane * 4;
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) x[r][e] = at[e];
    }
#pragma unroll
    for (uint32_t r = 0; r < 8; ++r) {
      const bool exists = first + k + r < t.n_rows;
      float y[4];
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) y[e] = exists ? static_cast<float>(x[r][e]) : 0.0f;
      use(k + r, y);
    }
  }
}
template <class Use>
__device__ __forceinline__ void for_query_rows(const PrefillArgs& a, const RowTile& t, const Use& use) {
  switch (a.q.dtype) {
    case Dtype::kF32: for_query_rows_of<float>(a, t, use); break;
    case Dtype::kF16: for_query_rows_of<__half>(a, t, use); break;
    default: for_query_rows_of<__nv_bfloat16>(a, t, use); break;
  }
}

// Each warp its 16 rows.
__device__ inline void load_packed_queries(const PrefillArgs& a, const RowTile& t, WideMemory& memory) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  float* rows = reinterpret_cast<float*>(memory.keys[0]) + warp * 16 * kStagingPitch;
  const int n_mine = min(16, max(0, static_cast<int>(t.n_rows) - warp * 16));
  for_query_rows(a, t, [&](uint32_t r, const float(&x)[4]) {
    *reinterpret_cast<float4*>(rows + r * kStagingPitch + lane * 4) = make_float4(x[0], x[1], x[2], x[3]);
  });
  map_shared_rows(a.query, t.head, rows, kStagingPitch, n_mine, kWideDim);
#pragma unroll 1
  for (int r = 0; r < 16; r += 4) {
    float4 x[4];  // four at a time: their reductions overlap
#pragma unroll
    for (int k = 0; k < 4; ++k)
      x[k] = *reinterpret_cast<const float4*>(rows + (r + k) * kStagingPitch + first_dim(lane * 4));
#pragma unroll
    for (int k = 0; k < 4; ++k) encode_packed_query(a, x[k], warp * 16 + r + k, memory);
  }
}

__device__ inline void load_exact_queries(const PrefillArgs& a, const RowTile& t, WideMemory& memory) {
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  for_query_rows(a, t, [&](uint32_t k, const float(&x)[4]) {
    const uint32_t r = warp * 16 + k;
    const bool finite = all_finite(x);
    const float unit = row_unit(largest_of(x)), inverse = copysignf(1.0f / unit, a.scale);
    uint2 high, low;
    split_weights(finite ? x[0] * inverse : 0.0f, finite ? x[1] * inverse : 0.0f, high.x, low.x);
    split_weights(finite ? x[2] * inverse : 0.0f, finite ? x[3] * inverse : 0.0f, high.y, low.y);
    const uint32_t at = lane / 16 * kHalfBytes + chunk_at(r, lane % 16 / 2) + lane % 2 * 8;
    *reinterpret_cast<uint2*>(memory.queries[0] + at) = high;
    *reinterpret_cast<uint2*>(memory.queries[1] + at) = low;
    if (lane == 0) memory.row_factor[r] = row_factor(a, unit, finite);
  });
}

}  // namespace oscar::cuda
