#include "transform/rope.h"

#include <cmath>
#include <complex>
#include <numbers>

namespace oscar {
namespace {

using Complex = std::complex<double>;

// Mean of exp(i p angle) over p = 0 .. n - 1: the Dirichlet kernel sin(n x) / (n sin x) at x = angle / 2, turned to the
// middle position.
Complex mean_phase(double angle, uint64_t n) {
  const double x = std::remainder(angle, 2 * std::numbers::pi) / 2;
  if (x == 0) return 1;
  const double count = static_cast<double>(n);
  return std::polar(1.0, (count - 1) * x) * (std::sin(count * x) / (count * std::sin(x)));
}

}  // namespace

Rope::Rope(uint32_t dim, RopePairing pairing, std::span<const float> frequencies) {
  const uint32_t n = static_cast<uint32_t>(frequencies.size());
  pairs_.reserve(dim / 2);
  for (uint32_t j = 0; j < n; ++j) {
    const double frequency = static_cast<double>(frequencies[j]);
    if (pairing == RopePairing::kHalf)
      pairs_.push_back({j, j + n, frequency});
    else
      pairs_.push_back({2 * j, 2 * j + 1, frequency});
  }
  for (uint32_t a = 2 * n; a < dim; a += 2) pairs_.push_back({a, a + 1, 0.0});
}

void Rope::phases(double position, double* cos_sin) const {
  for (const Pair& pair : pairs_) {
    *cos_sin++ = std::cos(position * pair.frequency);
    *cos_sin++ = std::sin(position * pair.frequency);
  }
}

void Rope::undo(const double* cos_sin, double* row) const {
  for (const Pair& pair : pairs_) {
    const double cos = *cos_sin++, sin = *cos_sin++;
    const double a = row[pair.a], b = row[pair.b];
    row[pair.a] = a * cos + b * sin;
    row[pair.b] = b * cos - a * sin;
  }
}

void Rope::average(uint64_t n_positions, double* moment) const {
  const uint64_t d = dim();
  for (const Pair& j : pairs_)
    for (const Pair& k : pairs_) {
      double &aa = moment[j.a * d + k.a], &ab = moment[j.a * d + k.b];
      double &ba = moment[j.b * d + k.a], &bb = moment[j.b * d + k.b];
      const Complex with_conjugate = Complex(aa + bb, ba - ab) * mean_phase(j.frequency - k.frequency, n_positions);
      const Complex without = Complex(aa - bb, ba + ab) * mean_phase(j.frequency + k.frequency, n_positions);
      aa = (with_conjugate.real() + without.real()) / 2;
      bb = (with_conjugate.real() - without.real()) / 2;
      ba = (with_conjugate.imag() + without.imag()) / 2;
      ab = (without.imag() - with_conjugate.imag()) / 2;
    }
}

}  // namespace oscar
