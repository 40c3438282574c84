// A tile of query rows, and the scratch memory of one attention: bounded by the tile, never by the context.
#pragma once
#include <cstddef>
#include <cstdint>

#include "attention/code_dots.h"
#include "attention/exp2.h"
#include "attention/work.h"

namespace oscar::OSCAR_ISA {

inline constexpr uint32_t kChunkTokens = 32;  // exact tokens at a time: those with equal position / 32
inline constexpr float kLog2e = 1.44269504f;
inline constexpr float kMinusInfinity = -__builtin_inff();

struct QueryRow {
  uint32_t token;  // of the step: row / group
  uint64_t position;
  float code_unit;  // of the 16-bit query q'; NaN where q' is not finite
  int32_t code_sum;
};

// A partial softmax of every row of the tile. Logits are in base 2: `largest` is the reference, `sum` the sum of
// 2^(logit - largest), `out` the sum of 2^(logit - largest) * value, [kTileRows][value_pad].
struct Partial {
  float *largest, *sum, *out;
};

// memory: partial_floats.
inline Partial partial_at(float* memory) { return {memory, memory + kTileRows, memory + 2 * kTileRows}; }

// What depends on the layout only.
struct LayoutTables {
  uint16_t key_place[kMaxHeadDim];
  uint8_t fine_place[kBlockTokens];          // of the slots < h
  float key_unit[kBlockTokens];              // 2^-w of the slot
  int32_t key_factor[kBlockTokens];          // 2^(bits of a part)
  int32_t key_twice_offset[kBlockTokens];    // 4 * 2^w - 1
  int32_t value_twice_offset[kBlockTokens];  // see attend_block.h
};

// The block at hand.
struct BlockScales {
  float key[kBlockTokens];    // scale / 2^w
  float value[kBlockTokens];  // scale / value_base
  BlockHeader header;
};

struct Tile {
  QueryRow* row;           // [kTileRows]
  float* query;            // [kTileRows][key_pad] raw, for exact rows
  float* mapped;           // [kTileRows][key_pad] q'
  uint8_t* operands;       // [kTileRows][2 * key_pad] q' as 16-bit integers in stored order (code_dots.h)
  uint8_t* fine_operands;  // [kTileRows][2 * key_pad] the same in the order of dims
  float* logits;           // [kTileRows][128]
  int32_t* dots;           // [kTileRows][128]
  int32_t* fine_dots;      // [kTileRows][128] of the refinement planes
  uint8_t* weights;        // [kTileRows][2 * 128] 16-bit integers in stored order
  uint8_t* fine_weights;   // [kTileRows][2 * 128] those of the slots < h, in the order of the refinement planes
  float* mean_logit;       // [kTileRows] <mean, q'> of the block
  float* block_largest;    // [kTileRows] largest logit of the block
  float* block_sum;        // [kTileRows] sum of 2^(logit - block_largest)
  float* block_top;        // [kTileRows] largest weight
  float* weight_inverse;   // [kTileRows] integers are weights times this
  float* weight_unit;      // [kTileRows]
  float* rescale;          // [kTileRows]
  int32_t* weight_sum;     // [kTileRows] sum of weight * twice_offset
  U64* columns;            // [kRuns][kMaxColumns]
  U64* fine_columns;       // [kRuns][kBlockTokens / 8]
  float* chunk_keys;       // [kChunkTokens][key_pad]
  float* chunk_values;     // [kChunkTokens][value_pad]
  float* vector[2];        // [kMaxHeadDim]
  LayoutTables* tables;
  BlockScales* scales;
  Partial split, blocks;  // of the blocks of a split and of all before it, in their basis
  Partial exact;          // of exact rows
  uint32_t key_pad, value_pad, n_rows;
};

// Carves `memory` up; returns the bytes needed. With memory null, only that.
inline size_t carve_tile(uint8_t* memory, uint32_t key_pad, uint32_t value_pad, Tile& t) {
  size_t used = 0;
  const uintptr_t start = reinterpret_cast<uintptr_t>(memory);
  const auto take = [&](auto*& pointer, size_t count) {
    pointer = reinterpret_cast<decltype(&*pointer)>(start + used);
    used += (count * sizeof *pointer + 63) / 64 * 64;
  };
  t.key_pad = key_pad;
  t.value_pad = value_pad;
  t.n_rows = 0;
  take(t.row, kTileRows);
  take(t.query, kTileRows * key_pad);
  take(t.mapped, kTileRows * key_pad);
  take(t.operands, kTileRows * 2 * key_pad);
  take(t.fine_operands, kTileRows * 2 * key_pad);
  take(t.logits, kTileRows * kBlockTokens);
  take(t.dots, kTileRows * kBlockTokens);
  take(t.fine_dots, kTileRows * kBlockTokens);
  take(t.weights, kTileRows * 2 * kBlockTokens);
  take(t.fine_weights, kTileRows * 2 * kBlockTokens);
  take(t.mean_logit, kTileRows);
  take(t.block_largest, kTileRows);
  take(t.block_sum, kTileRows);
  take(t.block_top, kTileRows);
  take(t.weight_inverse, kTileRows);
  take(t.weight_unit, kTileRows);
  take(t.rescale, kTileRows);
  take(t.weight_sum, kTileRows);
  take(t.columns, kRuns * kMaxColumns);
  take(t.fine_columns, kRuns * kBlockTokens / 8);
  take(t.chunk_keys, kChunkTokens * key_pad);
  take(t.chunk_values, kChunkTokens * value_pad);
  take(t.vector[0], kMaxHeadDim);
  take(t.vector[1], kMaxHeadDim);
  take(t.tables, 1);
  take(t.scales, 1);
  const auto take_partial = [&](Partial& partial) {
    float* floats;
    take(floats, partial_floats(value_pad));
    partial = partial_at(floats);
  };
  take_partial(t.split);
  take_partial(t.blocks);
  take_partial(t.exact);
  return used;
}

// What a partial softmax subtracts from its logits. Where all of them are -infinity (infinite keys), 0: they then weigh
// nothing, and a NaN among them still shows.
inline float softmax_reference(float largest) { return largest == kMinusInfinity ? 0.0f : largest; }

// The partial softmax of no token.
inline void clear_partial(const Tile& t, const Partial& p) {
  for (uint32_t r = 0; r < t.n_rows; ++r) {
    p.largest[r] = kMinusInfinity;
    p.sum[r] = 0.0f;
  }
  for (uint32_t i = 0; i < t.n_rows * t.value_pad; ++i) p.out[i] = 0.0f;
}

// to += from.
inline void add_partial(const Tile& t, const Partial& from, const Partial& to) {
  for (uint32_t r = 0; r < t.n_rows; ++r) {
    const float largest = to.largest[r] > from.largest[r] ? to.largest[r] : from.largest[r];
    const float base = softmax_reference(largest);
    const float old_part = exp2_scalar(to.largest[r] - base), new_part = exp2_scalar(from.largest[r] - base);
    to.largest[r] = largest;
    to.sum[r] = to.sum[r] * old_part + from.sum[r] * new_part;
    const float* source = from.out + r * t.value_pad;
    float* target = to.out + r * t.value_pad;
    for (uint32_t d = 0; d < t.value_pad; d += kLanes)
      store(target + d, multiply_add(load(source + d), splat(new_part), load(target + d) * old_part));
  }
}

// Which positions before its own a query at `position` still sees: those from here on.
inline uint64_t window_begin(const AttendWork& work, uint64_t position) {
  return work.window == 0 || position < work.window ? 0 : position - work.window + 1;
}

}  // namespace oscar::OSCAR_ISA
