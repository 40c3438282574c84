#include "format/scale.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

using namespace oscar;

TEST_CASE("scale bytes ascend and survive a round trip, for every base") {
  for (int exponent = -110; exponent <= 126; exponent += 4) {
    const float base = std::ldexp(1.0f, exponent);
    float previous = 0.0f;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const float scale = decode_scale(static_cast<uint8_t>(byte), base);
      REQUIRE(std::isnormal(scale));
      REQUIRE(scale > previous);
      REQUIRE(scale ==
              std::ldexp(1.0f + static_cast<float>(byte % 16) / 16, exponent + static_cast<int>(byte / 16) - 15));
      REQUIRE(encode_scale(scale, base) == byte);
      previous = scale;
    }
  }
}

TEST_CASE("a scale within 2^15 of the largest is stored to 1/32, smaller ones take the smallest") {
  std::mt19937_64 random(11);
  std::uniform_real_distribution<float> exponent(-100.0f, 120.0f), below(0.0f, 18.0f);
  for (int i = 0; i < 200000; ++i) {
    const float largest = std::exp2(exponent(random)), scale = largest * std::exp2(-below(random));
    const float base = scale_base(largest), stored = decode_scale(encode_scale(scale, base), base);
    if (scale >= largest * 0x1p-15f)
      REQUIRE(std::abs(stored - scale) <= scale / 32);
    else
      REQUIRE(stored <= std::fmax(scale * 33 / 32, decode_scale(0, base)));
    REQUIRE(std::abs(decode_scale(encode_scale(largest, base), base) - largest) <= largest / 32);
  }
}

TEST_CASE("the grid rounds to 16 steps an octave, ties to even") {
  CHECK(round_to_scale_grid(1.0f) == 1.0f);
  CHECK(round_to_scale_grid(1.03f) == 1.0f);
  CHECK(round_to_scale_grid(1.03125f) == 1.0f);    // tie, down to the even mantissa 0
  CHECK(round_to_scale_grid(1.09375f) == 1.125f);  // tie, up to the even mantissa 2
  CHECK(round_to_scale_grid(1.99f) == 2.0f);
}

TEST_CASE("zero, and what no base can hold, have defined bytes") {
  CHECK(scale_base(0.0f) == 1.0f);
  CHECK(encode_scale(0.0f, 1.0f) == 0);
  CHECK(encode_scale(-1.0f, 1.0f) == 0);
  CHECK(encode_scale(std::nanf(""), 1.0f) == 0);
  CHECK(encode_scale(1e30f, 1.0f) == 255);
  CHECK(scale_base(1e-40f) == 0x1p-110f);
  CHECK(scale_base(INFINITY) == 0x1p126f);
}
