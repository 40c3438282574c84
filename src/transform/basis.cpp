#include "transform/basis.h"

#include <Eigen/Dense>
#include <cmath>
#include <numeric>
#include <utility>

#include "format/error.h"
#include "transform/hadamard.h"

namespace oscar {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr double kKeyExponent = 0.125;

Eigen::Map<const RowMajor> view(const std::vector<double>& values, uint32_t dim) { return {values.data(), dim, dim}; }

Eigen::SelfAdjointEigenSolver<Matrix> eigen_of(const Matrix& symmetric) {
  Eigen::SelfAdjointEigenSolver<Matrix> solver(symmetric);
  if (solver.info() != Eigen::Success)
    throw Error(Status::kInternal, "the eigenvalues of a %d x %d moment did not converge",
                static_cast<int>(symmetric.rows()), static_cast<int>(symmetric.cols()));
  return solver;
}

// 0 .. n-1 in a random order that is the same everywhere. Eigenvectors in the order of their eigenvalues would meet
// Sylvester's matrix in step: elements 2^i apart would share what shaped rounding has to trade between them.
std::vector<uint32_t> shuffled(uint32_t n) {
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  uint64_t state = n;
  for (uint32_t i = n - 1; i > 0; --i) {
    state = state * 6364136223846793005u + 1442695040888963407u;  // D. Knuth's MMIX generator
    std::swap(order[i], order[(state >> 33) % (i + 1)]);
  }
  return order;
}

// c basis P H, with c such that tr(F^T moment F) = dim.
std::vector<double> spread_evenly(const Matrix& basis, const Matrix& moment) {
  const auto dim = static_cast<uint32_t>(basis.rows());
  std::vector<float> signs(uint64_t{dim} * dim);
  hadamard_matrix(dim, signs.data());
  const Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> h(signs.data(), dim,
                                                                                                  dim);
  Matrix permuted(dim, dim);
  const std::vector<uint32_t> order = shuffled(dim);
  for (uint32_t i = 0; i < dim; ++i) permuted.col(order[i]) = basis.col(i);
  Matrix f = permuted * h.cast<double>();
  f *= std::sqrt(dim / (moment * f).cwiseProduct(f).sum());
  std::vector<double> values(uint64_t{dim} * dim);
  Eigen::Map<RowMajor>(values.data(), dim, dim) = f;
  return values;
}

}  // namespace

std::vector<double> regularised(const std::vector<double>& moment, uint32_t dim, double share) {
  std::vector<double> sum = moment;
  const double floor = kFloor * view(moment, dim).trace() / dim;
  const double log_mean = (view(moment, dim).diagonal().array() + floor).log().mean();
  for (uint64_t i = 0; i < dim; ++i) sum[i * dim + i] += floor + share * std::exp(log_mean);
  return sum;
}

std::vector<double> key_basis(const std::vector<double>& key_moment, const std::vector<double>& query_moment,
                              uint32_t dim) {
  const Matrix key = view(key_moment, dim);
  const Eigen::LLT<Matrix> factor(key);  // key = L L^T; W = L^-T U where L^T query L = U S^2 U^T
  const Matrix lower = factor.matrixL();
  const auto solver = eigen_of(lower.transpose() * view(query_moment, dim) * lower);
  const Matrix whitening = factor.matrixU().solve(solver.eigenvectors());
  const Matrix basis = whitening * solver.eigenvalues().array().pow(kKeyExponent / 2).matrix().asDiagonal();  // S^p
  return spread_evenly(basis, key);
}

std::vector<double> value_basis(const std::vector<double>& value_moment, uint32_t dim) {
  const Matrix value = view(value_moment, dim);
  const auto solver = eigen_of(value);
  const Matrix basis = solver.eigenvectors() * solver.eigenvalues().array().pow(-0.25).matrix().asDiagonal();
  return spread_evenly(basis, value);
}

}  // namespace oscar
