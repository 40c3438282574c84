// Where the votes of undecided tokens live: one area per (layer, KV head) inside a sequence's score unit.
//
//   score[2][n_scores]      F32, two sides: the committed one, and the one that an open step adds to
//   ring[n_lines][n_line]   F16, one line per query that may still be rolled back: its votes, not yet counted
//
// A token's score is the attention mass it received, summed over the query heads of its KV head, from the queries that
// follow it within the recent window: the same horizon for every token. Additions run in ascending query order, one
// float chain per token of votes rounded to F16, so a score does not depend on how the queries were cut into steps.
#pragma once
#include <cstdint>

#include "format/bf16.h"
#include "format/block.h"

namespace oscar {

// Queries of a step that vote: its last ones, at most this many (drafts come on top).
inline constexpr uint32_t kMaxVoters = 128;

struct VoteLayout {
  uint32_t n_scores = 0;  // undecided tokens at a time: the recent window, an open block, a short step, its drafts
  uint32_t n_lines = 0, n_line = 0;

  VoteLayout() = default;
  VoteLayout(uint32_t n_recent, uint32_t max_rollback)
      : n_scores(n_recent + 2 * kBlockTokens + max_rollback), n_lines(3 * max_rollback),
        n_line((n_recent + 2 * max_rollback + 1) / 2 * 2) {}
  uint64_t bytes() const { return 2ull * n_scores * sizeof(float) + uint64_t{n_lines} * n_line * sizeof(uint16_t); }
};

// A vote as it is counted.
inline float round_vote(float vote) { return f16_to_f32(f32_to_f16(vote)); }

// One (layer, KV head) of a sequence. Positions are token indices; the areas are rings over them.
struct VoteArea {
  uint8_t* base;
  VoteLayout layout;

  float& score(uint32_t side, uint64_t token) const {
    return reinterpret_cast<float*>(base)[side * layout.n_scores + token % layout.n_scores];
  }
  uint16_t* line(uint64_t query) const {
    uint16_t* ring = reinterpret_cast<uint16_t*>(base + 2ull * layout.n_scores * sizeof(float));
    return ring + query % layout.n_lines * layout.n_line;
  }
  uint16_t& vote(uint64_t query, uint64_t token) const { return line(query)[token % layout.n_line]; }

  // Adds what the query at position `query` gave to the tokens of its recent window, from `first` (undecided) on.
  void count(uint32_t side, uint64_t query, uint64_t first, uint32_t n_recent) const {
    const uint64_t begin = query > n_recent ? query - n_recent : 0;
    for (uint64_t token = begin > first ? begin : first; token < query; ++token)
      score(side, token) += f16_to_f32(vote(query, token));
  }
};

}  // namespace oscar
