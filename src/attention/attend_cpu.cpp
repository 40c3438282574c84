// Attention of one KV head on the CPU, compiled once per instruction set. Rows are taken in tiles of 32; per tile the
// blocks go by first, then the exact tokens, each a partial softmax in its own basis, merged at the end:
//
//   out = w_e o_e + w_b (o_b F_v^-1)        w: shares of the softmax mass, o_e of exact rows, o_b of blocks
//
// A row's bits depend on its query, its position and the tokens it sees, and on nothing else: all sums over tokens are
// cut at blocks and at multiples of 32 positions.
//
// Cost of decoding (head_dim 128, group G, per block of 128 tokens): 8.9 KB are read once; codes are unpacked once for
// all rows (32 K codes, to 16 bits, 32 slots or 64 dims at a time so that they stay in the L1 cache); then 32 K
// multiply-adds a row on integer pairs (vpdpwssd: 32 an instruction). Unpacking costs as much as two rows; arithmetic,
// not memory, is the limit: one Zen 4 core takes 18.6 ms (AVX-512), 20.6 (AVX2) or 33 (SSE2) for 64 K tokens of 8 KV
// heads, G = 4, 4 of 128 refined, which are 36 MB.
// Prefill: exact tokens are widened once per tile and chunk, then 2 * head_dim multiply-adds a row and token in FP32.
#include "attention/attend_block.h"
#include "attention/attend_exact.h"
#include "backend/isa.h"
#include "transform/map_kernel.h"

namespace oscar::OSCAR_ISA {
namespace {

void begin_tile(const AttendWork& work, Tile& t, uint64_t first_row, uint32_t n_rows) {
  t.n_rows = n_rows;
  for (uint32_t r = 0; r < n_rows; ++r) {
    QueryRow& row = t.row[r];
    row = {};
    row.token = static_cast<uint32_t>((first_row + r) / work.group);
    row.position = work.first_position + row.token;
    row.block_largest = row.exact_largest = kMinusInfinity;
    const float* q = work.q + (first_row + r) * work.key_dim;
    float* query = t.query + r * t.key_pad;
    for (uint32_t d = 0; d < work.key_dim; ++d)  // infinite: NaN, so that no softcap nor sign hides it
      query[d] = __builtin_fabsf(q[d]) < __builtin_inff() ? q[d] : __builtin_nanf("");
    for (uint32_t d = work.key_dim; d < t.key_pad; ++d) query[d] = 0.0f;
    if (work.n_blocks > 0) {
      float* mapped = t.mapped + r * t.key_pad;
      apply_map(work.transform->query, query, mapped);
      for (uint32_t d = work.key_dim; d < t.key_pad; ++d) mapped[d] = 0.0f;
      encode_query(*t.tables, mapped, t.key_pad, t.codes + r * t.key_pad, row);
    }
  }
  for (uint32_t i = 0; i < n_rows * t.value_pad; ++i) t.block_out[i] = t.exact_out[i] = 0.0f;
  for (uint32_t i = 0; i < n_rows * kBlockTokens; ++i) t.weights[i] = 0;
}

// Merges the two partial softmaxes and the sink of one row; returns the base-2 log of the denominator.
float finish_row(const AttendWork& work, const Tile& t, uint32_t r, uint64_t index) {
  const QueryRow& row = t.row[r];
  const float sink = work.sink_logits ? work.sink_logits[index % work.group] * kLog2e : kMinusInfinity;
  float largest = row.exact_largest > row.block_largest ? row.exact_largest : row.block_largest;
  if (sink > largest) largest = sink;
  const float exact_part = exp2_scalar(row.exact_largest - largest);
  const float block_part = exp2_scalar(row.block_largest - largest);
  const float sum = row.exact_sum * exact_part + row.block_sum * block_part + exp2_scalar(sink - largest);
  const float* exact = t.exact_out + r * t.value_pad;
  float* out = work.out + index * work.value_dim;
  const float exact_weight = exact_part / sum, block_weight = block_part / sum;
  for (uint32_t d = 0; d < work.value_dim; ++d) out[d] = exact[d] * exact_weight;
  if (!(row.block_sum == 0.0f)) {
    const float* block = t.block_out + r * t.value_pad;
    for (uint32_t d = 0; d < work.value_dim; ++d) t.vector[0][d] = block[d] * block_weight;
    apply_map(work.transform->value_inverse, t.vector[0], t.vector[1]);
    for (uint32_t d = 0; d < work.value_dim; ++d) out[d] += t.vector[1][d];
  }
  const double log2_sum = static_cast<double>(largest) + __builtin_log2(static_cast<double>(sum));
  work.lse[index] = static_cast<float>(log2_sum * 0.69314718055994530942);
  return static_cast<float>(log2_sum);
}

}  // namespace

size_t attend_scratch_bytes(uint32_t key_dim, uint32_t value_dim, uint32_t /*max_rows: a tile has its size*/) {
  Tile t;
  return carve_tile(nullptr, round_up(key_dim, kDimUnit), round_up(value_dim, kDimUnit), t) + 64;
}

void attend_rows(const AttendWork& work, void* scratch) {
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  memory += -reinterpret_cast<uintptr_t>(memory) & 63;
  Tile t;
  carve_tile(memory, round_up(work.key_dim, kDimUnit), round_up(work.value_dim, kDimUnit), t);
  if (work.n_blocks > 0) prepare_tables(*work.layout, *t.tables);
  for (uint32_t i = 0; i < work.n_voters; ++i)
    for (uint64_t j = 0; j < vote_line(work); ++j) work.votes[i * work.vote_stride + j] = 0.0f;

  const uint64_t n_rows = uint64_t{work.n_new} * work.group;
  for (uint64_t first = 0; first < n_rows; first += kTileRows) {
    begin_tile(work, t, first, static_cast<uint32_t>(n_rows - first < kTileRows ? n_rows - first : kTileRows));
    for (uint32_t b = 0; b < work.n_blocks; ++b) attend_block(work, t, work.blocks[b]);
    attend_exact(work, t);
    float base2_lse[kTileRows];
    for (uint32_t r = 0; r < t.n_rows; ++r) base2_lse[r] = finish_row(work, t, r, first + r);
    if (work.n_voters > 0) cast_votes(work, t, base2_lse);
  }
}

}  // namespace oscar::OSCAR_ISA
