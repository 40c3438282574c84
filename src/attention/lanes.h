// Vectors of the attention kernel, one width per instruction set, as GCC vector types: + - * and comparisons are the
// operators, and only what they cannot say is spelled out here. Attention bits may differ between instruction sets
// (docs/numerics.md), so sums may run over lanes.
#pragma once
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace oscar::OSCAR_ISA {

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#define OSCAR_LANES_512 1
inline constexpr uint32_t kVectorBytes = 64;
#elif defined(__AVX2__) && defined(__FMA__)
#define OSCAR_LANES_256 1
inline constexpr uint32_t kVectorBytes = 32;
#else
inline constexpr uint32_t kVectorBytes = 16;
#endif
inline constexpr uint32_t kLanes = kVectorBytes / 4;  // 32-bit lanes

typedef float F32 __attribute__((vector_size(kVectorBytes)));
typedef int32_t I32 __attribute__((vector_size(kVectorBytes)));
typedef uint32_t U32 __attribute__((vector_size(kVectorBytes)));
typedef int16_t I16 __attribute__((vector_size(kVectorBytes)));  // twice kLanes
typedef uint64_t U64 __attribute__((vector_size(kVectorBytes)));
inline constexpr uint32_t kQwords = kVectorBytes / 8;

// Any address; vectors never cross the end of a buffer because its rows are padded.
inline F32 load(const float* p) {
  F32 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline I32 load(const int32_t* p) {
  I32 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline U64 load_qwords(const uint8_t* p) {
  U64 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, F32 v) { __builtin_memcpy(p, &v, sizeof v); }
inline void store(int32_t* p, I32 v) { __builtin_memcpy(p, &v, sizeof v); }

// One of kParts equal parts of a vector.
template <uint32_t kPart, uint32_t kParts>
inline void store_part(int32_t* p, I32 v) {
  typedef int32_t Part __attribute__((vector_size(kVectorBytes / kParts)));
  Part parts[kParts];
  __builtin_memcpy(parts, &v, sizeof v);
  __builtin_memcpy(p, &parts[kPart], sizeof(Part));
}

// The low 16 bits of each lane.
inline void store_narrow(int16_t* p, I32 v) {
  typedef int16_t Half __attribute__((vector_size(kVectorBytes / 2)));
  const Half narrow = __builtin_convertvector(v, Half);
  __builtin_memcpy(p, &narrow, sizeof narrow);
}

// kLanes bytes as 32-bit lanes.
template <typename Byte>
inline I32 load_bytes_32(const Byte* p) {
  typedef Byte Bytes __attribute__((vector_size(kLanes)));
  typedef int16_t Words __attribute__((vector_size(2 * kLanes)));  // in two steps: GCC 12 has no vector code for one
  Bytes v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(__builtin_convertvector(v, Words), I32);
}

// kQwords words of 32 bits as 64-bit lanes.
inline U64 widen_words(const uint8_t* p) {
  typedef uint32_t Words __attribute__((vector_size(kVectorBytes / 2)));
  Words v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, U64);
}

// The same 8 bytes in every 64-bit lane.
inline U64 repeat_qword(const uint8_t* p) {
  uint64_t qword;
  __builtin_memcpy(&qword, p, sizeof qword);
  return U64{} + qword;
}

// The same 16 bytes in every 128 bits.
inline U64 repeat_16(const uint8_t* p) {
#if defined(OSCAR_LANES_512)
  return reinterpret_cast<U64>(_mm512_maskz_broadcast_i32x4(0xffff, *reinterpret_cast<const __m128i_u*>(p)));
#elif defined(OSCAR_LANES_256)
  return reinterpret_cast<U64>(_mm256_broadcastsi128_si256(*reinterpret_cast<const __m128i_u*>(p)));
#else
  return load_qwords(p);
#endif
}

inline F32 to_float(I32 v) { return __builtin_convertvector(v, F32); }
inline F32 larger(F32 a, F32 b) { return a > b ? a : b; }  // b where either is NaN

// To nearest, ties to even, for |x| < 2^22: the bits of x + 1.5 * 2^23 hold the integer. NaN gives some integer.
inline I32 round_to_int(F32 v) {
  constexpr float kMagic = 12582912.0f;
  return reinterpret_cast<I32>(v + kMagic) - 0x4b400000;
}

#if defined(OSCAR_LANES_512)

inline F32 splat(float x) { return reinterpret_cast<F32>(_mm512_set1_ps(x)); }
inline F32 multiply_add(F32 a, F32 b, F32 c) { return reinterpret_cast<F32>(_mm512_fmadd_ps(a, b, c)); }

// What follows, in each of the three variants: sums of products of unsigned codes with signed 16-bit numbers, which come
// as two operands of a byte a number.
//   split_numbers   the two operands of n numbers, n bytes each
//   plane_codes     the codes of one bit plane, maybe times a power of two
//   dot_part        what one of the operands adds to its sum
//   join_parts      the sum of products, in 32-bit lanes of four codes each
// Here: the number is 256 high + low, both signed bytes. A plane stays at its place in the byte.
typedef I32 DotSum;
template <uint32_t kPart>
inline DotSum dot_part(DotSum sum, U64 codes, U64 part) {
  return reinterpret_cast<I32>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(codes),
                                                   reinterpret_cast<__m512i>(part)));
}
template <uint32_t kWidth>
inline U64 plane_codes(U64 bytes, uint32_t plane) {
  return bytes & (((uint64_t{1} << kWidth) - 1) * 0x0101010101010101u << plane * kWidth);
}
template <uint32_t kWidth>
inline I32 join_parts(DotSum low, DotSum high, uint32_t plane) {
  return (low + (high << 8)) >> static_cast<int>(plane * kWidth);  // exact: every sum is a multiple
}
inline U64 even_qwords(U64 a, U64 b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
inline U64 odd_qwords(U64 a, U64 b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
// a[0] + a[1], a[2] + a[3], .., then those of b.
inline I32 add_pairs(I32 a, I32 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

#define OSCAR_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define OSCAR_HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define OSCAR_LOW_PAIRS(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define OSCAR_HIGH_PAIRS(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)

#elif defined(OSCAR_LANES_256)

inline F32 splat(float x) { return reinterpret_cast<F32>(_mm256_set1_ps(x)); }
inline F32 multiply_add(F32 a, F32 b, F32 c) { return reinterpret_cast<F32>(_mm256_fmadd_ps(a, b, c)); }

// As above, with sums of 16 bits: see code_dots.h for why they hold.
typedef I16 DotSum;
template <uint32_t kPart>
inline DotSum dot_part(DotSum sum, U64 codes, U64 part) {
  return sum +
         reinterpret_cast<I16>(_mm256_maddubs_epi16(reinterpret_cast<__m256i>(codes), reinterpret_cast<__m256i>(part)));
}
template <uint32_t kWidth>
inline U64 plane_codes(U64 bytes, uint32_t plane) {
  return bytes >> plane * kWidth & ((uint64_t{1} << kWidth) - 1) * 0x0101010101010101u;
}
template <uint32_t kWidth>
inline I32 join_parts(DotSum low, DotSum high, uint32_t) {
  return reinterpret_cast<I32>(_mm256_madd_epi16(reinterpret_cast<__m256i>(low), _mm256_set1_epi16(1))) +
         reinterpret_cast<I32>(_mm256_madd_epi16(reinterpret_cast<__m256i>(high), _mm256_set1_epi16(256)));
}
inline U64 even_qwords(U64 a, U64 b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
inline U64 odd_qwords(U64 a, U64 b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7); }
inline I32 add_pairs(I32 a, I32 b) {
  const __m256i sums = _mm256_hadd_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b));
  return reinterpret_cast<I32>(_mm256_permute4x64_epi64(sums, 0xd8));  // it adds within each 128 bits
}

#define OSCAR_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define OSCAR_HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define OSCAR_LOW_PAIRS(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define OSCAR_HIGH_PAIRS(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)

#else

inline F32 splat(float x) { return F32{x, x, x, x}; }
inline F32 multiply_add(F32 a, F32 b, F32 c) { return a * b + c; }

// The operands are numbers of 16 bits: those at even places, and those at odd places.
typedef I32 DotSum;
inline I32 dot_pairs(I32 sum, I16 a, I16 b) {
#if defined(__SSE2__)
  return sum + reinterpret_cast<I32>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  for (uint32_t i = 0; i < kLanes; ++i) sum[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sum;
#endif
}
template <uint32_t kPart>
inline DotSum dot_part(DotSum sum, U64 codes, U64 part) {
  const U64 own = kPart == 0 ? codes & 0x00ff00ff00ff00ffu : codes >> 8 & 0x00ff00ff00ff00ffu;
  return dot_pairs(sum, reinterpret_cast<I16>(own), reinterpret_cast<I16>(part));
}
template <uint32_t kWidth>
inline U64 plane_codes(U64 bytes, uint32_t plane) {
  return bytes >> plane * kWidth & ((uint64_t{1} << kWidth) - 1) * 0x0101010101010101u;
}
template <uint32_t kWidth>
inline I32 join_parts(DotSum low, DotSum high, uint32_t) {
  return low + high;
}
inline U64 even_qwords(U64 a, U64 b) { return __builtin_shufflevector(a, b, 0, 2); }
inline U64 odd_qwords(U64 a, U64 b) { return __builtin_shufflevector(a, b, 1, 3); }
inline I32 add_pairs(I32 a, I32 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
}

#define OSCAR_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define OSCAR_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define OSCAR_LOW_PAIRS(a, b) __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define OSCAR_HIGH_PAIRS(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)

#endif

#if !defined(OSCAR_LANES_512) && !defined(OSCAR_LANES_256)
// 16 pairs of 16-bit numbers as a matrix of 4 x 4 pairs, transposed.
inline void transpose_pairs(const int16_t* from, int16_t* to) {
  typedef int32_t Row __attribute__((vector_size(16)));
  Row v[4];
  __builtin_memcpy(v, from, sizeof v);
  const Row ac0 = __builtin_shufflevector(v[0], v[2], 0, 4, 1, 5),
            ac1 = __builtin_shufflevector(v[0], v[2], 2, 6, 3, 7);
  const Row bd0 = __builtin_shufflevector(v[1], v[3], 0, 4, 1, 5),
            bd1 = __builtin_shufflevector(v[1], v[3], 2, 6, 3, 7);
  v[0] = __builtin_shufflevector(ac0, bd0, 0, 4, 1, 5);
  v[1] = __builtin_shufflevector(ac0, bd0, 2, 6, 3, 7);
  v[2] = __builtin_shufflevector(ac1, bd1, 0, 4, 1, 5);
  v[3] = __builtin_shufflevector(ac1, bd1, 2, 6, 3, 7);
  __builtin_memcpy(to, v, sizeof v);
}
#endif

// kN of n numbers as the two operands of dot_part. Loops of fixed length become vectors.
template <uint32_t kN>
inline void split_some(const int16_t* __restrict__ numbers, uint32_t n, uint8_t* __restrict__ parts) {
#if defined(OSCAR_LANES_512) || defined(OSCAR_LANES_256)
  for (uint32_t i = 0; i < kN; ++i) {
    parts[i] = static_cast<uint8_t>(numbers[i]);
    parts[n + i] = static_cast<uint8_t>((numbers[i] + 128) >> 8);
  }
#else
  for (uint32_t i = 0; i < kN; i += 2) {
    __builtin_memcpy(parts + i, numbers + i, 2);
    __builtin_memcpy(parts + n + i, numbers + i + 1, 2);
  }
#endif
}

// All n of them, a multiple of 8.
inline void split_numbers(const int16_t* numbers, uint32_t n, uint8_t* parts) {
  uint32_t i = 0;
  for (; i + 32 <= n; i += 32) split_some<32>(numbers + i, n, parts + i);
  for (; i < n; i += 8) split_some<8>(numbers + i, n, parts + i);
}

// w: the 32 numbers of a group of slots, as operands in stored order (columns.h: value_place): parts[0 .. 32) and
// parts[n .. n + 32).
inline void split_group(const I32* w, uint32_t n, uint8_t* parts) {
#if defined(OSCAR_LANES_512)
  const I16 stored = __builtin_shufflevector(reinterpret_cast<I16>(w[0]), reinterpret_cast<I16>(w[1]),    //
                                             0, 2, 16, 18, 32, 34, 48, 50, 4, 6, 20, 22, 36, 38, 52, 54,  //
                                             8, 10, 24, 26, 40, 42, 56, 58, 12, 14, 28, 30, 44, 46, 60, 62);
  typedef int8_t Bytes __attribute__((vector_size(32)));
  const Bytes low = __builtin_convertvector(stored, Bytes), high = __builtin_convertvector((stored + 128) >> 8, Bytes);
  __builtin_memcpy(parts, &low, sizeof low);
  __builtin_memcpy(parts + n, &high, sizeof high);
#elif defined(OSCAR_LANES_256)
  const auto words = [&](uint32_t i) {
    return _mm256_castsi256_ps(
        _mm256_packs_epi32(reinterpret_cast<__m256i>(w[i]), reinterpret_cast<__m256i>(w[i + 1])));
  };
  const __m256 front = words(0), back = words(2);  // pairs of slots: 0 and 2 of each register, then 1 and 3
  const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(front, back, 0x88)),
                odd = _mm256_castps_si256(_mm256_shuffle_ps(front, back, 0xdd));
  const __m256i byte = _mm256_set1_epi16(255), half = _mm256_set1_epi16(128);
  const __m256i low = _mm256_packus_epi16(_mm256_and_si256(even, byte), _mm256_and_si256(odd, byte));
  const __m256i high = _mm256_packs_epi16(_mm256_srai_epi16(_mm256_add_epi16(even, half), 8),
                                          _mm256_srai_epi16(_mm256_add_epi16(odd, half), 8));
  __builtin_memcpy(parts, &low, sizeof low);
  __builtin_memcpy(parts + n, &high, sizeof high);
#else
  alignas(64) int16_t by_slot[32], stored[32];
  for (uint32_t i = 0; i < 32 / kLanes; ++i) store_narrow(by_slot + i * kLanes, w[i]);
  transpose_pairs(by_slot, stored);
  split_some<32>(stored, n, parts);
#endif
}

// out[0..3] = all lanes of a, b, c, d joined: a 4 x 4 transposition within each 128 bits, then the 128-bit parts folded.
// Each has the same order of operations.
template <typename V, typename T, typename Join>
inline void fold_lanes_4(V a, V b, V c, V d, T* out, Join join) {
  typedef T Quad __attribute__((vector_size(16)));
  const V ab = join(OSCAR_LOW(a, b), OSCAR_HIGH(a, b)), cd = join(OSCAR_LOW(c, d), OSCAR_HIGH(c, d));
  const V abcd = join(OSCAR_LOW_PAIRS(ab, cd), OSCAR_HIGH_PAIRS(ab, cd));
  Quad part[kLanes / 4];
  __builtin_memcpy(part, &abcd, sizeof part);
  for (uint32_t width = kLanes / 8; width > 0; width /= 2)
    for (uint32_t i = 0; i < width; ++i) part[i] = join(part[i], part[i + width]);
  __builtin_memcpy(out, &part[0], sizeof(Quad));
}
template <typename V, typename T>
inline void sum_lanes_4(V a, V b, V c, V d, T* out) {
  fold_lanes_4(
      a, b, c, d, out, [](auto x, auto y) __attribute__((always_inline)) { return x + y; });
}
inline void largest_lanes_4(F32 a, F32 b, F32 c, F32 d, float* out) {
  fold_lanes_4(
      a, b, c, d, out, [](auto x, auto y) __attribute__((always_inline)) { return x > y ? x : y; });
}

// The sum and the largest of all lanes: 128-bit parts folded by halves, then the last four lanes pairwise.
template <typename V>
inline auto sum_lanes(V v) {
  typedef decltype(v[0] + v[0]) T;
  typedef T Quad __attribute__((vector_size(16)));
  Quad part[kLanes / 4];
  __builtin_memcpy(part, &v, sizeof part);
  for (uint32_t width = kLanes / 8; width > 0; width /= 2)
    for (uint32_t i = 0; i < width; ++i) part[i] += part[i + width];
  return (part[0][0] + part[0][1]) + (part[0][2] + part[0][3]);
}

inline float largest_lane(F32 v) {
  typedef float Quad __attribute__((vector_size(16)));
  Quad part[kLanes / 4];
  __builtin_memcpy(part, &v, sizeof part);
  for (uint32_t width = kLanes / 8; width > 0; width /= 2)
    for (uint32_t i = 0; i < width; ++i) part[i] = part[i] > part[i + width] ? part[i] : part[i + width];
  const float left = part[0][0] > part[0][1] ? part[0][0] : part[0][1];
  const float right = part[0][2] > part[0][3] ? part[0][2] : part[0][3];
  return left > right ? left : right;
}

#undef OSCAR_LOW
#undef OSCAR_HIGH
#undef OSCAR_LOW_PAIRS
#undef OSCAR_HIGH_PAIRS

}  // namespace oscar::OSCAR_ISA
