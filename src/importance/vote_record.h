// The votes of a sequence that mean something, without the rings around them: how they are exported.
//
//   per KV head:  score[end - first] F32, of the tokens from `first` on | the lines of the queries from `counted` on, F16:
//                 line q has a vote for every token from line_begin(q) to q - 1
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "importance/votes.h"

namespace oscar {

struct VoteRecord {
  uint64_t first, end;  // undecided tokens
  uint64_t counted;     // votes of earlier queries are in the scores
  uint32_t n_recent;

  VoteRecord(uint64_t packed_end, uint64_t length, uint64_t counted_queries, uint32_t recent)
      : first(std::min(packed_end, length)), end(length), counted(std::min(counted_queries, length)), n_recent(recent) {
  }

  uint64_t line_begin(uint64_t query) const { return std::max(first, query > n_recent ? query - n_recent : 0); }
  uint64_t bytes() const {
    uint64_t n_votes = 0;
    for (uint64_t query = counted; query < end; ++query) n_votes += query - std::min(query, line_begin(query));
    return (end - first) * sizeof(float) + n_votes * sizeof(uint16_t);
  }

  // From the committed side of an area; returns where the next head's begin.
  uint8_t* store(const VoteArea& from, uint32_t side, uint8_t* to) const {
    for (uint64_t token = first; token < end; ++token, to += sizeof(float))
      std::memcpy(to, &from.score(side, token), sizeof(float));
    for (uint64_t query = counted; query < end; ++query)
      for (uint64_t token = line_begin(query); token < query; ++token, to += sizeof(uint16_t))
        std::memcpy(to, &from.vote(query, token), sizeof(uint16_t));
    return to;
  }

  // Into a cleared area, side 0; moves `from` behind it. False where a vote is none: negative or not finite.
  bool load(const uint8_t*& from, const VoteArea& to) const {
    for (uint64_t token = first; token < end; ++token, from += sizeof(float)) {
      float& score = to.score(0, token);
      std::memcpy(&score, from, sizeof score);
      if (!std::isfinite(score) || std::signbit(score)) return false;
    }
    for (uint64_t query = counted; query < end; ++query)
      for (uint64_t token = line_begin(query); token < query; ++token, from += sizeof(uint16_t)) {
        uint16_t& vote = to.vote(query, token);
        std::memcpy(&vote, from, sizeof vote);
        if (vote >= 0x7c00) return false;
      }
    return true;
  }
};

}  // namespace oscar
