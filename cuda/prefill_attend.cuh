// One warp, 16 rows, one tile of 64 tokens in shared memory: online softmax with FP32 sums in registers.
//   packed  logit = row_factor (key_factor (codes . q') + mean_scale (mean . q')), weight times value_factor in FP16
//   exact   logit = row_factor (k . q), weights as two BF16 numbers
// Lane 4 g + i holds, of rows g and g + 8, tokens 8 t + 2 i + e and output dims 8 t + 2 i + e.
#pragma once
#include "prefill_tile.cuh"

namespace oscar::cuda {

template <int kDv>
struct RowState {
  float out[kDv / 8][4] = {};
  float largest[2] = {kUnseen, kUnseen};
  float sum[2] = {};  // this lane's part

  __device__ __forceinline__ void scale_out(float f0, float f1) {
#pragma unroll
    for (int n = 0; n < kDv / 8; ++n) {
      out[n][0] *= f0;
      out[n][1] *= f0;
      out[n][2] *= f1;
      out[n][3] *= f1;
    }
  }
};

inline constexpr int kTokenOctets = kTileTokens / 8;

template <bool kExact>
__device__ __forceinline__ void multiply(float (&c)[4], uint4 a, uint32_t b0, uint32_t b1) {
  if constexpr (kExact)
    mma_bf16(c, a, b0, b1);
  else
    mma_f16(c, a, b0, b1);
}

// Products of the 16 rows with 64 keys, and with the block mean (every column the same).
template <bool kExact>
__device__ __forceinline__ void tile_products(const TileMemory& m, const uint8_t* shared, int dim, bool has_low,
                                              float (&x)[kTokenOctets][4], float (&mean)[4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  const uint8_t* query = shared + (warp * 16 + lane % 16) * m.query_pitch + lane / 16 * 16;
  const uint8_t* key = shared + m.keys + (lane / 16 * 8 + lane % 8) * m.key_pitch + lane / 8 % 2 * 16;
  const uint8_t* mean_row = shared + m.keys + kTileTokens * m.key_pitch + lane / 8 % 2 * 16;
#pragma unroll 2
  for (int ks = 0; ks < dim / 16; ++ks) {
    const uint4 high = load_matrices(query + ks * 32);
    uint4 low{};
    if (has_low) low = load_matrices(query + dim * 2 + ks * 32);
#pragma unroll
    for (int pair = 0; pair < kTokenOctets / 2; ++pair) {
      const uint4 b = load_matrices(key + pair * 16 * m.key_pitch + ks * 32);
      multiply<kExact>(x[2 * pair], high, b.x, b.y);
      multiply<kExact>(x[2 * pair + 1], high, b.z, b.w);
      if (has_low) {
        multiply<kExact>(x[2 * pair], low, b.x, b.y);
        multiply<kExact>(x[2 * pair + 1], low, b.z, b.w);
      }
    }
    if constexpr (!kExact) {
      const uint4 b = load_matrices(mean_row + ks * 32);
      multiply<kExact>(mean, high, b.x, b.y);
      if (has_low) multiply<kExact>(mean, low, b.x, b.y);
    }
  }
}

// x becomes base-2 logits; what a row does not see becomes kUnseen.
template <bool kExact, int kOctets, class Meta>
__device__ __forceinline__ void tile_logits(const Meta& meta, const float* row_factor, const RowView (&view)[2],
                                            const Softcap& softcap, bool all_seen, const float (&mean)[4],
                                            float (&x)[kOctets][4]) {
  const int g = threadIdx.x % 32 / 4, i = threadIdx.x % 4, row = threadIdx.x / 32 * 16 + g;
  const float factor[2] = {row_factor[row], row_factor[row + 8]};
#pragma unroll
  for (int n = 0; n < kOctets; ++n) {
    float2 unit = make_float2(1.0f, 1.0f);
    if constexpr (!kExact) unit = *reinterpret_cast<const float2*>(&meta.key_factor[n * 8 + i * 2]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float y = x[n][e];
      if constexpr (!kExact) y = fmaf(y, e % 2 ? unit.y : unit.x, mean[e / 2 * 2] * meta.mean_scale);
      x[n][e] = y * factor[e / 2];
    }
  }
  if (softcap.two_over_cap > 0.0f) {
#pragma unroll
    for (int n = 0; n < kOctets; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) x[n][e] = softcap(x[n][e]);
  }
  if (all_seen) return;
#pragma unroll
  for (int n = 0; n < kOctets; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const uint32_t position = meta.position[n * 8 + i * 2 + e % 2];
      if (position == kNobody || !view[e / 2].sees(position)) x[n][e] = kUnseen;
    }
}

// x becomes 2^(x - largest); the state follows the largest logit.
template <int kDv, int kOctets>
__device__ __forceinline__ void tile_weights(float (&x)[kOctets][4], RowState<kDv>& s) {
  float reference[2], shrink[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float largest = s.largest[k];
#pragma unroll
    for (int n = 0; n < kOctets; ++n) largest = fmaxf(largest, fmaxf(x[n][2 * k], x[n][2 * k + 1]));
    largest = quad_max(largest);
    reference[k] = largest <= kUnseen ? 0.0f : largest;  // then weights of unseen tokens are 0, not 1
    shrink[k] = exp2_approx(s.largest[k] - reference[k]);
    s.largest[k] = largest;
  }
  if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
    s.sum[0] *= shrink[0];
    s.sum[1] *= shrink[1];
    s.scale_out(shrink[0], shrink[1]);
  }
#pragma unroll
  for (int n = 0; n < kOctets; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      x[n][e] = exp2_approx(x[n][e] - reference[e / 2]);
      s.sum[e / 2] += x[n][e];
    }
}

__device__ __forceinline__ void split_weights(float a, float b, uint32_t& high, uint32_t& low) {
  const __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
  const __nv_bfloat162 l = __floats2bfloat162_rn(a - __bfloat162float(h.x), b - __bfloat162float(h.y));
  high = *reinterpret_cast<const uint32_t*>(&h);
  low = *reinterpret_cast<const uint32_t*>(&l);
}

template <int kDv>
__device__ __forceinline__ void add_exact_values(const uint8_t* values, const float (&p)[kTokenOctets][4],
                                                 RowState<kDv>& s) {
  const int lane = threadIdx.x & 31;
  constexpr int kPitch = TileMemory::exact_pitch(kDv);
  const uint8_t* at = values + lane % 16 * kPitch + lane / 16 * 16;
#pragma unroll
  for (int k = 0; k < kTokenOctets / 2; ++k) {
    uint4 high, low;
    split_weights(p[2 * k][0], p[2 * k][1], high.x, low.x);
    split_weights(p[2 * k][2], p[2 * k][3], high.y, low.y);
    split_weights(p[2 * k + 1][0], p[2 * k + 1][1], high.z, low.z);
    split_weights(p[2 * k + 1][2], p[2 * k + 1][3], high.w, low.w);
#pragma unroll
    for (int c = 0; c < kDv / 16; ++c) {
      const uint4 v = load_matrices_transposed(at + k * 16 * kPitch + c * 32);
      mma_bf16(s.out[2 * c], high, v.x, v.y);
      mma_bf16(s.out[2 * c + 1], high, v.z, v.w);
      mma_bf16(s.out[2 * c], low, v.x, v.y);
      mma_bf16(s.out[2 * c + 1], low, v.z, v.w);
    }
  }
}

template <int kDv>
__device__ __forceinline__ void add_packed_values(const uint8_t* values, const TileMeta& meta,
                                                  const float (&p)[kTokenOctets][4], RowState<kDv>& s) {
  const int lane = threadIdx.x & 31, i = lane % 4;
  const uint8_t* at = values + (lane / 16 * 8 + lane % 8) * TileMemory::kPackedPitch + lane / 8 % 2 * 16;
#pragma unroll
  for (int k = 0; k < kTokenOctets / 2; ++k) {
    const float2 u = *reinterpret_cast<const float2*>(&meta.value_factor[k * 16 + i * 2]);
    const float2 v = *reinterpret_cast<const float2*>(&meta.value_factor[k * 16 + 8 + i * 2]);
    const uint4 w = make_uint4(
        pack_f16(p[2 * k][0] * u.x, p[2 * k][1] * u.y), pack_f16(p[2 * k][2] * u.x, p[2 * k][3] * u.y),
        pack_f16(p[2 * k + 1][0] * v.x, p[2 * k + 1][1] * v.y), pack_f16(p[2 * k + 1][2] * v.x, p[2 * k + 1][3] * v.y));
#pragma unroll
    for (int c = 0; c < kDv / 16; ++c) {
      const uint4 b = load_matrices(at + c * 16 * TileMemory::kPackedPitch + k * 32);
      mma_f16(s.out[2 * c], w, b.x, b.y);
      mma_f16(s.out[2 * c + 1], w, b.z, b.w);
    }
  }
}

// Values that are not finite were left out of the tile: those of one token are added here, to the rows that see it only.
template <int kDv>
__device__ __forceinline__ void add_bad_value(const uint16_t* value, const float (&p)[2], const bool (&sees)[2],
                                              RowState<kDv>& s) {
  const int i = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < kDv / 8; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float v = __uint_as_float(uint32_t{value[n * 8 + i * 2 + e]} << 16);
      const bool is_bad = !(fabsf(v) < __int_as_float(0x7f800000));
      if (is_bad && sees[0]) s.out[n][e] += p[0] * v;
      if (is_bad && sees[1]) s.out[n][2 + e] += p[1] * v;
    }
}

