// Rounding in the general packing kernel: plain, and shaped (LDLQ / Babai's nearest plane in the metric M = R R^T, four
// trials of the step): quant/rounding.h.
#pragma once
#include "cuda/pack_multiply.cuh"
#include "cuda/pack_planes.cuh"

namespace oscar::cuda {

// What the quantizer of one slot needs.
struct SlotLevels {
  uint32_t width;
  float n_levels, centre, ratio;
  __device__ explicit SlotLevels(uint32_t w)
      : width(w), n_levels(static_cast<float>(4u << w)), centre(0.5f * (n_levels - 1.0f)), ratio(step_ratio(w)) {}
  // Over the number of levels: what nearest_code takes.
  __device__ float scaled(float inverse_step) const {
    return __fmul_rn(inverse_step, __uint_as_float((125u - width) << 23));
  }
};

// Four codes of dims i .. i + 3 to the slot's row.
template <uint32_t D>
__device__ __forceinline__ void store_codes(uint32_t* row, uint32_t i, uint32_t word, uint32_t width) {
  row[i / 4] = base_codes(word, width);
  if (width) row[D / 4 + i / 4] = fine_codes(word, width);
}

// Codes of the slot to its row. Returns <z, u>; uu = <u, u>.
template <uint32_t D>
__device__ float round_plain(const GeneralMemory<D>& m, float rms, const SlotLevels& levels, float& uu) {
  const float inverse = levels.scaled(rms > 0.0f ? __fdiv_rn(1.0f, __fmul_rn(rms, levels.ratio)) : 1.0f);
  const float* z = m.z + threadIdx.x;
  uint32_t* codes = m.codes + threadIdx.x * GeneralShape<D>::kCodePitch;
  float zu = 0.0f;
  uint32_t sum = 0, sum_of_squares = 0;
#pragma unroll 2
  for (uint32_t i = 0; i < D; i += 4) {
    float c[4];
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {
      const float zi = z[(i + k) * kBlockTokens];
      c[k] = nearest_code(zi, inverse, levels.n_levels);
      zu = __fmaf_rn(zi, centred(c[k], levels.centre), zu);
    }
    const uint32_t word = join_codes(c[0], c[1], c[2], c[3]);
    store_codes<D>(codes, i, word, levels.width);
    sum = __dp4a(word, 0x01010101u, sum);
    sum_of_squares = __dp4a(word, word, sum_of_squares);
  }
  uu = centred_norm(sum, sum_of_squares, (4u << levels.width) - 1, D);
  return zu;
}

inline constexpr uint32_t kTrials = 4, kRecursionRows = 16;

struct Trials {
  float step[kTrials], inverse[kTrials], cost[kTrials];
  __device__ Trials(float rms, const SlotLevels& levels) {
    const float scale[kTrials] = {0.9f, 1.0f, 1.1f, 1.2f};
#pragma unroll
    for (uint32_t k = 0; k < kTrials; ++k) {
      step[k] = __fmul_rn(rms > 0.0f ? __fmul_rn(rms, scale[k]) : 1.0f, levels.ratio);
      inverse[k] = levels.scaled(__fdiv_rn(1.0f, step[k]));
      cost[k] = 0.0f;
    }
  }
  __device__ uint32_t best() const {
    uint32_t b = 0;
    float least = cost[0];
#pragma unroll
    for (uint32_t k = 1; k < kTrials; ++k)
      if (cost[k] < least) b = k, least = cost[k];
    return b;
  }
};

// The errors of dimension j in all trials, from the codes of the trials (4 bits each): what the step at j left there.
__device__ __forceinline__ void trial_errors(float z, uint32_t codes, const Trials& trials, float shift,
                                             float (&e)[kTrials]) {
#pragma unroll
  for (uint32_t k = 0; k < kTrials; ++k) {
    const uint32_t doubled = (k == 0 ? codes << 1 : codes >> (4 * k - 1)) & 30u;  // 2^22 + code, in steps of 1/2
    e[k] = __fmaf_rn(-trials.step[k], __fadd_rn(__uint_as_float(doubled | 0x4a800000u), shift), z);
  }
}

// Rows [i0, i0 + 16) of the recursion from the carried sums of all columns before i0.
template <uint32_t D>
__device__ __forceinline__ void recursion_rows(const GeneralMemory<D>& m, uint32_t i0, const SlotLevels& levels,
                                               Trials& trials, float (&carried)[kRecursionRows][kTrials]) {
#pragma unroll
  for (uint32_t k = 0; k < kRecursionRows; ++k) {
    const float z = m.z[(i0 + k) * kBlockTokens + threadIdx.x], pivot = m.pivots[i0 + k];
    float e[kTrials];
    uint32_t codes = 0;
#pragma unroll
    for (uint32_t n = 0; n < kTrials; ++n) {
      const float c = carried[k][n];
      const float code = nearest_code(__fadd_rn(z, c), trials.inverse[n], levels.n_levels);
      e[n] = __fmaf_rn(-trials.step[n], centred(code, levels.centre), z);
      const float residual = __fmul_rn(pivot, __fadd_rn(e[n], c));
      trials.cost[n] = __fmaf_rn(residual, residual, trials.cost[n]);
      codes |= (__float_as_uint(code) & 15u) << 4 * n;
    }
    m.x[(i0 + k) * kBlockTokens + threadIdx.x] = static_cast<uint16_t>(codes);
#pragma unroll
    for (uint32_t below = k + 1; below < kRecursionRows; ++below) {
      const float factor = m.slab[below * D + i0 + k];
#pragma unroll
      for (uint32_t n = 0; n < kTrials; ++n) carried[below][n] = __fmaf_rn(e[n], factor, carried[below][n]);
    }
  }
}

// Codes of the slot by LDLQ in the metric: for every trial and i ascending, c = sum over j < i of e_j ratio_ij. Columns
// before a strip of 16 rows first, then the strip's triangle, so every sum keeps its order. Trial codes replace x.
template <uint32_t D>
__device__ void round_shaped(const float* ratio, const GeneralMemory<D>& m, float rms, const SlotLevels& levels) {
  Trials trials(rms, levels);
  const float shift = -(4194304.0f + levels.centre);
#pragma unroll 1
  for (uint32_t i0 = 0; i0 < D; i0 += kRecursionRows) {
    __syncthreads();
    stage_matrix<D>(ratio, i0, kRecursionRows, 0, i0 + kRecursionRows, D, m.slab);
    __pipeline_wait_prior(0);
    __syncthreads();
    float carried[kRecursionRows][kTrials];
#pragma unroll
    for (uint32_t k = 0; k < kRecursionRows; ++k)
#pragma unroll
      for (uint32_t n = 0; n < kTrials; ++n) carried[k][n] = 0.0f;
#pragma unroll 1
    for (uint32_t j = 0; j < i0; j += 4) {
      float e[4][kTrials];
#pragma unroll
      for (uint32_t k = 0; k < 4; ++k)
        trial_errors(m.z[(j + k) * kBlockTokens + threadIdx.x], m.x[(j + k) * kBlockTokens + threadIdx.x], trials,
                     shift, e[k]);
#pragma unroll
      for (uint32_t k = 0; k < kRecursionRows; ++k) {
        const float4 f = *reinterpret_cast<const float4*>(m.slab + k * D + j);
#pragma unroll
        for (uint32_t n = 0; n < kTrials; ++n) {
          carried[k][n] = __fmaf_rn(e[0][n], f.x, carried[k][n]);
          carried[k][n] = __fmaf_rn(e[1][n], f.y, carried[k][n]);
          carried[k][n] = __fmaf_rn(e[2][n], f.z, carried[k][n]);
          carried[k][n] = __fmaf_rn(e[3][n], f.w, carried[k][n]);
        }
      }
    }
    recursion_rows<D>(m, i0, levels, trials, carried);
  }
  const uint32_t best = 4 * trials.best();
  uint32_t words[D / 4];
#pragma unroll
  for (uint32_t i = 0; i < D; i += 4) {
    words[i / 4] = 0;
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) words[i / 4] |= (m.x[(i + k) * kBlockTokens + threadIdx.x] >> best & 15u) << 8 * k;
  }
  __syncthreads();
#pragma unroll
  for (uint32_t i = 0; i < D; i += 4)
    store_codes<D>(m.codes + threadIdx.x * GeneralShape<D>::kCodePitch, i, words[i / 4], levels.width);
}

