// Application of a LinearMap, for the sources that are compiled once per instruction set: to one row vector (queries,
// outputs) and to the 128 tokens of a block in [dim][128] order. Both give identical bits, on every instruction set.
//
// Canonical arithmetic (docs/numerics.md):
//   dense     y_j = one fma chain over i = 0, 1, .. from +0
//   Hadamard  for d = p * m: the m-point stage as ascending additions of +-x from +0 (m > 1), then butterflies of the
//             power-of-two index with strides m, 2m, 4m, ..: (u, v) -> (u + v, u - v), then one product with 1/sqrt(d)
#pragma once
#include <cstdint>

#include "format/block.h"
#include "transform/hadamard.h"
#include "transform/simd.h"
#include "transform/transform.h"

namespace oscar::OSCAR_ISA {
namespace map_detail {

using simd::kLanes;
using simd::Vec;

// N vectors of outputs from column `first`: y = x M.
template <uint32_t N>
inline void dense_columns(const float* x, const float* matrix, uint32_t dim, uint32_t first, float* y) {
  Vec sum[N];
  for (uint32_t n = 0; n < N; ++n) sum[n] = simd::broadcast(0.0f);
  for (uint32_t i = 0; i < dim; ++i) {
    const Vec xi = simd::broadcast(x[i]);
    const float* row = matrix + static_cast<uint64_t>(i) * dim + first;
    for (uint32_t n = 0; n < N; ++n) sum[n] = simd::fma(xi, simd::load(row + n * kLanes), sum[n]);
  }
  for (uint32_t n = 0; n < N; ++n) simd::store(y + first + n * kLanes, sum[n]);
}

inline void dense(const float* x, const float* matrix, uint32_t dim, float* y) {
  uint32_t first = 0;
  for (; first + 8 * kLanes <= dim; first += 8 * kLanes) dense_columns<8>(x, matrix, dim, first, y);
  for (; first + 4 * kLanes <= dim; first += 4 * kLanes) dense_columns<4>(x, matrix, dim, first, y);
  for (; first + kLanes <= dim; first += kLanes) dense_columns<1>(x, matrix, dim, first, y);
}

// The m-point stage of one row: every run of M inputs through the +-1 matrix.
template <uint32_t M>
inline void paley_stage(const float* x, const float* signs, uint32_t dim, float* y) {
  for (uint32_t a = 0; a < dim; a += M) {
    float sum[M] = {};
    for (uint32_t i = 0; i < M; ++i)
      for (uint32_t j = 0; j < M; ++j) sum[j] += signs[i * M + j] * x[a + i];
    for (uint32_t j = 0; j < M; ++j) y[a + j] = sum[j];
  }
}

// Butterflies of stride `stride` over the `dim` rows of y, each row `width` floats.
inline void butterfly_stage(float* y, uint32_t dim, uint32_t stride, uint32_t width) {
  for (uint32_t a = 0; a < dim; a += 2 * stride) {
    float* __restrict__ top = y + static_cast<uint64_t>(a) * width;
    float* __restrict__ bottom = top + static_cast<uint64_t>(stride) * width;
    for (uint32_t i = 0; i < stride * width; ++i) {
      const float u = top[i], v = bottom[i];
      top[i] = u + v;
      bottom[i] = u - v;
    }
  }
}

// Two stages in one pass over memory: strides `stride` and 2 * stride.
inline void butterfly_stage_pair(float* y, uint32_t dim, uint32_t stride, uint32_t width) {
  const uint64_t step = static_cast<uint64_t>(stride) * width;
  for (uint32_t a = 0; a < dim; a += 4 * stride) {
    float* __restrict__ r0 = y + static_cast<uint64_t>(a) * width;
    float* __restrict__ r1 = r0 + step;
    float* __restrict__ r2 = r1 + step;
    float* __restrict__ r3 = r2 + step;
    for (uint64_t i = 0; i < step; ++i) {
      const float s01 = r0[i] + r1[i], d01 = r0[i] - r1[i], s23 = r2[i] + r3[i], d23 = r2[i] - r3[i];
      r0[i] = s01 + s23;
      r1[i] = d01 + d23;
      r2[i] = s01 - s23;
      r3[i] = d01 - d23;
    }
  }
}

inline void butterfly_stages(float* y, uint32_t dim, uint32_t stride, uint32_t width) {
  for (; 4 * stride <= dim; stride *= 4) butterfly_stage_pair(y, dim, stride, width);
  if (2 * stride <= dim) butterfly_stage(y, dim, stride, width);
}

inline void hadamard(const LinearMap& map, const float* x, float* y) {
  const uint32_t dim = map.dim, m = hadamard_paley_order(dim);
  if (m == 1) {
    for (uint32_t i = 0; i < dim; i += kLanes) simd::store(y + i, simd::butterflies(simd::load(x + i)));
    butterfly_stages(y, dim, kLanes, 1);
  } else {
    if (m == 12) paley_stage<12>(x, map.transposed ? kPaley12.transposed : kPaley12.forward, dim, y);
    if (m == 20) paley_stage<20>(x, map.transposed ? kPaley20.transposed : kPaley20.forward, dim, y);
    butterfly_stages(y, dim, m, 1);
  }
  const float factor = hadamard_factor(dim);
  for (uint32_t i = 0; i < dim; ++i) y[i] *= factor;
}

inline constexpr uint32_t kTileTokens = kLanes == 1 ? 1 : kLanes == 8 ? 2 : 4;  // vectors of tokens
inline constexpr uint32_t kTileOutputs = 4;

// y[j][t] = sum over i of x[i][t] * matrix[i * row_step + j * column_step], `dim` inputs and outputs, 128 tokens.
inline void dense_tokens(const float* x, const float* matrix, uint32_t dim, uint64_t row_step, uint64_t column_step,
                         float* y) {
  for (uint32_t j = 0; j < dim; j += kTileOutputs)
    for (uint32_t t = 0; t < kBlockTokens; t += kTileTokens * kLanes) {
      Vec sum[kTileOutputs][kTileTokens];
      for (uint32_t o = 0; o < kTileOutputs; ++o)
        for (uint32_t n = 0; n < kTileTokens; ++n) sum[o][n] = simd::broadcast(0.0f);
      for (uint32_t i = 0; i < dim; ++i) {
        const float* row = matrix + i * row_step + j * column_step;
        Vec xi[kTileTokens];
        for (uint32_t n = 0; n < kTileTokens; ++n) xi[n] = simd::load(x + i * kBlockTokens + t + n * kLanes);
        for (uint32_t o = 0; o < kTileOutputs; ++o) {
          const Vec factor = simd::broadcast(row[o * column_step]);
          for (uint32_t n = 0; n < kTileTokens; ++n) sum[o][n] = simd::fma(xi[n], factor, sum[o][n]);
        }
      }
      for (uint32_t o = 0; o < kTileOutputs; ++o)
        for (uint32_t n = 0; n < kTileTokens; ++n) simd::store(y + (j + o) * kBlockTokens + t + n * kLanes, sum[o][n]);
    }
}

inline void hadamard_tokens(uint32_t dim, bool transposed, const float* x, float* y) {
  const uint32_t m = hadamard_paley_order(dim);
  if (m == 1) {
    for (uint32_t i = 0; i < dim * kBlockTokens; ++i) y[i] = x[i];
  } else {
    const float* signs = m == 12 ? kPaley12.forward : kPaley20.forward;  // a product with +-1 is exact: fma adds +-x
    for (uint32_t a = 0; a < dim; a += m)
      dense_tokens(x + a * kBlockTokens, signs, m, transposed ? 1 : m, transposed ? m : 1, y + a * kBlockTokens);
  }
  butterfly_stages(y, dim, m, kBlockTokens);
  const float factor = hadamard_factor(dim);
  for (uint32_t i = 0; i < dim * kBlockTokens; ++i) y[i] *= factor;
}

}  // namespace map_detail

// y = x M for one row vector of map.dim floats. x and y do not overlap.
inline void apply_map(const LinearMap& map, const float* x, float* y) {
  switch (map.kind) {
    case MapKind::kIdentity:
      for (uint32_t i = 0; i < map.dim; ++i) y[i] = x[i];
      return;
    case MapKind::kHadamard: return map_detail::hadamard(map, x, y);
    case MapKind::kDense: return map_detail::dense(x, map.matrix, map.dim, y);
  }
}

// The same for 128 tokens, x and y in [dim][128] order; `transpose` applies M^T instead of M.
inline void apply_map_tokens(const LinearMap& map, bool transpose, const float* x, float* y) {
  switch (map.kind) {
    case MapKind::kIdentity:
      for (uint32_t i = 0; i < map.dim * kBlockTokens; ++i) y[i] = x[i];
      return;
    case MapKind::kHadamard: return map_detail::hadamard_tokens(map.dim, transpose != (map.transposed != 0), x, y);
    case MapKind::kDense:
      return map_detail::dense_tokens(x, map.matrix, map.dim, transpose ? 1 : map.dim, transpose ? map.dim : 1, y);
  }
}

}  // namespace oscar::OSCAR_ISA
