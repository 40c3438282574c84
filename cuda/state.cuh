// Partial softmax of a tile of rows in one warp's registers: lane 4 g + i holds MMA row g, output dims 8 t + 2 i + e.
// Tiles of 8 queries: MMA row g is query g. Tiles of up to 4: MMA rows g and g + 4 are query g over two disjoint sets of
// tokens, each with a state of its own: half the scalar work a token, joined when the warps are (merge_warps.cuh).
#pragma once
#include "ptx.cuh"

namespace oscar::cuda {

// Stands for minus infinity: differences of two of them are 0, not NaN. A row that has seen nothing keeps it, and its
// other numbers (finite, meaningless) get weight 2^(kUnseen - m) = 0 beside anything seen.
inline constexpr float kUnseen = -1e30f;

template <int kDv>
struct State {
  float largest = kUnseen;  // of the base-2 logits; the rest is relative to 2^largest
  float sum = 0.0f;         // this lane's part of the denominator
  float offset = 0.0f;      // this lane's part of what is added to every output dim
  float out[kDv / 8][2] = {};
};

// What a row of the tile may see.
struct RowView {
  uint32_t position;        // of the row's own token
  uint32_t first_position;  // of the step's new tokens
  uint32_t window;          // 0: everything
  const uint8_t* mask;      // of this row over the new tokens, or null
  __device__ __forceinline__ bool sees(uint32_t token) const {
    if (token == position) return true;
    if (token > position || (window && position - token >= window)) return false;
    return !mask || token < first_position || mask[token - first_position] != 0;
  }
};

// c tanh(x / c) of base-2 logits: tanh y = 1 - 2 / (2^(2 y log2 e) + 1).
struct Softcap {
  float two_over_cap;  // 0: off
  float cap_log2e;
  __device__ __forceinline__ float operator()(float x) const {
    return cap_log2e * (1.0f - __fdividef(2.0f, exp2_approx(x * two_over_cap) + 1.0f));
  }
};

// Moves the reference of the state to the larger of its own and `largest`, and returns 2^(largest - reference).
template <int kDv>
__device__ __forceinline__ float raise(State<kDv>& s, float largest) {
  const float reference = fmaxf(s.largest, largest), shrink = exp2_approx(s.largest - reference);
  s.largest = reference;
  if (__any_sync(~0u, shrink != 1.0f)) {
    s.sum *= shrink;
    s.offset *= shrink;
#pragma unroll
    for (int t = 0; t < kDv / 8; ++t) {
      s.out[t][0] *= shrink;
      s.out[t][1] *= shrink;
    }
  }
  return exp2_approx(largest - reference);
}

}  // namespace oscar::cuda
