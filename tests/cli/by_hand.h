// What a sequence takes, calculated by hand: from the block sizes in the table of docs/format.md, pages of 16 exact rows,
// and the defaults of a profile (16 sinks, 128 recent tokens, 8 that can be rolled back).
#pragma once
#include <cstdint>

namespace oscar::cli::test {

struct HandLayers {
  uint64_t n_layers, n_kv_heads, dims;  // dims: of a key and a value together
  uint64_t block_bytes;                 // of 128 tokens of a head; 0: kept exact
  uint64_t window = 0;
  bool votes = true;  // the profile refines some tokens
};

// Of one sequence of n tokens, when a step for one more has begun.
inline uint64_t bytes_by_hand(const HandLayers& l, uint64_t n) {
  const uint64_t heads = l.n_layers * l.n_kv_heads, recent = 128, rollback = 8;
  const uint64_t sinks = l.window > 0 || l.block_bytes == 0 ? 0 : 16;
  const uint64_t kept_from = l.window > 0 && n > l.window + rollback ? n - l.window - rollback : 0;
  const uint64_t packed = l.block_bytes > 0 && n > sinks + recent ? (n - recent - sinks) / 128 : 0;  // blocks so far
  const uint64_t gone = kept_from > sinks ? (kept_from - sinks) / 128 : 0;  // behind the window
  const uint64_t blocks = packed > gone ? packed - gone : 0;
  const uint64_t end = sinks + packed * 128, tail = end > kept_from ? end : kept_from;
  const uint64_t pages = (n + 1 + 15) / 16 - tail / 16 + (tail >= 16 ? sinks / 16 : 0);
  // Undecided tokens' scores, twice, as floats; and the last queries' votes, in 16 bits.
  const uint64_t votes = l.block_bytes > 0 && l.votes
                             ? 2 * (recent + 256 + rollback) * 4 + 3 * rollback * (recent + 2 * rollback) * 2
                             : 0;
  return blocks * (heads * l.block_bytes + 16) + pages * (heads * 16 * l.dims * 2 + 4) + heads * votes;
}

}  // namespace oscar::cli::test
