#include "transform/basis.h"

#include <Eigen/Dense>
#include <cmath>

#include "format/error.h"
#include "transform/hadamard.h"

namespace oscar {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr double kKeyExponent = 0.25;

Eigen::Map<const RowMajor> view(const std::vector<double>& values, uint32_t dim) { return {values.data(), dim, dim}; }

Eigen::SelfAdjointEigenSolver<Matrix> eigen_of(const Matrix& symmetric) {
  Eigen::SelfAdjointEigenSolver<Matrix> solver(symmetric);
  if (solver.info() != Eigen::Success)
    throw Error(Status::kInternal, "the eigenvalues of a %d x %d moment did not converge",
                static_cast<int>(symmetric.rows()), static_cast<int>(symmetric.cols()));
  return solver;
}

// c basis H, with c such that tr(F^T moment F) = dim.
std::vector<double> spread_evenly(const Matrix& basis, const Matrix& moment) {
  const auto dim = static_cast<uint32_t>(basis.rows());
  std::vector<float> signs(uint64_t{dim} * dim);
  hadamard_matrix(dim, signs.data());
  const Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> h(signs.data(), dim,
                                                                                                  dim);
  Matrix f = basis * h.cast<double>();
  f *= std::sqrt(dim / (moment * f).cwiseProduct(f).sum());
  std::vector<double> values(uint64_t{dim} * dim);
  Eigen::Map<RowMajor>(values.data(), dim, dim) = f;
  return values;
}

}  // namespace

std::vector<double> regularised(const std::vector<double>& moment, uint32_t dim) {
  std::vector<double> sum = moment;
  const double mean = view(moment, dim).trace() / dim;
  for (uint64_t i = 0; i < dim; ++i) sum[i * dim + i] += kRegularisation * mean;
  return sum;
}

std::vector<double> key_basis(const std::vector<double>& key_moment, const std::vector<double>& query_moment,
                              uint32_t dim) {
  const Matrix key = view(key_moment, dim);
  const Eigen::LLT<Matrix> factor(key);  // key = L L^T; W = L^-T U where L^T query L = U S^2 U^T
  const Matrix lower = factor.matrixL();
  const auto solver = eigen_of(lower.transpose() * view(query_moment, dim) * lower);
  const Matrix whitening = factor.matrixU().solve(solver.eigenvectors());
  // (S^2)^(p/2), largest first.
  const Matrix basis = whitening * solver.eigenvalues().array().pow(kKeyExponent / 2).matrix().asDiagonal();
  return spread_evenly(basis.rowwise().reverse(), key);
}

std::vector<double> value_basis(const std::vector<double>& value_moment, uint32_t dim) {
  const Matrix value = view(value_moment, dim);
  const auto solver = eigen_of(value);
  const Matrix basis = solver.eigenvectors() * solver.eigenvalues().array().pow(-0.25).matrix().asDiagonal();
  return spread_evenly(basis.rowwise().reverse(), value);
}

}  // namespace oscar
