// One CTA's shared memory and how it is filled: queries of its rows, keys and values of 64 tokens.
#pragma once
#include "prefill_rows.cuh"
#include "prefill_unpack.cuh"
#include "prefill_work.cuh"

namespace oscar::cuda {

inline constexpr uint32_t kPrefillThreads = 128;

// Dynamic shared memory. Pitches are 4 words more than a multiple of 32 or odd multiples of 4: ldmatrix without conflicts.
//   queries  [row]: dim upper halves, dim lower halves (before: dim FP32 numbers)
//   keys     [token][dim], then the block's mean as token 64
//   values   exact [token][dim], packed [dim][token]
// Between blocks and exact rows all of it is the FP32 sums of the packed values, [row][dim].
struct TileMemory {
  uint32_t query_pitch, key_pitch, keys, values, bytes;
  static constexpr uint32_t kPackedPitch = kTileTokens * 2 + 16;

  __host__ __device__ constexpr TileMemory(uint32_t dk, uint32_t dv)
      : query_pitch(dk * 4 + 16), key_pitch(dk * 2 + 16), keys(kTileRows * query_pitch),
        values(keys + (kTileTokens + 1) * key_pitch), bytes(values + dv * kPackedPitch) {
    const uint32_t sums = kTileRows * (dv * 4 + 16);
    if (bytes < sums) bytes = sums;
  }
  static __host__ __device__ constexpr uint32_t exact_pitch(uint32_t dv) { return dv * 2 + 16; }
};

// What is known of a tile of tokens without looking at each.
struct TokenBounds {
  uint32_t first, last;  // positions; last is kNobody where not all of them exist
};

struct TileMeta {
  uint32_t position[kTileTokens];
  float key_factor[kTileTokens], value_factor[kTileTokens];
  float row_factor[kTileRows];
  float mean_scale;
  const uint4 *key[kTileTokens], *value[kTileTokens];  // exact rows, or null
  uint32_t bad[2];                                     // exact tokens whose value is not finite
};

// Queries of this warp's rows as two 16-bit numbers each, relative to a power of two of the row, which goes to
// row_factor with the scale and log2(e). A query that is not finite makes it NaN.
template <bool kExact>
__device__ inline void load_query_rows(const PrefillArgs& a, const RowTile& t, uint8_t* queries, uint32_t pitch,
                                       float* row_factor) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, dim = a.key_dim;
  float* rows = reinterpret_cast<float*>(queries + warp * 16 * pitch);
  const int n_mine = min(16, max(0, static_cast<int>(t.n_rows) - warp * 16)), step = pitch / 4;
#pragma unroll 4
  for (int r = 0; r < 16; ++r)
    for (int d = lane; d < dim; d += 32) {
      const int64_t at = int64_t{t.tensor_row(warp * 16 + r)} * a.q.row_stride +
                         int64_t{t.query_head(warp * 16 + r)} * a.q.head_stride + d;
      rows[r * step + d] = r < n_mine ? load_element(a.q, at) : 0.0f;
    }
  if (!kExact) map_shared_rows(a.query, t.head, rows, step, n_mine, dim);
  __syncwarp();
  for (int r = 0; r < 16; ++r) {
    float x[kMaxHeadDim / 32], largest = 0.0f;
    bool finite = true;
#pragma unroll
    for (int e = 0; e < static_cast<int>(kMaxHeadDim / 32); ++e) {
      x[e] = lane + 32 * e < dim ? rows[r * step + lane + 32 * e] : 0.0f;
      finite = finite && fabsf(x[e]) < __int_as_float(0x7f800000);
      largest = fmaxf(largest, fabsf(x[e]));
    }
#pragma unroll
    for (int k = 16; k; k /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, k));
    finite = __all_sync(~0u, finite);
    // 2^n at most the largest magnitude, within what has a normal reciprocal.
    const float unit = __uint_as_float(min(max(__float_as_uint(largest) >> 23, 2u), 252u) << 23);
    const float inverse = finite ? 1.0f / unit : 0.0f;
    __syncwarp();
    uint16_t* high = reinterpret_cast<uint16_t*>(rows + r * step);
#pragma unroll
    for (int e = 0; e < static_cast<int>(kMaxHeadDim / 32); ++e) {
      const int d = lane + 32 * e;
      if (d >= dim) continue;
      const float y = finite ? x[e] * inverse * (kExact ? 1.0f : 256.0f) : 0.0f;
      if (kExact) {
        const __nv_bfloat16 h = __float2bfloat16_rn(y);
        high[d] = __bfloat16_as_ushort(h);
        high[dim + d] = __bfloat16_as_ushort(__float2bfloat16_rn(y - __bfloat162float(h)));
      } else {
        const __half h = __float2half_rn(y);
        high[d] = __half_as_ushort(h);
        high[dim + d] = __half_as_ushort(__float2half_rn(y - __half2float(h)));
      }
    }
    const float factor = a.scale * kLog2e * unit * (kExact ? 1.0f : 1.0f / 256.0f);
    if (lane == 0) row_factor[warp * 16 + r] = finite ? factor : __int_as_float(0x7fffffff);
    __syncwarp();
  }
}

// Half of a block. reference: of the sums of packed values, at least the block's base (a power of two).
inline constexpr float kPackedWeight = 32768.0f;  // weights are at most 1 * 1.94 / 2 times this: FP16

