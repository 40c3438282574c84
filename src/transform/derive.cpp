#include "transform/derive.h"

#include <Eigen/Dense>
#include <cmath>

namespace oscar {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix load(const float* values, uint32_t dim, const char* name, const MatrixOwner& owner) {
  Matrix m(dim, dim);
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t j = 0; j < dim; ++j) {
      const float x = values[static_cast<uint64_t>(i) * dim + j];
      if (!std::isfinite(x))
        throw Error(owner.status, "calibration: layer %u, head %u: %s[%u][%u] is %g, wanted finite numbers",
                    owner.layer, owner.head, name, i, j, static_cast<double>(x));
      m(i, j) = static_cast<double>(x);
    }
  return m;
}

void store(const Matrix& m, float* values) {
  for (Eigen::Index i = 0; i < m.rows(); ++i)
    for (Eigen::Index j = 0; j < m.cols(); ++j) values[i * m.cols() + j] = static_cast<float>(m(i, j));
}

double norm1(const Matrix& m) { return m.cwiseAbs().colwise().sum().maxCoeff(); }

// M = R R^T with R upper triangular: the Cholesky factor of M with rows and columns reversed, reversed back.
bool upper_root(const Matrix& m, Matrix& root) {
  const Matrix reversed = m.reverse();
  const Eigen::LLT<Matrix> factor(reversed);
  if (factor.info() != Eigen::Success) return false;
  const Matrix lower = factor.matrixL();
  root = lower.reverse();
  return true;
}

}  // namespace

void derive_inverse(const float* values, uint32_t dim, bool transposed, const char* name, const MatrixOwner& owner,
                    float* inverse) {
  const Matrix matrix = load(values, dim, name, owner);
  const double largest = matrix.cwiseAbs().maxCoeff();
  if (!(largest >= kSmallestEntry && largest <= kLargestEntry))
    throw Error(owner.status, "calibration: layer %u, head %u: the largest entry of %s is %g, wanted %g to %g",
                owner.layer, owner.head, name, largest, kSmallestEntry, kLargestEntry);
  const Matrix inverted = Eigen::PartialPivLU<Matrix>(matrix / largest).inverse();
  const double condition = norm1(matrix / largest) * norm1(inverted);
  if (!(condition <= kMaxCondition))  // also catches the infinities and NaNs of a singular matrix
    throw Error(owner.status,
                "calibration: layer %u, head %u: %s is singular or too ill-conditioned: condition number %.3g, "
                "wanted at most %.0e",
                owner.layer, owner.head, name, condition, kMaxCondition);
  const Matrix result = (transposed ? Matrix(inverted.transpose()) : inverted) / largest;
  store(result, inverse);
}

void derive_metric(const float* moment_values, const float* f_inverse_transposed, uint32_t dim,
                   const MatrixOwner& owner, float* root, float* ratio) {
  const Matrix given = load(moment_values, dim, "query_moment", owner);
  const double largest = given.cwiseAbs().maxCoeff(), asymmetry = (given - given.transpose()).cwiseAbs().maxCoeff();
  if (!(asymmetry <= kMaxAsymmetry * largest))
    throw Error(owner.status,
                "calibration: layer %u, head %u: query_moment differs from its transpose by %.3g (largest entry %.3g), "
                "wanted a symmetric matrix",
                owner.layer, owner.head, asymmetry, largest);
  const double mean = given.trace() / dim;
  const Matrix moment = (given + given.transpose()) / (2 * mean);
  Matrix upper;
  if (!(mean > 0) || !upper_root(moment - kLeastEigenvalue * Matrix::Identity(dim, dim), upper))
    throw Error(owner.status,
                "calibration: layer %u, head %u: query_moment is not positive definite, wanted every eigenvalue above "
                "%.0e of their mean (%.3g)",
                owner.layer, owner.head, kLeastEigenvalue, mean);
  const Matrix inverse_transposed = load(f_inverse_transposed, dim, "inverse of key_transform", owner);
  const Matrix half = inverse_transposed.transpose() * moment;
  Matrix metric = half * inverse_transposed;
  metric *= dim / metric.trace();
  if (!upper_root(metric, upper))
    throw Error(owner.status,
                "calibration: layer %u, head %u: key_transform and query_moment together are too ill-conditioned for "
                "shaped rounding: their metric is not positive definite in double precision",
                owner.layer, owner.head);
  Matrix ratios = Matrix::Zero(dim, dim);
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t j = 0; j < i; ++j) ratios(i, j) = upper(j, i) / upper(i, i);
  store(upper, root);
  store(ratios, ratio);
}

}  // namespace oscar
