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

// Base-2 logits of the n visible tokens for kRows rows from r on: p[kRows][kChunkTokens]; what lies behind the n-th is
// -infinity. Four tokens at a time: the last of them may be repeats.
template <uint32_t kRowsAtOnce>
inline void exact_logits(const AttendWork& work, const Tile& t, uint32_t r, const uint8_t* index, uint32_t n,
                         float (*p)[kChunkTokens]) {
  const float* query = t.query + r * t.key_pad;
  for (uint32_t i = 0; i < n; i += 4) {
    const float* key[4];
    for (uint32_t j = 0; j < 4; ++j) key[j] = t.chunk_keys + index[i + j < n ? i + j : n - 1] * t.key_pad;
    F32 sum[kRowsAtOnce][4] = {};
    for (uint32_t d = 0; d < t.key_pad; d += kLanes)
      for (uint32_t row = 0; row < kRowsAtOnce; ++row) {
        const F32 q = load(query + row * t.key_pad + d);
        for (uint32_t j = 0; j < 4; ++j) sum[row][j] = multiply_add(q, load(key[j] + d), sum[row][j]);
      }
    for (uint32_t row = 0; row < kRowsAtOnce; ++row)
      sum_lanes_4(sum[row][0], sum[row][1], sum[row][2], sum[row][3], p[row] + i);
  }
  const float scale = work.softcap > 0.0f ? work.scale : work.scale * kLog2e;
  for (uint32_t row = 0; row < kRowsAtOnce; ++row) {
    for (uint32_t i = round_up(n, 4); i < kChunkTokens; ++i) p[row][i] = 0.0f;
    for (uint32_t i = 0; i < n; i += kLanes) {
      F32 x = load(p[row] + i) * scale;
      if (work.softcap > 0.0f) x = softcap_lanes(x, work.softcap) * kLog2e;
      store(p[row] + i, x);
    }
    for (uint32_t i = n; i < kChunkTokens; ++i) p[row][i] = kMinusInfinity;
  }
}

// out[row][0, kVectors * kLanes) = out * old_part + sum_i p_i value_i, tokens in ascending order.
template <uint32_t kRowsAtOnce, uint32_t kVectors>
inline void add_values(const float* values, uint32_t pad, const uint8_t* index, uint32_t n,
                       const float (*p)[kChunkTokens], const float* old_part, float* out) {
  F32 sum[kRowsAtOnce][kVectors];
  for (uint32_t row = 0; row < kRowsAtOnce; ++row)
    for (uint32_t v = 0; v < kVectors; ++v) sum[row][v] = load(out + row * pad + v * kLanes) * old_part[row];
  for (uint32_t i = 0; i < n; ++i) {
    const float* value = values + index[i] * pad;
    for (uint32_t row = 0; row < kRowsAtOnce; ++row)
      for (uint32_t v = 0; v < kVectors; ++v)
        sum[row][v] = multiply_add(splat(p[row][i]), load(value + v * kLanes), sum[row][v]);
  }
  for (uint32_t row = 0; row < kRowsAtOnce; ++row)
    for (uint32_t v = 0; v < kVectors; ++v) store(out + row * pad + v * kLanes, sum[row][v]);
}

// The chunk in the partial softmax of kRowsAtOnce rows of one token, from r on.
template <uint32_t kRowsAtOnce>
inline void attend_chunk(const AttendWork& work, const Tile& t, uint32_t r, const uint8_t* index, uint32_t n) {
  alignas(64) float p[kRowsAtOnce][kChunkTokens];
  float old_part[kRowsAtOnce];
  exact_logits<kRowsAtOnce>(work, t, r, index, n, p);
  for (uint32_t row = 0; row < kRowsAtOnce; ++row) {
    F32 top = splat(kMinusInfinity), sum{};
    for (uint32_t i = 0; i < kChunkTokens; i += kLanes) top = larger(load(p[row] + i), top);
    const float chunk_largest = largest_lane(top), old_largest = t.exact.largest[r + row];
    const float largest = old_largest > chunk_largest ? old_largest : chunk_largest;
    const float reference = softmax_reference(largest);
    for (uint32_t i = 0; i < kChunkTokens; i += kLanes) {
      const F32 weight = exp2_lanes(load(p[row] + i) - reference);
      store(p[row] + i, weight);
      sum += weight;
    }
    old_part[row] = exp2_scalar(old_largest - reference);
    t.exact.largest[r + row] = largest;
    t.exact.sum[r + row] = t.exact.sum[r + row] * old_part[row] + sum_lanes(sum);
  }
  constexpr uint32_t kVectors = kLanes == 4 ? 2 : 32 / kLanes;  // what the registers hold
  for (uint32_t d = 0; d < t.value_pad; d += kVectors * kLanes)
    add_values<kRowsAtOnce, kVectors>(t.chunk_values + d, t.value_pad, index, n, p, old_part,
                                      t.exact.out + r * t.value_pad + d);
}

