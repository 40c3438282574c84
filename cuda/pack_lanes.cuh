// Tokens in registers, for the plain packing kernel: L lanes share a token, lane l holds dimensions [l E, (l + 1) E),
// E = D / L. Maps, chains over all dimensions, rounding.
#pragma once
#include <cstdint>

#include "cuda/pack_planes.cuh"
#include "cuda/pack_side.cuh"

namespace oscar::cuda {

__device__ __forceinline__ float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// The input's power of two, 2^exponent, is applied to every element first (`before`) or, to the same bits, with the
// last factor of the map (`after`). The same bits because BF16 elements are multiples of 2^-133: for exponent >= -16 no
// product with 2^exponent is inexact, sums in the denormal range are exact, and a sum that needs rounding is above
// 2^-109, so normal with and without the power.
struct Scaling {
  float before, after;
  bool is_early;
  __device__ explicit Scaling(int exponent)
      : before(exponent < -16 ? power_of_two(exponent) : 1.0f), after(exponent < -16 ? 1.0f : power_of_two(exponent)),
        is_early(exponent < -16) {}
};

// Lane l of L has dimensions [l * E, (l + 1) * E).
template <uint32_t D, uint32_t L, uint32_t E>
__device__ __forceinline__ void hadamard_in_lanes(float (&z)[E], float factor) {
  constexpr uint32_t kM = hadamard_paley_order(D);
  if constexpr (kM > 1) {
#pragma unroll
    for (uint32_t a = 0; a < E; a += kM) {
      float sum[kM];
#pragma unroll
      for (uint32_t j = 0; j < kM; ++j) {
        sum[j] = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < kM; ++i)
          sum[j] = paley_sign(kM, i, j) > 0 ? __fadd_rn(sum[j], z[a + i]) : __fsub_rn(sum[j], z[a + i]);
      }
#pragma unroll
      for (uint32_t j = 0; j < kM; ++j) z[a + j] = sum[j];
    }
  }
#pragma unroll
  for (uint32_t stride = kM; stride < E; stride *= 2)
#pragma unroll
    for (uint32_t i = 0; i < E; ++i)
      if (i / stride % 2 == 0) {
        const float u = z[i], v = z[i + stride];
        z[i] = __fadd_rn(u, v);
        z[i + stride] = __fsub_rn(u, v);
      }
#pragma unroll
  for (uint32_t lanes = 1; lanes < L; lanes *= 2) {
    const float sign = threadIdx.x & lanes ? -1.0f : 1.0f;  // a product with +-1 is exact
#pragma unroll
    for (uint32_t i = 0; i < E; ++i) z[i] = __fmaf_rn(sign, z[i], __shfl_xor_sync(~0u, z[i], lanes));
  }
#pragma unroll
  for (uint32_t i = 0; i < E; ++i) z[i] = __fmul_rn(z[i], factor);
}

// A chain over the D dimensions of a token: `run` continues it over the E of this lane. All L lanes get the result.
template <uint32_t L, typename Run>
__device__ __forceinline__ float chain_over_lanes(Run run) {
  if constexpr (L == 1) return run(0.0f);
  const uint32_t first = threadIdx.x % 32 / L * L;
  float sum = 0.0f;
#pragma unroll 1
  for (uint32_t l = 0; l < L; ++l) sum = run(__shfl_sync(~0u, sum, first + (l ? l - 1 : 0)));
  return __shfl_sync(~0u, sum, first + L - 1);
}

// 8 or 16 codes in shared memory.
template <uint32_t N>
struct CodeRun {
  uint32_t words[N / 4];
  __device__ __forceinline__ void store(uint8_t* to) const {
    if constexpr (N == 16)
      *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    else
      *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
  }
  __device__ static __forceinline__ CodeRun load(const uint8_t* from) {
    if constexpr (N == 16) {
      const uint4 v = *reinterpret_cast<const uint4*>(from);
      return {{v.x, v.y, v.z, v.w}};
    } else {
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      return {{v.x, v.y}};
    }
  }
};

// A token's dimensions of this lane, transformed, before the mean is subtracted.
template <uint32_t D, uint32_t L, uint32_t E>
__device__ __forceinline__ void transform_token(const uint8_t* segment, bool hadamard, const Scaling& scaling,
                                                float (&z)[E]) {
#pragma unroll
  for (uint32_t u = 0; u < E / 8; ++u) {
    const uint4 x = *reinterpret_cast<const uint4*>(segment + u * 16);
    const uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {
      z[u * 8 + 2 * k] = bf16_low(words[k]);
      z[u * 8 + 2 * k + 1] = bf16_high(words[k]);
    }
  }
  if (scaling.is_early) {
#pragma unroll
    for (uint32_t i = 0; i < E; ++i) z[i] = __fmul_rn(z[i], scaling.before);
  }
  if (hadamard) {
    hadamard_in_lanes<D, L>(z, __fmul_rn(hadamard_factor_of(D), scaling.after));
  } else {
#pragma unroll
    for (uint32_t i = 0; i < E; ++i) z[i] = __fmul_rn(z[i], scaling.after);
  }
}

