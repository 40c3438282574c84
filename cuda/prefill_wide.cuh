// Attention of one tile of 128 rows for head_dim 128, many rows and long packed prefixes: warp groups 0 and 1 have 64
// rows each and multiply with wgmma, warp group 2 turns packed bytes into their operands (prefill_block.cuh), a block of
// 128 tokens at a time. Scales are in the operands, so that a logit costs one multiplication, one maximum, one power and
// one sum. While a group computes the weights of a block, its product of the weights and values of the block before is
// under way. Exact rows follow (prefill_wide_exact.cuh).
//
// Queries are two FP16 numbers a dim: with one alone, logits of some test geometries are off by 3e-3.
#pragma once
#include "prefill_wide_exact.cuh"

namespace oscar::cuda {

inline constexpr int kWideRegisters = 208, kWriterRegisters = 88;
// Weights are at most 2^kLift: FP16 keeps 11 bits down to 2^-29 of the largest.
inline constexpr float kLift = 15.0f;

// ---- the writers

// Blocks of KV head t.head as they lie in the pool, into a ring.
struct RawBlocks {
  const PrefillArgs& a;
  const RowTile& t;
  const TokenTiles& tiles;
  WideMemory& memory;
  uint32_t begin, n, ring;  // blocks [begin, begin + n); places: 1 or 2

  __device__ __forceinline__ const uint8_t* block(uint32_t k) const {
    return a.pool + uint64_t{tiles.blocks[begin + k].unit} * 64 + a.block_offset + uint64_t{t.head} * a.layout.bytes;
  }
  __device__ __forceinline__ uint32_t slot(uint32_t k) const { return k & (ring - 1); }
  __device__ __forceinline__ uint8_t* place(uint32_t k) const { return memory.raw + slot(k) * a.layout.bytes; }
  __device__ __forceinline__ void start(uint32_t k) const {
    if (k >= n) return;
    barrier_arrive_expect(&memory.raw_full[slot(k)], a.layout.bytes);
    bulk_copy(place(k), block(k), a.layout.bytes, &memory.raw_full[slot(k)]);
  }
  __device__ __forceinline__ void wait(uint32_t k) const {
    barrier_wait(&memory.raw_full[slot(k)], k >> (ring - 1) & 1);
  }
};

// Means of kMeanBlocks blocks; thread 16 b + k has dims' 8 k .. 8 k + 7 of block b.
struct MeanWriter {
  const RawBlocks& raw;
  uint32_t thread;
  uint32_t words[2] = {};

