#include "attention/merge.h"

#include <cmath>
#include <limits>

namespace oscar {

void merge_partials(const float* outs, const float* lses, size_t n_parts, size_t n_rows, size_t d, float* out,
                    float* lse) {
  constexpr float kEmpty = -std::numeric_limits<float>::infinity();
  for (size_t row = 0; row < n_rows; ++row) {
    float largest = kEmpty;
    for (size_t p = 0; p < n_parts; ++p) largest = std::fmax(largest, lses[p * n_rows + row]);
    // exp(lse_p - largest); infinity - infinity would be no number.
    const auto mass = [largest](float part) {
      if (part == kEmpty) return 0.0;
      return part == largest ? 1.0 : std::exp(static_cast<double>(part) - static_cast<double>(largest));
    };
    double sum = 0.0;
    for (size_t p = 0; p < n_parts; ++p) sum += mass(lses[p * n_rows + row]);
    float* row_out = out + row * d;
    for (size_t i = 0; i < d; ++i) row_out[i] = 0.0f;
    for (size_t p = 0; p < n_parts; ++p) {
      const double part = mass(lses[p * n_rows + row]);
      if (part == 0.0) continue;
      const float weight = static_cast<float>(part / sum);
      const float* part_out = outs + (p * n_rows + row) * d;
      for (size_t i = 0; i < d; ++i) row_out[i] += weight * part_out[i];
    }
    if (lse) lse[row] = sum == 0.0 ? kEmpty : static_cast<float>(static_cast<double>(largest) + std::log(sum));
  }
}

}  // namespace oscar
