// Scale bytes. Byte e * 16 + m means base * 2^(e - 15) * (1 + m / 16): two integer instructions to decode, no special
// values, a range of 2^16, 3.1 % largest and 1.3 % rms rounding error. `base` is a power of two, one per block and side.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar {

OSCAR_HD inline float decode_scale(uint8_t byte, float base) {
  // The byte is the low exponent bits and the top mantissa bits of a float: bits 19..26, exponent offset 127 - 15.
  return __builtin_bit_cast(float, (uint32_t{byte} << 19) + (uint32_t{127 - 15} << 23)) * base;
}

// x > 0 rounded to 4 mantissa bits, ties to even: the grid of the scale bytes, 16 steps an octave.
OSCAR_HD inline float round_to_scale_grid(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  return __builtin_bit_cast(float, (bits + 0x3ffffu + ((bits >> 19) & 1u)) & 0xfff80000u);
}

// x > 0 rounded up to that grid.
OSCAR_HD inline float raise_to_scale_grid(float x) {
  return __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, x) + 0x7ffffu) & 0xfff80000u);
}

// The power of two that lets the largest scale of a block be stored. 1 for a block of zeros; never below 2^-110 nor
// above 2^126, so that base * 2^(e - 15) is a normal number.
OSCAR_HD inline float scale_base(float largest) {
  if (!(largest > 0.0f)) return 1.0f;
  const uint32_t exponent = __builtin_bit_cast(uint32_t, round_to_scale_grid(largest)) >> 23;
  const uint32_t clamped = exponent < 17u ? 17u : exponent > 253u ? 253u : exponent;
  return __builtin_bit_cast(float, clamped << 23);
}

OSCAR_HD inline uint8_t encode_scale(float scale, float base) {
  if (!(scale > 0.0f)) return 0;
  const float ratio = scale / base;
  const uint32_t grid = __builtin_bit_cast(uint32_t, round_to_scale_grid(ratio)) >> 19;  // exponent * 16 + mantissa
  const uint32_t lowest = (127u - 15u) * 16u;
  if (grid < lowest) return 0;
  const uint32_t byte = grid - lowest;
  return static_cast<uint8_t>(byte > 255u ? 255u : byte);
}

}  // namespace oscar
