// Attention of a tile of rows over exact tokens, in chunks of 32 consecutive positions. Chunks are cut by position, so
// what a row adds up, and in which order, does not depend on the rows beside it nor on how the tokens came.
//
// A token that a row does not see is skipped, never multiplied by zero: it may be NaN.
#pragma once
#include "attention/exp2.h"
#include "attention/tile.h"
#include "format/bf16.h"

namespace oscar::OSCAR_ISA {

// Walks the exact rows of a work in ascending order, a chunk at a time.
struct ChunkReader {
  const AttendWork& work;
  uint64_t begin, end;  // positions wanted
  uint32_t span = 0, at = 0;
  uint32_t n = 0;  // tokens of the chunk
  uint64_t position[kChunkTokens];
  const uint16_t* key[kChunkTokens];
  const uint16_t* value[kChunkTokens];

  inline ChunkReader(const AttendWork& w, uint64_t b, uint64_t e) : work(w), begin(b), end(e) {}

  inline bool next() {
    n = 0;
    while (span < work.n_rows) {
      const RowSpan& s = work.rows[span];
      if (at == 0 && s.position < begin)
        at = begin - s.position < s.n ? static_cast<uint32_t>(begin - s.position) : s.n;
      for (; at < s.n; ++at, ++n) {
        const uint64_t p = s.position + at;
        if (p >= end || (n > 0 && p / kChunkTokens != position[0] / kChunkTokens)) return n > 0;
        position[n] = p;
        key[n] = s.key + uint64_t{at} * s.key_stride;
        value[n] = s.value + uint64_t{at} * s.value_stride;
      }
      ++span;
      at = 0;
    }
    return n > 0;
  }
};

inline void widen_rows(const uint16_t* const* source, uint32_t n, uint32_t dim, uint32_t pad, float* out) {
  for (uint32_t i = 0; i < n; ++i) {
    const uint16_t* __restrict__ from = source[i];
    float* __restrict__ to = out + i * pad;
    for (uint32_t d = 0; d < dim; ++d) to[d] = bf16_to_f32(from[d]);
    for (uint32_t d = dim; d < pad; ++d) to[d] = 0.0f;
  }
}

// Indices within the chunk of the tokens that the row sees; work.h states the rule.
inline uint32_t visible_tokens(const AttendWork& work, const ChunkReader& chunk, const QueryRow& row, uint8_t* index) {
  const uint64_t begin = window_begin(work, row.position);
  uint32_t n = 0;
  for (uint32_t i = 0; i < chunk.n; ++i) {
    const uint64_t p = chunk.position[i];
    if (p > row.position || p < begin) continue;
    if (work.mask && p >= work.first_position && p != row.position &&
        work.mask[row.token * work.mask_stride + (p - work.first_position)] == 0)
      continue;
    index[n++] = static_cast<uint8_t>(i);
  }
  return n;
}

// Base-2 logits of the n visible tokens; logits is filled up to a multiple of 4 with repeats of the last.
inline void exact_logits(const AttendWork& work, const Tile& t, const float* query, const uint8_t* index, uint32_t n,
                         float* logits) {
  for (uint32_t i = 0; i < n; i += 4) {
    const float* key[4];
    for (uint32_t j = 0; j < 4; ++j) key[j] = t.chunk_keys + index[i + j < n ? i + j : n - 1] * t.key_pad;
    F32 s0{}, s1{}, s2{}, s3{};
    for (uint32_t d = 0; d < t.key_pad; d += kLanes) {
      const F32 q = load(query + d);
      s0 = multiply_add(q, load(key[0] + d), s0);
      s1 = multiply_add(q, load(key[1] + d), s1);
      s2 = multiply_add(q, load(key[2] + d), s2);
      s3 = multiply_add(q, load(key[3] + d), s3);
    }
    sum_lanes_4(s0, s1, s2, s3, logits + i);
  }
  const float scale = work.softcap > 0.0f ? work.scale : work.scale * kLog2e;
  for (uint32_t i = 0; i < kChunkTokens; i += kLanes) {
    F32 x = load(logits + i) * scale;
    if (work.softcap > 0.0f) x = softcap_lanes(x, work.softcap) * kLog2e;
    store(logits + i, x);
  }
}

// out[0, N * kLanes) = out * old_part + sum_i p_i value_i, tokens in ascending order.
template <uint32_t N>
inline void add_values(const float* values, uint32_t pad, const uint8_t* index, uint32_t n, const float* p,
                       float old_part, float* out) {
  F32 sum[N];
  for (uint32_t v = 0; v < N; ++v) sum[v] = load(out + v * kLanes) * old_part;
  for (uint32_t i = 0; i < n; ++i) {
    const F32 weight = splat(p[i]);
    const float* value = values + index[i] * pad;
    for (uint32_t v = 0; v < N; ++v) sum[v] = multiply_add(weight, load(value + v * kLanes), sum[v]);
  }
  for (uint32_t v = 0; v < N; ++v) store(out + v * kLanes, sum[v]);
}

inline void attend_chunk(const AttendWork& work, const Tile& t, const ChunkReader& chunk, uint32_t r) {
  uint8_t index[kChunkTokens];
  const uint32_t n = visible_tokens(work, chunk, t.row[r], index);
  if (n == 0) return;
  float p[kChunkTokens] = {};
  exact_logits(work, t, t.query + r * t.key_pad, index, n, p);
  for (uint32_t i = n; i < kChunkTokens; ++i) p[i] = kMinusInfinity;
  F32 top = splat(kMinusInfinity), sum{};
  for (uint32_t i = 0; i < kChunkTokens; i += kLanes) top = larger(load(p + i), top);
  const float chunk_largest = largest_lane(top);
  const float old_largest = t.exact.largest[r];
  const float largest = old_largest > chunk_largest ? old_largest : chunk_largest;
  const float reference = softmax_reference(largest);
  for (uint32_t i = 0; i < kChunkTokens; i += kLanes) {
    const F32 weight = exp2_lanes(load(p + i) - reference);
    store(p + i, weight);
    sum += weight;
  }
  const float old_part = exp2_scalar(old_largest - reference);
  t.exact.largest[r] = largest;
  t.exact.sum[r] = t.exact.sum[r] * old_part + sum_lanes(sum);
  float* out = t.exact.out + r * t.value_pad;
  uint32_t d = 0;
  for (; d + 64 <= t.value_pad; d += 64)
    add_values<64 / kLanes>(t.chunk_values + d, t.value_pad, index, n, p, old_part, out + d);
  for (; d < t.value_pad; d += 32)
    add_values<32 / kLanes>(t.chunk_values + d, t.value_pad, index, n, p, old_part, out + d);
}

inline void attend_exact(const AttendWork& work, const Tile& t) {
  const uint64_t end = t.row[t.n_rows - 1].position + 1;  // the causal upper part is never read
  ChunkReader chunk(work, window_begin(work, t.row[0].position), end);
  while (chunk.next()) {
    widen_rows(chunk.key, chunk.n, work.key_dim, t.key_pad, t.chunk_keys);
    widen_rows(chunk.value, chunk.n, work.value_dim, t.value_pad, t.chunk_values);
    for (uint32_t r = 0; r < t.n_rows; ++r) attend_chunk(work, t, chunk, r);
  }
}

// Adds the attention mass that one row gives to the chunk. A row whose result is not finite has no vote.
inline void vote_chunk(const AttendWork& work, const Tile& t, const ChunkReader& chunk, uint32_t r, float base2_lse) {
  const QueryRow& row = t.row[r];
  uint8_t index[kChunkTokens];
  uint32_t n = visible_tokens(work, chunk, row, index);
  if (n > 0 && chunk.position[index[n - 1]] == row.position) --n;
  if (n == 0) return;
  float p[kChunkTokens] = {};
  exact_logits(work, t, t.query + r * t.key_pad, index, n, p);
  for (uint32_t i = 0; i < kChunkTokens; i += kLanes) store(p + i, exp2_lanes(load(p + i) - base2_lse));
  float* line = work.votes + (row.token - (work.n_new - work.n_voters)) * work.vote_stride;
  for (uint32_t i = 0; i < n; ++i) line[chunk.position[index[i]] - work.vote_first] += p[i];
}

// base2_lse: [n_rows]. Rows of a token come in ascending order, also where a tile ends between them, so every sum over
// the group has the same order.
inline void cast_votes(const AttendWork& work, const Tile& t, const float* base2_lse) {
  const uint32_t first_voter = work.n_new - work.n_voters;
  uint32_t from = 0;
  while (from < t.n_rows && t.row[from].token < first_voter) ++from;
  if (from == t.n_rows) return;
  const uint64_t seen = window_begin(work, t.row[from].position), end = t.row[t.n_rows - 1].position;
  ChunkReader chunk(work, seen > work.vote_first ? seen : work.vote_first, end);
  while (chunk.next()) {
    widen_rows(chunk.key, chunk.n, work.key_dim, t.key_pad, t.chunk_keys);
    for (uint32_t r = from; r < t.n_rows; ++r)
      if (__builtin_fabsf(base2_lse[r]) < __builtin_inff()) vote_chunk(work, t, chunk, r, base2_lse[r]);
  }
}

}  // namespace oscar::OSCAR_ISA
