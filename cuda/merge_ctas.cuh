// End of a segment: the CTA that arrives last joins the partial results of all its CTAs (chunks), in their order, so
// that the bits do not depend on who was last. It adds the sink, undoes the value transform and writes output and
// log-sum-exp.
//     out = (sum of parts over exact rows + F_v^-1 (sum of parts over blocks)) / denominator
#pragma once
#include "config.cuh"

namespace oscar::cuda {

// Sums of four output columns of one row, relative to 2^largest.
struct Column {
  float largest = kUnseen, sum = 0.0f;
  float4 packed{}, exact{};

  __device__ __forceinline__ void scale(float f) {
    sum *= f;
    packed = make_float4(packed.x * f, packed.y * f, packed.z * f, packed.w * f);
    exact = make_float4(exact.x * f, exact.y * f, exact.z * f, exact.w * f);
  }
  __device__ __forceinline__ void raise(float to) {
    scale(exp2_approx(largest - to));
    largest = to;
  }
};

__device__ __forceinline__ void add_scaled(float4& a, float f, float4 b) {
  a = make_float4(fmaf(f, b.x, a.x), fmaf(f, b.y, a.y), fmaf(f, b.z, a.z), fmaf(f, b.w, a.w));
}

// The partial results of a segment, in the order in which they are joined: n_blocks of blocks, then those of pages.
struct Contributors {
  uint32_t n_arrivals;  // that make the segment complete: CTAs, or chunks
  uint32_t n_blocks, n;
  uint32_t first[2], stride;  // places
  uint32_t extra;             // of the CTA that begins the segment: how much further its places lie
};

template <class C>
__device__ __forceinline__ Contributors contributors_of(const Segment& g, const SegmentCtas& ctas) {
  Contributors c{};
  if constexpr (C::kInvariant) {
    c.stride = 1;
    c.n_blocks = n_chunks(g.seq.n_blocks);
    c.n_arrivals = c.n = c.n_blocks + n_chunks(g.seq.n_pages);
    c.first[0] = g.first_chunk;
    c.first[1] = g.first_chunk + c.n_blocks;
  } else {
    c.n_arrivals = ctas.n();
    c.n_blocks = ctas.n_blocks;
    c.n = ctas.n_blocks + ctas.n_pages;
    const auto place = [](uint32_t cta, uint32_t part) {
      return static_cast<uint32_t>(Partials<C>::place(cta, cta + 1, part));
    };
    c.stride = place(1, 0) - place(0, 0);
    c.extra = static_cast<uint32_t>(Partials<C>::place(0, 0, 0)) - place(0, 0);
    c.first[0] = place(ctas.first, 0);
    c.first[1] = place(ctas.first_page, 1);
  }
  return c;
}

// Contributions first, first + step, ... of column x (four dims of one row).
template <class C>
__device__ __forceinline__ Column gather(const Partials<C>& partials, const Contributors& who, const SegmentCtas& ctas,
                                         int x, uint32_t first, uint32_t step) {
  constexpr int kBatch = C::kWarps == 16 ? 5 : 9, kQuads = C::P::kDv / 4;  // loads on their way at a time
  const int row = x / kQuads, quad = x % kQuads;
  const bool pages_begin_it = ctas.first_page == ctas.first;
  Column column;
  for (uint32_t k0 = first; k0 < who.n; k0 += kBatch * step) {
    float2 sums[kBatch];
    float4 out[kBatch];
    float largest = column.largest;
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const uint32_t k = k0 + i * step;
      const bool exists = k < who.n, is_page = k >= who.n_blocks;
      const uint32_t n = is_page ? k - who.n_blocks : k;
      const bool begins_it = n == 0 && (!is_page || pages_begin_it);
      const uint32_t place = (is_page ? who.first[1] : who.first[0]) + n * who.stride + (begins_it ? who.extra : 0);
      sums[i] = exists ? __ldcg(partials.sums(place) + row) : make_float2(kUnseen, 0.0f);
      out[i] = exists ? __ldcg(reinterpret_cast<const float4*>(partials.out(place) + row * C::P::kDv) + quad)
                      : float4{};
      largest = fmaxf(largest, sums[i].x);
    }
    column.raise(largest);
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const float share = exp2_approx(sums[i].x - largest);
      column.sum = fmaf(share, sums[i].y, column.sum);
      if (k0 + i * step < who.n_blocks)
        add_scaled(column.packed, share, out[i]);
      else
        add_scaled(column.exact, share, out[i]);
    }
  }
  return column;
}

