// What benchmarks that know the public header alone share: calls that must succeed, rows, medians.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "oscar/oscar.h"

inline void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s: %s\n", what, oscar_last_error());
  std::exit(1);
}
#define OK(call) require((call) == OSCAR_OK, #call)

inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline float from_bf16(uint16_t x) {
  const uint32_t bits = uint32_t{x} << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

// BF16 rows with a few large channels, from a counter.
inline std::vector<uint16_t> random_rows(uint64_t n, uint32_t seed) {
  std::vector<uint16_t> rows(n);
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (uint64_t i = 0; i < n; ++i) {
    float sum = 0.0f;  // of four uniform numbers: near enough to a normal one
    state = state * 6364136223846793005u + 1442695040888963407u;
    for (int k = 0; k < 4; ++k) sum += static_cast<float>(state >> (16 * k) & 0xffffu) / 65536.0f - 0.5f;
    rows[i] = to_bf16(1.7f * sum * (i % 64 == 5 ? 4.0f : 1.0f));
  }
  return rows;
}

// BF16 [n][heads][dim], dense.
inline oscar_tensor tensor_of(void* data, int32_t device_type, uint32_t n, uint32_t heads, uint32_t dim) {
  oscar_tensor t{};
  t.data = data;
  t.device_type = device_type;
  t.dtype_code = OSCAR_DTYPE_BFLOAT;
  t.dtype_bits = 16;
  t.dtype_lanes = 1;
  t.ndim = 3;
  t.shape[0] = n;
  t.shape[1] = heads;
  t.shape[2] = dim;
  return t;
}

inline double median(std::vector<double> x) {
  const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  std::nth_element(x.begin(), middle, x.end());
  return *middle;
}
