// Which thread block (CTA) of the prefill kernels does what: arithmetic on both sides.
//
// The rows of one KV head of a part (row r: query head r % group of new token r / group) are cut in tiles of
// kTileRows or kWideTileRows. A step's tiles are numbered with gaps, so that nobody needs a prefix sum over its parts: the tiles of part p
// begin at tile_begin(row of p, p), which ascends and leaves room for all of them; numbers without a tile do nothing.
// Where a step has few tiles, n_splits CTAs share the tokens of each.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar::cuda {

inline constexpr uint32_t kTileRows = 64, kWideTileRows = 128;
inline constexpr uint32_t kWideDim = 128;    // the head_dim of the wide kernel
inline constexpr uint32_t kTileTokens = 64;  // half a block, four pages, or that many rows of the scratch

OSCAR_HD constexpr uint32_t tile_begin(uint32_t row, uint32_t part, uint32_t group, uint32_t tile_rows) {
  return static_cast<uint32_t>(uint64_t{row} * group / tile_rows) + part;
}

// All tile numbers of a step: where the tiles of one part more would begin.
OSCAR_HD constexpr uint32_t n_tile_numbers(uint32_t n_rows, uint32_t n_parts, uint32_t group, uint32_t tile_rows) {
  return tile_begin(n_rows, n_parts, group, tile_rows);
}

// CTAs of a launch that splits have at most this many rows for each multiprocessor: that many fit on it at a time.
inline constexpr uint32_t kSplitRowsPerMultiprocessor = 128, kMostSplits = 128;

OSCAR_HD constexpr uint32_t prefill_splits(uint32_t n_tiles, uint32_t n_kv_heads, uint32_t tile_rows,
                                           uint32_t n_multiprocessors) {
  const uint64_t n_ctas = uint64_t{n_tiles} * n_kv_heads,
                 most = uint64_t{n_multiprocessors} * kSplitRowsPerMultiprocessor / tile_rows;
  if (n_ctas == 0 || most / n_ctas <= 1) return 1;
  return most / n_ctas < kMostSplits ? static_cast<uint32_t>(most / n_ctas) : kMostSplits;
}

// Of n items, split s of n_splits takes [split_cut(s), split_cut(s + 1)).
OSCAR_HD constexpr uint32_t split_cut(uint32_t n, uint32_t split, uint32_t n_splits) {
  return static_cast<uint32_t>(uint64_t{n} * split / n_splits);
}

// Partial results of a launch that splits: for every CTA and row of its tile, reference and denominator (float2), then
// for every CTA and row value_dim sums.
OSCAR_HD constexpr uint64_t partial_bytes(uint64_t n_rows, uint32_t value_dim) {
  return n_rows * (uint64_t{value_dim} + 2) * sizeof(float);
}

}  // namespace oscar::cuda