  __device__ __forceinline__ void load(uint32_t first) {
    if (first >= raw.n) return;
    const uint8_t* mean = raw.block(min(first + thread / 16, raw.n - 1)) + raw.a.layout.key_mean +
                          first_dim(thread % 16 * 8);
    words[0] = __ldg(reinterpret_cast<const uint32_t*>(mean));
    words[1] = __ldg(reinterpret_cast<const uint32_t*>(mean + 16));
  }
  __device__ __forceinline__ void store(uint32_t parity) const {
    uint32_t pairs[4];
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {  // 1024 + 128 + mean
      const uint32_t bytes = (words[k / 2] ^ 0x80808080u) >> k % 2 * 8 & 0x00ff00ffu;
      pairs[k] = add_f16x2(bytes | 0x64006400u, 0xe480e480u);
    }
    const uint32_t b = thread / 16, k = thread % 16;
    *reinterpret_cast<uint4*>(raw.memory.means[parity] + b * kMeanPitch + k * 16) = make_uint4(pairs[0], pairs[1],
                                                                                               pairs[2], pairs[3]);
  }
};

__device__ __forceinline__ void write_block_meta(const BlockLayout& l, const uint8_t* block, const SpanEntry& e,
                                                 float before, float reference, uint32_t thread, BlockMeta& meta) {
  const BlockHeader header = *reinterpret_cast<const BlockHeader*>(block + l.header);
  const bool has_cuts = e.first != 0 || e.last != kBlockTokens;
  if (thread == 0) {
    meta.key_unit = header.key_base * 0.25f;
    meta.mean_scale = header.mean_scale;
    meta.rescale = before / reference;
    meta.reference = reference;
    meta.has_cuts = has_cuts;
  }
  if (!has_cuts) return;
  const uint32_t token = slot_token(l, block, slot_of_column(thread));
  const uint32_t valid = __ballot_sync(~0u, token >= e.first && token < e.last);
  if (thread % 32 == 0) meta.valid[thread / 32] = valid;
}

template <bool kAll>
__device__ __forceinline__ void write_blocks(const PrefillArgs& a, const RowTile& t, const TokenTiles& tiles,
                                             uint32_t begin, uint32_t end, uint32_t n_groups, WideMemory& memory) {
  const uint32_t thread = threadIdx.x - kWideConsumers;
  const RawBlocks raw{a, t, tiles, memory, begin, end - begin, kRawBytes >= kMostRaw * a.layout.bytes ? kMostRaw : 1u};
  if (thread == 0)
    for (uint32_t k = 0; k < raw.ring; ++k) raw.start(k);
  MeanWriter means{raw, thread};
  means.load(0);
  BlockUnpacker<kAll> unpacker(a.layout, thread);
  float reference = 0.0f;
  sync_groups<3, kWriters>(n_groups);  // stages held the queries
#pragma unroll 1
  for (uint32_t n = 0; n < raw.n; ++n) {
    const uint32_t stage = n % kStages;
    const uint8_t* block = raw.place(n);
    if (n > 0) {
      sync_writers();
      if (thread == 0) raw.start(n - 1 + raw.ring);
    }
    if (n % kMeanBlocks == 0) {
      means.store(n / kMeanBlocks & 1);
      means.load(n + kMeanBlocks);
    }
    raw.wait(n);
    unpacker.load(block);
    const float before = reference, base = reinterpret_cast<const BlockHeader*>(block + a.layout.header)->value_base;
    reference = fmaxf(reference, base);
    wait_empty(memory.keys_empty, n);
    write_block_meta(a.layout, block, tiles.blocks[begin + n], before, reference, thread, memory.blocks[stage]);
    unpacker.unpack_keys(block, memory.keys[stage]);
    if (!kAll && a.layout.key_plane) {
      sync_writers();
      unpacker.refine_keys(block, memory.keys[stage]);
    }
    fence_for_wgmma();
    warp_arrives(&memory.keys_full[stage]);
    wait_empty(memory.values_empty, n);
    const uint32_t factor = __half_as_ushort(__float2half_rn(base / reference * kValueUnit)) * 0x00010001u;
    unpacker.unpack_values(block, factor, memory.values[stage]);
    if (!kAll && a.layout.value_plane) {
      sync_writers();
      unpacker.refine_values(block, factor, memory.values[stage]);
    }
    fence_for_wgmma();
    warp_arrives(&memory.values_full[stage]);
  }
  for (uint32_t n = raw.n > kStages ? raw.n - kStages : 0; n < raw.n; ++n) {
    wait_full(memory.keys_empty, n);
    wait_full(memory.values_empty, n);
  }
}

// ---- a warp group that multiplies

// Two warp groups start their products in turns, so that one computes weights while the other's products run.
struct Turns {
  uint32_t group, n_groups;
  static constexpr uint32_t kBoth = 2 * kGroupThreads;

  __device__ __forceinline__ void begin(bool any) const {
    if (n_groups == 2 && group == 1 && any) arrive_at<4, kBoth>();
  }
  __device__ __forceinline__ void wait() const {
    if (n_groups != 2) return;
    if (group == 0)
      sync_threads<4, kBoth>();
    else
      sync_threads<5, kBoth>();
  }
  // more: whether the group will take another turn itself. The first group's barrier is passed on once less often.
  __device__ __forceinline__ void pass(bool more) const {
    if (n_groups != 2) return;
    if (group == 0)
      arrive_at<5, kBoth>();
    else if (more)
      arrive_at<4, kBoth>();
  }
};

struct BlockReader {
  WideMemory& memory;
  float mean[2];  // of the block: what its mean adds to the logits of rows g, g + 8
  float rescale;

