// Attention of one KV head on the CPU, compiled once per instruction set. Rows come in tiles of 32 at most; the blocks go
// by first, then the exact tokens, each a partial softmax in its own basis, merged at the end:
//
//   out = w_e o_e + w_b (o_b F_v^-1)        w: shares of the softmax mass, o_e of exact rows, o_b of blocks
//
// A row's bits depend on its query, its position and the tokens it sees, and on nothing else: all sums over tokens are
// cut at blocks, at multiples of kSplitTokens positions, and at multiples of 32 positions.
//
// Cost of decoding (head_dim 128, group G, per block of 128 tokens): 8.9 KB are read once; a row takes 64 K products of
// bytes (two bytes a query element): 1,024 vpdpbusd of 64 bytes, one a cycle of Zen 4, or 2,048 vpmaddubsw of 32. For
// G = 4 and 64 K tokens of 8 KV heads (36 MB) that is 4.7 ms of one core at 3.6 GHz; bench/cpu.py saw 9 to 10
// (bench/results). The rest is softmax, columns, refinement, and what memory makes a core wait although the next block
// is asked for in time: arithmetic, not the rate of memory, is the limit.
// Exact tokens take 2 * head_dim multiply-adds a row and token in FP32.
#include "attention/attend_block.h"
#include "attention/attend_exact.h"
#include "backend/isa.h"
#include "transform/map_kernel.h"

namespace oscar::OSCAR_ISA {
namespace {

void begin_tile(const AttendWork& work, Tile& t) {
  t.n_rows = work.n_tile_rows;
  if (work.n_blocks > 0) prepare_tables(*work.layout, *t.tables);
  for (uint32_t r = 0; r < t.n_rows; ++r) {
    QueryRow& row = t.row[r];
    row = {};
    row.token = static_cast<uint32_t>((work.first_row + r) / work.group);
    row.position = work.first_position + row.token;
    const float* q = work.q + r * work.key_dim;
    float* query = t.query + r * t.key_pad;
    for (uint32_t d = 0; d < work.key_dim; ++d)  // infinite: NaN, so that no softcap nor sign hides it
      query[d] = __builtin_fabsf(q[d]) < __builtin_inff() ? q[d] : __builtin_nanf("");
    for (uint32_t d = work.key_dim; d < t.key_pad; ++d) query[d] = 0.0f;
    if (work.n_blocks > 0) {
      float* mapped = t.mapped + r * t.key_pad;
      apply_map(work.transform->query, query, mapped);
      for (uint32_t d = work.key_dim; d < t.key_pad; ++d) mapped[d] = 0.0f;
      encode_query(t, r);
    }
  }
  for (uint32_t i = 0; i < t.n_rows * 2 * kBlockTokens; ++i) t.weights[i] = t.fine_weights[i] = 0;
}

// t.split: the partial softmax of the blocks of the split that begins with block b. Returns the first block after it.
uint32_t attend_split(const AttendWork& work, const Tile& t, uint32_t b) {
  const uint64_t split = split_of(work.blocks[b].start);
  clear_partial(t, t.split);
  for (; b < work.n_blocks && split_of(work.blocks[b].start) == split; ++b)
    attend_block(work, t, work.blocks[b], b + 1 < work.n_blocks ? work.blocks[b + 1].bytes : nullptr);
  return b;
}

// t.blocks: the sum over all splits.
void add_splits(const AttendWork& work, const Tile& t) {
  clear_partial(t, t.blocks);
  const float* known = work.partials;
  for (uint32_t b = 0; b < work.n_blocks;) {
    if (known) {
      const uint64_t split = split_of(work.blocks[b].start);
      while (b < work.n_blocks && split_of(work.blocks[b].start) == split) ++b;
      add_partial(t, partial_at(const_cast<float*>(known)), t.blocks);
      known += partial_floats(t.value_pad);
    } else {
      b = attend_split(work, t, b);
      add_partial(t, t.split, t.blocks);
    }
  }
}

// Merges the two partial softmaxes and the sink of one row; returns the base-2 log of the denominator.
float finish_row(const AttendWork& work, const Tile& t, uint32_t r) {
  const float sink = work.sink_logits ? work.sink_logits[(work.first_row + r) % work.group] * kLog2e : kMinusInfinity;
  const float exact_largest = t.exact.largest[r], block_largest = t.blocks.largest[r];
  float largest = exact_largest > block_largest ? exact_largest : block_largest;
  if (sink > largest) largest = sink;
  const float exact_part = exp2_scalar(exact_largest - largest), block_part = exp2_scalar(block_largest - largest);
  const float sum = t.exact.sum[r] * exact_part + t.blocks.sum[r] * block_part + exp2_scalar(sink - largest);
  const float* exact = t.exact.out + r * t.value_pad;
  float* out = work.out + r * work.value_dim;
  const float exact_weight = exact_part / sum, block_weight = block_part / sum;
  for (uint32_t d = 0; d < work.value_dim; ++d) out[d] = exact[d] * exact_weight;
  if (!(t.blocks.sum[r] == 0.0f)) {
    const float* block = t.blocks.out + r * t.value_pad;
    for (uint32_t d = 0; d < work.value_dim; ++d) t.vector[0][d] = block[d] * block_weight;
    apply_map(work.transform->value_inverse, t.vector[0], t.vector[1]);
    for (uint32_t d = 0; d < work.value_dim; ++d) out[d] += t.vector[1][d];
  }
  const double log2_sum = static_cast<double>(largest) + __builtin_log2(static_cast<double>(sum));
  work.lse[r] = static_cast<float>(log2_sum * 0.69314718055994530942);
  return static_cast<float>(log2_sum);
}

Tile carve(const AttendWork& work, void* scratch) {
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  memory += -reinterpret_cast<uintptr_t>(memory) & 63;
  Tile t;
  carve_tile(memory, round_up(work.key_dim, kDimUnit), round_up(work.value_dim, kDimUnit), t);
  return t;
}

}  // namespace

size_t attend_scratch_bytes(uint32_t key_dim, uint32_t value_dim) {
  Tile t;
  return carve_tile(nullptr, round_up(key_dim, kDimUnit), round_up(value_dim, kDimUnit), t) + 64;
}

void attend_splits(const AttendWork& work, float* partial, void* scratch) {
  Tile t = carve(work, scratch);
  begin_tile(work, t);
  for (uint32_t b = 0; b < work.n_blocks; partial += partial_floats(t.value_pad)) {
    t.split = partial_at(partial);
    b = attend_split(work, t, b);
  }
}

void attend_tile(const AttendWork& work, void* scratch) {
  Tile t = carve(work, scratch);
  begin_tile(work, t);
  add_splits(work, t);
  clear_partial(t, t.exact);
  attend_exact(work, t);
  float base2_lse[kTileRows];
  for (uint32_t r = 0; r < t.n_rows; ++r) base2_lse[r] = finish_row(work, t, r);
  if (work.n_voters > 0) cast_votes(work, t, base2_lse);
}

}  // namespace oscar::OSCAR_ISA
