// Vectors of FP32 for the sources that are compiled once per instruction set. Every operation is the IEEE one, rounded
// to nearest even, so a result does not depend on the width. Lanes are tokens or outputs, never terms of one sum.
#pragma once
#include <cmath>
#include <cstdint>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

namespace oscar::OSCAR_ISA::simd {

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

// The maskz forms with a full mask spare GCC 12 a false warning about the undefined operand of the plain forms (PR 105593).
using Vec = __m512;
inline constexpr uint32_t kLanes = 16;

inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a); }
inline Vec broadcast(float a) { return _mm512_set1_ps(a); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec negated_fma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec floor(Vec a) { return _mm512_maskz_roundscale_ps(0xffff, a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline Vec min(Vec a, Vec b) { return _mm512_maskz_min_ps(0xffff, a, b); }
inline Vec max(Vec a, Vec b) { return _mm512_maskz_max_ps(0xffff, a, b); }
inline Vec load_codes(const uint8_t* p) {
  return _mm512_maskz_cvtepi32_ps(
      0xffff, _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store_codes(uint8_t* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_maskz_cvtepi32_epi8(0xffff, _mm512_maskz_cvttps_epi32(0xffff, a)));
}
// Butterflies of strides 1, 2, .. kLanes/2 within a vector: lane i with bit `stride` clear gets a_i + a_(i^stride),
// the other a_(i^stride) - a_i.
inline Vec butterflies(Vec a) {
  Vec b = _mm512_maskz_permute_ps(0xffff, a, 0xb1);
  a = _mm512_mask_sub_ps(_mm512_add_ps(b, a), 0xaaaa, b, a);
  b = _mm512_maskz_permute_ps(0xffff, a, 0x4e);
  a = _mm512_mask_sub_ps(_mm512_add_ps(b, a), 0xcccc, b, a);
  b = _mm512_maskz_shuffle_f32x4(0xffff, a, a, 0xb1);
  a = _mm512_mask_sub_ps(_mm512_add_ps(b, a), 0xf0f0, b, a);
  b = _mm512_maskz_shuffle_f32x4(0xffff, a, a, 0x4e);
  return _mm512_mask_sub_ps(_mm512_add_ps(b, a), 0xff00, b, a);
}

#elif defined(__AVX2__) && defined(__FMA__)

using Vec = __m256;
inline constexpr uint32_t kLanes = 8;

inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a); }
inline Vec broadcast(float a) { return _mm256_set1_ps(a); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec negated_fma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec floor(Vec a) { return _mm256_floor_ps(a); }
inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec load_codes(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void store_codes(uint8_t* p, Vec a) {
  const __m256i words = _mm256_cvttps_epi32(a);
  const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
}
inline Vec butterflies(Vec a) {
  Vec b = _mm256_permute_ps(a, 0xb1);
  a = _mm256_blend_ps(_mm256_add_ps(b, a), _mm256_sub_ps(b, a), 0xaa);
  b = _mm256_permute_ps(a, 0x4e);
  a = _mm256_blend_ps(_mm256_add_ps(b, a), _mm256_sub_ps(b, a), 0xcc);
  b = _mm256_permute2f128_ps(a, a, 1);
  return _mm256_blend_ps(_mm256_add_ps(b, a), _mm256_sub_ps(b, a), 0xf0);
}

#else

using Vec = float;
inline constexpr uint32_t kLanes = 1;

inline Vec load(const float* p) { return *p; }
inline void store(float* p, Vec a) { *p = a; }
inline Vec broadcast(float a) { return a; }
inline Vec fma(Vec a, Vec b, Vec c) { return __builtin_fmaf(a, b, c); }
inline Vec negated_fma(Vec a, Vec b, Vec c) { return __builtin_fmaf(-a, b, c); }
inline Vec add(Vec a, Vec b) { return a + b; }
inline Vec sub(Vec a, Vec b) { return a - b; }
inline Vec mul(Vec a, Vec b) { return a * b; }
inline Vec floor(Vec a) { return __builtin_floorf(a); }
inline Vec min(Vec a, Vec b) { return a < b ? a : b; }
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec load_codes(const uint8_t* p) { return static_cast<float>(*p); }
inline void store_codes(uint8_t* p, Vec a) { *p = static_cast<uint8_t>(static_cast<int32_t>(a)); }
inline Vec butterflies(Vec a) { return a; }

#endif

}  // namespace oscar::OSCAR_ISA::simd
