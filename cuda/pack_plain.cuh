// The fast packing kernel: Hadamard or identity maps, plain rounding. Bound by memory and issue slots.
//
// Grid: keys of every (job, head), then values; a CTA packs one side of one block. Its 128 rows lie in shared memory as
// they came (codes replace a row once it is in registers); L lanes share a token, each with D / L consecutive
// dimensions in registers, so butterflies are register arithmetic but for the last log2(L) stages (shuffles). A sum
// over dimensions passes through the L lanes in turn.
// Moves 256 D bytes in and about 33 D out; D = 128: 32 instructions an element.
// Shared memory: rows [128][L][segment], segment = D / L BF16 and so many pad bytes that it is an odd number of 16-byte
// units: the 16-byte loads of 8 lanes then hit 8 different bank groups. Then mean [2][D], order, scales, scratch, row
// pointers.
#pragma once
#include <cuda_pipeline.h>

#include "cuda/pack_lanes.cuh"
#include "cuda/pack_planes.cuh"
#include "cuda/pack_side.cuh"

namespace oscar::cuda {

template <uint32_t D, uint32_t L>
struct PlainShape {
  static constexpr uint32_t kElements = D / L, kUnits = kElements / 8, kSegment = (kUnits | 1) * 16,
                            kPitch = kSegment * L;
  static_assert(D % (8 * L) == 0 && kPackThreads % L == 0 && kElements % hadamard_paley_order(D) == 0);
  static constexpr uint32_t kMean = kBlockTokens * kPitch, kOrder = kMean + 2 * D * 4, kScales = kOrder + kBlockTokens;
  static constexpr uint32_t kScratch = kScales + kBlockTokens * 4, kRows = kScratch + 16;
  static constexpr uint32_t kBytes = kRows + kBlockTokens * 8;
  // Where 16-byte unit u of a row lies.
  __device__ static uint32_t unit(uint32_t row, uint32_t u) {
    return row * kPitch + u / kUnits * kSegment + u % kUnits * 16;
  }
};

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
  auto* rows = reinterpret_cast<const uint16_t**>(shared + Shape::kRows);
  const FourVotes votes = ask_votes(p, s);
  rows[threadIdx.x] = SideRows(p, s).row(threadIdx.x);
  __syncthreads();
  for_each_unit<Shape, D>(
      shared, [&](uint32_t row, uint32_t unit, uint8_t* to) { __pipeline_memcpy_async(to, rows[row] + unit * 8, 16); });
  __pipeline_commit();
  find_order(p, s, votes, order);
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

// The token of one slot, by L lanes: codes replace its row in shared memory, the scale goes to scales[slot].
template <uint32_t D, uint32_t L>
__device__ void pack_slot(const Side& s, uint32_t slot, uint32_t width, bool hadamard, const Scaling& scaling,
                          uint8_t* row, const float* mean, float* scales) {
  constexpr uint32_t E = D / L;
  const uint32_t lane = threadIdx.x % L;
  float z[E];
  transform_token<D, L>(row + lane * PlainShape<D, L>::kSegment, hadamard, scaling, z);
  if (s.is_key) {
    if (slot < kPackThreads / L) __syncthreads();  // the first time: the mean is there
    subtract_mean(mean + lane * E, z);
  }
  const float zz = chain_over_lanes<L>([&](float sum) {
#pragma unroll
    for (uint32_t i = 0; i < E; ++i) sum = __fmaf_rn(z[i], z[i], sum);
    return sum;
  });
  const float rms = rms_of<D>(zz), n_levels = static_cast<float>(4u << width);
  const float inverse_step = rms > 0.0f ? __fdiv_rn(1.0f, __fmul_rn(rms, step_ratio(width))) : 1.0f;
  const float inverse = __fmul_rn(inverse_step, __uint_as_float((125u - width) << 23));  // over n_levels
  __syncwarp();  // the other lanes have read the row
  const LaneRounding<L, E> rounding = {z, row + lane * E, inverse, n_levels};
  const float scale = s.is_key ? __fsqrt_rn(ratio_or_zero(zz, rounding.round_key((4u << width) - 1)))
                               : ratio_or_zero(zz, rounding.round_value(0.5f * (n_levels - 1.0f)));
  if (width) rounding.split(width, D);
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
    pack_slot<D, L>(s, slot, slot < p.layout.h ? plane : 0, hadamard, scaling, shared + order[slot] * Shape::kPitch,
                    mean, scales);
  __syncthreads();
  const float base = write_scales(scales[threadIdx.x], p.layout.h, plane, scan.exponent,
                                  s.block + (s.is_key ? p.layout.key_scales : p.layout.value_scales), scratch);
  write_header(p, s, mean_scale, base, scan.n_non_finite, order);
  const CodeRows codes = {
      reinterpret_cast<const uint32_t*>(shared), Shape::kPitch / 4, D / 4, order, p.layout.h, plane};
  write_planes<D>(p.layout, s.is_key, codes, s.block);
}

}  // namespace oscar::cuda
