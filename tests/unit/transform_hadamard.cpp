#include "transform/hadamard.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using namespace oscar;

namespace {
constexpr uint32_t kDims[] = {64, 80, 96, 128, 192, 256};
}

TEST_CASE("H H^T is the identity for every served dimension") {
  for (const uint32_t d : kDims) {
    CAPTURE(d);
    std::vector<float> matrix(size_t{d} * d);
    hadamard_matrix(d, matrix.data());
    for (uint32_t i = 0; i < d; ++i)
      for (uint32_t j = 0; j < d; ++j) {
        int signs = 0;  // exact
        double product = 0;
        for (uint32_t k = 0; k < d; ++k) {
          signs += hadamard_sign(d, i, k) * hadamard_sign(d, j, k);
          product += static_cast<double>(matrix[i * d + k]) * matrix[j * d + k];
        }
        REQUIRE(signs == (i == j ? static_cast<int>(d) : 0));
        REQUIRE(std::abs(product - (i == j)) < 2e-7);  // FP32 rounding of 1/sqrt(d), twice
      }
  }
}

TEST_CASE("entries are +-1 times one constant, with a first row and column of +1") {
  for (const uint32_t d : kDims) {
    std::vector<float> matrix(size_t{d} * d);
    hadamard_matrix(d, matrix.data());
    for (uint32_t i = 0; i < d; ++i) {
      CHECK(hadamard_sign(d, 0, i) == 1);
      CHECK(hadamard_sign(d, i, 0) == 1);
      for (uint32_t j = 0; j < d; ++j)
        REQUIRE(std::abs(matrix[i * d + j]) == static_cast<float>(1 / std::sqrt(static_cast<double>(d))));
    }
  }
}

TEST_CASE("powers of two are symmetric, the Paley orders are not") {
  for (const uint32_t d : kDims) {
    uint32_t n_asymmetric = 0;
    for (uint32_t i = 0; i < d; ++i)
      for (uint32_t j = 0; j < d; ++j) n_asymmetric += hadamard_sign(d, i, j) != hadamard_sign(d, j, i);
    CHECK((n_asymmetric == 0) == (hadamard_paley_order(d) == 1));
  }
}

TEST_CASE("other dimensions are not served") {
  for (const uint32_t d : {0u, 1u, 12u, 20u, 32u, 48u, 72u, 100u, 112u, 160u, 512u}) CHECK_FALSE(hadamard_is_served(d));
}
