// Votes of a step's queries for undecided tokens, and what becomes of votes later.
//
// A warp has 8 or 16 tokens of one KV head and meets all voters there: the keys stay in registers as operands of the
// MMAs, query rows go by 16 at a time, and what a token receives is added up by one lane in ascending query order.
// Logits are products of BF16 with FP32 sums; other queries are split into two BF16 terms. So a vote's bits depend on
// its query rows, their log-sum-exp and its token, and on nothing else in the step.
#pragma once
#include "append.h"
#include "ptx.cuh"
#include "query.cuh"
#include "state.cuh"

namespace oscar::cuda {

inline constexpr uint32_t kVoteWarps = 4, kVoteThreads = kVoteWarps * 32;
inline constexpr uint32_t kVoteRows = 64;  // query rows between two additions: whole voters

struct VoteLaunch {
  VoteArgs args;
  uint32_t n_warps;         // that share the tokens of one part and KV head
  uint32_t voters_at_once;  // kVoteRows / group
  uint32_t voter_factor;    // r * voter_factor >> 16 is r / group for r < kVoteRows
};

// The voters of one part, and which tokens they vote for (HostEngine::describe and add_votes).
struct Voters {
  uint32_t n, first;         // how many, and the position of the first one
  uint32_t vote_first, end;  // tokens [vote_first, end - 1) get votes
  uint32_t sure_end;         // queries from here on may be rejected
  uint32_t first_line;       // votes of the queries from here on go to the ring, others to the open side
  uint32_t open_from;        // tokens from here on have a place on the open side
  bool any_horizon;          // all voters count, however far away
};

__device__ __forceinline__ Voters voters_of(const PartWork& p, const ClassView& c) {
  Voters v;
  v.n = min(p.n_sure(), kMaxVoters) + p.n_draft;
  v.end = p.end();
  v.first = v.end - v.n;
  v.sure_end = p.base + p.n_sure();
  v.any_horizon = p.uses_scratch != 0;
  const uint32_t horizon = v.first > c.n_recent ? v.first - c.n_recent : 0;
  v.vote_first = v.any_horizon ? p.packed_end : max(p.packed_end, horizon);
  v.first_line = p.is_big(c.max_rollback) ? v.sure_end - c.max_rollback : p.base;
  v.open_from = p.next_packed_end;
  return v;
}

// 8 elements of a query row as BF16: x = high + low.
struct QueryPiece {
  uint4 high, low;
};

__device__ __forceinline__ uint32_t bf16_pair(float x, float y) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float low_of(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_of(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// How queries lie: 8 elements from a multiple of 8 on are on 16 bytes, or they are loaded one by one. Compiled apart: a
// branch at every load would keep the loads from overlapping.
enum class QueryLoad { kBF16, kF16, kF32, kScalar };

template <QueryLoad kLoad>
__device__ __forceinline__ QueryPiece load_query(const TensorView& q, int64_t at) {
  QueryPiece piece{};
  if constexpr (kLoad == QueryLoad::kBF16) {  // as it is
    piece.high = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(q.data) + at);
    return piece;
  }
  float x[8];
  if constexpr (kLoad == QueryLoad::kF32) {
    const float4* from = reinterpret_cast<const float4*>(static_cast<const float*>(q.data) + at);
    const float4 a = from[0], b = from[1];
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
  } else if constexpr (kLoad == QueryLoad::kF16) {
    const uint4 raw = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(q.data) + at);
    const __half2* halves = reinterpret_cast<const __half2*>(&raw);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float2 pair = __half22float2(halves[e]);
      x[2 * e] = pair.x, x[2 * e + 1] = pair.y;
    }
  } else {
#pragma unroll
    for (int e = 0; e < 8; ++e) x[e] = load_element(q, at + e);
  }
  uint32_t high[4], low[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    high[e] = bf16_pair(x[2 * e], x[2 * e + 1]);
    low[e] = bf16_pair(x[2 * e] - low_of(high[e]), x[2 * e + 1] - high_of(high[e]));
  }
  piece.high = make_uint4(high[0], high[1], high[2], high[3]);
  piece.low = make_uint4(low[0], low[1], low[2], low[3]);
  return piece;
}