  __device__ __forceinline__ explicit BlockReader(WideMemory& memory) : memory(memory) {}

  // Of this warp's rows, for kMeanBlocks blocks.
  __device__ __forceinline__ void multiply_means(uint32_t parity) const {
    const uint32_t lane = threadIdx.x & 31, first = threadIdx.x / 32 * 16, g = lane / 4, i = lane % 4;
    float sums[2][4] = {};
    const uint8_t* mean = memory.means[parity] + g * kMeanPitch + i * 4;
#pragma unroll
    for (uint32_t k = 0; k < kWideDim / 16; ++k)
#pragma unroll
      for (uint32_t limb = 0; limb < 2; ++limb) {
        const uint4 q = load_matrices(memory.queries[limb] + k / 4 * kHalfBytes +
                                      chunk_at(first + lane % 16, k % 4 * 2 + lane / 16));
        mma_f16(sums[limb], q, *reinterpret_cast<const uint32_t*>(mean + k * 32),
                *reinterpret_cast<const uint32_t*>(mean + k * 32 + 16));
      }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const uint32_t row = first + g + e / 2 * 8;
      memory.mean_products[row][i * 2 + e % 2] = (sums[0][e] + sums[1][e]) * memory.row_factor[row];
    }
    __syncwarp();
  }

  __device__ __forceinline__ void start_logits(uint32_t n, float (&x)[kWideOctets][4]) const {
    const uint64_t queries = matrix_descriptor(memory.queries[0] + threadIdx.x / kGroupThreads * kGroupRows * 128),
                   keys = matrix_descriptor(memory.keys[n % kStages]);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < static_cast<int>(kWideDim / 16); ++k) {
      wgmma_shared<false>(x, at_step(queries, k), at_step(keys, k), k > 0);
      wgmma_shared<false>(x, at_step(queries, k) + (kMatrixBytes >> 4), at_step(keys, k), true);
    }
    wgmma_commit();
  }

  __device__ __forceinline__ void start_values(uint32_t n, const uint4 (&w)[kWideOctets / 2], WideState& s) const {
    const uint64_t values = matrix_descriptor(memory.values[n % kStages]);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kWideOctets / 2; ++k) wgmma_f16(s.out, w[k], at_step(values, k));
    wgmma_commit();
  }

  // What is needed of a block's description, once its keys are there.
  __device__ __forceinline__ void take_meta(uint32_t n, float (&unit)[2]) {
    const BlockMeta& meta = memory.blocks[n % kStages];
    const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    if (n % kMeanBlocks == 0) multiply_means(n / kMeanBlocks & 1);
    rescale = meta.rescale;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      mean[k] = memory.mean_products[row + 8 * k][n % kMeanBlocks] * meta.mean_scale;
      unit[k] = memory.row_factor[row + 8 * k] * meta.key_unit;
    }
  }

  // Once its products are there: its keys are free. Cuts are rare: they make x the logits.
  __device__ __forceinline__ void take_cuts(uint32_t n, float (&x)[kWideOctets][4], float (&unit)[2]) {
    const BlockMeta& meta = memory.blocks[n % kStages];
    const uint32_t i = threadIdx.x % 4;
    if (meta.has_cuts) {
#pragma unroll
      for (int j = 0; j < kWideOctets; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const bool valid = meta.valid[j / 4] >> (j % 4 * 8 + i * 2 + e % 2) & 1u;
          x[j][e] = valid ? fmaf(x[j][e], unit[e / 2], mean[e / 2]) : kUnseen;
        }
#pragma unroll
      for (int k = 0; k < 2; ++k) mean[k] = mean[k] == mean[k] ? 0.0f : mean[k], unit[k] = 1.0f;
    }
    warp_arrives(&memory.keys_empty[n % kStages]);
  }

  // x becomes weights relative to s.largest, which is at least the largest logit less kLift.
  __device__ __forceinline__ void weights(float (&x)[kWideOctets][4], const float (&unit)[2], WideState& s,
                                          float (&shrink)[2]) const {
    float offset[2], part[4] = {};
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      float even = x[0][2 * k], odd = x[0][2 * k + 1];
#pragma unroll
      for (int j = 1; j < kWideOctets; ++j) even = fmaxf(even, x[j][2 * k]), odd = fmaxf(odd, x[j][2 * k + 1]);
      const float largest = fmaxf(s.largest[k], fmaf(quad_max(fmaxf(even, odd)), unit[k], mean[k]) - kLift);
      const float own = largest <= kUnseen ? 0.0f : largest;
      shrink[k] = exp2_approx(s.largest[k] - own);
      s.largest[k] = largest;
      offset[k] = mean[k] - own;
    }
