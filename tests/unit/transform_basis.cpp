#include "transform/basis.h"

#include <doctest/doctest.h>

#include <Eigen/Dense>
#include <cmath>
#include <random>

#include "transform/hadamard.h"

using namespace oscar;

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix view(const std::vector<double>& values, uint32_t dim) {
  return Eigen::Map<const Matrix>(values.data(), dim, dim);
}

std::vector<double> random_moment(uint32_t dim, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Matrix a(dim, dim);
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t j = 0; j < dim; ++j) a(i, j) = normal(random) / (1.0 + j);
  const Matrix m = a.transpose() * a;
  return regularised({m.data(), m.data() + m.size()}, dim, 0.1);
}

// F without the Hadamard matrix at its end.
Matrix without_hadamard(const std::vector<double>& f, uint32_t dim) {
  std::vector<float> h(uint64_t{dim} * dim);
  hadamard_matrix(dim, h.data());
  Matrix turn(dim, dim);
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t j = 0; j < dim; ++j) turn(i, j) = static_cast<double>(h[uint64_t{i} * dim + j]);
  return view(f, dim) * turn.transpose();
}

void check_diagonal(const Matrix& m) {
  const Matrix rest = m - Matrix(m.diagonal().asDiagonal());
  CHECK(rest.cwiseAbs().maxCoeff() < 1e-6 * m.cwiseAbs().maxCoeff());
}

}  // namespace

TEST_CASE("the key basis makes both moments diagonal, keys as S^(2p) and queries as S^(2-2p) for p = 1/8") {
  std::mt19937_64 random(721);
  for (uint32_t dim : {64u, 80u, 128u}) {
    const std::vector<double> key = random_moment(dim, random), query = random_moment(dim, random);
    const std::vector<double> f = key_basis(key, query, dim);
    const Matrix a = without_hadamard(f, dim), inverse = a.inverse();
    const Matrix keys = a.transpose() * view(key, dim) * a;
    const Matrix queries = inverse * view(query, dim) * inverse.transpose();
    check_diagonal(keys);
    check_diagonal(queries);
    CHECK(keys.trace() == doctest::Approx(dim).epsilon(1e-6));  // unit mean variance
    for (uint32_t i = 1; i < dim; ++i) {
      const double of_keys = keys(i, i) / keys(0, 0), of_queries = queries(i, i) / queries(0, 0);
      CHECK(of_queries == doctest::Approx(std::pow(of_keys, 7)).epsilon(1e-4));  // (2 - 2p) / 2p
    }
  }
}

TEST_CASE("directions do not meet the Hadamard matrix in the order of what queries see of them") {
  std::mt19937_64 random(723);
  for (uint32_t dim : {64u, 96u, 256u}) {
    const std::vector<double> key = random_moment(dim, random), query = random_moment(dim, random);
    const Matrix a = without_hadamard(key_basis(key, query, dim), dim), keys = a.transpose() * view(key, dim) * a;
    uint32_t n_falling = 0;
    for (uint32_t i = 1; i < dim; ++i) n_falling += keys(i, i) < keys(i - 1, i - 1) ? 1 : 0;
    CHECK(n_falling > dim / 3);
    CHECK(n_falling < dim - dim / 3);
  }
}

TEST_CASE("the value basis balances: errors cost as much as values vary, in every direction") {
  std::mt19937_64 random(722);
  constexpr uint32_t kDim = 96;
  const std::vector<double> value = random_moment(kDim, random);
  const Matrix a = without_hadamard(value_basis(value, kDim), kDim), inverse = a.inverse();
  const Matrix values = a.transpose() * view(value, kDim) * a, errors = inverse * inverse.transpose();
  check_diagonal(values);
  check_diagonal(errors);
  CHECK(values.trace() == doctest::Approx(kDim).epsilon(1e-6));
  for (uint32_t i = 1; i < kDim; ++i)
    CHECK(values(i, i) / values(0, 0) == doctest::Approx(errors(i, i) / errors(0, 0)).epsilon(1e-4));
}

TEST_CASE("regularising makes a moment of lower rank invertible") {
  std::vector<double> moment(64 * 64, 0.0);
  moment[0] = 64;  // rank 1, mean eigenvalue 1
  const std::vector<double> sum = regularised(moment, 64, 0.0);
  CHECK(sum[0] == doctest::Approx(64.001));
  CHECK(sum[65] == doctest::Approx(0.001));
  CHECK(sum[1] == 0.0);
  const std::vector<double> f = key_basis(sum, sum, 64);
  CHECK(std::isfinite(view(f, 64).inverse().cwiseAbs().maxCoeff()));
}

TEST_CASE("regularising adds a share of what elements typically vary, which one huge element does not move") {
  std::vector<double> moment(64 * 64, 0.0);
  for (uint32_t i = 0; i < 64; ++i) moment[i * 65] = 2;
  CHECK(regularised(moment, 64, 0.5)[65] == doctest::Approx(2 + 0.002 + 0.5 * 2.002));
  moment[0] = 2e4;
  CHECK(regularised(moment, 64, 0.5)[65] - 2 < 3);  // the mean eigenvalue is 314
}
