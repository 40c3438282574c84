// What fits into memory, asked of the allocator itself: a cache is created in address space that nobody touches, and
// says how far a sequence can go in it.
#pragma once
#include <cstdint>

#include "serving.h"

namespace oscar::cli {

// The largest capacity_bytes of one cache (oscar_cache_check refuses 256 GiB), and the longest sequence looked for.
inline constexpr uint64_t kMostCapacity = uint64_t{255} << 30, kMostFitTokens = uint64_t{1} << 24;

// How many tokens a sequence can reach in a cache of this capacity, at most `most`.
uint64_t tokens_in(const Serving& serving, uint64_t capacity_bytes, uint64_t most);

// The least capacity_bytes in which a sequence reaches `n_tokens`; 0 where that is more than one cache can have.
uint64_t capacity_for(const Serving& serving, uint64_t n_tokens);

// All memory of a cache for n sequences of n_tokens each: n times capacity_for, and what does not grow with tokens.
struct Need {
  uint64_t capacity_bytes = 0, bytes_fixed = 0;
  uint64_t total() const { return capacity_bytes + bytes_fixed; }
};
Need need(const Model& model, const Choice& choice, uint64_t n_tokens, uint32_t n_sequences);

// The longest context of one sequence in this memory, and the most sequences of `n_tokens`; 0: none.
uint64_t longest_sequence(const Model& model, const Choice& choice, uint64_t memory_bytes);
uint64_t largest_batch(const Model& model, const Choice& choice, uint64_t n_tokens, uint64_t memory_bytes);

}  // namespace oscar::cli
