#include "transform/hadamard.h"

#include <bit>

namespace oscar {

int hadamard_sign(uint32_t dim, uint32_t row, uint32_t column) {
  const uint32_t m = hadamard_paley_order(dim);
  const int sylvester = std::popcount((row / m) & (column / m)) % 2 ? -1 : 1;
  return m == 1 ? sylvester : sylvester * paley_sign(m, row % m, column % m);
}

void hadamard_matrix(uint32_t dim, float* matrix) {
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t j = 0; j < dim; ++j)
      matrix[i * dim + j] = static_cast<float>(hadamard_sign(dim, i, j)) * hadamard_factor(dim);
}

}  // namespace oscar
