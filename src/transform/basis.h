// The transforms that suit given moments (docs/calibration.md has the derivation). All matrices row-major [dim][dim],
// in double precision.
#pragma once
#include <cstdint>
#include <vector>

namespace oscar {

// What few tokens say of directions that they hardly reach is noise, and the next text varies in others. So to the
// diagonal of every moment are added kFloor of its mean eigenvalue, which makes it invertible, and a share of the
// geometric mean of its diagonal, which a few huge elements (key biases) do not move. Shares: measured, docs/quality.md.
inline constexpr double kFloor = 1e-3;
inline constexpr double kKeyShare = 1.0, kQueryShare = 0.3, kValueShare = 1.0;

// moment + (floor + share * geometric mean of (diagonal + floor)) I, floor = kFloor tr moment / dim
std::vector<double> regularised(const std::vector<double>& moment, uint32_t dim, double share);

// F = c W S^p P H for regularised moments, where W whitens the keys and diagonalises the queries' moment:
// W^T key W = I, W^T query W = S^2; p = 1/8; P a fixed permutation, H the orthonormal Hadamard matrix; c gives the
// elements of k F unit mean variance.
std::vector<double> key_basis(const std::vector<double>& key_moment, const std::vector<double>& query_moment,
                              uint32_t dim);

// F_v = c U L^(-1/4) P H for a regularised moment U L U^T: the same with p = 1/2 and the identity in place of the queries'
// moment.
std::vector<double> value_basis(const std::vector<double>& value_moment, uint32_t dim);

}  // namespace oscar