// Adds the sink, normalises, and leaves the column's two sums in packed[row][Dv], exact[row][Dv].
template <class C>
__device__ __forceinline__ void finish_column(Column& column, const AttendArgs& args, const Segment& g, int x,
                                              float* packed, float* exact, float* lse) {
  constexpr int kQuads = C::P::kDv / 4;
  const int row = x / kQuads;
  if (args.sink_logits) {
    const float sink = args.sink_logits[g.head * args.group + (g.seq.query_begin + row) % args.group] * kLog2e;
    column.raise(fmaxf(column.largest, sink));
    column.sum += exp2_approx(sink - column.largest);
  }
  if (x % kQuads == 0) lse[row] = (column.largest + __log2f(column.sum)) * kLn2;
  column.scale(1.0f / column.sum);
  reinterpret_cast<float4*>(packed)[x] = column.packed;
  reinterpret_cast<float4*>(exact)[x] = column.exact;
}

// Adds column x of parts first .. n_parts - 1, at most kMost: columns and sums [part][n_columns], in shared memory.
template <int kMost>
__device__ __forceinline__ void join_columns(Column& column, const float4* columns, const float2* sums, int n_columns,
                                             int x, int first, int n_parts) {
  float2 others[kMost];
  float largest = column.largest;
#pragma unroll
  for (int k = 0; k < kMost; ++k) {
    others[k] = first + k < n_parts ? sums[(first + k) * n_columns + x] : make_float2(kUnseen, 0.0f);
    largest = fmaxf(largest, others[k].x);
  }
  column.raise(largest);
#pragma unroll
  for (int k = 0; k < kMost; ++k) {
    if (first + k >= n_parts) break;
    const int at = (first + k) * n_columns + x;
    const float share = exp2_approx(others[k].x - largest);
    column.sum = fmaf(share, others[k].y, column.sum);
    add_scaled(column.packed, share, columns[2 * at]);
    add_scaled(column.exact, share, columns[2 * at + 1]);
  }
}

// Batch-invariant: kChunkParts parts of a column's chunks, however many columns there are, so that the order of all
// additions is that of the chunks and nothing else.
template <class C>
__device__ __forceinline__ void gather_chunks(const SharedMemory<C>& shared, const AttendArgs& args, const Segment& g,
                                              const Partials<C>& partials, const Contributors& who, float* packed,
                                              float* exact) {
  constexpr int kParts = C::kChunkParts;
  const int n_columns = static_cast<int>(g.seq.n_queries) * (C::P::kDv / 4);
  float4* columns = reinterpret_cast<float4*>(shared.reduce() + 2 * C::kRows * C::P::kDv * 4);
  float2* sums = reinterpret_cast<float2*>(columns + 2 * kParts * C::kColumns);
  for (int at = threadIdx.x; at < kParts * n_columns; at += C::kConsumers) {
    const Column column = gather(partials, who, {}, at % n_columns, at / n_columns, kParts);
    columns[2 * at] = column.packed;
    columns[2 * at + 1] = column.exact;
    sums[at] = make_float2(column.largest, column.sum);
  }
  sync_threads_of_barrier_1<C::kConsumers>();
  for (int x = threadIdx.x; x < n_columns; x += C::kConsumers) {
    Column column;
    join_columns<kParts>(column, columns, sums, n_columns, x, 0, kParts);
    finish_column<C>(column, args, g, x, packed, exact, shared.lse());
  }
}

template <class C>
__device__ __forceinline__ void gather_columns(const SharedMemory<C>& shared, const AttendArgs& args, const Segment& g,
                                               const Partials<C>& partials, const Contributors& who,
                                               const SegmentCtas& ctas, float* packed, float* exact) {
  if constexpr (C::kInvariant) return gather_chunks(shared, args, g, partials, who, packed, exact);
  const int tid = threadIdx.x, n_columns = static_cast<int>(g.seq.n_queries) * (C::P::kDv / 4);
  if (n_columns * 2 > C::kConsumers) {
    for (int x = tid; x < n_columns; x += C::kConsumers) {
      Column column = gather(partials, who, ctas, x, 0, 1);
      finish_column<C>(column, args, g, x, packed, exact, shared.lse());
    }
    return;
  }
  // Fewer columns than threads: several threads share a column's CTAs.
  constexpr int kMostParts = 8;
  const int n_parts = min(C::kConsumers / n_columns, kMostParts), x = tid % n_columns, part = tid / n_columns;
  float4* columns = reinterpret_cast<float4*>(shared.reduce() + 2 * 1024 * 4);
  float2* sums = reinterpret_cast<float2*>(columns + 2 * C::kConsumers);
  Column column;
  if (part < n_parts) {
    column = gather(partials, who, ctas, x, part, n_parts);
    columns[2 * tid] = column.packed;
    columns[2 * tid + 1] = column.exact;
    sums[tid] = make_float2(column.largest, column.sum);
  }
  sync_threads_of_barrier_1<C::kConsumers>();
  if (part > 0) return;
  join_columns<kMostParts - 1>(column, columns, sums, n_columns, x, 1, n_parts);
  finish_column<C>(column, args, g, x, packed, exact, shared.lse());
}

__device__ __forceinline__ int64_t output_at(const AttendArgs& args, const Segment& g, int row) {
  const uint32_t r = g.seq.query_begin + row;
  return (int64_t{g.seq.first_row} + r / args.group) * args.out.row_stride +
         (int64_t{g.head} * args.group + r % args.group) * args.out.head_stride;
}

