// What the kernels of a step know about its sequences beside the tensors. Plain data at fixed device addresses, so that
// a captured launch follows the cache as it grows; written once a step (engine_tables.h), used by every layer of a class.
#pragma once
#include <cstdint>

#include "format/block.h"
#include "importance/votes.h"

namespace oscar::cuda {

// Of a padding entry: its rows are not stored, its output is 0 and its log-sum-exp minus infinity.
inline constexpr uint32_t kPaddingBase = UINT32_MAX;
inline constexpr uint32_t kNoPage = UINT32_MAX;  // in the page table: tokens that are packed or gone

// One sequence of a step in one class (StepEntry and StepPart of backend/engine.h). Positions are token indices. The
// parts of a step ascend in `row` and cover its rows.
struct alignas(16) PartWork {
  uint32_t row, n_new, n_draft;  // rows [row, row + n_new) of the step's tensors; the last n_draft may be rejected
  uint32_t base;                 // position of its first new token; kPaddingBase
  // spans[span_begin ..] (step_plan.h): n_blocks blocks, then n_pages spans of exact rows, both ascending. The new tokens
  // are among the latter, unless uses_scratch: then they are rows [row, row + n_new) of the step's scratch.
  uint32_t span_begin, n_blocks, n_pages;
  uint32_t uses_scratch;
  uint32_t page_begin;                   // pages[page_begin + position / 16]: unit of the page that holds the position
  uint32_t persist_from;                 // new tokens from here on, and sinks, are stored in pages
  uint32_t packed_end;                   // tokens from here on are not packed yet, as begin left it
  uint32_t next_packed_end;              // the same once the step is committed
  uint32_t first_start, n_chunk_blocks;  // blocks that the step itself packs: the first one's start position
  uint32_t scores, side;                 // unit of the votes, and which side of the scores is committed
  uint32_t vote_offset;                  // in a line of chunk votes, of the token at packed_end
  uint32_t is_decoded;                   // batch-invariant: the decode kernel serves it, the prefill kernel does not
  uint32_t is_query_only;                // its rows attend and are not stored, nor do they vote
  uint32_t reserved;

  OSCAR_HD bool is_padding() const { return base == kPaddingBase; }
  OSCAR_HD bool stores() const { return !is_padding() && !is_query_only; }
  OSCAR_HD bool sees_nothing() const { return n_blocks + n_pages == 0 && !uses_scratch; }  // so does padding
  OSCAR_HD uint32_t end() const { return base + n_new; }
  OSCAR_HD uint32_t n_sure() const { return n_new - n_draft; }
  OSCAR_HD bool is_big(uint32_t max_rollback) const { return n_sure() > max_rollback; }
};
static_assert(sizeof(PartWork) == 80);

// The part that a row of the step belongs to.
OSCAR_HD inline uint32_t part_of_row(const PartWork* parts, uint32_t n_parts, uint32_t row) {
  uint32_t low = 0, high = n_parts;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (parts[middle].row <= row)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// A class of layers: where its heads' bytes lie. By value in kernel parameters.
struct ClassView {
  uint8_t* pool;                 // units are in steps of 64 bytes from here
  const uint32_t* pages;         // page tables of all sequences
  uint32_t n_kv_heads, n_heads;  // of a layer; of all layers of the class
  uint32_t key_dim, value_dim;
  uint32_t n_sink, n_recent, max_rollback;
  uint32_t has_votes;
  uint32_t n_scores, n_lines, n_line;  // VoteLayout
  uint64_t head_page_bytes, head_vote_bytes;

  OSCAR_HD uint8_t* unit(uint32_t u) const { return pool + uint64_t{u} * 64; }
  // Keys of a class head in a page: [16][key_dim], then values [16][value_dim].
  OSCAR_HD uint16_t* page_keys(uint32_t u, uint32_t class_head) const {
    return reinterpret_cast<uint16_t*>(unit(u) + class_head * head_page_bytes);
  }
  OSCAR_HD uint16_t* page_values(uint32_t u, uint32_t class_head) const {
    return page_keys(u, class_head) + kPageTokens * key_dim;
  }
  // Votes of a class head: score[2][n_scores] F32, then ring[n_lines][n_line] F16 (importance/votes.h).
  OSCAR_HD float* scores(uint32_t u, uint32_t class_head, uint32_t side) const {
    return reinterpret_cast<float*>(unit(u) + class_head * head_vote_bytes) + side * n_scores;
  }
  OSCAR_HD uint16_t* line(uint32_t u, uint32_t class_head, uint32_t query) const {
    uint16_t* ring = reinterpret_cast<uint16_t*>(scores(u, class_head, 2));
    return ring + uint64_t{query % n_lines} * n_line;
  }
};

// The new tokens of one layer of a long step: keys [row][KV head][key_dim], values alike, BF16; and the votes of its
// undecided tokens: chunk_votes[KV head * chunk_stride + vote_offset + position - packed_end].
struct ScratchView {
  uint16_t* keys;
  uint16_t* values;
  float* chunk_votes;
  uint64_t chunk_stride;
};

}  // namespace oscar::cuda
