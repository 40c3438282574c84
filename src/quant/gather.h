// The BF16 rows of a block on their way into the packer: non-finite elements become 0, and all are multiplied by one
// power of two, so that no later step overflows or meets denormals whatever the size of the input. A power of two is
// exact: where neither would have happened the codes are the same without it.
#pragma once
#include <cstdint>

#include "format/block.h"
#include "format/scale.h"

namespace oscar::OSCAR_ISA {

inline float power_of_two(int exponent) {  // -126 .. 127
  return __builtin_bit_cast(float, static_cast<uint32_t>(exponent + 127) << 23);
}

struct RowScan {
  uint32_t n_non_finite;
  int exponent;  // elements are multiplied by 2^exponent: the largest then lies in [1, 4)
};

inline RowScan scan_rows(const uint16_t* const* rows, uint32_t dim) {
  uint16_t largest = 0;
  uint32_t n_non_finite = 0;
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    const uint16_t* row = rows[t];
    uint16_t row_largest = 0, row_non_finite = 0;
    for (uint32_t i = 0; i < dim; ++i) {
      const auto magnitude = static_cast<uint16_t>(row[i] & 0x7fffu);
      const bool finite = magnitude < 0x7f80u;
      const uint16_t counted = finite ? magnitude : uint16_t{0};
      row_non_finite = static_cast<uint16_t>(row_non_finite + !finite);
      row_largest = row_largest > counted ? row_largest : counted;
    }
    n_non_finite += row_non_finite;
    largest = largest > row_largest ? largest : row_largest;
  }
  const int exponent = 127 - (largest >> 7);  // of 1 / the largest element's power of two
  return {n_non_finite, largest == 0 ? 0 : exponent > 126 ? 126 : exponent < -126 ? -126 : exponent};
}

inline float finite_element(uint16_t x) {
  const bool finite = (x & 0x7f80u) != 0x7f80u;
  return __builtin_bit_cast(float, finite ? uint32_t{x} << 16 : 0u);
}

// x[dim][128]: column s is the row of the token in slot s.
inline void gather_slots(const uint16_t* const* rows, const uint8_t* order, uint32_t dim, float factor, float* x) {
  constexpr uint32_t kGroup = 16;  // rows that stay in the first-level cache together
  for (uint32_t s = 0; s < kBlockTokens; s += kGroup) {
    const uint16_t* group[kGroup];
    for (uint32_t n = 0; n < kGroup; ++n) group[n] = rows[order[s + n]];
    for (uint32_t i = 0; i < dim; ++i) {
      uint16_t elements[kGroup];
      for (uint32_t n = 0; n < kGroup; ++n) elements[n] = group[n][i];
      for (uint32_t n = 0; n < kGroup; ++n) x[i * kBlockTokens + s + n] = finite_element(elements[n]) * factor;
    }
  }
}

// Mean of the 128 rows, summed in the order of the tokens: it does not depend on which of them are refined.
inline void mean_row(const uint16_t* const* rows, uint32_t dim, float factor, float* mean) {
  for (uint32_t i = 0; i < dim; ++i) mean[i] = 0.0f;
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    const uint16_t* row = rows[t];
    for (uint32_t i = 0; i < dim; ++i) mean[i] += finite_element(row[i]) * factor;
  }
  for (uint32_t i = 0; i < dim; ++i) mean[i] *= 1.0f / kBlockTokens;
}

}  // namespace oscar::OSCAR_ISA
