// A tile of query rows, and the scratch memory of one attention: bounded by the tile, never by the context.
#pragma once
#include <cstddef>
#include <cstdint>

#include "attention/unpack_codes.h"
#include "attention/work.h"

namespace oscar::OSCAR_ISA {

inline constexpr uint32_t kTileRows = 32;
inline constexpr uint32_t kChunkTokens = 32;  // exact tokens at a time: those with equal position / 32
inline constexpr float kLog2e = 1.44269504f;
inline constexpr float kMinusInfinity = -__builtin_inff();

// What a query row carries from block to block and from chunk to chunk. Logits are in base 2: `largest` is the
// reference of a partial softmax, `sum` the sum of 2^(logit - largest).
struct QueryRow {
  uint32_t token;  // of the step: row / group
  uint64_t position;
  float code_unit;  // of the 16-bit query q'; NaN where q' is not finite
  int32_t code_sum;
  float block_largest, block_sum;
  float exact_largest, exact_sum;
};

// What depends on the layout only.
struct LayoutTables {
  uint16_t key_place[kMaxHeadDim];
  float plane_unit[2][kBlockTokens];      // keys, values: 2^-w of the slot
  int32_t twice_offset[2][kBlockTokens];  // 4 * 2^w - 1
  ValueRefinement value_refinement;
};

// The block at hand.
struct BlockScales {
  float key[kBlockTokens];    // scale / 2^w
  float value[kBlockTokens];  // scale / 2^w / value_base
  BlockHeader header;
};

struct Tile {
  QueryRow* row;        // [kTileRows]
  float* query;         // [kTileRows][key_pad] raw, for exact rows
  float* mapped;        // [kTileRows][key_pad] q'
  int16_t* codes;       // [kTileRows][key_pad] q' as 16-bit integers, in stored order
  float* logits;        // [kTileRows][128]
  int32_t* dots;        // [kTileRows][128]
  int16_t* weights;     // [kTileRows][128] in stored order
  float* weight_unit;   // [kTileRows] 0: the row does not see this block
  float* rescale;       // [kTileRows]
  int32_t* weight_sum;  // [kTileRows] sum of weight * twice_offset
  float* block_out;     // [kTileRows][value_pad] in the basis of the blocks, not yet divided
  float* exact_out;     // [kTileRows][value_pad]
  int16_t* unpacked;    // codes of 32 slots or 64 dims
  uint8_t* runs;
  float* chunk_keys;    // [kChunkTokens][key_pad]
  float* chunk_values;  // [kChunkTokens][value_pad]
  float* vector[2];     // [kMaxHeadDim]
  LayoutTables* tables;
  BlockScales* scales;
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
  take(t.codes, kTileRows * key_pad);
  take(t.logits, kTileRows * kBlockTokens);
  take(t.dots, kTileRows * kBlockTokens);
  take(t.weights, kTileRows * kBlockTokens);
  take(t.weight_unit, kTileRows);
  take(t.rescale, kTileRows);
  take(t.weight_sum, kTileRows);
  take(t.block_out, kTileRows * value_pad);
  take(t.exact_out, kTileRows * value_pad);
  take(t.unpacked,
       kGroupSlots * key_pad > kChunkDims * kBlockTokens ? kGroupSlots * key_pad : kChunkDims * kBlockTokens);
  take(t.runs, 16 * kBlockTokens);
  take(t.chunk_keys, kChunkTokens * key_pad);
  take(t.chunk_values, kChunkTokens * value_pad);
  take(t.vector[0], kMaxHeadDim);
  take(t.vector[1], kMaxHeadDim);
  take(t.tables, 1);
  take(t.scales, 1);
  return used;
}

// What a partial softmax subtracts from its logits. Where all of them are -infinity (infinite keys), 0: they then weigh
// nothing, and a NaN among them still shows.
inline float softmax_reference(float largest) { return largest == kMinusInfinity ? 0.0f : largest; }

// Which positions before its own a query at `position` still sees: those from here on.
inline uint64_t window_begin(const AttendWork& work, uint64_t position) {
  return work.window == 0 || position < work.window ? 0 : position - work.window + 1;
}

}  // namespace oscar::OSCAR_ISA