// c += q k over 32 dims. Lane 4 g + i has dims 8 i .. 8 i + 7 of query rows g and g + 8 and of token g: both operands
// take them in the same order, so it need not be that of the dims.
__device__ __forceinline__ void add_products(float (&c)[4], const uint4& row, const uint4& row_8, const uint4& key) {
  mma_bf16(c, make_uint4(row.x, row_8.x, row.y, row_8.y), key.x, key.y);
  mma_bf16(c, make_uint4(row.z, row_8.z, row.w, row_8.w), key.z, key.w);
}

// One query row as a lane sees it.
struct VoteRow {
  int64_t q;  // first element
  uint32_t position;
  const uint8_t* mask;  // over the new tokens, or null
  float base2_lse;
  bool votes;  // the row exists and its result is finite
};

template <int kDim, int kTiles, QueryLoad kLoad>
struct VoteCast {
  static constexpr uint32_t kTokens = 8 * kTiles;           // of a warp
  static constexpr uint32_t kPitch = kTiles == 1 ? 8 : 24;  // floats of a row of `mass`: no bank conflicts
  static constexpr uint32_t kChunks = (kDim + 31) / 32;
  static constexpr uint32_t kRowTiles = kTiles == 2 && kDim <= 128 ? 2 : 1;  // at a time: hides what the loads take

  const VoteLaunch& l;
  const PartWork& p;
  const Voters v;
  const uint32_t head, lane;
  float* const mass;  // [kVoteRows][kPitch], of this warp: softmax weights by row and token
  uint4 key[kTiles][kChunks];
  uint32_t first;      // token of column 0
  float logit_factor;  // to base-2 logits; before a softcap
  Softcap cap;

  __device__ __forceinline__ VoteCast(const VoteLaunch& launch, const PartWork& part, uint32_t kv_head, float* m)
      : l(launch), p(part), v(voters_of(part, launch.args.c)), head(kv_head), lane(threadIdx.x & 31), mass(m),
        logit_factor(launch.args.scale * kLog2e), cap{2.0f / launch.args.softcap, launch.args.softcap * kLog2e} {}

