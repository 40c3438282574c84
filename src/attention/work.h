// What a backend is asked to compute: one attention of one (sequence, layer, KV head), described by plain views.
#pragma once
#include <cstdint>

#include "format/block.h"
#include "transform/transform.h"

namespace oscar {

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
struct AttendWork {
  const BlockLayout* layout;
  const HeadTransform* transform;
  uint32_t key_dim, value_dim;
  uint32_t group, n_new;
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

  const float* q;  // [n_new * group][key_dim]
  float* out;      // [n_new * group][value_dim]
  float* lse;      // [n_new * group] natural log

  // Votes (importance/votes.h): each of the last n_voters new tokens adds, for the exact rows at positions
  // [vote_first, its own), the attention mass summed over the group, to its own line votes[i][position - vote_first],
  // i = index among the voters. Lines are overwritten; entries that a voter does not see are set to 0. n_voters may
  // be 0.
  uint32_t n_voters;
  uint64_t vote_first;
  float* votes;
  uint64_t vote_stride;
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
  uint8_t* block;  // layout->bytes, 16-byte aligned
};

}  // namespace oscar
