// End of a part (or a chunk) of a segment in a CTA: the warps of each row tile become one partial result in the
// workspace.
#pragma once
#include "config.cuh"

namespace oscar::cuda {

// A warp puts its state into its place in `reduce`. The caller synchronises.
template <class C>
__device__ __forceinline__ void store_state(const SharedMemory<C>& shared, const State<C::P::kDv>& s, int warp) {
  const int lane = threadIdx.x & 31;
  float2* mine = reinterpret_cast<float2*>(shared.reduce() + warp * C::kWarpBytes);
  const float sum = quad_sum(s.sum), offset = quad_sum(s.offset);
#pragma unroll
  for (int t = 0; t < C::P::kDv / 8; ++t) mine[t * 32 + lane] = make_float2(s.out[t][0] + offset, s.out[t][1] + offset);
  if (lane % 4 == 0) mine[C::kWarpSums + lane / 4] = make_float2(s.largest, sum);
}

// All consumer threads, when every warp has stored: joins them into the partial result `place` (Partials::place).
template <class C>
__device__ __forceinline__ void reduce_states(const SharedMemory<C>& shared, int warp, int n_queries,
                                              const Partials<C>& partials, uint64_t place) {
  constexpr int kDv = C::P::kDv;
  const int lane = threadIdx.x & 31;
  const auto sums_of = [&](int w) { return reinterpret_cast<const float2*>(shared.reduce() + w * C::kWarpBytes); };
  // One warp: a column tile of a row tile. With two sets a tile has half the rows, and each half of the warp takes one
  // set of all warps' states.
  constexpr int kParts = C::kWarps / C::kTiles, kColumnTiles = kDv / 8;
  const int row_in_tile = lane / 4 % C::kTileRows, mma_row = lane / 4;
  for (int x = warp; x < C::kTiles * kColumnTiles; x += C::kWarps) {
    const int tile = x / kColumnTiles, row = tile * C::kTileRows + row_in_tile, t = x % kColumnTiles;
    const auto state_of = [&](int k) { return sums_of(k / 2 * C::kGroupWarps + tile * 2 + k % 2); };
    float largest = kUnseen;
#pragma unroll
    for (int k = 0; k < kParts; ++k) largest = fmaxf(largest, state_of(k)[C::kWarpSums + mma_row].x);
    if constexpr (C::kSets == 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 16));
    float total = 0.0f, a = 0.0f, b = 0.0f;
#pragma unroll 8
    for (int k = 0; k < kParts; ++k) {
      const float2* state = state_of(k);
      const float2 part = state[C::kWarpSums + mma_row], value = state[t * 32 + lane];
      const float share = exp2_approx(part.x - largest);
      total = fmaf(share, part.y, total);
      a = fmaf(share, value.x, a);
      b = fmaf(share, value.y, b);
    }
    if constexpr (C::kSets == 2) {
      total += __shfl_xor_sync(~0u, total, 16);
      a += __shfl_xor_sync(~0u, a, 16);
      b += __shfl_xor_sync(~0u, b, 16);
    }
    if (row >= n_queries || mma_row != row_in_tile) continue;
    __stcg(reinterpret_cast<float2*>(partials.out(place) + row * kDv + t * 8 + lane % 4 * 2), make_float2(a, b));
    if (t == 0 && lane % 4 == 0) __stcg(partials.sums(place) + row, make_float2(largest, total));
  }
}

// The same for chunks, which end so often that no warp may wait for the others' last item: a warp stores a chunk's
// state after it has reduced its share of the chunk before, and only waits where it is a whole chunk ahead.
//
// n: of the chunk in the CTA. A warp's two sets of rows become one on the way.
template <class C>
__device__ __forceinline__ void store_chunk(const SharedMemory<C>& shared, const State<C::P::kDv>& s, int warp,
                                            uint32_t n) {
  constexpr int kTiles = C::P::kDv / 8;
  const int lane = threadIdx.x & 31;
  const bool upper = lane >= 16;
  const float largest = fmaxf(s.largest, __shfl_xor_sync(~0u, s.largest, 16)), f = exp2_approx(s.largest - largest);
  const float offset = quad_sum(s.offset);
  float sum = quad_sum(s.sum) * f;
  sum += __shfl_xor_sync(~0u, sum, 16);
  uint64_t* stored = shared.chunk_barriers() + n % 2;
  if (n >= 2) barrier_wait(stored + 2, (n / 2 - 1) & 1);
  float2* mine = reinterpret_cast<float2*>(shared.reduce() + (n % 2 * C::kWarps + warp) * C::kChunkWarpBytes);
#pragma unroll
  for (int t = 0; t < kTiles / 2; ++t) {
    float x[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float a = (s.out[t][e] + offset) * f, b = (s.out[t + kTiles / 2][e] + offset) * f;
      x[e] = (upper ? b : a) + __shfl_xor_sync(~0u, upper ? a : b, 16);
    }
    mine[(upper ? t + kTiles / 2 : t) * 16 + lane % 16] = make_float2(x[0], x[1]);
  }
  if (lane < 16 && lane % 4 == 0) mine[C::kChunkSums + lane / 4] = make_float2(largest, sum);
  __syncwarp();
  if (C::kEveryLaneArrives || lane == 0) barrier_arrive(stored);
}

// first_group: of warps, that took the chunk's first item. The groups are joined in their order from there.
template <class C>
__device__ __forceinline__ void reduce_chunk(const SharedMemory<C>& shared, int warp, int n_queries,
                                             const Partials<C>& partials, uint64_t place, uint32_t n,
                                             uint32_t first_group) {
  constexpr int kDv = C::P::kDv;
  const int lane = threadIdx.x & 31, row = lane / 4 % C::kTileRows;
  uint64_t* stored = shared.chunk_barriers() + n % 2;
  const auto states_of = [&](uint32_t w) {
    return reinterpret_cast<const float2*>(shared.reduce() + (n % 2 * C::kWarps + w) * C::kChunkWarpBytes);
  };
  barrier_wait(stored, n / 2 & 1);
  for (int x = warp; x < kDv / 16; x += C::kWarps) {
    const int t = x * 2 + lane / 16;
    float2 part[C::kWarps], value[C::kWarps];
    float largest = kUnseen;
#pragma unroll
    for (uint32_t k = 0; k < C::kWarps; ++k) {
      const float2* state = states_of((first_group + k / 2) % C::kGroups * 2 + k % 2);
      part[k] = state[C::kChunkSums + row];
      value[k] = state[t * 16 + lane % 16];
      largest = fmaxf(largest, part[k].x);
    }
    float total = 0.0f, a = 0.0f, b = 0.0f;
#pragma unroll
    for (int k = 0; k < C::kWarps; ++k) {
      const float share = exp2_approx(part[k].x - largest);
      total = fmaf(share, part[k].y, total);
      a = fmaf(share, value[k].x, a);
      b = fmaf(share, value[k].y, b);
    }
    if (row >= n_queries) continue;
    __stcg(reinterpret_cast<float2*>(partials.out(place) + row * kDv + t * 8 + lane % 4 * 2), make_float2(a, b));
    if (t == 0 && lane % 4 == 0) __stcg(partials.sums(place) + row, make_float2(largest, total));
  }
  __syncwarp();
  if (C::kEveryLaneArrives || lane == 0) barrier_arrive(stored + 2);
}

}  // namespace oscar::cuda
