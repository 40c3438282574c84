// Exact rows in the kernel for wide tiles: 128 tokens at a time, BF16 keys and values, weights as two BF16 numbers.
#pragma once
#include "prefill_wide_memory.cuh"

namespace oscar::cuda {

using WideState = RowState<kWideDim>;
inline constexpr int kWideOctets = kBlockTokens / 8;

// By the writers. Each thread has chunk thread % 16 of every eighth row, and checks what it has copied itself.
struct ExactWriter {
  const PrefillArgs& a;
  const RowTile& t;
  const TokenTiles& tiles;
  WideMemory& memory;
  uint32_t thread;

  __device__ __forceinline__ uint32_t place(uint32_t row) const {
    return thread % 16 / 8 * kHalfBytes + chunk_at(row, thread % 8);
  }

  // Rows that do not exist are zeros, for 0 times what lies there could be NaN.
  __device__ __forceinline__ void start(uint32_t tile, uint32_t stage) const {
    ExactMeta& meta = memory.exact[stage];
    const ExactRow row = exact_row(a, t, tiles, tile, thread);
    meta.position[thread] = row.position;
    meta.key[thread] = reinterpret_cast<const uint4*>(row.key);
    meta.value[thread] = reinterpret_cast<const uint4*>(row.value);
    if (thread < kBlockTokens / 32) meta.bad[thread] = 0;
    sync_writers();
    const auto* anything = reinterpret_cast<const uint4*>(a.pool);
#pragma unroll 4
    for (uint32_t r = thread / 16; r < kBlockTokens; r += kWriters / 16) {
      const uint4 *key = meta.key[r], *value = meta.value[r];
      copy_16_or_zeros(memory.keys[stage] + place(r), key ? key + thread % 16 : anything, key != nullptr);
      copy_16_or_zeros(memory.values[stage] + place(r), value ? value + thread % 16 : anything, value != nullptr);
    }
  }

  // Values that are not finite become zeros; meta.bad names their tokens.
  __device__ __forceinline__ void finish(uint32_t stage) const {
    wait_for_copies();
#pragma unroll 4
    for (uint32_t r = thread / 16; r < kBlockTokens; r += kWriters / 16) {
      uint4* at = reinterpret_cast<uint4*>(memory.values[stage] + place(r));
      const uint4 v = *at;
      if (bf16_pair_is_finite(v.x) && bf16_pair_is_finite(v.y) && bf16_pair_is_finite(v.z) && bf16_pair_is_finite(v.w))
        continue;
      *at = make_uint4(finite_bf16_pair(v.x), finite_bf16_pair(v.y), finite_bf16_pair(v.z), finite_bf16_pair(v.w));
      atomicOr(&memory.exact[stage].bad[r / 32], 1u << r % 32);
    }
    fence_for_wgmma();
  }
};

__device__ __forceinline__ void write_exact_tiles(const PrefillArgs& a, const RowTile& t, const TokenTiles& tiles,
                                                  uint32_t begin, uint32_t end, WideMemory& memory) {
  const ExactWriter writer{a, t, tiles, memory, threadIdx.x - kWideConsumers};
  writer.start(begin, 0);
#pragma unroll 1
  for (uint32_t n = 0; n < end - begin; ++n) {
    writer.finish(n % kStages);
    warp_arrives(&memory.exact_full[n % kStages]);
    if (n + 1 == end - begin) break;
    wait_empty(memory.exact_empty, n + 1);
    writer.start(begin + n + 1, (n + 1) % kStages);
  }
}

// One warp group.
struct ExactReader {
  const PrefillArgs& a;
  const RowTile& t;
  const TokenTiles& tiles;
  WideMemory& memory;
  RowView view[2];
  Softcap softcap{0.0f, 0.0f};

  __device__ __forceinline__ ExactReader(const PrefillArgs& a, const RowTile& t, const TokenTiles& tiles,
                                         WideMemory& memory)
      : a(a), t(t), tiles(tiles), memory(memory) {
    const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    view[0] = row_view(a, t, row);
    view[1] = row_view(a, t, row + 8);
  }

  // Whether every row sees every token of the tile.
  __device__ __forceinline__ bool all_seen(const ExactMeta& meta) const {
    const uint32_t lane = threadIdx.x & 31, first = meta.position[0];
    bool whole = first != kNobody && first + kBlockTokens - 1 <= (a.mask ? t.part.base - 1 : t.low);
#pragma unroll
    for (uint32_t k = 0; k < kBlockTokens; k += 32) whole = whole && meta.position[k + lane] == first + k + lane;
    return __all_sync(~0u, whole);
  }

  // kHasLow: queries that are not BF16 have lower numbers too (a power of two does not round the others). Without a
  // branch between start and wait.
  template <bool kHasLow>
  __device__ __forceinline__ void logits(uint32_t stage, float (&x)[kWideOctets][4]) const {
    const uint64_t queries = matrix_descriptor(memory.queries[0] + threadIdx.x / kGroupThreads * kGroupRows * 128),
                   keys = matrix_descriptor(memory.keys[stage]);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < static_cast<int>(kWideDim / 16); ++k) {
      wgmma_shared<true>(x, at_step(queries, k), at_step(keys, k), k > 0);
      if constexpr (kHasLow) wgmma_shared<true>(x, at_step(queries, k) + (kMatrixBytes >> 4), at_step(keys, k), true);
    }
    wgmma_commit();
    wgmma_wait<0>();
    hold(x);
  }

  __device__ __forceinline__ void add_values(uint32_t stage, const float (&p)[kWideOctets][4], WideState& s) const {
    uint4 high[kWideOctets / 2], low[kWideOctets / 2];
#pragma unroll
    for (int k = 0; k < kWideOctets / 2; ++k) {
      split_weights(p[2 * k][0], p[2 * k][1], high[k].x, low[k].x);
      split_weights(p[2 * k][2], p[2 * k][3], high[k].y, low[k].y);
      split_weights(p[2 * k + 1][0], p[2 * k + 1][1], high[k].z, low[k].z);
      split_weights(p[2 * k + 1][2], p[2 * k + 1][3], high[k].w, low[k].w);
      hold(high[k]);
      hold(low[k]);
    }
    const uint64_t values = transposed_descriptor(memory.values[stage]);
    hold(s.out);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kWideOctets / 2; ++k) {
      wgmma_bf16_transposed(s.out, high[k], at_transposed_step(values, k));
      wgmma_bf16_transposed(s.out, low[k], at_transposed_step(values, k));
    }
    wgmma_commit();
    wgmma_wait<0>();
    hold(s.out);
  }

  __device__ __forceinline__ void attend(uint32_t begin, uint32_t end, WideState& s) {
    float x[kWideOctets][4];
    const float mean[4] = {};
#pragma unroll 1
    for (uint32_t n = 0; n < end - begin; ++n) {
      const uint32_t stage = n % kStages;
      const ExactMeta& meta = memory.exact[stage];
      wait_full(memory.exact_full, n);
      if (a.q.dtype == Dtype::kBF16)
        logits<false>(stage, x);
      else
        logits<true>(stage, x);
      tile_logits<true>(meta, memory.row_factor, view, softcap, all_seen(meta), mean, x);
      tile_weights(x, s);
      if (meta.bad[0] | meta.bad[1] | meta.bad[2] | meta.bad[3])
        add_bad_values(a, t, tiles, begin + n, meta, view, x, s);
      add_values(stage, x, s);
      warp_arrives(&memory.exact_empty[stage]);
    }
  }
};

}  // namespace oscar::cuda