// This lane's weight of a token, if it has it, of row g (kFirst = 0) or g + 8 (2). Without a loop, which would become an
// index into local memory.
template <int kFirst, int kOctets, int kAt = 0>
__device__ __forceinline__ float weight_of(const float (&p)[kOctets][4], int token) {
  if constexpr (kAt + 1 == kOctets)
    return token % 2 ? p[kAt][kFirst + 1] : p[kAt][kFirst];
  else
    return token / 8 == kAt ? (token % 2 ? p[kAt][kFirst + 1] : p[kAt][kFirst])
                            : weight_of<kFirst, kOctets, kAt + 1>(p, token);
}

template <int kDv, int kOctets, class Meta>
__device__ __forceinline__ void add_bad_values(const PrefillArgs& a, const RowTile& t, const TokenTiles& tiles,
                                               uint32_t tile, const Meta& meta, const RowView (&view)[2],
                                               const float (&p)[kOctets][4], RowState<kDv>& s) {
#pragma unroll 1
  for (int token = 0; token < kOctets * 8; ++token) {
    if (!(meta.bad[token / 32] >> token % 32 & 1u)) continue;
    const int holder = (threadIdx.x & 28) + token % 8 / 2;
    const float own[2] = {weight_of<0>(p, token), weight_of<2>(p, token)};
    const float weight[2] = {__shfl_sync(~0u, own[0], holder), __shfl_sync(~0u, own[1], holder)};
    const bool sees[2] = {view[0].sees(meta.position[token]), view[1].sees(meta.position[token])};
    add_bad_value(exact_row(a, t, tiles, tile, token).value, weight, sees, s);
  }
}

}  // namespace oscar::cuda