#pragma unroll
    for (int j = 0; j < kWideOctets; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        x[j][e] = exp2_approx(fmaf(x[j][e], unit[e / 2], offset[e / 2]));
        part[e] += x[j][e];
      }
#pragma unroll
    for (int k = 0; k < 2; ++k) s.sum[k] = fmaf(s.sum[k], shrink[k], part[2 * k] + part[2 * k + 1]);
  }

  static __device__ __forceinline__ void pack(const float (&x)[kWideOctets][4], uint4 (&w)[kWideOctets / 2]) {
#pragma unroll
    for (int k = 0; k < kWideOctets / 2; ++k) {
      w[k] = make_uint4(pack_f16(x[2 * k][0], x[2 * k][1]), pack_f16(x[2 * k][2], x[2 * k][3]),
                        pack_f16(x[2 * k + 1][0], x[2 * k + 1][1]), pack_f16(x[2 * k + 1][2], x[2 * k + 1][3]));
      hold(w[k]);
    }
  }

  // Returns what the sums are relative to.
  __device__ __forceinline__ float attend(uint32_t n_blocks, Turns turns, WideState& s) {
    turns.begin(n_blocks > 1);
    float x[kWideOctets][4], unit[2], shrink[2];
    uint4 w[kWideOctets / 2];
    wait_full(memory.keys_full, 0);
    start_logits(0, x);
    take_meta(0, unit);
    wgmma_wait<0>();
    hold(x);
    take_cuts(0, x, unit);
    weights(x, unit, s, shrink);
    pack(x, w);
#pragma unroll 1
    for (uint32_t n = 1; n < n_blocks; ++n) {
      wait_full(memory.keys_full, n);
      wait_full(memory.values_full, n - 1);
      turns.wait();
      start_logits(n, x);
      start_values(n - 1, w, s);
      turns.pass(n + 1 < n_blocks);
      take_meta(n, unit);
      wgmma_wait<1>();
      hold(x);
      take_cuts(n, x, unit);
      weights(x, unit, s, shrink);
      hold(x);  // the powers are not put off until after the wait
      wgmma_wait<0>();
      hold(s.out);
      warp_arrives(&memory.values_empty[(n - 1) % kStages]);
      shrink[0] *= rescale;
      shrink[1] *= rescale;
      if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f)) s.scale_out(shrink[0], shrink[1]);
      pack(x, w);
    }
    wait_full(memory.values_full, n_blocks - 1);
    start_values(n_blocks - 1, w, s);
    wgmma_wait<0>();
    hold(s.out);
    warp_arrives(&memory.values_empty[(n_blocks - 1) % kStages]);
    return memory.blocks[(n_blocks - 1) % kStages].reference;
  }
};

