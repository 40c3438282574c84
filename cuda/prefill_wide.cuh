// Attention of one tile of 128 rows for head_dim 128, many rows and long packed prefixes: warp groups 0 and 1 have 64
// rows each and multiply with wgmma, warp group 2 turns packed bytes into their operands. Exact rows follow as in
// prefill_kernel.cuh.
//
// Queries are two s8 numbers a dim, q' ~ unit (256 upper + lower), so that both passes over the keys cost what one would
// in FP16. unit is such that no sum of products with base codes reaches 2^22: those logits leave the integers by kMagic,
// without conversion.
#pragma once
#include "prefill_kernel.cuh"
#include "prefill_stage.cuh"

namespace oscar::cuda {

inline constexpr int kWideConsumers = 256, kWideThreads = kWideConsumers + 128, kStages = 4, kExactStages = 2;
inline constexpr int kWideRegisters = 208, kWriterRegisters = 88;

inline constexpr uint32_t kExactStageBytes = kTileTokens * 2 * (kStageDim * 2 + 16);  // pitches of TileMemory

struct WideMemory {

  uint8_t rows[kWideTileRows * (kStageDim * 4 + 16)];  // queries, and between blocks and exact rows the sums
  PackedStage stages[kStages];
  uint64_t full[kStages], empty[kStages];
  uint64_t exact_full[kExactStages], exact_empty[kExactStages];
  TileMeta exact_meta[kExactStages];  // row_factor: of the first
};
static_assert(offsetof(WideMemory, stages) % 1024 == 0);
static_assert(offsetof(WideMemory, stages) + kExactStages * kExactStageBytes <= offsetof(WideMemory, full));

// Exact tile `stage`, where stages of packed tiles were.
__device__ __forceinline__ TileMemory exact_stage(uint32_t stage) {
  TileMemory m(kStageDim, kStageDim, kWideTileRows);
  m.keys = offsetof(WideMemory, stages) + stage * kExactStageBytes;
  m.values = m.keys + kTileTokens * m.key_pitch;
  return m;
}

inline constexpr uint32_t kWideBytes = sizeof(WideMemory) + 1024;  // begins at a multiple of 1024

// One lane of each warp arrives, after the warp has synchronised; compute-sanitizer's racecheck does not understand that.
#ifdef OSCAR_RACECHECK
inline constexpr uint32_t kArrivingLanes = 32;
#else
inline constexpr uint32_t kArrivingLanes = 1;
#endif
inline constexpr uint32_t kFullArrivals = (kWideThreads - kWideConsumers) / 32 * kArrivingLanes,
                          kEmptyArrivals = kWideConsumers / 32 * kArrivingLanes;

// Operands of this warp's 16 rows: upper and lower numbers, 32 dims each.
struct IntegerQueries {
  uint4 high[kStageDim / 32], low[kStageDim / 32];
  float factor[2];  // of rows g, g + 8: unit * scale * log2(e); NaN where the query is not finite

  __device__ inline void load(const PrefillArgs& a, const RowTile& t, uint8_t* shared) {
    constexpr int kPitch = kStageDim + 4;
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane / 4, i = lane % 4;
    float* rows = reinterpret_cast<float*>(shared) + warp * 16 * kPitch;
    const int n_mine = min(16, max(0, static_cast<int>(t.n_rows) - warp * 16));
#pragma unroll 4
    for (int r = 0; r < 16; ++r)
#pragma unroll
      for (int d = lane; d < static_cast<int>(kStageDim); d += 32) {
        const int64_t at = int64_t{t.tensor_row(warp * 16 + r)} * a.q.row_stride +
                           int64_t{t.query_head(warp * 16 + r)} * a.q.head_stride + d;
        rows[r * kPitch + d] = r < n_mine ? load_element(a.q, at) : 0.0f;
      }
    map_shared_rows(a.query, t.head, rows, kPitch, n_mine, kStageDim);
    for (int r = 0; r < 16; ++r) encode(rows + r * kPitch, a.scale * kLog2e);
    __syncwarp();
    const uint8_t* at = reinterpret_cast<const uint8_t*>(rows + g * kPitch) + i * 4;
    const auto word = [&](int row, int byte) {
      return *reinterpret_cast<const uint32_t*>(at + row * kPitch * 4 + byte);
    };
#pragma unroll
    for (int ks = 0; ks < static_cast<int>(kStageDim / 32); ++ks) {
      const int d = ks * 32, low_d = kStageDim + d;
      high[ks] = make_uint4(word(0, d), word(8, d), word(0, d + 16), word(8, d + 16));
      low[ks] = make_uint4(word(0, low_d), word(8, low_d), word(0, low_d + 16), word(8, low_d + 16));
    }
    factor[0] = rows[g * kPitch + kStageDim];  // encode left them behind the row
    factor[1] = rows[(g + 8) * kPitch + kStageDim];
  }

