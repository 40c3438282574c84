// One side of a block in shared memory, for the general packing kernel: everything lies as [dimension][slot], so a
// thread's own column needs no barrier and hits no bank twice.
//   z       f32 [D][128]
//   x       BF16 [D][136]   rows as they came; then trial codes u16 [D][128]; then codes [128][2 D + 4], base and
//                           refinement
//   slab    16 rows (two stages of 8) of a matrix of D columns
//   mean, pivots, order, inverse order, scratch
#pragma once
#include <cstdint>

#include "cuda/pack_plain.cuh"
#include "cuda/pack_side.cuh"

namespace oscar::cuda {

template <uint32_t D>
struct GeneralShape {
  static constexpr uint32_t kPad = round_up(D, kDimUnit);
  static constexpr uint32_t kPasses = D > 128 ? 2 : 1;  // over the columns of a matrix product
  static constexpr uint32_t kColumns = round_up(D / kPasses, 32), kQuads = kColumns / 32;
  static constexpr uint32_t kRowPitch = kBlockTokens + 8;  // of x, elements
  static constexpr uint32_t kCodePitch = D / 2 + 1;        // words: base codes, refinement, one so that columns spread
  static constexpr uint32_t kSlabRows = 8;
  static constexpr uint32_t kSlabBytes = 16 * (kPasses == 1 ? kColumns : D) * 4;
  static constexpr uint32_t kX = D * kBlockTokens * 4, kSlab = kX + D * kRowPitch * 2, kMean = kSlab + kSlabBytes;
  static constexpr uint32_t kPivots = kMean + 2 * D * 4, kOrder = kPivots + D * 4, kSlotOf = kOrder + kBlockTokens;
  static constexpr uint32_t kScratch = kSlotOf + kBlockTokens, kBytes = kScratch + 16;
  static_assert(kBlockTokens * kCodePitch * 4 <= D * kRowPitch * 2);
  static_assert(2 * kSlabRows * kColumns * 4 <= kSlabBytes);
};

// What a CTA works on.
template <uint32_t D>
struct GeneralMemory {
  using Shape = GeneralShape<D>;
  float* z;
  uint16_t* x;  // also trial codes
  uint32_t* codes;
  float* slab;
  float* mean;
  float* pivots;
  uint8_t* order;
  uint8_t* slot_of;
  uint32_t* scratch;

  __device__ explicit GeneralMemory(uint8_t* shared)
      : z(reinterpret_cast<float*>(shared)), x(reinterpret_cast<uint16_t*>(shared + Shape::kX)),
        codes(reinterpret_cast<uint32_t*>(shared + Shape::kX)), slab(reinterpret_cast<float*>(shared + Shape::kSlab)),
        mean(reinterpret_cast<float*>(shared + Shape::kMean)),
        pivots(reinterpret_cast<float*>(shared + Shape::kPivots)), order(shared + Shape::kOrder),
        slot_of(shared + Shape::kSlotOf), scratch(reinterpret_cast<uint32_t*>(shared + Shape::kScratch)) {}
};

// The rows in slot order to x. Ends with a barrier.
template <uint32_t D>
__device__ RowScan gather_columns(const PackLaunch& p, const Side& s, const GeneralMemory<D>& m) {
  find_order(p, s, ask_votes(p, s), m.order);
  __syncthreads();
  const uint32_t slot = threadIdx.x, token = m.order[slot];
  m.slot_of[token] = static_cast<uint8_t>(slot);
  const auto* row = reinterpret_cast<const uint4*>(SideRows(p, s).row(token));
  uint32_t largest = 0, n_non_finite = 0;
#pragma unroll 4
  for (uint32_t u = 0; u < D / 8; ++u) {
    const uint4 v = row[u];
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {
      const uint32_t pair = drop_non_finite(words[k], n_non_finite);
      largest = __vmaxu2(largest, pair & 0x7fff7fffu);
      uint16_t* out = m.x + (u * 8 + 2 * k) * GeneralShape<D>::kRowPitch + slot;
      out[0] = static_cast<uint16_t>(pair);
      out[GeneralShape<D>::kRowPitch] = static_cast<uint16_t>(pair >> 16);
    }
  }
  n_non_finite = cta_sum(n_non_finite, m.scratch);
  return {n_non_finite, scan_exponent(cta_max(max(largest & 0xffffu, largest >> 16), m.scratch))};
}

template <uint32_t D>
__device__ void mean_of_columns(const GeneralMemory<D>& m, float factor, float* mean) {
  for (uint32_t i = threadIdx.x; i < D; i += kPackThreads) {
    float sum = 0.0f;
#pragma unroll 8
    for (uint32_t t = 0; t < kBlockTokens; ++t)
      sum = __fadd_rn(sum, __fmul_rn(bf16_low(m.x[i * GeneralShape<D>::kRowPitch + m.slot_of[t]]), factor));
    mean[i] = __fmul_rn(sum, 1.0f / kBlockTokens);
  }
  __syncthreads();
}

// z = x through a Hadamard matrix or unchanged; each thread its own column.
template <uint32_t D>
__device__ void map_columns(const LinearMap& map, const GeneralMemory<D>& m, float factor) {
  constexpr uint32_t kM = hadamard_paley_order(D), kTable = kM == 1 ? 12 : kM;
  const uint16_t* x = m.x + threadIdx.x;
  float* z = m.z + threadIdx.x;
  const auto element = [&](uint32_t i) { return __fmul_rn(bf16_low(x[i * GeneralShape<D>::kRowPitch]), factor); };
  const bool hadamard = map.kind == MapKind::kHadamard;
  if (kM == 1 || !hadamard) {
#pragma unroll 8
    for (uint32_t i = 0; i < D; ++i) z[i * kBlockTokens] = element(i);
  } else {
    for (uint32_t a = 0; a < D; a += kM)
      for (uint32_t j = 0; j < kM; ++j) {
        const uint32_t mask = paley_column<kTable>(j, map.transposed != 0);
        float sum = 0.0f;
        for (uint32_t i = 0; i < kM; ++i) sum = __fadd_rn(sum, negate_if(element(a + i), mask >> i & 1u));
        z[(a + j) * kBlockTokens] = sum;
      }
  }
  if (!hadamard) return;
  for (uint32_t stride = kM; stride < D; stride *= 2)
#pragma unroll 4
    for (uint32_t n = 0; n < D / 2; ++n) {
      float* top = z + (n / stride * 2 * stride + n % stride) * kBlockTokens;
      const float u = top[0], v = top[stride * kBlockTokens];
      top[0] = __fadd_rn(u, v);
      top[stride * kBlockTokens] = __fsub_rn(u, v);
    }
  constexpr float kFactor = hadamard_factor_of(D);
#pragma unroll 8
  for (uint32_t i = 0; i < D; ++i) z[i * kBlockTokens] = __fmul_rn(z[i * kBlockTokens], kFactor);
}

// Subtracts the mean from the slot's column (keys) and returns its squared norm.
template <uint32_t D>
__device__ float subtract_and_norm(const GeneralMemory<D>& m, bool subtract) {
  float norm = 0.0f;
#pragma unroll 8
  for (uint32_t i = 0; i < D; ++i) {
    float& z = m.z[i * kBlockTokens + threadIdx.x];
    if (subtract) z = __fsub_rn(z, m.mean[i]);
    norm = __fmaf_rn(z, z, norm);
  }
  return norm;
}

}  // namespace oscar::cuda