// ---- the kernel

__device__ __forceinline__ void init_barriers(uint32_t n_groups, WideMemory& memory) {
  const uint32_t stage = threadIdx.x;
  if (stage < kMostRaw) barrier_init(&memory.raw_full[stage], 1);
  if (stage < kStages) {
    constexpr uint32_t kFull = kWriters / 32 * kArrivingLanes;
    const uint32_t empty = n_groups * kGroupThreads / 32 * kArrivingLanes;
    barrier_init(&memory.keys_full[stage], kFull);
    barrier_init(&memory.values_full[stage], kFull);
    barrier_init(&memory.exact_full[stage], kFull);
    barrier_init(&memory.keys_empty[stage], empty);
    barrier_init(&memory.values_empty[stage], empty);
    barrier_init(&memory.exact_empty[stage], empty);
  }
  barrier_init_fence();
  __syncthreads();
}

// Grid: tiles of 128 rows x KV heads x splits. kAll: for blocks with all slots refined.
template <bool kAll>
__global__ void __launch_bounds__(kWideThreads, 1) wide_prefill_kernel(const __grid_constant__ PrefillLaunch p) {
  extern __shared__ __align__(16) uint8_t shared[];
  const uint32_t misaligned = shared_address(shared) % 1024;
  WideMemory& memory = *reinterpret_cast<WideMemory*>(shared + (misaligned ? 1024 - misaligned : 0));
  launch_dependents();
  wait_for_previous_kernels();
  const RowTile t = row_tile(p.args, p.n_tiles - 1 - blockIdx.x, blockIdx.y, kWideTileRows);
  if (t.n_rows == 0) return;
  if (t.part.sees_nothing()) {
    if (p.n_splits == 1) store_nothing(p.args, t);
    return;
  }
  const TokenTiles tiles = token_tiles(p.args, t, kBlockTokens);
  const uint32_t begin = split_cut(tiles.n(), blockIdx.z, p.n_splits),
                 end = split_cut(tiles.n(), blockIdx.z + 1, p.n_splits);
  const uint32_t block_end = min(end, tiles.n_block_tiles), exact_begin = max(begin, tiles.n_block_tiles);
  const uint32_t n_groups = (t.n_rows + kGroupRows - 1) / kGroupRows;  // the others have nothing to do
  init_barriers(n_groups, memory);
  if (threadIdx.x >= kWideConsumers) {
    give_registers<kWriterRegisters>();
    if (begin < block_end) write_blocks<kAll>(p.args, t, tiles, begin, block_end, n_groups, memory);
    if (exact_begin < end)
      write_exact_tiles(p.args, t, tiles, exact_begin - tiles.n_block_tiles, end - tiles.n_block_tiles, memory);
    return;
  }
  take_registers<kWideRegisters>();
  if (threadIdx.x >= n_groups * kGroupThreads) return;
  WideState s;
  if (begin < block_end) {
    load_packed_queries(p.args, t, memory);
    fence_for_wgmma();
    sync_groups<3, kWriters>(n_groups);
    const float reference = BlockReader(memory).attend(block_end - begin, {threadIdx.x / kGroupThreads, n_groups}, s);
    sync_groups<1, 0>(n_groups);  // all are through with the queries
    undo_value_map<kWideDim>(p.args, t, reference / (4.0f * kValueUnit), memory.queries[0], s);
    sync_groups<1, 0>(n_groups);
  }
  if (exact_begin < end) {
    load_exact_queries(p.args, t, memory);
    fence_for_wgmma();
    sync_groups<1, 0>(n_groups);
    ExactReader(p.args, t, tiles, memory).attend(exact_begin - tiles.n_block_tiles, end - tiles.n_block_tiles, s);
  }
  if (p.n_splits == 1)
    store_results(p.args, t, s);
  else
    store_partials(p, t, blockIdx.z, s);
}

}  // namespace oscar::cuda
