// What is computed from given matrices: inverses and the root of the rounding metric, in double precision, with the
// checks that keep FP32 arithmetic on them meaningful.
#pragma once
#include <cstdint>

#include "format/error.h"

namespace oscar {

// Whose matrix it is, for error texts; `status` is thrown where the matrix is refused.
struct MatrixOwner {
  uint32_t layer, head;
  Status status;
};

// A transform is refused beyond this condition number (1-norm): its FP32 inverse would be wrong in the first digit.
inline constexpr double kMaxCondition = 1e7;

// Largest |entry| of a transform: beyond 2^+-40 squares of its images could leave FP32.
inline constexpr double kLargestEntry = 0x1p40, kSmallestEntry = 0x1p-40;

// A moment is refused when its least eigenvalue is not above this fraction of its mean eigenvalue (what rounding it to
// FP32 may do), and when it differs from its transpose by more than kMaxAsymmetry of its largest entry.
inline constexpr double kLeastEigenvalue = 1e-6;
inline constexpr double kMaxAsymmetry = 1e-3;

// inverse = matrix^-1, transposed on demand; all row-major [dim][dim].
void derive_inverse(const float* matrix, uint32_t dim, bool transposed, const char* name, const MatrixOwner& owner,
                    float* inverse);

// M = F^-1 Q F^-T (Q: query moment, f_inverse_transposed: F^-T), scaled to trace dim: only ratios of M matter.
// root: R upper triangular, M = R R^T; ratio[i][j] = R[j][i] / R[i][i] for j < i, else 0.
void derive_metric(const float* moment, const float* f_inverse_transposed, uint32_t dim, const MatrixOwner& owner,
                   float* root, float* ratio);

}  // namespace oscar
