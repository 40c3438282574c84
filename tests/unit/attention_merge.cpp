#include "attention/merge.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "../backends/random_work.h"

namespace oscar {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

struct Merged {
  std::vector<float> out, lse;
};

Merged merge(const std::vector<float>& outs, const std::vector<float>& lses, size_t n_parts, size_t n_rows, size_t d) {
  Merged m{std::vector<float>(n_rows * d, -12345.0f), std::vector<float>(n_rows, -12345.0f)};
  merge_partials(outs.data(), lses.data(), n_parts, n_rows, d, m.out.data(), m.lse.data());
  return m;
}

TEST_CASE("merging partial softmaxes gives the softmax over all logits") {
  testing::Random random(1);
  for (uint32_t round = 0; round < 50; ++round) {
    const size_t n_parts = random.between(1, 9), n_rows = random.between(1, 5), d = random.between(1, 40), n = 7;
    std::vector<float> outs(n_parts * n_rows * d), lses(n_parts * n_rows);
    std::vector<double> want(n_rows * d, 0.0), total(n_rows, 0.0);
    for (size_t p = 0; p < n_parts; ++p)
      for (size_t row = 0; row < n_rows; ++row) {
        std::vector<double> sum(d, 0.0);
        double mass = 0.0;
        for (size_t t = 0; t < n; ++t) {
          const double weight = std::exp(8.0 * static_cast<double>(random.normal()));
          mass += weight;
          for (size_t i = 0; i < d; ++i) sum[i] += weight * static_cast<double>(random.normal());
        }
        lses[p * n_rows + row] = static_cast<float>(std::log(mass));
        for (size_t i = 0; i < d; ++i) {
          outs[(p * n_rows + row) * d + i] = static_cast<float>(sum[i] / mass);
          want[row * d + i] += sum[i];
        }
        total[row] += mass;
      }
    const Merged got = merge(outs, lses, n_parts, n_rows, d);
    for (size_t row = 0; row < n_rows; ++row) {
      CHECK(static_cast<double>(got.lse[row]) == doctest::Approx(std::log(total[row])).epsilon(1e-6));
      for (size_t i = 0; i < d; ++i)
        CHECK(std::fabs(static_cast<double>(got.out[row * d + i]) - want[row * d + i] / total[row]) < 1e-5);
    }
  }
}

TEST_CASE("an empty part is not read, and rows of empty parts give 0 and -infinity") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Merged got = merge({nan, nan, nan, nan, 2.0f, 3.0f, nan, nan}, {kEmpty, kEmpty, 0.5f, kEmpty}, 2, 2, 2);
  CHECK(got.out == std::vector<float>{2.0f, 3.0f, 0.0f, 0.0f});
  CHECK(got.lse == std::vector<float>{0.5f, kEmpty});
}

TEST_CASE("a merge may leave the lse out, and logits of any size neither overflow nor vanish") {
  const std::vector<float> outs{1.0f, 3.0f}, lses{5000.0f, 5000.0f};
  float out = 0.0f;
  merge_partials(outs.data(), lses.data(), 2, 1, 1, &out, nullptr);
  CHECK(out == 2.0f);
  const Merged low = merge(outs, {-5000.0f, -5001.0f}, 2, 1, 1);
  CHECK(low.out[0] == doctest::Approx((1.0 + 3.0 * std::exp(-1.0)) / (1.0 + std::exp(-1.0))));
}

TEST_CASE("a part that is not a number spoils its own row only") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Merged got = merge({1.0f, 2.0f, 3.0f, 4.0f}, {0.0f, nan, 0.0f, 0.0f}, 2, 2, 1);
  CHECK(got.out[0] == 2.0f);
  CHECK(std::isnan(got.out[1]));
  CHECK(std::isnan(got.lse[1]));
}

TEST_CASE("parts with +infinity outweigh all others, share equally, and leave other rows alone") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // 3 parts of 2 rows; what has no weight is not read.
  const Merged got = merge({nan, 1.0f, 2.0f, 3.0f, 4.0f, nan}, {7.0f, 0.0f, kInfinity, 0.0f, kInfinity, kEmpty}, 3, 2,
                           1);
  CHECK(got.out == std::vector<float>{3.0f, 2.0f});
  CHECK(got.lse[0] == kInfinity);
  CHECK(got.lse[1] == doctest::Approx(std::log(2.0)));
  const Merged spoilt = merge({1.0f, 2.0f}, {nan, kInfinity}, 2, 1, 1);
  CHECK(std::isnan(spoilt.out[0]));
  CHECK(std::isnan(spoilt.lse[0]));
}

}  // namespace
}  // namespace oscar
