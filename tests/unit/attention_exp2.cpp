#define OSCAR_ISA exp2_under_test
#include "attention/exp2.h"

#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <limits>

using namespace oscar::exp2_under_test;

TEST_CASE("exp2 is within 2e-7 of the true value over its whole range") {
  double worst = 0.0;
  const auto visit = [&](float x) {
    const double truth = std::exp2(static_cast<double>(x));
    worst = std::fmax(worst, std::fabs(static_cast<double>(exp2_scalar(x)) - truth) / truth);
  };
  for (int i = 0; i <= 2'000'000; ++i) visit(-126.0f + 253.0f * static_cast<float>(i) / 2e6f);
  for (int i = 0; i <= 200'000; ++i) visit(-static_cast<float>(i) * 1e-5f);
  MESSAGE("worst relative error " << worst);
  CHECK(worst <= 2e-7);
}

TEST_CASE("exp2 is exact at 0, flushes below 2^-126, keeps NaN") {
  CHECK(exp2_scalar(0.0f) == 1.0f);
  CHECK(exp2_scalar(-1.0f) == 0.5f);
  CHECK(exp2_scalar(-126.0f) == 0x1p-126f);
  CHECK(exp2_scalar(-126.5f) == 0.0f);
  CHECK(exp2_scalar(-1e30f) == 0.0f);
  CHECK(exp2_scalar(-std::numeric_limits<float>::infinity()) == 0.0f);
  CHECK(std::isnan(exp2_scalar(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("softcap is c tanh(x / c), odd, and within 3e-7 c") {
  for (const float cap : {5.0f, 30.0f, 50.0f}) {
    double worst = 0.0;
    for (int i = -20000; i <= 20000; ++i) {
      const float x = static_cast<float>(i) * 0.01f, y = softcap_lanes(splat(x), cap)[0];
      const double truth = static_cast<double>(cap) * std::tanh(static_cast<double>(x) / static_cast<double>(cap));
      worst = std::fmax(worst, std::fabs(static_cast<double>(y) - truth));
      CHECK(softcap_lanes(splat(-x), cap)[0] == -y);
    }
    CHECK(worst <= 3e-7 * static_cast<double>(cap));
  }
}