 private:
  // One row in place, by one warp: 128 upper numbers, 128 lower ones; its factor after the row's 128 floats.
  static __device__ inline void encode(float* row, float scale) {
    const int lane = threadIdx.x & 31;
    const float4 x = reinterpret_cast<const float4*>(row)[lane];
    const float v[4] = {x.x, x.y, x.z, x.w};
    float largest = 0.0f, sum = 0.0f;
    bool finite = true;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      finite = finite && fabsf(v[e]) < __int_as_float(0x7f800000);
      largest = fmaxf(largest, fabsf(v[e]));
      sum += fabsf(v[e]);
    }
#pragma unroll
    for (int step = 16; step; step /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
      sum += __shfl_xor_sync(~0u, sum, step);
    }
    finite = __all_sync(~0u, finite);
    // Rounding adds at most 1/2 a dim. Below 2^-100 the reciprocal could overflow; such a query sees all tokens alike.
    const float most = (4194304.0f - 1024.0f) / 3.0f - 64.0f;
    const float unit = fmaxf(largest / kQueryCode, sum / most);
    const float inverse = finite && largest > 0x1p-100f ? 1.0f / unit : 0.0f;
    uint32_t high = 0, low = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int n = finite ? __float2int_rn(v[e] * inverse) : 0, upper = (n + 128) >> 8;
      high |= (upper & 0xff) << 8 * e;
      low |= ((n - upper * 256) & 0xff) << 8 * e;
    }
    __syncwarp();
    reinterpret_cast<uint32_t*>(row)[lane] = high;
    reinterpret_cast<uint32_t*>(row)[32 + lane] = low;
    if (lane == 0) row[kStageDim] = finite ? unit * scale : __int_as_float(0x7fffffff);
  }
};

using WideState = RowState<kStageDim>;

