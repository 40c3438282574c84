// Decode attention straight from the codes: out = softmax(q K^T) V for all sequences and KV heads of one layer.
//
// Grid: one persistent CTA an SM of 8 or 16 consumer warps and a producer warp (batch-invariant: one or two CTAs of 8).
// The items of the step (blocks and pages, step_plan.h) are cut in ranges, one a CTA. The producer fetches blocks with one
// bulk copy each, pages in pieces of 16 bytes, into a ring; a warp group of 2 kTiles warps takes an item, each warp half a
// block for 8 rows. At the end of a part of a segment the warps merge (merge_warps.cuh), at the end of a segment the CTAs
// (merge_ctas.cuh).
//
// Shared memory: config.cuh. Bytes moved: every block and page once (D = 128, h = 4: 8864 B per 128 tokens and KV head),
// and up to 4 KB of partial results per CTA and segment. Bound by memory from about 400 items an SM on (90 % of the read
// rate of an H100); below that by how fast an SM multiplies (an item in 0.37 us), a prologue and two merges
// (bench/results).
// Registers of a consumer: 104 where there are 16 warps, 208 where there are 8.
#pragma once
#include "block.cuh"
#include "merge_ctas.cuh"
#include "merge_warps.cuh"
#include "page.cuh"

namespace oscar::cuda {

// A lane's item in the tables: where its bytes are and what they hold.
struct Fetch {
  const uint8_t* source;
  StageSpan span;
};

// Walks the sequences for one lane of the producer; items ascend.
struct ItemCursor {
  SequenceWork seq;
  uint32_t index;

