// The fast packing kernel: Hadamard or identity maps, plain rounding. Bound by memory and issue slots.
//
// Grid: keys of every (job, head), then values; a CTA packs one side of one block. Its 128 rows lie in shared memory as
// they came (codes replace a row once it is in registers); L lanes share a token, each with D / L consecutive dimensions
// in registers, so butterflies are register arithmetic but for the last log2(L) stages (shuffles). A sum over dimensions
// passes through the L lanes in turn.
// Moves 256 D bytes in and about 33 D out; D = 128: 35 operations an element.
// Shared memory: rows [128][L][segment], segment = D / L BF16 and so many pad bytes that it is an odd number of 16-byte
// units: the 16-byte loads of 8 lanes then hit 8 different bank groups. Then mean [2][D], order, scratch.
#pragma once
#include <cuda_pipeline.h>

#include "cuda/pack_planes.cuh"
#include "cuda/pack_side.cuh"

namespace oscar::cuda {

template <uint32_t D, uint32_t L>
struct PlainShape {
  static constexpr uint32_t kElements = D / L, kUnits = kElements / 8, kSegment = (kUnits | 1) * 16,
                            kPitch = kSegment * L;
  static_assert(D % (8 * L) == 0 && kPackThreads % L == 0 && kElements % hadamard_paley_order(D) == 0);
  static constexpr uint32_t kMean = kBlockTokens * kPitch, kOrder = kMean + 2 * D * 4, kScales = kOrder + kBlockTokens;
  static constexpr uint32_t kScratch = kScales + kBlockTokens * 4, kBytes = kScratch + 16;
  // Where 16-byte unit u of a row lies.
  __device__ static uint32_t unit(uint32_t row, uint32_t u) {
    return row * kPitch + u / kUnits * kSegment + u % kUnits * 16;
  }
};

__device__ __forceinline__ float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// Replaces non-finite halves by 0 and counts them.
__device__ __forceinline__ uint32_t drop_non_finite(uint32_t pair, uint32_t& n) {
  const bool low = is_finite_bf16(pair & 0xffffu), high = is_finite_bf16(pair >> 16);
  n += !low + !high;
  return (low ? pair & 0xffffu : 0u) | (high ? pair & 0xffff0000u : 0u);
}

struct RowScan {
  uint32_t n_non_finite;
  int exponent;
};

// Visits the 16-byte units of all rows: a thread stays in one column of units and walks down the rows.
template <typename Shape, uint32_t D, typename Visit>
__device__ __forceinline__ void for_each_unit(uint8_t* shared, Visit visit) {
  constexpr uint32_t kRowUnits = D / 8, kRows = kPackThreads / kRowUnits, kSteps = ceil_div(kBlockTokens, kRows);
  const uint32_t unit = threadIdx.x % kRowUnits, first = threadIdx.x / kRowUnits;
  if (kPackThreads % kRowUnits != 0 && first >= kRows) return;
  uint8_t* at = shared + Shape::unit(first, unit);
#pragma unroll 8
  for (uint32_t step = 0; step < kSteps; ++step)
    if (kBlockTokens % kRows == 0 || first + step * kRows < kBlockTokens)
      visit(first + step * kRows, unit, at + step * kRows * Shape::kPitch);
}

// Rows to shared memory; while they travel warp 0 chooses the slots. Ends with a barrier.
template <typename Shape, uint32_t D>
__device__ RowScan load_rows(const PackLaunch& p, const Side& s, uint8_t* shared, uint8_t* order, uint32_t* scratch) {
  const SideRows rows(p, s);
  for_each_unit<Shape, D>(shared, [&](uint32_t row, uint32_t unit, uint8_t* to) {
    __pipeline_memcpy_async(to, rows.row(row) + unit * 8, 16);
  });
  __pipeline_commit();
  find_order(p, s, order);
  __pipeline_wait_prior(0);
  uint32_t largest = 0;  // of both halves
  for_each_unit<Shape, D>(shared, [&](uint32_t, uint32_t, const uint8_t* from) {
    const uint4 x = *reinterpret_cast<const uint4*>(from);
    largest = __vmaxu2(largest, __vmaxu2(__vmaxu2(x.x & 0x7fff7fffu, x.y & 0x7fff7fffu),
                                         __vmaxu2(x.z & 0x7fff7fffu, x.w & 0x7fff7fffu)));
  });
  largest = cta_max(max(largest & 0xffffu, largest >> 16), scratch);
  uint32_t n_non_finite = 0;
  if (largest >= 0x7f80u) {
    largest = 0;
    for_each_unit<Shape, D>(shared, [&](uint32_t, uint32_t, uint8_t* at) {
      auto* words = reinterpret_cast<uint32_t*>(at);
      for (uint32_t k = 0; k < 4; ++k) {
        words[k] = drop_non_finite(words[k], n_non_finite);
        largest = __vmaxu2(largest, words[k] & 0x7fff7fffu);
      }
    });
    n_non_finite = cta_sum(n_non_finite, scratch);
    largest = cta_max(max(largest & 0xffffu, largest >> 16), scratch);
  }
  return {n_non_finite, scan_exponent(largest)};
}

// The input's power of two, 2^exponent, is applied to every element first (`before`) or, to the same bits, with the last
// factor of the map (`after`). The same bits because BF16 elements are multiples of 2^-133: for exponent >= -16 no
// product with 2^exponent is inexact, sums in the denormal range are exact, and a sum that needs rounding is above
// 2^-109, so normal with and without the power.
struct Scaling {
  float before, after;
  bool is_early;
  __device__ explicit Scaling(int exponent)
      : before(exponent < -16 ? power_of_two(exponent) : 1.0f), after(exponent < -16 ? 1.0f : power_of_two(exponent)),
        is_early(exponent < -16) {}
};

// Mean of the rows in the order of the tokens, model basis; two dims a thread.
template <typename Shape, uint32_t D>
__device__ __forceinline__ void mean_of_rows(const uint8_t* shared, const Scaling& scaling, float* mean) {
  if (threadIdx.x >= D / 2) return;
  const uint8_t* column = shared + Shape::unit(0, threadIdx.x / 4) + threadIdx.x % 4 * 4;
  const auto pair = [&](uint32_t t) { return *reinterpret_cast<const uint32_t*>(column + t * Shape::kPitch); };
  float low = 0.0f, high = 0.0f;
  if (scaling.is_early) {
    for (uint32_t t = 0; t < kBlockTokens; ++t) {
      low = __fadd_rn(low, __fmul_rn(bf16_low(pair(t)), scaling.before));
      high = __fadd_rn(high, __fmul_rn(bf16_high(pair(t)), scaling.before));
    }
  } else {
#pragma unroll 16
    for (uint32_t t = 0; t < kBlockTokens; ++t) {
      low = __fadd_rn(low, bf16_low(pair(t)));
      high = __fadd_rn(high, bf16_high(pair(t)));
    }
  }
  const float factor = __fmul_rn(scaling.after, 1.0f / kBlockTokens);
  *reinterpret_cast<float2*>(mean + 2 * threadIdx.x) = make_float2(__fmul_rn(low, factor), __fmul_rn(high, factor));
}

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

// Hadamard map and quantization of the mean by one warp, D a power of two: map_row and quantize_mean of pack_side.cuh.
template <uint32_t D>
__device__ float quantize_mean_in_warp(bool hadamard, const float* mean, int exponent, float* decoded,
                                       uint8_t* levels) {
  constexpr uint32_t E = D / 32;
  const uint32_t lane = threadIdx.x % 32;
  float y[E], largest = 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < E; ++i) y[i] = mean[lane * E + i];
  if (hadamard) hadamard_in_lanes<D, 32>(y, hadamard_factor_of(D));
#pragma unroll
  for (uint32_t i = 0; i < E; ++i) largest = fmaxf(largest, fabsf(y[i]));
  largest = __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(largest)));
  const MeanScale scale(largest, exponent);
