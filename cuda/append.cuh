// Kernels that store exact rows: new ones from the step's tensors, and those of an accepted path to their new places.
// They carry the votes that belong to the rows along.
#pragma once
#include "append.h"
#include "ptx.cuh"

namespace oscar::cuda {

inline constexpr uint32_t kAppendThreads = 256, kPiece = 8;  // a thread moves 8 elements: 16 bytes of BF16

// As f32_to_bf16 of format/bf16.h, which the bytes of the host's cache come from: the hardware's conversion has another
// NaN.
__device__ __forceinline__ uint32_t bf16_bits(uint32_t f32) {
  if ((f32 & 0x7fffffffu) > 0x7f800000u) return f32 >> 16 | 0x40u;
  return (f32 + 0x7fffu + (f32 >> 16 & 1u)) >> 16;
}

__device__ __forceinline__ uint32_t f32_bits_of_f16(uint32_t f16) {
  if ((f16 & 0x7fffu) >= 0x7c00u) return (f16 & 0x8000u) << 16 | 0x7f800000u | (f16 & 0x3ffu) << 13;
  return __float_as_uint(__half2float(__ushort_as_half(static_cast<uint16_t>(f16))));
}

__device__ __forceinline__ uint32_t pack_halves(uint32_t low, uint32_t high) { return low | high << 16; }

__device__ __forceinline__ uint32_t bf16_pair_of_f16(uint32_t pair) {
  return pack_halves(bf16_bits(f32_bits_of_f16(pair & 0xffffu)), bf16_bits(f32_bits_of_f16(pair >> 16)));
}

// Elements at .. at + 7 in BF16. `whole`: every piece of the tensor lies on 16 bytes.
__device__ __forceinline__ uint4 load_piece(const TensorView& t, int64_t at, bool whole) {
  if (t.dtype == Dtype::kF32) {
    const uint32_t* from = static_cast<const uint32_t*>(t.data) + at;
    uint32_t x[kPiece];
    if (whole) {
      const uint4 a = *reinterpret_cast<const uint4*>(from), b = *reinterpret_cast<const uint4*>(from + 4);
      x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
    } else {
#pragma unroll
      for (uint32_t e = 0; e < kPiece; ++e) x[e] = from[e];
    }
    return make_uint4(pack_halves(bf16_bits(x[0]), bf16_bits(x[1])), pack_halves(bf16_bits(x[2]), bf16_bits(x[3])),
                      pack_halves(bf16_bits(x[4]), bf16_bits(x[5])), pack_halves(bf16_bits(x[6]), bf16_bits(x[7])));
  }
  const uint16_t* from = static_cast<const uint16_t*>(t.data) + at;
  uint4 y;
  if (whole) {
    y = *reinterpret_cast<const uint4*>(from);
  } else {
    uint32_t x[kPiece];
#pragma unroll
    for (uint32_t e = 0; e < kPiece; ++e) x[e] = from[e];
    y = make_uint4(pack_halves(x[0], x[1]), pack_halves(x[2], x[3]), pack_halves(x[4], x[5]), pack_halves(x[6], x[7]));
  }
  if (t.dtype == Dtype::kBF16) return y;
  return make_uint4(bf16_pair_of_f16(y.x), bf16_pair_of_f16(y.y), bf16_pair_of_f16(y.z), bf16_pair_of_f16(y.w));
}

struct AppendLaunch {
  AppendArgs args;
  uint32_t n_copy_ctas;  // they come first; then one for each part and KV head, where there are votes
  bool k_whole, v_whole;
};

// A row has (key_dim + value_dim) / 8 pieces for each KV head: all pieces of keys, then all of values.
__device__ __forceinline__ void append_piece(const AppendLaunch& l, uint32_t piece) {
  const AppendArgs& a = l.args;
  const ClassView& c = a.c;
  const uint32_t key_pieces = c.key_dim / kPiece, value_pieces = c.value_dim / kPiece;
  const uint32_t row_pieces = c.n_kv_heads * (key_pieces + value_pieces), row = piece / row_pieces;
  bool stores = row < a.n_rows;
  uint32_t i = piece % row_pieces, token = 0, page = kNoPage, uses_scratch = 0;
  if (stores) {
    const PartWork& p = a.parts[a.n_parts == a.n_rows ? row : part_of_row(a.parts, a.n_parts, row)];
    stores = p.stores();
    token = p.base + (row - p.row);
    uses_scratch = p.uses_scratch;
    if (stores && (token >= p.persist_from || token < c.n_sink)) page = c.pages[p.page_begin + token / kPageTokens];
  }
  wait_for_previous_kernels();  // whoever stores nothing too: who waits for this kernel waits for those before it
  if (!stores) return;

  const bool is_value = i >= c.n_kv_heads * key_pieces;
  if (is_value) i -= c.n_kv_heads * key_pieces;
  const uint32_t pieces = is_value ? value_pieces : key_pieces, dim = pieces * kPiece;
  const uint32_t head = i / pieces, at = i % pieces * kPiece;
  const TensorView& t = is_value ? a.v : a.k;
  const uint4 x = load_piece(t, int64_t{row} * t.row_stride + int64_t{head} * t.head_stride + at,
                             is_value ? l.v_whole : l.k_whole);
  if (uses_scratch) {
    uint16_t* to = is_value ? a.scratch.values : a.scratch.keys;
    *reinterpret_cast<uint4*>(to + (uint64_t{row} * c.n_kv_heads + head) * dim + at) = x;
  }
  if (page == kNoPage) return;
  uint16_t* to = is_value ? c.page_values(page, a.first_head + head) : c.page_keys(page, a.first_head + head);
  *reinterpret_cast<uint4*>(to + token % kPageTokens * dim + at) = x;
}

// HostEngine::clear_votes of one part and KV head.
__device__ __forceinline__ void clear_votes(const AppendArgs& a, const PartWork& p, uint32_t head) {
  const ClassView& c = a.c;
  const uint32_t class_head = a.first_head + head, end = p.end();
  const bool is_big = p.is_big(c.max_rollback);
  float* open = c.scores(p.scores, class_head, is_big ? p.side ^ 1 : p.side);
  for (uint32_t token = max(max(p.persist_from, p.next_packed_end), p.base) + threadIdx.x; token < end;
       token += kAppendThreads)
    open[token % c.n_scores] = 0.0f;
  const uint32_t n_words = c.n_line / 2;  // n_line is even
  for (uint32_t query = is_big ? p.base + p.n_sure() - c.max_rollback : p.base; query < end; ++query) {
    uint32_t* line = reinterpret_cast<uint32_t*>(c.line(p.scores, class_head, query));
    for (uint32_t i = threadIdx.x; i < n_words; i += kAppendThreads) line[i] = 0;
  }
  if (p.n_chunk_blocks == 0) return;
  // Such a step is big: the side read here is not the one written above.
  const float* committed = c.scores(p.scores, class_head, p.side);
  float* chunk = a.scratch.chunk_votes + head * a.scratch.chunk_stride + p.vote_offset;
  for (uint32_t token = p.packed_end + threadIdx.x; token < end; token += kAppendThreads)
    chunk[token - p.packed_end] = token < p.base ? committed[token % c.n_scores] : 0.0f;
}

__global__ void __launch_bounds__(kAppendThreads) append_kernel(const __grid_constant__ AppendLaunch l) {
  launch_dependents();
  if (blockIdx.x < l.n_copy_ctas) {
    append_piece(l, blockIdx.x * kAppendThreads + threadIdx.x);
    return;
  }
  const uint32_t index = blockIdx.x - l.n_copy_ctas, n_kv_heads = l.args.c.n_kv_heads;
  const PartWork& p = l.args.parts[index / n_kv_heads];
  wait_for_previous_kernels();
  if (p.stores()) clear_votes(l.args, p, index % n_kv_heads);
}

// ---- accepted paths

inline constexpr uint32_t kMoveThreads = 128;

// Row base + indices[i] to base + i: a thread has the same 8 elements of every row, so its own order suffices.
__device__ __forceinline__ void move_piece(const MoveArgs& a, uint32_t class_head, uint32_t from, uint32_t to,
                                           uint32_t piece) {
  const ClassView& c = a.c;
  const uint32_t key_pieces = c.key_dim / kPiece;
  const bool is_value = piece >= key_pieces;
  const uint32_t dim = is_value ? c.value_dim : c.key_dim, at = (is_value ? piece - key_pieces : piece) * kPiece;
  const auto row = [&](uint32_t token) {
    const uint32_t page = c.pages[a.page_begin + token / kPageTokens];
    uint16_t* rows = is_value ? c.page_values(page, class_head) : c.page_keys(page, class_head);
    return reinterpret_cast<uint4*>(rows + token % kPageTokens * dim + at);
  };
  *row(to) = *row(from);
}

// HostEngine::move_votes for one accepted token. The line that is read was not written before; the places that the two
// loops write differ.
__device__ __forceinline__ void move_votes(const MoveArgs& a, uint32_t class_head, uint32_t i) {
  const ClassView& c = a.c;
  const uint32_t from = a.base + a.indices[i], to = a.base + i;
  if (threadIdx.x == 0) {
    float* scores = c.scores(a.scores, class_head, a.side);
    scores[to % c.n_scores] = scores[from % c.n_scores];
  }
  const uint16_t* source = c.line(a.scores, class_head, from);
  uint16_t* target = c.line(a.scores, class_head, to);
  for (uint32_t token = (to > c.n_line ? to - c.n_line : 0) + threadIdx.x; token < a.base; token += kMoveThreads)
    target[token % c.n_line] = source[token % c.n_line];
  for (uint32_t m = threadIdx.x; m < i; m += kMoveThreads)
    target[(a.base + m) % c.n_line] = source[(a.base + a.indices[m]) % c.n_line];
}

// One CTA for each head of the class.
__global__ void __launch_bounds__(kMoveThreads) move_kernel(const __grid_constant__ MoveArgs a) {
  const uint32_t class_head = blockIdx.x, n_pieces = (a.c.key_dim + a.c.value_dim) / kPiece;
  for (uint32_t i = 0; i < a.n; ++i) {
    const uint32_t from = a.base + a.indices[i], to = a.base + i;
    if (from == to) continue;
    if (threadIdx.x < n_pieces) move_piece(a, class_head, from, to, threadIdx.x);
    if (!a.c.has_votes) continue;
    move_votes(a, class_head, i);
    __syncthreads();  // a later token may be written to what this one was read from
  }
}

}  // namespace oscar::cuda
