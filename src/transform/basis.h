// The transforms that suit given moments (docs/calibration.md has the derivation). All matrices row-major [dim][dim],
// in double precision.
#pragma once
#include <cstdint>
#include <vector>

namespace oscar {

// Added to the diagonal of every moment, as a fraction of its mean eigenvalue: what few tokens say of the directions
// that they hardly reach is noise. Between 1e-4 and 1e-1 nothing that was measured depends on it.
inline constexpr double kRegularisation = 1e-3;

// moment + kRegularisation (tr moment / dim) I
std::vector<double> regularised(const std::vector<double>& moment, uint32_t dim);

// F = c W S^p H for regularised moments, where W whitens the keys and diagonalises the queries' moment:
// W^T key W = I, W^T query W = S^2, S falling; p = 1/4; H the orthonormal Hadamard matrix; c gives the elements of k F
// unit mean variance.
std::vector<double> key_basis(const std::vector<double>& key_moment, const std::vector<double>& query_moment,
                              uint32_t dim);

// F_v = c U L^(-1/4) H for a regularised moment U L U^T: the same with p = 1/2 and the identity in place of the queries'
// moment.
std::vector<double> value_basis(const std::vector<double>& value_moment, uint32_t dim);

}  // namespace oscar
