// The orthonormal Hadamard matrices of the library: H_d = H_p (x) H_m / sqrt(d), p a power of two, with the index
// split as a * m + b, a < p, b < m.
//   H_p  Sylvester: (-1)^popcount(a & a')
//   H_m  m = 1, or Paley's first construction for m = 12 and 20 (q = m - 1 = 11, 19: primes that are 3 mod 4; R. Paley,
//        "On orthogonal matrices", 1933): first row and column +1, the rest -chi(j - i) with chi the quadratic character
//        mod q and -1 on the diagonal. H_12 and H_20 are not symmetric.
// Entries are +-1 times one constant, so they have the same bits everywhere.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar {

// m for a served dimension d (64, 80, 96, 128, 192, 256), 0 for any other.
OSCAR_HD constexpr uint32_t hadamard_paley_order(uint32_t dim) {
  switch (dim) {
    case 64:
    case 128:
    case 256: return 1;
    case 80: return 20;
    case 96:
    case 192: return 12;
    default: return 0;
  }
}

OSCAR_HD constexpr bool hadamard_is_served(uint32_t dim) { return hadamard_paley_order(dim) != 0; }

// +1 or -1: entry (row, column) of the Paley matrix of order m = 12 or 20.
OSCAR_HD constexpr int paley_sign(uint32_t m, uint32_t row, uint32_t column) {
  if (row == 0 || column == 0) return 1;
  const uint32_t q = m - 1, difference = (column + q - row) % q;
  if (difference == 0) return -1;
  for (uint32_t x = 1; x <= q / 2; ++x)
    if (x * x % q == difference) return -1;
  return 1;
}

// The Paley matrix as floats, row-major, and its transpose: operands of the m-point stage.
template <uint32_t M>
struct PaleyTable {
  float forward[M * M], transposed[M * M];
  constexpr PaleyTable() : forward(), transposed() {
    for (uint32_t i = 0; i < M; ++i)
      for (uint32_t j = 0; j < M; ++j)
        forward[i * M + j] = transposed[j * M + i] = static_cast<float>(paley_sign(M, i, j));
  }
};

inline constexpr PaleyTable<12> kPaley12;
inline constexpr PaleyTable<20> kPaley20;

// 1/sqrt(d) in FP32, the factor that ends the transform.
OSCAR_HD inline float hadamard_factor(uint32_t dim) { return static_cast<float>(1.0 / __builtin_sqrt(dim)); }

// +1 or -1: entry (row, column) of H_d before the factor.
int hadamard_sign(uint32_t dim, uint32_t row, uint32_t column);

// The orthonormal matrix itself, row-major matrix[dim][dim]; for tests, oracles and inverses.
void hadamard_matrix(uint32_t dim, float* matrix);

}  // namespace oscar