  // `known`: the item's entry, where it is at hand.
  template <class P>
  __device__ __forceinline__ Fetch find(const AttendArgs& args, uint32_t item, const SpanEntry* known = nullptr) {
    uint32_t per_head = items_per_head(seq);
    while (item - seq.item_begin >= per_head * args.n_kv_heads) {
      seq = args.sequences[++index];
      per_head = items_per_head(seq);
    }
    const uint32_t head = (item - seq.item_begin) / per_head, k = item - seq.item_begin - head * per_head;
    const bool is_page = k >= seq.n_blocks;
    const SpanEntry entry = known ? *known : args.spans[seq.span_begin + k];
    const uint64_t in_unit = is_page ? args.page_offset + uint64_t{head} * P::kPageBytes
                                     : args.block_offset + uint64_t{head} * P::kLayout.bytes;
    return {args.pool + uint64_t{entry.unit} * 64 + in_unit,
            {entry.start, entry.first | uint32_t{entry.last} << 8 | (is_page ? 1u << 16 : 0u)}};
  }
};

// Rows [first, last) of a page, each to its padded place, 16 bytes a lane at a time. (A bulk copy per row is far slower:
// the copy engine takes about a microsecond for the 32 of a page.)
template <class P>
__device__ __forceinline__ void copy_page(uint8_t* stage, const uint8_t* source, uint32_t limits) {
  const uint32_t lane = threadIdx.x & 31, first = limits & 255, last = limits >> 8 & 255;
  constexpr uint32_t kKeyChunks = P::kDk / 8, kValueChunks = P::kDv / 8;  // 16 bytes each, of a row
#pragma unroll 4
  for (uint32_t x = first * kKeyChunks + lane; x < last * kKeyChunks; x += 32)
    copy_16_async(stage + x / kKeyChunks * P::kKeyPitch + x % kKeyChunks * 16, source + x * 16);
  stage += kPageTokens * P::kKeyPitch;
  source += kPageTokens * P::kDk * 2;
#pragma unroll 4
  for (uint32_t x = first * kValueChunks + lane; x < last * kValueChunks; x += 32)
    copy_16_async(stage + x / kValueChunks * P::kValuePitch + x % kValueChunks * 16, source + x * 16);
}

template <class C>
__device__ __forceinline__ void produce(const SharedMemory<C>& shared, const AttendArgs& args, const CtaStart& start,
                                        uint32_t begin, uint32_t end) {
  using P = typename C::P;
  const uint32_t lane = threadIdx.x & 31;
  ItemCursor cursor{start.sequence, start.index};
  Fetch mine{};
  const uint64_t policy = evict_first_policy();
  bool waited = false;
  int s = 0;
  uint32_t parity = 1;
  for (uint32_t n = 0; n < end - begin; ++n) {
    if (n == 0) {
      if (lane < kFirstSpans && begin + lane < end) mine = cursor.find<P>(args, begin + lane, &start.first[lane]);
    } else if (n % 32 == 0 || n == kFirstSpans) {  // lane l has item 32 k + l, the first few from the plan
      const uint32_t item = begin + n / 32 * 32 + lane;
      if ((n % 32 == 0 || lane >= kFirstSpans) && item < end) mine = cursor.find<P>(args, item);
    }
    if (n >= C::kStages) barrier_wait(shared.empty() + s, parity);
    const uint32_t limits = __shfl_sync(~0u, mine.span.limits, n % 32);
    if (limits >> 16) {
      if (!waited) wait_for_previous_kernels();  // they may still be appending these rows
      waited = true;
      const uint64_t source = __shfl_sync(~0u, reinterpret_cast<uint64_t>(mine.source), n % 32);
      copy_page<P>(shared.stage(s), reinterpret_cast<const uint8_t*>(source), limits);
      barrier_arrive_after_copies(shared.full() + s);
      __syncwarp();
      if (lane == n % 32) {
        shared.spans()[s] = mine.span;
        barrier_arrive(shared.full() + s);
      }
    } else if (lane == n % 32) {
      shared.spans()[s] = mine.span;
      barrier_arrive_expect(shared.full() + s, P::kLayout.bytes);
      bulk_copy(shared.stage(s), mine.source, P::kLayout.bytes, shared.full() + s, policy);
      barrier_arrive(shared.full() + s, C::kFullArrivals - 1);
    }
    if (++s == C::kStages) s = 0, parity ^= 1;
  }
}

// Rows of padding sequences: output 0, lse minus infinity. By the producer warps, which have nothing else to do by then.
template <class C>
__device__ __forceinline__ void write_padding(const AttendArgs& args, const CtaStart& start) {
  if (start.n_padding == 0) return;
  wait_for_previous_kernels();
  const uint32_t lane = threadIdx.x & 31;
  for (uint32_t k = blockIdx.x; k < start.n_padding; k += gridDim.x) {
    const SequenceWork seq = args.sequences[start.n_sequences + k];
    for (uint32_t r = seq.query_begin; r < seq.query_begin + seq.n_queries; ++r)
      for (uint32_t head = 0; head < args.n_kv_heads; ++head) {
        const int64_t row = int64_t{seq.first_row} + r / args.group,
                      q_head = int64_t{head} * args.group + r % args.group;
        for (uint32_t d = lane; d < C::P::kDv; d += 32)
          store_element(args.out, row * args.out.row_stride + q_head * args.out.head_stride + d, 0.0f);
        if (args.lse && lane == 0) args.lse[row * args.lse_row_stride + q_head] = __int_as_float(0xff800000);
      }
  }
}

// The matrices of a dense value map, on their way to L2 while the blocks are read. By the warps beside the producer.
template <class C>
__device__ __forceinline__ void prefetch_value_map(const AttendArgs& args) {
  if (args.value_inverse.kind != MapKind::kDense) return;
  constexpr uint32_t kLine = 128, kLinesPerHead = C::P::kDv * C::P::kDv * 4 / kLine, kLanes = 96;
  const auto* bytes = reinterpret_cast<const uint8_t*>(args.value_inverse.matrix);
  const uint32_t n_lines = args.n_kv_heads * kLinesPerHead, thread = threadIdx.x - C::kConsumers - 32;
  for (uint32_t line = blockIdx.x * kLanes + thread; line < n_lines; line += gridDim.x * kLanes)
    prefetch_to_l2(bytes + uint64_t{line} * kLine);
}

// What one consumer warp is.
struct WarpRole {
  int warp, group, tile, half;
};

// The rows of a warp's tile as its lanes see them.
template <class C>
__device__ __forceinline__ RowView row_view(const AttendArgs& args, const SequenceWork& seq, int tile) {
  const uint32_t row = min(tile * C::kTileRows + (threadIdx.x & 31) / 4 % C::kTileRows, seq.n_queries - 1);
  const uint32_t token = (seq.query_begin + row) / args.group;
  return {seq.first_position + token, seq.first_position, args.window,
          args.mask ? args.mask + (int64_t{seq.first_row} + token) * args.mask_row_stride : nullptr};
}

// Items [begin, end) of one part of a segment, blocks or pages, counted from the CTA's first item.
template <class C, bool kPages>
__device__ __forceinline__ void consume(const SharedMemory<C>& shared, const WarpRole& role, uint32_t begin,
                                        uint32_t end, const RowView& row, const Softcap& softcap, bool has_rows,
                                        State<C::P::kDv>& s) {
  using P = typename C::P;
  const int lane = threadIdx.x & 31;
  const float2 unit = shared.queries().unit[role.tile * C::kTileRows + lane / 4 % C::kTileRows];
  uint32_t n = begin + (role.group + C::kGroups - begin % C::kGroups) % C::kGroups;
  int stage = n % C::kStages;
  uint32_t parity = n / C::kStages & 1;
#pragma unroll 1
  for (; n < end; n += C::kGroups) {
    barrier_wait(shared.full() + stage, parity);
    const StageSpan span = shared.spans()[stage];
    int first = span.limits & 255;
    const int last = span.limits >> 8 & 255;
    if constexpr (kPages) {
      // The two warps of a tile take turns.
      if (has_rows && role.half == static_cast<int>((n - begin) / C::kGroups % 2))
        attend_page<P, C::kSets>(shared.stage(stage), span.start, first, last,
                                 shared.queries().exact[role.tile][0] + lane, row, softcap, s);
    } else if (has_rows) {
      if (row.window && row.position - span.start >= row.window)  // the row has left the block's first tokens behind
        first = max(first, static_cast<int>(min(row.position - row.window + 1 - span.start, kBlockTokens)));
      attend_block<P, C::kSets>(shared.stage(stage), role.half, shared.queries().codes[role.tile][0][0] + lane, unit,
                                first, last, softcap, s);
    }
    __syncwarp();
    if (C::kEveryLaneArrives || lane == 0) barrier_arrive(shared.empty() + stage);
    stage += C::kGroups;
    if (stage >= C::kStages) stage -= C::kStages, parity ^= 1;
  }
}

// Items [item, last) of a segment, by a CTA that begins at item `begin`: a partial result of its blocks and one of its
// pages.
template <class C>
__device__ __forceinline__ void attend_parts(const SharedMemory<C>& shared, const WarpRole& role, const Segment& g,
                                             uint32_t item, uint32_t last, uint32_t begin, const RowView& row,
                                             const Softcap& softcap, bool has_rows, const Partials<C>& partials) {
  const uint32_t middle = min(max(g.middle(), item), last);
  const int n_queries = static_cast<int>(g.seq.n_queries);
  const bool has_blocks = item < middle, has_pages = middle < last;
  if (has_blocks) {
    State<C::P::kDv> s;
    consume<C, false>(shared, role, item - begin, middle - begin, row, softcap, has_rows, s);
    store_state(shared, s, role.warp);  // no warp waits for another here: pages follow
  }
  State<C::P::kDv> s;
  if (has_pages) consume<C, true>(shared, role, middle - begin, last - begin, row, softcap, has_rows, s);
  sync_threads_of_barrier_1<C::kConsumers>();
  if (has_blocks) {
    reduce_states(shared, role.warp, n_queries, partials, Partials<C>::place(blockIdx.x, g.first_cta, 0));
    sync_threads_of_barrier_1<C::kConsumers>();
  }
  if (has_pages) {
    store_state(shared, s, role.warp);
    sync_threads_of_barrier_1<C::kConsumers>();
    reduce_states(shared, role.warp, n_queries, partials, Partials<C>::place(blockIdx.x, g.first_cta, 1));
    sync_threads_of_barrier_1<C::kConsumers>();
  }
}

// The same where item and last are ends of chunks: a partial result a chunk, whose bits come from the chunk alone. Item
// k of a chunk goes to the k-th group after the one that takes item 0. `n`: chunks that the CTA has had; returns how
// many more it has now.
template <class C>
__device__ __forceinline__ uint32_t attend_chunks(const SharedMemory<C>& shared, const WarpRole& role, Segment& g,
                                                  uint32_t item, uint32_t last, uint32_t begin, const RowView& row,
                                                  const Softcap& softcap, bool has_rows, const Partials<C>& partials,
                                                  uint32_t first_chunk, uint32_t n) {
  const int n_queries = static_cast<int>(g.seq.n_queries);
  const uint32_t n_before = item < g.middle() ? (item - g.begin) / kChunkItems
                                              : n_chunks(g.seq.n_blocks) + (item - g.middle()) / kChunkItems;
  g.first_chunk = first_chunk + n - n_before;
  const uint32_t first = n;
  uint32_t first_group = 0;  // of the chunk before
  for (; item < last; ++n) {
    const bool are_pages = item >= g.middle();
    const uint32_t to = min(item + kChunkItems, are_pages ? g.end() : g.middle());
    State<C::P::kDv> s;
    if (are_pages)
      consume<C, true>(shared, role, item - begin, to - begin, row, softcap, has_rows, s);
    else
      consume<C, false>(shared, role, item - begin, to - begin, row, softcap, has_rows, s);
    if (n > first) reduce_chunk(shared, role.warp, n_queries, partials, first_chunk + n - 1, n - 1, first_group);
    store_chunk(shared, s, role.warp, n);
    first_group = (item - begin) % C::kGroups;
    item = to;
  }
  reduce_chunk(shared, role.warp, n_queries, partials, first_chunk + n - 1, n - 1, first_group);
  sync_threads_of_barrier_1<C::kConsumers>();
  return n - first;
}

template <class C>
__device__ __forceinline__ void consume_segments(const SharedMemory<C>& shared, const AttendArgs& args,
                                                 const CtaStart& start, uint32_t begin, uint32_t end) {
  using P = typename C::P;
  const int warp = threadIdx.x / 32, sub = warp % C::kGroupWarps;
  const WarpRole role{warp, warp / C::kGroupWarps, sub / 2, sub % 2};
  const Softcap softcap{args.softcap > 0.0f ? 2.0f / args.softcap : 0.0f, args.softcap * kLog2e};
  const Partials<C> partials = partials_of<C>(args);
  Segment g{start.sequence, start.index, 0, 0, 0, 0};
  [[maybe_unused]] uint32_t n = 0;  // chunks so far
  for (uint32_t item = begin; item < end;) {
    uint32_t per_head = items_per_head(g.seq);
    while (item - g.seq.item_begin >= per_head * args.n_kv_heads) {
      g.seq = args.sequences[++g.index];
      per_head = items_per_head(g.seq);
    }
    g.head = (item - g.seq.item_begin) / per_head;
    g.begin = g.seq.item_begin + g.head * per_head;
    if (!C::kInvariant && threadIdx.x == C::kConsumers - 1)
      *shared.segment_ctas() = args.segments[g.index * args.n_kv_heads + g.head];
    load_queries(args, g.seq, g.head, warp, C::kWarps, shared.queries());
    sync_threads_of_barrier_1<C::kConsumers>();
    g.first_cta = shared.segment_ctas()->first;
    const RowView row = row_view<C>(args, g.seq, role.tile);
    const bool has_rows = role.tile * C::kTileRows < static_cast<int>(g.seq.n_queries);
    const uint32_t last = min(g.end(), end);
    uint32_t n_own = 1;
    if constexpr (C::kInvariant)
      n += n_own = attend_chunks(shared, role, g, item, last, begin, row, softcap, has_rows, partials,
                                 start.first_chunk, n);
    else
      attend_parts(shared, role, g, item, last, begin, row, softcap, has_rows, partials);
    finish_segment<C>(shared, args, g, warp, partials, n_own);
    item = last;
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kCtasPerSm) attend_kernel(const __grid_constant__ AttendArgs args) {
  extern __shared__ __align__(128) uint8_t shared_bytes[];
  const SharedMemory<C> shared{shared_bytes};
  launch_dependents();
  const CtaStart& start = args.starts[blockIdx.x];
  const bool is_producer = threadIdx.x / 32 == C::kWarps;
  if (is_producer) {
    const uint32_t lane = threadIdx.x & 31;
    for (int s = lane; s < C::kStages; s += 32) {
      barrier_init(shared.full() + s, C::kFullArrivals);
      barrier_init(shared.empty() + s, C::kGroupWarps * (C::kEveryLaneArrives ? 32 : 1));
    }
    if (static_cast<int>(lane) < C::kChunkBarriers)
      barrier_init(shared.chunk_barriers() + lane, C::kWarps * (C::kEveryLaneArrives ? 32 : 1));
    barrier_init_fence();
  }
  __syncthreads();
  const uint32_t begin = start.first_item, end = blockIdx.x < start.n_active ? start.last_item : begin;
  if (threadIdx.x >= C::kConsumers) {
    give_registers<C::kProducerRegisters>();
    if (is_producer) {
      produce<C>(shared, args, start, begin, end);
      write_padding<C>(args, start);
    } else {
      prefetch_value_map<C>(args);
    }
  } else {
    take_registers<C::kConsumerRegisters>();
    wait_for_previous_kernels();  // queries and the workspace are theirs
    consume_segments<C>(shared, args, start, begin, end);
  }
}

}  // namespace oscar::cuda