#pragma unroll
  for (uint32_t i = 0; i < E; ++i) {
    const float level = scale.level(y[i]);
    decoded[lane * E + i] = __fmul_rn(level, scale.step);
    levels[lane * E + i] = static_cast<uint8_t>(static_cast<int8_t>(level));
  }
  return scale.stored;
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

// The tokens of slots [pass * 128 / L, + 128 / L): codes to the rows in shared memory, scales to scales[slot].
template <uint32_t D, uint32_t L>
__device__ void pack_slots(const Side& s, uint32_t slot, uint32_t width, bool hadamard, const Scaling& scaling,
                           uint8_t* row, const float* mean, float* scales) {
  constexpr uint32_t E = D / L;
  const uint32_t lane = threadIdx.x % L;
  float z[E];
  const uint8_t* segment = row + lane * PlainShape<D, L>::kSegment;
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
  if (s.is_key) {
    if (slot < kPackThreads / L) __syncthreads();  // the first time: the mean is there
#pragma unroll
    for (uint32_t i = 0; i < E; i += 4) {
      const float4 m = *reinterpret_cast<const float4*>(mean + lane * E + i);
      z[i] = __fsub_rn(z[i], m.x);
      z[i + 1] = __fsub_rn(z[i + 1], m.y);
      z[i + 2] = __fsub_rn(z[i + 2], m.z);
      z[i + 3] = __fsub_rn(z[i + 3], m.w);
    }
  }
  const float zz = chain_over_lanes<L>([&](float sum) {
#pragma unroll
    for (uint32_t i = 0; i < E; ++i) sum = __fmaf_rn(z[i], z[i], sum);
    return sum;
  });
  const float rms = rms_of<D>(zz);
  const float inverse_step = rms > 0.0f ? __fdiv_rn(1.0f, __fmul_rn(rms, step_ratio(width))) : 1.0f;
  const float n_levels = static_cast<float>(4u << width), top = n_levels - 1.0f;
  const float inverse = __fmul_rn(inverse_step, __uint_as_float((125u - width) << 23));
  __syncwarp();  // the other lanes have read the row
  auto* codes = reinterpret_cast<uint32_t*>(row) + lane * (E / 4);
  uint32_t sum = 0, sum_of_squares = 0;
#pragma unroll
  for (uint32_t i = 0; i < E; i += 4) {
    float c[4];
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) c[k] = nearest_code(z[i + k], inverse, n_levels);
    const uint32_t word = join_codes(c[0], c[1], c[2], c[3]);
    codes[i / 4] = word;
    sum = __dp4a(word, 0x01010101u, sum);
    sum_of_squares = __dp4a(word, word, sum_of_squares);
  }
  float scale;
  if (s.is_key) {
#pragma unroll
    for (uint32_t lanes = 1; lanes < L; lanes *= 2) {
      sum += __shfl_xor_sync(~0u, sum, lanes);
      sum_of_squares += __shfl_xor_sync(~0u, sum_of_squares, lanes);
    }
    scale = __fsqrt_rn(ratio_or_zero(zz, centred_norm(sum, sum_of_squares, (4u << width) - 1, D)));
  } else {
    const float shift = -(4194304.0f + 0.5f * top);
    const volatile uint32_t* reread = codes;  // else all u are kept in registers from lane to lane
    const float zu = chain_over_lanes<L>([&](float total) {
#pragma unroll
      for (uint32_t i = 0; i < E; i += 4) {
        const uint32_t doubled = reread[i / 4] << 1;
#pragma unroll
        for (uint32_t k = 0; k < 4; ++k) {  // 2^22 + code, in steps of 1/2
          const uint32_t bits = __byte_perm(doubled, 0x4a800000u, 0x7650 + k);
          total = __fmaf_rn(z[i + k], __fadd_rn(__uint_as_float(bits), shift), total);
        }
      }
      return total;
    });
    scale = ratio_or_zero(zz, zu);
  }
  if (lane == 0) scales[slot] = rms > 0.0f ? scale : 0.0f;
}

