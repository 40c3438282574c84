// Queries of one segment as operands of the MMAs, in shared memory. One warp per row.
//   codes   q' = q F^-T, scaled to 16-bit integers 256 hi + lo: hi in A rows 0-7, lo in A rows 8-15 (s8)
//   exact   q in BF16 as hi + lo, the same way
// Both carry scale * log2(e), so that logits are in base 2.
#pragma once
#include <type_traits>

#include "attend.h"
#include "ptx.cuh"
#include "transform/transform.h"

namespace oscar::cuda {

inline constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
inline constexpr int kQueryCode = 127 * 256 + 127;

// A tile has kSets sets of 8 / kSets rows. With two sets, MMA rows 0-3 and 4-7 are the same queries over different tokens
// (state.cuh), and operand `set` has zeros in the rows of the other set.
template <int kDk_, int kTiles_, int kSets_>
struct QueryOperands {
  static constexpr int kDk = kDk_, kTiles = kTiles_, kSets = kSets_, kTileRows = 8 / kSets;
  // Dims of a row that a lane encodes: an even number; of 96 dims 24 lanes have 4.
  static constexpr int kPerLane = kDk % 64 == 0 ? kDk / 32 : (kDk + 127) / 128 * 4;
  uint4 codes[kTiles][kSets][kDk / 32][32];
  uint4 exact[kTiles][kDk / 16][32];  // set 0 only
  float2 unit[kTiles * kTileRows];    // step of the integers, and step * (sum of the row's integers)
};

__device__ __forceinline__ float load_element(const TensorView& t, int64_t at) {
  switch (t.dtype) {
    case Dtype::kF32: return static_cast<const float*>(t.data)[at];
    case Dtype::kF16: return __half2float(static_cast<const __half*>(t.data)[at]);
    default: return __bfloat162float(static_cast<const __nv_bfloat16*>(t.data)[at]);
  }
}

// kN elements in a row. One look at the dtype: a branch at every load would make each wait for the one before.
template <int kN>
__device__ __forceinline__ void load_elements(const TensorView& t, int64_t at, float (&x)[kN]) {
  const auto load = [&](auto* data, auto convert) {
#pragma unroll
    for (int e = 0; e < kN; ++e) x[e] = convert(data[at + e]);
  };
  switch (t.dtype) {
    case Dtype::kF32: load(static_cast<const float*>(t.data), [](float v) { return v; }); break;
    case Dtype::kF16: load(static_cast<const __half*>(t.data), [](__half v) { return __half2float(v); }); break;
    default:
      load(static_cast<const __nv_bfloat16*>(t.data), [](__nv_bfloat16 v) { return __bfloat162float(v); });
      break;
  }
}

__device__ __forceinline__ void store_element(const TensorView& t, int64_t at, float x) {
  switch (t.dtype) {
    case Dtype::kF32: static_cast<float*>(t.data)[at] = x; break;
    case Dtype::kF16: static_cast<__half*>(t.data)[at] = __float2half_rn(x); break;
    default: static_cast<__nv_bfloat16*>(t.data)[at] = __float2bfloat16_rn(x); break;
  }
}

// y = x H / sqrt(d) for Sylvester's H of order 32 * kPerLane; lane l holds elements l * kPerLane + e.
template <int kPerLane>
__device__ __forceinline__ void hadamard_of_row(float (&x)[kPerLane]) {
  static_assert((kPerLane & (kPerLane - 1)) == 0);
#pragma unroll
  for (int step = 1; step < kPerLane; step *= 2)
#pragma unroll
    for (int e = 0; e < kPerLane; ++e)
      if (!(e & step)) {
        const float a = x[e], b = x[e + step];
        x[e] = a + b;
        x[e + step] = a - b;
      }
  const uint32_t lane = threadIdx.x & 31;
#pragma unroll
  for (uint32_t step = 1; step < 32; step *= 2)
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) {
      const float other = __shfl_xor_sync(~0u, x[e], step);
      x[e] = lane & step ? other - x[e] : x[e] + other;
    }
  const float factor = 1.0f / sqrtf(static_cast<float>(32 * kPerLane));
#pragma unroll
  for (int e = 0; e < kPerLane; ++e) x[e] *= factor;
}