// Identity and Hadamard: one warp per row.
template <class C>
__device__ __forceinline__ void write_rows(const AttendArgs& args, const Segment& g, int warp, const float* packed,
                                           const float* exact) {
  constexpr int kDv = C::P::kDv, kPerLane = kDv / 32;
  const int lane = threadIdx.x & 31;
  for (int row = warp; row < static_cast<int>(g.seq.n_queries); row += C::kWarps) {
    float x[kPerLane];
    const int from = row * kDv + lane * kPerLane;
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) x[e] = packed[from + e];
    if constexpr ((kPerLane & (kPerLane - 1)) == 0)
      if (args.value_inverse.kind == MapKind::kHadamard) hadamard_of_row(x);
    const int64_t at = output_at(args, g, row) + lane * kPerLane;
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) store_element(args.out, at + e, x[e] + exact[from + e]);
  }
}

// Dense: warp w takes input dims w, w + 8, ..., whole lines of the matrix at a time, for kDenseRows rows; then the warps
// are added in order.
template <class C>
__device__ __forceinline__ void write_rows_dense(const AttendArgs& args, const Segment& g, int warp,
                                                 const float* packed, const float* exact, float* sums) {
  constexpr int kDv = C::P::kDv, kPerLane = kDv / 32, kRows = C::kDenseRows;
  const int lane = threadIdx.x & 31, n_rows = static_cast<int>(g.seq.n_queries);
  const float* matrix = args.value_inverse.matrix + uint64_t{g.head} * kDv * kDv + lane * kPerLane;
  for (int row0 = 0; row0 < n_rows; row0 += kRows) {
    float y[kRows][kPerLane] = {};
#pragma unroll 16
    for (int j = warp; j < kDv; j += C::kWarps) {
      float m[kPerLane];
#pragma unroll
      for (int e = 0; e < kPerLane; ++e) m[e] = __ldg(matrix + j * kDv + e);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float x = row0 + r < n_rows ? packed[(row0 + r) * kDv + j] : 0.0f;
#pragma unroll
        for (int e = 0; e < kPerLane; ++e) y[r][e] = fmaf(x, m[e], y[r][e]);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int e = 0; e < kPerLane; ++e) sums[(warp * kRows + r) * kDv + lane * kPerLane + e] = y[r][e];
    sync_threads_of_barrier_1<C::kConsumers>();
    for (int x = threadIdx.x; x < kRows * kDv && row0 + x / kDv < n_rows; x += C::kConsumers) {
      float sum = exact[row0 * kDv + x];
#pragma unroll
      for (int w = 0; w < C::kWarps; ++w) sum += sums[w * kRows * kDv + x];
      store_element(args.out, output_at(args, g, row0 + x / kDv) + x % kDv, sum);
    }
    sync_threads_of_barrier_1<C::kConsumers>();
  }
}

// All consumer threads, after reduce_states of everything that this CTA has of the segment: n_own of its arrivals.
template <class C>
__device__ __forceinline__ void finish_segment(const SharedMemory<C>& shared, const AttendArgs& args, const Segment& g,
                                               int warp, const Partials<C>& partials, uint32_t n_own) {
  const SegmentCtas ctas = C::kInvariant ? SegmentCtas{} : *shared.segment_ctas();
  const Contributors who = contributors_of<C>(g, ctas);
  uint32_t* counter = static_cast<uint32_t*>(args.workspace) + g.index * args.n_kv_heads + g.head;
  if (who.n_arrivals != n_own) {
    if (threadIdx.x == 0) *shared.flag() = atomic_add_acq_rel(counter, n_own);
    sync_threads_of_barrier_1<C::kConsumers>();
    if (*shared.flag() != who.n_arrivals - n_own) return;
    if (threadIdx.x == 0) *counter = 0;
  }
  const int n_queries = static_cast<int>(g.seq.n_queries);
  float* packed = reinterpret_cast<float*>(shared.reduce());
  float* exact = packed + n_queries * C::P::kDv;
  gather_columns(shared, args, g, partials, who, ctas, packed, exact);
  sync_threads_of_barrier_1<C::kConsumers>();
  if (args.value_inverse.kind == MapKind::kDense && g.seq.n_blocks > 0)
    write_rows_dense<C>(args, g, warp, packed, exact, packed + 2 * C::kRows * C::P::kDv);
  else
    write_rows<C>(args, g, warp, packed, exact);
  if (args.lse && static_cast<int>(threadIdx.x) < n_queries) {
    const uint32_t r = g.seq.query_begin + threadIdx.x;
    args.lse[(int64_t{g.seq.first_row} + r / args.group) * args.lse_row_stride + g.head * args.group + r % args.group] =
        shared.lse()[threadIdx.x];
  }
  sync_threads_of_barrier_1<C::kConsumers>();
}

}  // namespace oscar::cuda
