#include "format/bf16.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

using namespace oscar;

namespace {

// The nearer of a value's two neighbours among the 16-bit floats that `widen` reads, ties to the even one.
template <class Widen>
uint16_t nearest(float x, uint16_t truncated, Widen widen) {
  const auto up = static_cast<uint16_t>(truncated + 1);
  const double below = std::abs(static_cast<double>(widen(truncated)) - x);
  const double above = std::abs(static_cast<double>(widen(up)) - x);
  return below < above || (below == above && truncated % 2 == 0) ? truncated : up;
}

}  // namespace

TEST_CASE("every BF16 survives widening and rounding") {
  for (uint32_t x = 0; x < 65536; ++x) {
    const float wide = bf16_to_f32(static_cast<uint16_t>(x));
    if (std::isnan(wide))
      CHECK(std::isnan(bf16_to_f32(f32_to_bf16(wide))));
    else
      CHECK(f32_to_bf16(wide) == x);
  }
}

TEST_CASE("BF16 rounds to nearest, ties to even") {
  std::mt19937 random(5);
  for (int i = 0; i < 100000; ++i) {
    uint32_t bits = random();
    if (i % 2) bits = (bits & 0xffff0000u) | 0x8000u;  // a tie
    const float x = std::bit_cast<float>(bits);
    if (!std::isfinite(x) || std::abs(x) > 3.3e38f) continue;
    REQUIRE(f32_to_bf16(x) == nearest(x, static_cast<uint16_t>(bits >> 16), bf16_to_f32));
  }
}

TEST_CASE("every F16 is what IEEE 754 says, survives rounding, and keeps its infinities and NaNs") {
  for (uint32_t x = 0; x < 65536; ++x) {
    const auto half = static_cast<uint16_t>(x);
    const float wide = f16_to_f32(half), sign = x & 0x8000u ? -1.0f : 1.0f;
    const int exponent = static_cast<int>(x >> 10 & 31), mantissa = static_cast<int>(x & 1023);
    if (exponent == 31) {
      REQUIRE((mantissa ? std::isnan(wide) : wide == sign * INFINITY));
      REQUIRE((mantissa ? std::isnan(f16_to_f32(f32_to_f16(wide))) : f32_to_f16(wide) == half));
      continue;
    }
    const float expected = exponent ? std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25)
                                    : std::ldexp(static_cast<float>(mantissa), -24);
    REQUIRE(wide == sign * expected);
    REQUIRE(f32_to_f16(wide) == half);
  }
}

TEST_CASE("F16 rounds to nearest, ties to even, and to infinity from 65520") {
  std::mt19937 random(6);
  std::uniform_real_distribution<float> exponent(-26.0f, 15.9f);
  for (int i = 0; i < 100000; ++i) {
    float x = std::exp2(exponent(random));
    if (x >= 65504.0f) continue;
    uint16_t truncated = f32_to_f16(x);
    if (f16_to_f32(truncated) > x) --truncated;
    if (i % 2) x = (f16_to_f32(truncated) + f16_to_f32(static_cast<uint16_t>(truncated + 1))) / 2;
    if (x >= 65504.0f) continue;
    REQUIRE(f32_to_f16(x) == nearest(x, truncated, f16_to_f32));
    REQUIRE(f32_to_f16(-x) == (f32_to_f16(x) | 0x8000u));
  }
  CHECK(f32_to_f16(65519.0f) == 0x7bff);
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
}