// Calls f with the first row of each token of the tile, from row `from` on, and their number.
template <typename F>
inline void for_each_token(const Tile& t, uint32_t from, F f) {
  for (uint32_t r = from, n; r < t.n_rows; r += n) {
    for (n = 1; r + n < t.n_rows && t.row[r + n].token == t.row[r].token;) ++n;
    f(r, n);
  }
}

// Calls f<4>, f<2> and f<1> with the first of so many rows, until all rows [r, last) are done.
template <typename F>
inline void by_fours(uint32_t r, uint32_t last, F f) {
  for (; r + 4 <= last; r += 4) f.template operator()<4>(r);
  if (r + 2 <= last) f.template operator()<2>(r), r += 2;
  if (r < last) f.template operator()<1>(r);
}

inline void attend_exact(const AttendWork& work, const Tile& t) {
  const uint64_t end = t.row[t.n_rows - 1].position + 1;  // the causal upper part is never read
  ChunkReader chunk(work, window_begin(work, t.row[0].position), end);
  while (chunk.next()) {
    widen_rows(chunk.key, chunk.n, work.key_dim, t.key_pad, t.chunk_keys);
    widen_rows(chunk.value, chunk.n, work.value_dim, t.value_pad, t.chunk_values);
    for_each_token(t, 0, [&](uint32_t r, uint32_t n_rows) {
      uint8_t index[kChunkTokens];
      const uint32_t n = visible_tokens(work, chunk, t.row[r], index);
      if (n == 0) return;
      by_fours(r, r + n_rows,
               [&]<uint32_t kRowsAtOnce>(uint32_t row) { attend_chunk<kRowsAtOnce>(work, t, row, index, n); });
    });
  }
}

// Adds the attention mass that kRowsAtOnce rows of one token give to the chunk. A row whose result is not finite has no
// vote.
template <uint32_t kRowsAtOnce>
inline void vote_chunk(const AttendWork& work, const Tile& t, const ChunkReader& chunk, uint32_t r,
                       const uint8_t* index, uint32_t n, const float* base2_lse) {
  alignas(64) float p[kRowsAtOnce][kChunkTokens];
  exact_logits<kRowsAtOnce>(work, t, r, index, n, p);
  float* line = work.votes + (t.row[r].token - (work.n_new - work.n_voters)) * work.vote_stride;
  for (uint32_t row = 0; row < kRowsAtOnce; ++row) {
    if (!(__builtin_fabsf(base2_lse[r + row]) < __builtin_inff())) continue;
    for (uint32_t i = 0; i < kChunkTokens; i += kLanes)
      store(p[row] + i, exp2_lanes(load(p[row] + i) - base2_lse[r + row]));
    for (uint32_t i = 0; i < n; ++i) line[chunk.position[index[i]] - work.vote_first] += p[row][i];
  }
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
    for_each_token(t, from, [&](uint32_t r, uint32_t n_rows) {
      uint8_t index[kChunkTokens];
      uint32_t n = visible_tokens(work, chunk, t.row[r], index);
      if (n > 0 && chunk.position[index[n - 1]] == t.row[r].position) --n;
      if (n == 0) return;
      by_fours(r, r + n_rows, [&]<uint32_t kRowsAtOnce>(uint32_t row) {
        vote_chunk<kRowsAtOnce>(work, t, chunk, row, index, n, base2_lse);
      });
    });
  }
}

}  // namespace oscar::OSCAR_ISA
