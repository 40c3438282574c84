// Checks of the map kernel, shared by the translation units that compile it per instruction set. The expected bits come
// from the canonical arithmetic of docs/numerics.md written out plainly.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "format/block.h"
#include "transform/hadamard.h"
#include "transform/transform.h"

namespace oscar::test {

inline constexpr uint32_t kServedDims[] = {64, 80, 96, 128, 192, 256};

inline std::vector<float> canonical_map(const LinearMap& map, const std::vector<float>& x) {
  const uint32_t d = map.dim, m = hadamard_paley_order(d);
  if (map.kind == MapKind::kIdentity) return x;
  std::vector<float> y(d, 0.0f);
  if (map.kind == MapKind::kDense) {
    for (uint32_t j = 0; j < d; ++j)
      for (uint32_t i = 0; i < d; ++i) y[j] = std::fma(x[i], map.matrix[i * d + j], y[j]);
    return y;
  }
  for (uint32_t a = 0; a < d; a += m)
    for (uint32_t j = 0; j < m; ++j)
      for (uint32_t i = 0; i < m; ++i) {
        const int sign = m == 1 ? 1 : map.transposed ? paley_sign(m, j, i) : paley_sign(m, i, j);
        y[a + j] = sign > 0 ? y[a + j] + x[a + i] : y[a + j] - x[a + i];
      }
  for (uint32_t stride = m; stride < d; stride *= 2)
    for (uint32_t i = 0; i < d; ++i)
      if (i / stride % 2 == 0) {
        const float u = y[i], v = y[i + stride];
        y[i] = u + v;
        y[i + stride] = u - v;
      }
  for (float& value : y) value *= hadamard_factor(d);
  return y;
}

inline LinearMap transpose_of(LinearMap map, std::vector<float>& storage) {
  if (map.kind == MapKind::kHadamard) map.transposed = !map.transposed;
  if (map.kind == MapKind::kDense) {
    storage.resize(size_t{map.dim} * map.dim);
    for (uint32_t i = 0; i < map.dim; ++i)
      for (uint32_t j = 0; j < map.dim; ++j) storage[i * map.dim + j] = map.matrix[j * map.dim + i];
    map.matrix = storage.data();
  }
  return map;
}

using ApplyMap = void (*)(const LinearMap&, const float*, float*);
using ApplyMapTokens = void (*)(const LinearMap&, bool, const float*, float*);

inline bool same_bits(const float* a, const float* b, size_t n) { return std::memcmp(a, b, n * sizeof(float)) == 0; }

// One row, 128 tokens, and 128 tokens through the transpose of the transpose: all the canonical bits.
inline void check_map_kernel(ApplyMap apply, ApplyMapTokens apply_tokens) {
  std::mt19937_64 random(20240601);
  std::normal_distribution<float> normal;
  for (const uint32_t d : kServedDims) {
    std::vector<float> matrix(size_t{d} * d), x(size_t{d} * kBlockTokens), y(x.size()), z(x.size()), storage;
    for (float& value : matrix) value = normal(random);
    for (float& value : x) value = normal(random);
    for (uint32_t i = 0; i < d; ++i) x[i * kBlockTokens + 7] = i % 2 ? -0.0f : 0.0f;
    const LinearMap maps[] = {{MapKind::kIdentity, d, 0, 0, nullptr},
                              {MapKind::kHadamard, d, 0, 0, nullptr},
                              {MapKind::kHadamard, d, 1, 0, nullptr},
                              {MapKind::kDense, d, 0, 0, matrix.data()}};
    for (const LinearMap& map : maps) {
      CAPTURE(d);
      CAPTURE(static_cast<uint32_t>(map.kind));
      apply_tokens(map, false, x.data(), y.data());
      apply_tokens(transpose_of(map, storage), true, x.data(), z.data());
      CHECK(same_bits(y.data(), z.data(), y.size()));
      for (uint32_t t = 0; t < kBlockTokens; ++t) {
        std::vector<float> row(d), of_tokens(d), of_row(d);
        for (uint32_t i = 0; i < d; ++i) row[i] = x[i * kBlockTokens + t];
        for (uint32_t i = 0; i < d; ++i) of_tokens[i] = y[i * kBlockTokens + t];
        const std::vector<float> expected = canonical_map(map, row);
        apply(map, row.data(), of_row.data());
        REQUIRE(same_bits(of_row.data(), expected.data(), d));
        REQUIRE(same_bits(of_tokens.data(), expected.data(), d));
      }
    }
  }
}

}  // namespace oscar::test