  __device__ __forceinline__ void load_keys() {
    const ClassView& c = l.args.c;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const uint32_t token = first + n * 8 + lane / 4;
      const uint16_t* row = nullptr;
      if (token + 1 < v.end) {
        if (p.uses_scratch && token >= p.base) {
          row = l.args.scratch.keys + (uint64_t{p.row + (token - p.base)} * c.n_kv_heads + head) * kDim;
        } else {
          const uint32_t page = c.pages[p.page_begin + token / kPageTokens];
          row = c.page_keys(page, l.args.first_head + head) + token % kPageTokens * kDim;
        }
      }
#pragma unroll
      for (uint32_t k = 0; k < kChunks; ++k) {
        const uint32_t d = k * 32 + lane % 4 * 8;
        key[n][k] = row && d < kDim ? *reinterpret_cast<const uint4*>(row + d) : make_uint4(0, 0, 0, 0);
      }
    }
  }

  // Row `r` of the chunk of n_voters from first_voter on.
  __device__ __forceinline__ VoteRow row_of(uint32_t first_voter, uint32_t n_voters, uint32_t r) const {
    const VoteArgs& a = l.args;
    const bool exists = r * l.voter_factor >> 16 < n_voters;
    if (!exists) r = 0;  // loaded all the same: without branches the loads overlap
    const uint32_t voter = r * l.voter_factor >> 16;
    VoteRow row;
    row.position = v.first + first_voter + voter;
    const int64_t tensor_row = int64_t{p.row} + (row.position - p.base);
    const int64_t q_head = int64_t{head} * a.group + (r - voter * a.group);
    row.q = tensor_row * a.q.row_stride + q_head * a.q.head_stride;
    row.mask = a.mask ? a.mask + tensor_row * a.mask_row_stride : nullptr;
    const float lse = a.lse[tensor_row * a.lse_row_stride + q_head];
    row.votes = exists & (fabsf(lse) < __int_as_float(0x7f800000));
    row.base2_lse = lse * kLog2e;
    return row;
  }

  __device__ __forceinline__ float weight(const VoteRow& row, uint32_t token, float logit) const {
    const uint32_t distance = row.position - token;  // wraps where the token is a later one
    bool sees = row.votes & (token < row.position) & ((l.args.window == 0) | (distance < l.args.window));
    if (row.mask && sees && token >= p.base) sees = row.mask[token - p.base] != 0;
    float x = logit * logit_factor;
    if (l.args.softcap > 0.0f) x = cap(x);
    const float y = exp2_approx(x - row.base2_lse);
    return sees & (y > 0.0f) ? y : 0.0f;  // NaN: a key of minus infinity times a low half of 0
  }

  // Softmax weights of kRowTiles times 16 rows of the chunk, from row 16 tile on.
  __device__ __forceinline__ void weigh(uint32_t first_voter, uint32_t n_voters, uint32_t tile) {
    const uint32_t r = tile * 16 + lane / 4;
    VoteRow row[2 * kRowTiles];
#pragma unroll
    for (uint32_t i = 0; i < 2 * kRowTiles; ++i) row[i] = row_of(first_voter, n_voters, r + 8 * i);
    float sum[kRowTiles][kTiles][4] = {};
#pragma unroll
    for (uint32_t k = 0; k < kChunks; ++k) {
      const uint32_t d = k * 32 + lane % 4 * 8;
      QueryPiece x[2 * kRowTiles];
#pragma unroll
      for (uint32_t i = 0; i < 2 * kRowTiles; ++i) {
        const bool inside = kDim % 32 == 0 || d < kDim;
        x[i] = load_query<kLoad>(l.args.q, row[i].q + (inside ? d : 0));
        if (!inside) x[i] = {};
      }
#pragma unroll
      for (uint32_t t = 0; t < kRowTiles; ++t)
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          add_products(sum[t][n], x[2 * t].high, x[2 * t + 1].high, key[n][k]);
          if constexpr (kLoad != QueryLoad::kBF16) add_products(sum[t][n], x[2 * t].low, x[2 * t + 1].low, key[n][k]);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < 2 * kRowTiles; ++i)
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const uint32_t column = n * 8 + lane % 4 * 2, token = first + column;
        const float* logits = sum[i / 2][n] + i % 2 * 2;
        *reinterpret_cast<float2*>(mass + (r + 8 * i) * kPitch + column) = make_float2(
            weight(row[i], token, logits[0]), weight(row[i], token + 1, logits[1]));
      }
  }

  // Votes of the chunk: each to its line, where it has one; rounded, in the row of the voter's first query head.
  __device__ __forceinline__ void sum_groups(uint32_t first_voter, uint32_t n_voters) {
    const ClassView& c = l.args.c;
    const uint32_t group = l.args.group, column = lane % kTokens, token = first + column;
    for (uint32_t i = lane / kTokens; i < n_voters; i += 32 / kTokens) {
      float* rows = mass + i * group * kPitch + column;
      float vote = rows[0];
#pragma unroll 4
      for (uint32_t h = 1; h < group; ++h) vote += rows[h * kPitch];
      const __half rounded = __float2half_rn(vote);
      rows[0] = __half2float(rounded);
      const uint32_t query = v.first + first_voter + i, reach = query > c.n_line ? query - c.n_line + 1 : 0;
      if (query >= v.first_line && token < query && token >= reach)
        c.line(p.scores, l.args.first_head + head, query)[token % c.n_line] = __half_as_ushort(rounded);
    }
  }

  // What the column's token has received in the chunk and on the open side.
  struct Sums {
    float chunk, open;
  };
  __device__ __forceinline__ void add(Sums& sums, uint32_t first_voter, uint32_t n_voters) const {
    const uint32_t n_recent = l.args.c.n_recent, token = first + lane % kTokens;
#pragma unroll 8
    for (uint32_t i = 0; i < n_voters; ++i) {
      const uint32_t query = v.first + first_voter + i;
      const float vote = mass[i * l.args.group * kPitch + lane % kTokens];  // 0 from the token's own query back
      const bool is_near = v.any_horizon || query - min(query, token) <= n_recent;
      sums.chunk += query < v.sure_end ? vote : 0.0f;
      sums.open += query < v.first_line && is_near ? vote : 0.0f;
    }
  }

  // All votes for tokens first .. first + kTokens - 1.
  __device__ __forceinline__ void cast(uint32_t first_token) {
    const VoteArgs& a = l.args;
    const ClassView& c = a.c;
    first = first_token;
    load_keys();
    const uint32_t token = first + lane % kTokens;
    const bool owns = lane < kTokens && token + 1 < v.end;
    float* chunk = nullptr;
    float* open = nullptr;
    if (owns && p.n_chunk_blocks > 0 && token < p.next_packed_end)
      chunk = a.scratch.chunk_votes + head * a.scratch.chunk_stride + p.vote_offset + (token - p.packed_end);
    if (owns && v.first < v.first_line && token >= v.open_from)
      open = c.scores(p.scores, a.first_head + head, p.side ^ 1) + token % c.n_scores;
    const bool adds = __any_sync(~0u, chunk || open);
    Sums sums{chunk ? *chunk : 0.0f, open ? *open : 0.0f};

    for (uint32_t i = 0; i < v.n; i += l.voters_at_once) {
      const uint32_t n = min(l.voters_at_once, v.n - i), last_query = v.first + i + n - 1;
      if (last_query <= first) continue;                                       // all of them come before the tokens
      if (a.window && v.first + i >= first + (kTokens - 1) + a.window) break;  // out of their sight, and of the rest's
      for (uint32_t tile = 0; tile * 16 < n * a.group; tile += kRowTiles) weigh(i, n, tile);
      __syncwarp();
      sum_groups(i, n);
      __syncwarp();
      if (adds) add(sums, i, n);
      __syncwarp();
    }
    if (chunk) *chunk = sums.chunk;
    if (open) *open = sums.open;
  }
};

