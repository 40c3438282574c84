// The work of one CTA: a tile of rows of one KV head, and the tokens that those rows may see, in tiles of 64.
#pragma once
#include "prefill.h"
#include "prefill_plan.h"
#include "state.cuh"

namespace oscar::cuda {

struct PrefillLaunch {
  PrefillArgs args;
  uint32_t tile_rows, n_tiles, n_splits;
  float2* partial_sums;  // where n_splits > 1
  float* partial_out;
};

using PrefillKernel = void (*)(PrefillLaunch);

struct RowTile {
  PartWork part;
  uint32_t head, number;  // KV head; number of the tile (prefill_plan.h)
  uint32_t first_row;     // of the part's rows of this head
  uint32_t n_rows;        // 0: nothing to do
  uint32_t low, high;     // positions of its first and last new token
  uint32_t oldest;        // no row sees a token before this one
  uint32_t n_kv_heads, group;

  __device__ __forceinline__ uint32_t tensor_row(uint32_t r) const { return part.row + (first_row + r) / group; }
  __device__ __forceinline__ uint32_t query_head(uint32_t r) const { return head * group + (first_row + r) % group; }
};

__device__ inline RowTile row_tile(const PrefillArgs& a, uint32_t number, uint32_t head, uint32_t tile_rows) {
  uint32_t low = 0, high = a.n_parts;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (tile_begin(a.parts[middle].row, middle, a.group, tile_rows) <= number)
      low = middle;
    else
      high = middle;
  }
  RowTile t{};
  t.part = a.parts[low];
  t.head = head;
  t.number = number;
  t.n_kv_heads = a.n_kv_heads;
  t.group = a.group;
  const uint32_t index = number - tile_begin(t.part.row, low, a.group, tile_rows), n = t.part.n_new * a.group;
  t.first_row = index * tile_rows;
  t.n_rows = t.first_row >= n || t.part.is_decoded ? 0 : min(n - t.first_row, tile_rows);
  if (t.n_rows == 0) return t;
  t.low = t.part.base + t.first_row / a.group;
  t.high = t.part.base + (t.first_row + t.n_rows - 1) / a.group;
  t.oldest = a.window && t.low + 1 > a.window ? t.low + 1 - a.window : 0;
  return t;
}

__device__ __forceinline__ RowView row_view(const PrefillArgs& a, const RowTile& t, uint32_t r) {
  const uint32_t token = (t.first_row + min(r, t.n_rows - 1)) / a.group;
  return {t.part.base + token, t.part.base, a.window,
          a.mask ? a.mask + (int64_t{t.part.row} + token) * a.mask_row_stride : nullptr};
}

// Tiles of tokens that some row of the tile may see: (halves of) blocks, then groups of page spans, then scratch rows.
struct TokenTiles {
  uint32_t n_tokens;  // of a tile: kTileTokens or kBlockTokens
  const SpanEntry* blocks;
  const SpanEntry* pages;
  uint32_t n_pages, scratch_begin;
  uint32_t n_block_tiles, n_page_tiles, n_scratch_tiles;

  __device__ __forceinline__ uint32_t n() const { return n_block_tiles + n_page_tiles + n_scratch_tiles; }
};

// The first of n ascending spans that is_past holds for.
template <class IsPast>
__device__ __forceinline__ uint32_t first_span(const SpanEntry* spans, uint32_t n, IsPast is_past) {
  uint32_t low = 0, high = n;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (is_past(spans[middle]))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

__device__ inline TokenTiles token_tiles(const PrefillArgs& a, const RowTile& t, uint32_t n_tokens) {
  const SpanEntry* blocks = a.spans + t.part.span_begin;
  const SpanEntry* pages = blocks + t.part.n_blocks;
  const auto is_young = [&](const SpanEntry& e) { return e.start + e.last > t.oldest; };
  const auto is_future = [&](const SpanEntry& e) { return e.start + e.first > t.high; };
  const uint32_t block = t.oldest ? first_span(blocks, t.part.n_blocks, is_young) : 0;
  const uint32_t page = t.oldest ? first_span(pages, t.part.n_pages, is_young) : 0;
  const uint32_t page_end = first_span(pages, t.part.n_pages, is_future);
  const uint32_t n_spans = n_tokens / kPageTokens;
  TokenTiles tiles{};
  tiles.n_tokens = n_tokens;
  tiles.blocks = blocks + block;
  tiles.pages = pages + page;
  tiles.n_block_tiles = (t.part.n_blocks - block) * (kBlockTokens / n_tokens);
  tiles.n_pages = page_end > page ? page_end - page : 0;
  tiles.n_page_tiles = (tiles.n_pages + n_spans - 1) / n_spans;
  if (t.part.uses_scratch) {
    tiles.scratch_begin = t.oldest > t.part.base ? (t.oldest - t.part.base) / n_tokens * n_tokens : 0;
    tiles.n_scratch_tiles = (t.high - t.part.base - tiles.scratch_begin) / n_tokens + 1;
  }
  return tiles;
}

// Where exact token `token` of an exact tile (counted after the blocks) lies. position kNobody: there is none.
inline constexpr uint32_t kNobody = UINT32_MAX;
struct ExactRow {
  const uint16_t *key, *value;
  uint32_t position;
};

__device__ inline ExactRow exact_row(const PrefillArgs& a, const RowTile& t, const TokenTiles& tiles, uint32_t tile,
                                     uint32_t token) {
  if (tile < tiles.n_page_tiles) {
    const uint32_t page = tile * (tiles.n_tokens / kPageTokens) + token / kPageTokens, k = token % kPageTokens;
    if (page >= tiles.n_pages) return {nullptr, nullptr, kNobody};
    const SpanEntry e = tiles.pages[page];
    if (k < e.first || k >= e.last) return {nullptr, nullptr, kNobody};
    const auto* keys = reinterpret_cast<const uint16_t*>(a.pool + uint64_t{e.unit} * 64 + a.page_offset +
                                                         t.head * a.head_page_bytes);
    return {keys + k * a.key_dim, keys + kPageTokens * a.key_dim + k * a.value_dim, e.start + k};
  }
  const uint32_t j = tiles.scratch_begin + (tile - tiles.n_page_tiles) * tiles.n_tokens + token;
  if (j >= t.part.n_new) return {nullptr, nullptr, kNobody};
  const uint64_t row = (uint64_t{t.part.row} + j) * a.n_kv_heads + t.head;
  return {a.scratch_keys + row * a.key_dim, a.scratch_values + row * a.value_dim, t.part.base + j};
}

}  // namespace oscar::cuda
