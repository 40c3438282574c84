// 2^x and the softcap, vectorised, for logits kept in base 2. No libm.
#pragma once
#include "attention/lanes.h"

namespace oscar::OSCAR_ISA {

// 2^x for x <= 127; 0 below -126. 2^x = 2^n 2^f with n = round(x), |f| <= 1/2, and 2^f by the minimax polynomial of
// degree 6 (relative error 1.6e-8; Remez exchange on [-1/2, 1/2], c0 = 1 so that 2^0 is exact).
// NaN gives NaN.
inline F32 exp2_lanes(F32 x) {
  constexpr float kMagic = 12582912.0f;
  const F32 shifted = x + kMagic;
  const F32 f = x - (shifted - kMagic);
  const U32 n = reinterpret_cast<U32>(shifted) - 0x4b400000u;  // far below the range it wraps around
  F32 y = splat(1.526162723784697e-4f);
  y = multiply_add(y, f, splat(1.3398938129419655e-3f));
  y = multiply_add(y, f, splat(9.618710668598906e-3f));
  y = multiply_add(y, f, splat(5.550331463290674e-2f));
  y = multiply_add(y, f, splat(2.4022646240717302e-1f));
  y = multiply_add(y, f, splat(6.931472043764231e-1f));
  y = multiply_add(y, f, splat(1.0f));
  const F32 power = reinterpret_cast<F32>((n + 127u) << 23);  // a multiplication keeps NaN
  return x < -126.0f ? F32{} : y * power;
}

inline float exp2_scalar(float x) { return exp2_lanes(splat(x))[0]; }

// c tanh(x / c) with tanh|y| = (1 - t) / (1 + t), t = e^(-2|y|): absolute error about 1e-7 c.
inline F32 softcap_lanes(F32 x, float cap) {
  const I32 sign = reinterpret_cast<I32>(x) & static_cast<int32_t>(0x80000000u);
  const F32 magnitude = reinterpret_cast<F32>(reinterpret_cast<I32>(x) ^ sign);
  const F32 t = exp2_lanes(magnitude * (-2.0f * 1.44269504f / cap));
  const F32 y = cap * ((1.0f - t) / (1.0f + t));
  return reinterpret_cast<F32>(reinterpret_cast<I32>(y) ^ sign);
}

}  // namespace oscar::OSCAR_ISA