// Grid: (CTAs of a part * parts, KV heads).
template <int kDim, int kTiles, QueryLoad kLoad>
__global__ void __launch_bounds__(kVoteThreads) votes_kernel(const __grid_constant__ VoteLaunch l) {
  using Cast = VoteCast<kDim, kTiles, kLoad>;
  __shared__ __align__(16) float mass[kVoteWarps][kVoteRows * Cast::kPitch];
  launch_dependents();
  const uint32_t n_ctas = l.n_warps / kVoteWarps, part = blockIdx.x / n_ctas, warp = threadIdx.x / 32;
  const PartWork p = l.args.parts[part];
  wait_for_previous_kernels();
  if (!p.stores()) return;
  Cast cast(l, p, blockIdx.y, mass[warp]);
  for (uint32_t tile = blockIdx.x % n_ctas * kVoteWarps + warp;
       cast.v.vote_first + tile * Cast::kTokens + 1 < cast.v.end; tile += l.n_warps)
    cast.cast(cast.v.vote_first + tile * Cast::kTokens);
}

// ---- upkeep: a CTA for each job and head of the class

inline constexpr uint32_t kUpkeepThreads = 256;

// VoteArea::count for the queries [from, until), ascending in every token.
__global__ void __launch_bounds__(kUpkeepThreads)
    count_kernel(const __grid_constant__ ClassView c, const CountWork* __restrict__ jobs) {
  const CountWork job = jobs[blockIdx.x / c.n_heads];
  const uint32_t class_head = blockIdx.x % c.n_heads;
  float* scores = c.scores(job.scores, class_head, job.side);
  const uint32_t oldest = job.from > c.n_recent ? job.from - c.n_recent : 0;
  for (uint32_t token = max(oldest, job.first) + threadIdx.x; token + 1 < job.until; token += kUpkeepThreads) {
    float sum = scores[token % c.n_scores];
    const uint32_t last = min(job.until, token + c.n_recent + 1);
    for (uint32_t query = max(job.from, token + 1); query < last; ++query)
      sum += __half2float(__ushort_as_half(c.line(job.scores, class_head, query)[token % c.n_line]));
    scores[token % c.n_scores] = sum;
  }
}

__global__ void __launch_bounds__(kUpkeepThreads)
    side_kernel(const __grid_constant__ ClassView c, const SideWork* __restrict__ jobs) {
  const SideWork job = jobs[blockIdx.x / c.n_heads];
  const uint32_t class_head = blockIdx.x % c.n_heads;
  const float* from = c.scores(job.scores, class_head, job.side);
  float* to = c.scores(job.scores, class_head, job.side ^ 1);
  for (uint32_t token = job.first + threadIdx.x; token < job.last; token += kUpkeepThreads)
    to[token % c.n_scores] = from[token % c.n_scores];
}

}  // namespace oscar::cuda