template <uint32_t E>
__device__ __forceinline__ void subtract_mean(const float* mean, float (&z)[E]) {
#pragma unroll
  for (uint32_t i = 0; i < E; i += 4) {
    const float4 m = *reinterpret_cast<const float4*>(mean + i);
    z[i] = __fsub_rn(z[i], m.x);
    z[i + 1] = __fsub_rn(z[i + 1], m.y);
    z[i + 2] = __fsub_rn(z[i + 2], m.z);
    z[i + 3] = __fsub_rn(z[i + 3], m.w);
  }
}

// Rounds the dimensions of this lane, to `codes` in shared memory, 16 (or 8) codes at a time: vector accesses keep rows
// and lanes off each other's banks.
template <uint32_t L, uint32_t E>
struct LaneRounding {
  static constexpr uint32_t kRun = E % 16 == 0 ? 16 : 8;
  using Run = CodeRun<kRun>;
  const float (&z)[E];
  uint8_t* codes;
  float inverse, n_levels;

  // Also the codes as 2^23 + code.
  __device__ __forceinline__ Run round_run(uint32_t first, float (&c)[kRun]) const {
#pragma unroll
    for (uint32_t k = 0; k < kRun; ++k) c[k] = nearest_code(z[first + k], inverse, n_levels);
    Run run;
#pragma unroll
    for (uint32_t k = 0; k < kRun; k += 4) run.words[k / 4] = join_codes(c[k], c[k + 1], c[k + 2], c[k + 3]);
    run.store(codes + first);
    return run;
  }

  // Returns |u|^2 over all lanes of the token.
  __device__ __forceinline__ float round_key(uint32_t top) const {
    uint32_t sum = 0, sum_of_squares = 0;
    float c[kRun];
#pragma unroll
    for (uint32_t i = 0; i < E; i += kRun) {
      const Run run = round_run(i, c);
#pragma unroll
      for (const uint32_t word : run.words) {
        sum = __dp4a(word, 0x01010101u, sum);
        sum_of_squares = __dp4a(word, word, sum_of_squares);
      }
    }
#pragma unroll
    for (uint32_t lanes = 1; lanes < L; lanes *= 2) {
      sum += __shfl_xor_sync(~0u, sum, lanes);
      sum_of_squares += __shfl_xor_sync(~0u, sum_of_squares, lanes);
    }
    return centred_norm(sum, sum_of_squares, top, E * L);
  }

  // Returns <z, u> over all lanes of the token.
  __device__ __forceinline__ float round_value(float centre) const {
    float c[kRun];
    if constexpr (L == 1) {
      float zu = 0.0f;
#pragma unroll
      for (uint32_t i = 0; i < E; i += kRun) {
        round_run(i, c);
#pragma unroll
        for (uint32_t k = 0; k < kRun; ++k) zu = __fmaf_rn(z[i + k], centred(c[k], centre), zu);
      }
      return zu;
    }
#pragma unroll
    for (uint32_t i = 0; i < E; i += kRun) round_run(i, c);
    const float shift = -(4194304.0f + centre);
    return chain_over_lanes<L>([&](float zu) {
      __syncwarp();  // so that codes are loaded each time: else all u are kept in registers from lane to lane
#pragma unroll
      for (uint32_t i = 0; i < E; i += kRun) {
        const Run run = Run::load(codes + i);
#pragma unroll
        for (uint32_t k = 0; k < kRun; ++k) {  // 2^22 + code, in steps of 1/2
          const uint32_t bits = __byte_perm(run.words[k / 4] << 1, 0x4a800000u, 0x7650 + k % 4);
          zu = __fmaf_rn(z[i + k], __fadd_rn(__uint_as_float(bits), shift), zu);
        }
      }
      return zu;
    });
  }

  // Whole codes into base codes and, `distance` bytes behind them, the refinement.
  __device__ __forceinline__ void split(uint32_t width, uint32_t distance) const {
#pragma unroll 2
    for (uint32_t i = 0; i < E; i += kRun) {
      Run base = Run::load(codes + i), fine;
#pragma unroll
      for (uint32_t k = 0; k < kRun / 4; ++k) {
        fine.words[k] = fine_codes(base.words[k], width);
        base.words[k] = base_codes(base.words[k], width);
      }
      base.store(codes + i);
      fine.store(codes + distance + i);
    }
  }
};

}  // namespace oscar::cuda