__device__ inline TokenBounds load_block_tile(const PrefillArgs& a, const RowTile& t, const SpanEntry& e, uint32_t half,
                                              const TileMemory& m, uint8_t* shared, TileMeta& meta, float& reference) {
  const BlockLayout& l = a.layout;
  const uint8_t* block = a.pool + uint64_t{e.unit} * 64 + a.block_offset + uint64_t{t.head} * l.bytes;
  const float4 header = __ldg(reinterpret_cast<const float4*>(block + l.header));  // mean_scale, key_base, value_base
  reference = fmaxf(reference, header.z);
  unpack_keys(l, block, half, a.key_dim, shared + m.keys, m.key_pitch);
  unpack_values(l, block, half, a.value_dim, shared + m.values, TileMemory::kPackedPitch);
  if (threadIdx.x < kTileTokens) {
    const uint32_t slot = half * kTileTokens + threadIdx.x, token = slot_token(l, block, slot);
    meta.position[threadIdx.x] = token >= e.first && token < e.last ? e.start + token : kNobody;
    meta.key_factor[threadIdx.x] = decode_scale(block[l.key_scales + slot], header.y) *
                                   slot_unit(slot, l.h, l.key_plane);
    meta.value_factor[threadIdx.x] = decode_scale(block[l.value_scales + slot], header.z / reference * kPackedWeight) *
                                     slot_unit(slot, l.h, l.value_plane);
    if (threadIdx.x == 0) meta.mean_scale = header.x;
  }
  uint16_t* mean = reinterpret_cast<uint16_t*>(shared + m.keys + kTileTokens * m.key_pitch);
  for (uint32_t d = threadIdx.x; d < a.key_dim; d += kPrefillThreads)
    mean[d] = __half_as_ushort(__int2half_rn(static_cast<int8_t>(block[l.key_mean + d])));
  return {e.start, e.first == 0 && e.last == kBlockTokens ? e.start + kBlockTokens - 1 : kNobody};
}

__device__ __forceinline__ bool bf16_pair_is_finite(uint32_t w) {
  return (w & 0x7f80u) != 0x7f80u && (w & 0x7f800000u) != 0x7f800000u;
}
// Elements that are not finite become 0.
__device__ __forceinline__ uint32_t finite_bf16_pair(uint32_t w) {
  if ((w & 0x7f80u) == 0x7f80u) w &= 0xffff0000u;
  return (w & 0x7f800000u) == 0x7f800000u ? w & 0xffffu : w;
}

// 64 exact rows; rows that do not exist are zeros, for 0 times what lies there could be NaN. So are values that are not
// finite: meta.bad names their tokens.
__device__ inline void load_exact_tile(const PrefillArgs& a, const RowTile& t, const TokenTiles& tiles, uint32_t tile,
                                       const TileMemory& m, uint8_t* shared, TileMeta& meta) {
  constexpr uint32_t kAtOnce = 8, kStep = kPrefillThreads / 32;  // tokens of a warp whose loads are in flight together
  const uint32_t thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const uint32_t key_chunks = a.key_dim / 8, n_chunks = key_chunks + a.value_dim / 8;
  uint8_t* values = shared + m.values;
  const uint32_t value_pitch = TileMemory::exact_pitch(a.value_dim);
  if (thread < 2) meta.bad[thread] = 0;
  if (thread < kTileTokens) {
    const ExactRow row = exact_row(a, t, tiles, tile, thread);
    meta.position[thread] = row.position;
    meta.key[thread] = reinterpret_cast<const uint4*>(row.key);
    meta.value[thread] = reinterpret_cast<const uint4*>(row.value);
  }
  sync_threads<1, kPrefillThreads>();
#pragma unroll 1
  for (uint32_t token = warp; token < kTileTokens; token += kStep * kAtOnce)
#pragma unroll 1
    for (uint32_t c = lane; c < n_chunks; c += 32) {
      const bool is_key = c < key_chunks;
      const uint32_t at = is_key ? c : c - key_chunks;
      uint4 v[kAtOnce];
#pragma unroll
      for (uint32_t k = 0; k < kAtOnce; ++k) {
        const uint4* row = (is_key ? meta.key : meta.value)[token + k * kStep];
        v[k] = row ? __ldg(row + at) : uint4{};
      }
#pragma unroll
      for (uint32_t k = 0; k < kAtOnce; ++k) {
        const uint32_t to = token + k * kStep;
        if (!is_key && !(bf16_pair_is_finite(v[k].x) && bf16_pair_is_finite(v[k].y) && bf16_pair_is_finite(v[k].z) &&
                         bf16_pair_is_finite(v[k].w))) {
          v[k] = make_uint4(finite_bf16_pair(v[k].x), finite_bf16_pair(v[k].y), finite_bf16_pair(v[k].z),
                            finite_bf16_pair(v[k].w));
          atomicOr(&meta.bad[to / 32], 1u << to % 32);
        }
        *reinterpret_cast<uint4*>(is_key ? shared + m.keys + to * m.key_pitch + at * 16
                                         : values + to * value_pitch + at * 16) = v[k];
      }
    }
}

// Of the exact tile that meta describes; the whole warp calls.
__device__ inline TokenBounds exact_bounds(const TileMeta& meta) {
  const uint32_t lane = threadIdx.x & 31, first = meta.position[0];
  const bool whole = first != kNobody && __all_sync(~0u, meta.position[lane] == first + lane &&
                                                             meta.position[lane + 32] == first + lane + 32);
  return {first, whole ? first + kTileTokens - 1 : kNobody};
}

}  // namespace oscar::cuda
