// Attention of one tile of 64 rows over all its tokens (or a share of them), any profile and key dim; one kernel a value
// dim. Four warps of 16 rows. Blocks come first: their sums are mapped back to the model's basis before exact rows are
// added to them, so that there is one set of sums.
#pragma once
#include "prefill_finish.cuh"

namespace oscar::cuda {

template <int kDv>
constexpr int prefill_ctas_per_sm() {
  return kDv <= 128 ? 3 : kDv <= 192 ? 2 : 1;
}

template <int kDv>
struct PrefillCta {
  const PrefillLaunch& p;
  const RowTile& t;
  const TokenTiles& tiles;
  uint8_t* shared;
  TileMeta& meta;
  TileMemory m;
  RowView view[2];
  Softcap softcap;

  __device__ __forceinline__ PrefillCta(const PrefillLaunch& p, const RowTile& t, const TokenTiles& tiles,
                                        uint8_t* shared, TileMeta& meta)
      : p(p), t(t), tiles(tiles), shared(shared), meta(meta), m(p.args.key_dim, kDv) {
    const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    view[0] = row_view(p.args, t, row);
    view[1] = row_view(p.args, t, row + 8);
    softcap = {p.args.softcap > 0.0f ? 2.0f / p.args.softcap : 0.0f, p.args.softcap * kLog2e};
  }

  // Whether every row of the tile sees every token of these.
  __device__ __forceinline__ bool all_seen(const TokenBounds& b) const {
    if (b.last == kNobody || b.last > t.low) return false;
    if (p.args.window && t.high - b.first >= p.args.window) return false;
    return !p.args.mask || b.last < t.part.base;
  }

  __device__ __forceinline__ bool has_rows() const { return threadIdx.x / 32 * 16 < t.n_rows; }

  __device__ __forceinline__ void attend_blocks(uint32_t begin, uint32_t end, RowState<kDv>& s) {
    load_query_rows<false>(p.args, t, shared, m.query_pitch, meta.row_factor);
    float reference = 0.0f;
    for (uint32_t tile = begin; tile < end; ++tile) {
      sync_threads<1, kPrefillThreads>();
      const float before = reference;
      const TokenBounds bounds = load_block_tile(p.args, t, tiles.blocks[tile / 2], tile % 2, m, shared, meta,
                                                 reference);
      sync_threads<1, kPrefillThreads>();
      if (!has_rows()) continue;
      if (reference != before) s.scale_out(before / reference, before / reference);
      float x[kTokenOctets][4] = {}, mean[4] = {};
      tile_products<false>(m, shared, p.args.key_dim, true, x, mean);
      tile_logits<false>(meta, meta.row_factor, view, softcap, all_seen(bounds), mean, x);
      tile_weights(x, s);
      add_packed_values(shared + m.values, meta, x, s);
    }
    sync_threads<1, kPrefillThreads>();
    undo_value_map<kDv + 4>(p.args, t, reference / kPackedWeight, shared, s);
    sync_threads<1, kPrefillThreads>();
  }

  __device__ __forceinline__ void attend_exact(uint32_t begin, uint32_t end, RowState<kDv>& s) {
    load_query_rows<true>(p.args, t, shared, m.query_pitch, meta.row_factor);
    for (uint32_t tile = begin; tile < end; ++tile) {
      sync_threads<1, kPrefillThreads>();
      load_exact_tile(p.args, t, tiles, tile, m, shared, meta);
      sync_threads<1, kPrefillThreads>();
      if (has_rows()) attend_exact_tile(tile, s);
    }
  }

  __device__ __forceinline__ void attend_exact_tile(uint32_t tile, RowState<kDv>& s) {
    const bool has_low = p.args.q.dtype != Dtype::kBF16;  // a power of two does not round them
    float x[kTokenOctets][4] = {}, mean[4] = {};
    tile_products<true>(m, shared, p.args.key_dim, has_low, x, mean);
    tile_logits<true>(meta, meta.row_factor, view, softcap, all_seen(exact_bounds(meta)), mean, x);
    tile_weights(x, s);
    add_exact_values(shared + m.values, x, s);
    if (meta.bad[0] | meta.bad[1]) add_bad_values(p.args, t, tiles, tile, meta, view, x, s);
  }
};

// Grid: tiles x KV heads x splits.
template <int kDv>
__global__ void __launch_bounds__(kPrefillThreads, prefill_ctas_per_sm<kDv>())
    prefill_kernel(const __grid_constant__ PrefillLaunch p) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ TileMeta meta;
  launch_dependents();
  wait_for_previous_kernels();
  // The last tiles of a causal step see most: they go first.
  const RowTile t = row_tile(p.args, p.n_tiles - 1 - blockIdx.x, blockIdx.y, kTileRows);
  if (t.n_rows == 0) return;
  if (t.part.sees_nothing()) {
    if (p.n_splits == 1) store_nothing(p.args, t);
    return;
  }
  const TokenTiles tiles = token_tiles(p.args, t, kTileTokens);
  const uint32_t begin = split_cut(tiles.n(), blockIdx.z, p.n_splits),
                 end = split_cut(tiles.n(), blockIdx.z + 1, p.n_splits);
  PrefillCta<kDv> cta(p, t, tiles, shared, meta);
  RowState<kDv> s;
  if (begin < min(end, tiles.n_block_tiles)) cta.attend_blocks(begin, min(end, tiles.n_block_tiles), s);
  if (max(begin, tiles.n_block_tiles) < end)
    cta.attend_exact(max(begin, tiles.n_block_tiles) - tiles.n_block_tiles, end - tiles.n_block_tiles, s);
  if (p.n_splits == 1)
    store_results(p.args, t, s);
  else
    store_partials(p, t, blockIdx.z, s);
}

}  // namespace oscar::cuda