// Base-2 logits of 64 slots.
__device__ __forceinline__ void wide_logits(const PackedStage& stage, const IntegerQueries& q,
                                            float (&x)[kTokenOctets][4]) {
  int32_t high[kTokenOctets][4], low[kTokenOctets][4];
#pragma unroll
  for (int k = 0; k < kTokenOctets * 4; ++k) low[k / 4][k % 4] = __float_as_int(kMagic), high[k / 4][k % 4] = 0;
  const uint64_t keys = matrix_descriptor(stage.keys);
  hold(high);
  hold(low);
  wgmma_begin();
#pragma unroll
  for (int ks = 0; ks < static_cast<int>(kStageDim / 32); ++ks) {
    wgmma_s8(high, q.high[ks], next_k(keys, ks * 32), true);
    wgmma_s8(low, q.low[ks], next_k(keys, ks * 32), true);
  }
  wgmma_commit();
  const int i = threadIdx.x % 4;
  int32_t mean_high[4] = {}, mean_low[4] = {};
#pragma unroll
  for (int ks = 0; ks < static_cast<int>(kStageDim / 32); ++ks) {  // every column holds the mean
    const uint32_t b0 = stage.mean[ks * 8 + i], b1 = stage.mean[ks * 8 + 4 + i];
    mma_s8_s8(mean_high, q.high[ks], b0, b1);
    mma_s8_s8(mean_low, q.low[ks], b0, b1);
  }
  float mean[2];
#pragma unroll
  for (int k = 0; k < 2; ++k)
    mean[k] = static_cast<float>(mean_high[2 * k] * 256 + mean_low[2 * k]) * (stage.mean_scale * q.factor[k]);
  wgmma_wait<0>();
  hold(high);
  hold(low);
  const int refined = stage.n_refined_octets;
#pragma unroll
  for (int n = 0; n < kTokenOctets; ++n) {
    const float2 factor = *reinterpret_cast<const float2*>(&stage.key_factor[n * 8 + i * 2]);
    const float2 offset = *reinterpret_cast<const float2*>(&stage.minus_magic[n * 8 + i * 2]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int32_t sum = low[n][e] + (high[n][e] << 8);  // 256 high + low, and the bits of kMagic
      float dot;
      if (n < refined)
        dot = __int2float_rn(sum - __float_as_int(kMagic)) * (e % 2 ? factor.y : factor.x);
      else
        dot = fmaf(__int_as_float(sum), e % 2 ? factor.y : factor.x, e % 2 ? offset.y : offset.x);
      x[n][e] = fmaf(dot, q.factor[e / 2], mean[e / 2]);
    }
  }
  if (stage.has_cuts) {
#pragma unroll
    for (int n = 0; n < kTokenOctets; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (!(stage.valid[n / 4] >> (n % 4 * 8 + i * 2 + e % 2) & 1u)) x[n][e] = kUnseen;
  }
}

// out += weights V
__device__ __forceinline__ void wide_values(const PackedStage& stage, const float (&p)[kTokenOctets][4], WideState& s) {
  const int i = threadIdx.x % 4;
  uint4 w[kTokenOctets / 2];
#pragma unroll
  for (int k = 0; k < kTokenOctets / 2; ++k) {
    const float2 u = *reinterpret_cast<const float2*>(&stage.value_factor[k * 16 + i * 2]);
    const float2 v = *reinterpret_cast<const float2*>(&stage.value_factor[k * 16 + 8 + i * 2]);
    w[k] = make_uint4(pack_f16(p[2 * k][0] * u.x, p[2 * k][1] * u.y), pack_f16(p[2 * k][2] * u.x, p[2 * k][3] * u.y),
                      pack_f16(p[2 * k + 1][0] * v.x, p[2 * k + 1][1] * v.y),
                      pack_f16(p[2 * k + 1][2] * v.x, p[2 * k + 1][3] * v.y));
  }
  const uint64_t values = matrix_descriptor(stage.values);
#pragma unroll
  for (int k = 0; k < kTokenOctets / 2; ++k) hold(w[k]);
  hold(s.out);
  wgmma_begin();
#pragma unroll
  for (int k = 0; k < kTokenOctets / 2; ++k) wgmma_f16(s.out, w[k], next_k(values, k * 32), true);
  wgmma_commit();
  wgmma_wait<0>();
  hold(s.out);
}

__device__ __forceinline__ void write_stages(const PrefillArgs& a, const RowTile& t, const TokenTiles& tiles,
                                             uint32_t begin, uint32_t end, WideMemory& memory) {
  StageWriter writer{a, a.layout, t.head, threadIdx.x - kWideConsumers};
  PackedWords next = writer.load(tiles.blocks[begin / 2], begin % 2);
#pragma unroll 1
  for (uint32_t tile = begin; tile < end; ++tile) {
    const uint32_t n = tile - begin, stage = n % kStages;
    const PackedWords words = next;
    if (tile + 1 < end) next = writer.load(tiles.blocks[(tile + 1) / 2], (tile + 1) % 2);
    if (n >= kStages) barrier_wait(&memory.empty[stage], (n / kStages - 1) & 1);
    writer.write(words, tile % 2, memory.stages[stage]);
    fence_for_wgmma();
    __syncwarp();
    if (threadIdx.x % 32 < kArrivingLanes) barrier_arrive(&memory.full[stage]);
  }
}

// After n_packed tiles: exact ones, in the same memory once the others are through with it.
__device__ __forceinline__ void write_exact_stages(const PrefillArgs& a, const RowTile& t, const TokenTiles& tiles,
                                                   uint32_t n_packed, uint32_t begin, uint32_t end,
                                                   WideMemory& memory) {
  for (uint32_t n = n_packed > kStages ? n_packed - kStages : 0; n < n_packed; ++n)
    barrier_wait(&memory.empty[n % kStages], n / kStages & 1);
#pragma unroll 1
  for (uint32_t tile = begin; tile < end; ++tile) {
    const uint32_t n = tile - begin, stage = n % kExactStages;
    if (n >= kExactStages) barrier_wait(&memory.exact_empty[stage], (n / kExactStages - 1) & 1);
    load_exact_tile<2, kWideThreads - kWideConsumers>(
        a, t, tiles, tile, exact_stage(stage), threadIdx.x - kWideConsumers, memory.rows, memory.exact_meta[stage]);

    __syncwarp();
    if (threadIdx.x % 32 < kArrivingLanes) barrier_arrive(&memory.exact_full[stage]);
  }
}

__device__ __forceinline__ void attend_exact_stages(const PrefillLaunch& p, const RowTile& t, const TokenTiles& tiles,
                                                    uint32_t begin, uint32_t end, WideMemory& memory, WideState& s) {
  PrefillCta<kStageDim, kWideConsumers> cta(p, t, tiles, memory.rows, memory.exact_meta[0]);
  load_query_rows<true>(p.args, t, memory.rows, cta.m.query_pitch, memory.exact_meta[0].row_factor);
#pragma unroll 1
  for (uint32_t tile = begin; tile < end; ++tile) {
    const uint32_t n = tile - begin, stage = n % kExactStages;
    barrier_wait(&memory.exact_full[stage], n / kExactStages & 1);
    if (cta.has_rows()) cta.attend_exact_tile(tile, exact_stage(stage), memory.exact_meta[stage], s);
    __syncwarp();
    if (threadIdx.x % 32 < kArrivingLanes) barrier_arrive(&memory.exact_empty[stage]);
  }
}

// Returns what the sums are relative to.

__device__ __forceinline__ float attend_stages(const IntegerQueries& q, uint32_t n_tiles, WideMemory& memory,
                                               WideState& s) {
  float reference = 0.0f;
#pragma unroll 1
  for (uint32_t n = 0; n < n_tiles; ++n) {
    PackedStage& stage = memory.stages[n % kStages];
    barrier_wait(&memory.full[n % kStages], n / kStages & 1);
    float x[kTokenOctets][4];
    wide_logits(stage, q, x);
    reference = stage.reference;
    const float rescale = stage.rescale;
    if (rescale != 1.0f) s.scale_out(rescale, rescale);
    tile_weights(x, s);
    wide_values(stage, x, s);
    __syncwarp();
    if (threadIdx.x % 32 < kArrivingLanes) barrier_arrive(&memory.empty[n % kStages]);
  }
  return reference;
}

// Grid: tiles of 128 rows x KV heads x splits.
__global__ void __launch_bounds__(kWideThreads, 1) wide_prefill_kernel(const __grid_constant__ PrefillLaunch p) {
  extern __shared__ __align__(16) uint8_t shared[];
  const uint32_t misaligned = shared_address(shared) % 1024;
  WideMemory& memory = *reinterpret_cast<WideMemory*>(shared + (misaligned ? 1024 - misaligned : 0));
  launch_dependents();
  wait_for_previous_kernels();
  const RowTile t = row_tile(p.args, p.n_tiles - 1 - blockIdx.x, blockIdx.y, kWideTileRows);
  if (t.n_rows == 0) return;
  if (t.part.is_padding()) {
    if (p.n_splits == 1) store_nothing(p.args, t);
    return;
  }
  const TokenTiles tiles = token_tiles(p.args, t);
  const uint32_t begin = split_cut(tiles.n(), blockIdx.z, p.n_splits),
                 end = split_cut(tiles.n(), blockIdx.z + 1, p.n_splits);
  const uint32_t block_end = min(end, tiles.n_block_tiles), exact_begin = max(begin, tiles.n_block_tiles);
  if (threadIdx.x < kStages) {
    barrier_init(&memory.full[threadIdx.x], kFullArrivals);
    barrier_init(&memory.empty[threadIdx.x], kEmptyArrivals);
  } else if (threadIdx.x < kStages + kExactStages) {
    barrier_init(&memory.exact_full[threadIdx.x - kStages], kFullArrivals);
    barrier_init(&memory.exact_empty[threadIdx.x - kStages], kEmptyArrivals);
  }
  __syncthreads();
  if (threadIdx.x >= kWideConsumers) {
    give_registers<kWriterRegisters>();
    if (begin < block_end) write_stages(p.args, t, tiles, begin, block_end, memory);
    if (exact_begin < end)
      write_exact_stages(p.args, t, tiles, begin < block_end ? block_end - begin : 0, exact_begin - tiles.n_block_tiles,
                         end - tiles.n_block_tiles, memory);
    return;
  }
  take_registers<kWideRegisters>();
  WideState s;
  if (begin < block_end) {
    IntegerQueries q;
    q.load(p.args, t, memory.rows);
    const float reference = attend_stages(q, block_end - begin, memory, s);
    __syncwarp();
    undo_value_map(p.args, t, reference / kPackedWeight, memory.rows, s);
  }
  if (exact_begin < end)
    attend_exact_stages(p, t, tiles, exact_begin - tiles.n_block_tiles, end - tiles.n_block_tiles, memory, s);
  if (p.n_splits == 1)
    store_results(p.args, t, s);
  else
    store_partials(p, t, blockIdx.z, s);
}

}  // namespace oscar::cuda