// z = u, from the codes.
template <uint32_t D>
__device__ void centred_columns(const GeneralMemory<D>& m, const SlotLevels& levels) {
  const uint32_t* codes = m.codes + threadIdx.x * GeneralShape<D>::kCodePitch;
#pragma unroll 2
  for (uint32_t i = 0; i < D; i += 4) {
    const uint32_t word = levels.width ? codes[i / 4] << levels.width | codes[D / 4 + i / 4] : codes[i / 4];
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k)
      m.z[(i + k) * kBlockTokens + threadIdx.x] = __fsub_rn(static_cast<float>(word >> 8 * k & 255u), levels.centre);
  }
}

template <uint32_t D>
__device__ float shaped_scale(const HeadTransform& t, const GeneralMemory<D>& m, float rms, const SlotLevels& levels) {
  for (uint32_t i = threadIdx.x; i < D; i += kPackThreads) m.pivots[i] = t.metric_root[i * D + i];
  round_shaped<D>(t.metric_ratio, m, rms, levels);
  __syncthreads();
  const float zz = metric_norm<D>(t.metric_root, m);
  centred_columns<D>(m, levels);
  __syncthreads();
  const float uu = metric_norm<D>(t.metric_root, m);
  return __fsqrt_rn(ratio_or_zero(zz, uu));
}

}  // namespace oscar::cuda