template <uint32_t D, uint32_t L, uint32_t MinCtas>
__global__ void __launch_bounds__(kPackThreads, MinCtas)
    pack_plain_kernel(const __grid_constant__ PackLaunch p, const __grid_constant__ bool values_only) {
  using Shape = PlainShape<D, L>;
  extern __shared__ __align__(16) uint8_t shared[];
  auto* mean = reinterpret_cast<float*>(shared + Shape::kMean);
  uint8_t* order = shared + Shape::kOrder;
  auto* scales = reinterpret_cast<float*>(shared + Shape::kScales);
  auto* scratch = reinterpret_cast<uint32_t*>(shared + Shape::kScratch);
  const Side s(p, blockIdx.x, values_only);
  const LinearMap& map = s.is_key ? p.transforms[p.first_head + s.head].key : p.transforms[p.first_head + s.head].value;
  const bool hadamard = map.kind == MapKind::kHadamard;

  const RowScan scan = load_rows<Shape, D>(p, s, shared, order, scratch);
  const Scaling scaling(scan.exponent);
  const uint32_t plane = s.is_key ? p.layout.key_plane : p.layout.value_plane;
  float mean_scale = 0.0f;
  if (s.is_key) {
    mean_of_rows<Shape, D>(shared, scaling, mean + D);
    __syncthreads();
    uint8_t* levels = s.block + p.layout.key_mean;
    if constexpr (hadamard_paley_order(D) > 1) {
      map_row<D>(map, mean + D, mean);
      mean_scale = quantize_mean<D>(mean, scan.exponent, levels, scratch);
    } else if (threadIdx.x < 32) {  // the other warps go on to their rows
      mean_scale = quantize_mean_in_warp<D>(hadamard, mean + D, scan.exponent, mean, levels);
    }
  }
#pragma unroll 1
  for (uint32_t slot = threadIdx.x / L; slot < kBlockTokens; slot += kPackThreads / L)
    pack_slots<D, L>(s, slot, slot < p.layout.h ? plane : 0, hadamard, scaling, shared + order[slot] * Shape::kPitch,
                     mean, scales);
  __syncthreads();
  const float base = write_scales(scales[threadIdx.x], p.layout.h, plane, scan.exponent,
                                  s.block + (s.is_key ? p.layout.key_scales : p.layout.value_scales), scratch);
  write_header(p, s, mean_scale, base, scan.n_non_finite, order);
  const CodeRows codes = {reinterpret_cast<const uint32_t*>(shared), Shape::kPitch / 4, order, p.layout.h, plane};
  write_planes<D>(p.layout, s.is_key, codes, s.block);
}

}  // namespace oscar::cuda