// Row `row` of the segment: x its exact query, y its mapped one (both scaled), kPerLane elements a lane, zeros past the
// last. One warp does it alone while all others wait: neighbouring dims are stored together.
template <class Q>
__device__ __forceinline__ void encode_query(Q& operands, int row, const float (&x)[Q::kPerLane],
                                             const float (&y)[Q::kPerLane]) {
  constexpr int kPerLane = Q::kPerLane;
  constexpr int kBytes = kPerLane % 4 == 0 ? 4 : 2;  // codes that lie side by side
  static_assert(kPerLane % kBytes == 0);
  using Codes = std::conditional_t<kBytes == 4, uint32_t, uint16_t>;
  const int lane = threadIdx.x & 31, tile = row / Q::kTileRows, r = row % Q::kTileRows;
  const bool has_dims = lane * kPerLane < Q::kDk;
  float largest = 0.0f;
  bool finite = true;
#pragma unroll
  for (int e = 0; e < kPerLane; ++e) {
    finite = finite && fabsf(y[e]) < __int_as_float(0x7f800000);
    largest = fmaxf(largest, fabsf(y[e]));
  }
#pragma unroll
  for (int step = 16; step; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  finite = __all_sync(~0u, finite);
  // Below 2^-100 the reciprocal could overflow; such a query sees all tokens alike to the last bit.
  const float inverse = finite && largest > 0x1p-100f ? kQueryCode / largest : 0.0f;
  int sum = 0;
#pragma unroll
  for (int e = 0; e < kPerLane; e += kBytes) {
    const int d = lane * kPerLane + e;
    uint32_t hi = 0, lo = 0;
#pragma unroll
    for (int b = 0; b < kBytes; ++b) {
      const int v = finite ? __float2int_rn(y[e + b] * inverse) : 0, upper = (v + 128) >> 8;
      sum += v;
      hi |= (static_cast<uint32_t>(upper) & 255) << 8 * b;
      lo |= (static_cast<uint32_t>(v - upper * 256) & 255) << 8 * b;
    }
    if (!has_dims) continue;
#pragma unroll
    for (int part = 0; part < Q::kSets; ++part)  // MMA row: r + part * kTileRows
#pragma unroll
      for (int set = 0; set < Q::kSets; ++set) {
        uint8_t* at = reinterpret_cast<uint8_t*>(operands.codes[tile][set]) +
                      (d / 32 * 32 + (r + part * Q::kTileRows) * 4 + d % 16 / 4) * 16 + d / 16 % 2 * 8 + d % 4;
        *reinterpret_cast<Codes*>(at) = static_cast<Codes>(set == part ? hi : 0);
        *reinterpret_cast<Codes*>(at + 4) = static_cast<Codes>(set == part ? lo : 0);
      }
  }
#pragma unroll
  for (int e = 0; e < kPerLane; e += 2) {
    if (!has_dims) continue;
    const int d = lane * kPerLane + e;
    const __nv_bfloat162 high = __floats2bfloat162_rn(x[e], x[e + 1]);
    const __nv_bfloat162 low = __floats2bfloat162_rn(x[e] - __low2float(high), x[e + 1] - __high2float(high));
#pragma unroll
    for (int part = 0; part < Q::kSets; ++part) {
      uint32_t* pairs = reinterpret_cast<uint32_t*>(operands.exact[tile]) +
                        (d / 16 * 32 + (r + part * Q::kTileRows) * 4 + d % 8 / 2) * 4 + d / 8 % 2 * 2;
      pairs[0] = part == 0 ? *reinterpret_cast<const uint32_t*>(&high) : 0;
      pairs[1] = part == 0 ? *reinterpret_cast<const uint32_t*>(&low) : 0;
    }
  }
  sum = __reduce_add_sync(~0u, sum);
  const float unit = finite ? largest / kQueryCode : __int_as_float(0x7fffffff);
  if (lane == 0) operands.unit[row] = make_float2(unit, unit * static_cast<float>(sum));
}

// All rows of a segment; warps of the consumer side share them.
template <class Q>
__device__ __forceinline__ void load_queries(const AttendArgs& args, const SequenceWork& seq, uint32_t head, int warp,
                                             int n_warps, Q& operands) {
  constexpr int kDk = Q::kDk, kPerLane = Q::kPerLane;
  const int lane = threadIdx.x & 31;
  const float scale = args.scale * kLog2e;
  for (int row = warp; row < Q::kTiles * Q::kTileRows; row += n_warps) {
    float x[kPerLane] = {}, y[kPerLane] = {};
    if (row < static_cast<int>(seq.n_queries) && lane * kPerLane < kDk) {
      const uint32_t r = seq.query_begin + row, token = r / args.group;
      const int64_t tensor_row = int64_t{seq.first_row} + token, q_head = int64_t{head} * args.group + r % args.group;
      const int64_t at = tensor_row * args.q.row_stride + q_head * args.q.head_stride + lane * kPerLane;
      load_elements(args.q, at, x);
#pragma unroll
      for (int e = 0; e < kPerLane; ++e) y[e] = x[e] *= scale;
      if (args.query.kind == MapKind::kDense) {
        const float* mapped = args.mapped_queries + (tensor_row * args.n_kv_heads * args.group + q_head) * kDk +
                              lane * kPerLane;
#pragma unroll
        for (int e = 0; e < kPerLane; ++e) y[e] = mapped[e] * scale;
      }
    }
    if constexpr ((kPerLane & (kPerLane - 1)) == 0 && kPerLane * 32 == kDk)
      if (args.query.kind == MapKind::kHadamard) hadamard_of_row(y);
    encode_query(operands, row, x, y);
  }
}

}  // namespace oscar::cuda
