// End of a part of a segment in a CTA: the warps of each row tile become one partial result in the workspace.
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
  constexpr int kParts = C::kWarps / C::kTiles * C::kSets, kColumnTiles = kDv / 8;
  const int row_in_tile = lane / 4 % C::kTileRows;
  // One warp: kSets column tiles of one row tile.
  for (int x = warp; x < C::kTiles * (kColumnTiles / C::kSets); x += C::kWarps) {
    const int tile = x / (kColumnTiles / C::kSets), row = tile * C::kTileRows + row_in_tile;
    const int t = x % (kColumnTiles / C::kSets) * C::kSets + lane / 4 / C::kTileRows;
    if (row >= n_queries) continue;
    float2 part[kParts], value[kParts];
    float largest = kUnseen;
#pragma unroll
    for (int k = 0; k < kParts; ++k) {
      const int pair = k / C::kSets, w = pair / 2 * C::kGroupWarps + tile * 2 + pair % 2;
      const int mma_row = k % C::kSets * C::kTileRows + row_in_tile;
      part[k] = sums_of(w)[C::kWarpSums + mma_row];
      value[k] = sums_of(w)[t * 32 + mma_row * 4 + lane % 4];
      largest = fmaxf(largest, part[k].x);
    }
    float total = 0.0f, a = 0.0f, b = 0.0f;
#pragma unroll
    for (int k = 0; k < kParts; ++k) {
      const float share = exp2_approx(part[k].x - largest);
      total = fmaf(share, part[k].y, total);
      a = fmaf(share, value[k].x, a);
      b = fmaf(share, value[k].y, b);
    }
    const uint64_t at = place * C::kRows + row;
    __stcg(reinterpret_cast<float2*>(partials.out + at * kDv + t * 8 + lane % 4 * 2), make_float2(a, b));
    if (t == 0 && lane % 4 == 0) __stcg(partials.sums + at, make_float2(largest, total));
  }
}

}  // namespace oscar::cuda
