// Which tokens of a block are refined: importance/choice.cpp by one warp.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar::cuda {

// Unsigned integers in the order of floats; both zeros are equal.
__device__ __forceinline__ uint32_t ordered_bits(float x) {
  const uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Tokens 4 * lane .. 4 * lane + 3 whose bit is set in `flags`, counted over all tokens before 4 * lane + k.
__device__ __forceinline__ uint32_t count_before(const uint32_t (&ballots)[4], uint32_t flags, uint32_t lane,
                                                 uint32_t k) {
  const uint32_t below = (1u << lane) - 1;
  uint32_t n = __popc(flags & ((1u << k) - 1));
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) n += __popc(ballots[i] & below);
  return n;
}

// Flags of the h best of the lane's four keys, one after the other: for small h. Equal keys: the earlier token.
__device__ __forceinline__ uint32_t choose_one_by_one(const uint32_t (&key)[4], uint32_t h, uint32_t lane) {
  uint32_t flags = 0;
#pragma unroll 1
  for (uint32_t n = 0; n < h; ++n) {
    uint32_t own = 0, at = 4;  // the lane's best that is left; keys of votes are never 0 (ordered_bits)
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k)
      if (!(flags >> k & 1) && key[k] > own) own = key[k], at = k;
    const uint32_t best = __reduce_max_sync(~0u, own);
    const uint32_t lanes = __ballot_sync(~0u, own == best);
    if (lane == static_cast<uint32_t>(__ffs(lanes)) - 1) flags |= 1u << at;
  }
  return flags;
}

// The same by radix selection of the h-th largest key.
__device__ __forceinline__ uint32_t choose_by_threshold(const uint32_t (&key)[4], uint32_t h, uint32_t lane) {
  uint32_t threshold = 0;  // the largest value that at least h keys reach
#pragma unroll 1
  for (uint32_t bit = 0x80000000u; bit; bit >>= 1) {
    const uint32_t candidate = threshold | bit;
    uint32_t n = 0;
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) n += key[k] >= candidate;
    if (__reduce_add_sync(~0u, n) >= h) threshold = candidate;
  }
  uint32_t equal[4], equal_flags = 0, n_above = 0, flags = 0;
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) {
    n_above += __popc(__ballot_sync(~0u, key[k] > threshold));
    equal[k] = __ballot_sync(~0u, key[k] == threshold);
    equal_flags |= uint32_t{key[k] == threshold} << k;
  }
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k)
    flags |=
        uint32_t{key[k] > threshold || (key[k] == threshold && count_before(equal, equal_flags, lane, k) < h - n_above)}
        << k;
  return flags;
}

// Votes of the lane's four tokens in a ring of n_votes >= 128.
struct FourVotes {
  float v[4];
};
__device__ __forceinline__ FourVotes load_votes(const float* votes, uint32_t first, uint32_t n_votes) {
  FourVotes four;
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) {
    const uint32_t at = first + 4 * (threadIdx.x % 32) + k;
    four.v[k] = votes[at < n_votes ? at : at - n_votes];
  }
  return four;
}

// One warp; 0 < h < 128. order[slot] = token: the chosen ones first, both parts ascending.
__device__ inline void choose_slots(const FourVotes& votes, uint32_t h, uint8_t* order) {
  const uint32_t lane = threadIdx.x % 32;
  uint32_t key[4], chosen[4];
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) key[k] = ordered_bits(votes.v[k]);
  const uint32_t flags = h <= 8 ? choose_one_by_one(key, h, lane) : choose_by_threshold(key, h, lane);
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) chosen[k] = __ballot_sync(~0u, flags >> k & 1);
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) {
    const uint32_t token = 4 * lane + k, rank = count_before(chosen, flags, lane, k);
    order[flags >> k & 1 ? rank : h + token - rank] = static_cast<uint8_t>(token);
  }
}

}  // namespace oscar::cuda
