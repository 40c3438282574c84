// What a backend is asked to compute: one attention of one (sequence, layer, KV head), described by plain views.
#pragma once
#include <cstdint>

#include "format/block.h"
#include "transform/transform.h"

namespace oscar {

inline constexpr uint32_t kTileRows = 32;

// Sums over blocks are cut where their tokens' positions pass a multiple of this: each split has a partial softmax of
// its own, and these are added in order, no matter who computed them.
inline constexpr uint64_t kSplitTokens = 4096;
OSCAR_HD constexpr uint64_t split_of(uint64_t block_start) { return block_start / kSplitTokens; }

// Floats of the partial softmax of a tile: largest[kTileRows], sum[kTileRows], out[kTileRows][value_pad].
OSCAR_HD constexpr uint64_t partial_floats(uint32_t value_pad) { return kTileRows * (uint64_t{2} + value_pad); }

// A block of a sequence as one KV head sees it. Valid tokens are the offsets [first, last); the token at offset i has
// position start + i.
struct BlockSpan {
  const uint8_t* bytes;
  uint64_t start;
  uint32_t first, last;
};

// Consecutive exact rows (BF16). Row i has position `position + i`, key at key + i * key_stride elements.
struct RowSpan {
  const uint16_t* key;
  const uint16_t* value;
  uint64_t position;
  uint32_t n;
  uint32_t key_stride, value_stride;
};

// Rows r = i * group + g: query head g of the group for the step's new token i, at position first_position + i.
// A query at position p sees a token at position j when
//   j <= p, and p - j < window (where window > 0), and
//   where both are new tokens (j >= first_position) and mask is given: j == p or mask[i * mask_stride + j - first] != 0.
// Blocks hold tokens before first_position only.
//
// A work asks for the rows [first_row, first_row + n_tile_rows), at most kTileRows of them: q, out and lse are of these.
struct AttendWork {
  const BlockLayout* layout;
  const HeadTransform* transform;
  uint32_t key_dim, value_dim;
  uint32_t group, n_new;
  uint64_t first_row;
  uint32_t n_tile_rows;
  uint64_t first_position;
  uint32_t window;           // 0: everything
  float scale, softcap;      // scale > 0; softcap 0: off
  const float* sink_logits;  // [group] or null
  const uint8_t* mask;       // or null
  uint64_t mask_stride;

  const BlockSpan* blocks;
  uint32_t n_blocks;
  const RowSpan* rows;  // ascending, disjoint, the new tokens included
  uint32_t n_rows;
  const float* partials;  // of all splits of the blocks, in order (partial_floats of each); null: not yet computed

  const float* q;  // [n_tile_rows][key_dim]
  float* out;      // [n_tile_rows][value_dim]
  float* lse;      // [n_tile_rows] natural log

  // Votes (importance/votes.h): rows of the last n_voters new tokens add, for the exact rows at positions [vote_first,
  // their own), their attention mass to the token's line votes[i][position - vote_first], i = index among the voters.
  // The caller has cleared the lines. n_voters may be 0.
  uint32_t n_voters;
  uint64_t vote_first;
  float* votes;
  uint64_t vote_stride;
};

// Of what is packed: elements beyond the levels of their codes, and blocks that the transform is expected to make worse than
// none would (docs/numerics.md). A backend adds to them.
struct SideCounts {
  uint64_t n_elements = 0, n_clipped = 0, n_blocks = 0, n_worse = 0;
};
struct PackCounts {
  SideCounts keys, values;
  uint64_t n_non_finite = 0;  // elements
};

// 128 tokens of one KV head to pack. slot s takes row order[s] (slot_order of importance/choice.h).
struct PackWork {
  const BlockLayout* layout;
  const HeadTransform* transform;
  uint32_t key_dim, value_dim;
  bool shaped;                        // transform->metric_root is not null
  const uint16_t* key[kBlockTokens];  // BF16 row of the token at offset i
  const uint16_t* value[kBlockTokens];
  uint8_t order[kBlockTokens];
  uint8_t* block;                // layout->bytes, 16-byte aligned
  PackCounts* counts = nullptr;  // or null: nobody counts
};

}  // namespace oscar
