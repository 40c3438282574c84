// From transformed tokens to codes and scales: the plain and the shaped writer. All arrays are [dim][128] or [128],
// column = slot. Formulas and their sources: docs/numerics.md.
#pragma once
#include <cstdint>

#include "attention/work.h"
#include "format/block.h"
#include "format/scale.h"
#include "transform/simd.h"

namespace oscar::OSCAR_ISA {

// Step of the uniform quantizer of least square error for a unit Gaussian, with 4, 8 and 16 levels (J. Max, "Quantizing
// for minimum distortion", 1960, table II). For the search of codes only: the stored scale is fitted afterwards.
inline constexpr float kStepRatio[3] = {0.9957f, 0.5860f, 0.3352f};

// What the shaped writer tries, in this order, as multiples of a token's rms.
inline constexpr uint32_t kTrials = 4;
inline constexpr float kTrialScale[kTrials] = {0.9f, 1.0f, 1.1f, 1.2f};

// A code of 8 bits has levels enough for a token's largest element: its step is that element's share of 127.5, on the grid
// of the scale bytes already, and nothing is searched or fitted.
inline constexpr uint32_t kWidePlane = 6;

struct SlotLevels {
  float half[kBlockTokens];    // L / 2
  float top[kBlockTokens];     // L - 1
  float centre[kBlockTokens];  // (L - 1) / 2
  float ratio[kBlockTokens];   // step of the search, in units of the token's search scale
  bool wide[kBlockTokens];

  SlotLevels(uint32_t h, uint32_t plane) {
    for (uint32_t s = 0; s < kBlockTokens; ++s) {
      const uint32_t width = s < h ? plane : 0;
      const auto n_levels = static_cast<float>(4u << width);
      half[s] = n_levels / 2;
      top[s] = n_levels - 1;
      centre[s] = (n_levels - 1) / 2;
      wide[s] = width == kWidePlane;
      ratio[s] = wide[s] ? 1.0f : kStepRatio[width];
    }
  }
};

// sum[t] = |y_t|^2, one fma chain in ascending dimension.
inline void squared_norms(const float* y, uint32_t dim, float* sum) {
  for (uint32_t t = 0; t < kBlockTokens; ++t) sum[t] = 0.0f;
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t t = 0; t < kBlockTokens; t += simd::kLanes) {
      const simd::Vec yi = simd::load(y + i * kBlockTokens + t);
      simd::store(sum + t, simd::fma(yi, yi, simd::load(sum + t)));
    }
}

// Root mean square on the grid of the scale bytes, or the step of a wide slot; 0 for a row of zeros.
inline void search_scales(const float* y, const float* squared_norm, uint32_t dim, const SlotLevels& levels,
                          float* scale) {
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    const float exact = __builtin_sqrtf(squared_norm[t] / static_cast<float>(dim));
    scale[t] = exact > 0.0f ? round_to_scale_grid(exact) : 0.0f;
    if (!levels.wide[t]) continue;
    float largest = 0.0f;
    for (uint32_t i = 0; i < dim; ++i) {
      const float magnitude = __builtin_fabsf(y[i * kBlockTokens + t]);
      largest = largest > magnitude ? largest : magnitude;
    }
    scale[t] = largest > 0.0f ? raise_to_scale_grid(largest / 127.5f) : 0.0f;
  }
}

// The code of the level nearest to y: floor(y / step + L/2), clamped.
inline simd::Vec nearest_code(simd::Vec y, simd::Vec inverse_step, const SlotLevels& levels, uint32_t slot) {
  const simd::Vec cell = simd::floor(simd::fma(y, inverse_step, simd::load(levels.half + slot)));
  return simd::max(simd::min(cell, simd::load(levels.top + slot)), simd::broadcast(0.0f));
}

// Every element to its nearest level. Also sums <u, u> and <z, u> with u = code - centre.
inline void round_plain(const float* z, uint32_t dim, const float* search, const SlotLevels& levels, uint8_t* codes,
                        float* uu, float* zu) {
  float inverse_step[kBlockTokens];
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    inverse_step[t] = search[t] > 0.0f ? 1.0f / (search[t] * levels.ratio[t]) : 1.0f;
    uu[t] = zu[t] = 0.0f;
  }
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t t = 0; t < kBlockTokens; t += simd::kLanes) {
      const simd::Vec zi = simd::load(z + i * kBlockTokens + t);
      const simd::Vec code = nearest_code(zi, simd::load(inverse_step + t), levels, t);
      const simd::Vec u = simd::sub(code, simd::load(levels.centre + t));
      simd::store_codes(codes + i * kBlockTokens + t, code);
      simd::store(uu + t, simd::fma(u, u, simd::load(uu + t)));
      simd::store(zu + t, simd::fma(zi, u, simd::load(zu + t)));
    }
}

// Counts the elements beyond the range of their slot's levels at the search scale: whichever writer, the same count.
inline void count_clipped(const float* z, uint32_t dim, const float* search, const SlotLevels& levels,
                          SideCounts& counts) {
  float reach[kBlockTokens];
  uint32_t clipped[kBlockTokens];
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    reach[t] = search[t] * levels.ratio[t] * levels.half[t];  // a row of zeros is not beyond 0
    clipped[t] = 0;
  }
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t t = 0; t < kBlockTokens; ++t) clipped[t] += __builtin_fabsf(z[i * kBlockTokens + t]) > reach[t];
  counts.n_elements += uint64_t{dim} * kBlockTokens;
  for (uint32_t t = 0; t < kBlockTokens; ++t) counts.n_clipped += clipped[t];
}

inline double sum_of(const float* x, uint32_t n) {
  double sum = 0.0;
  for (uint32_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  return sum;
}

// Counts a block, and whether its transform is expected to make errors larger than a map that keeps norms would: errors are in
// proportion to |z|^2, which costs `cost` of |x|^2 there (HeadTransform). `given` is x, `mean` what was taken off it or null.
inline void count_block(const float* given, const float* mean, const float* zz, uint32_t dim, float cost,
                        SideCounts& counts) {
  ++counts.n_blocks;
  if (cost == 0.0f) return;  // it is such a map
  float norms[kBlockTokens];
  squared_norms(given, dim, norms);
  double without = sum_of(norms, kBlockTokens);
  for (uint32_t i = 0; mean && i < dim; ++i)
    without -= kBlockTokens * static_cast<double>(mean[i]) * static_cast<double>(mean[i]);
  counts.n_worse += sum_of(zz, kBlockTokens) * static_cast<double>(cost) > without;
}

// ---- shaped rounding: LDLQ / Babai's nearest plane in the metric M = R R^T ----

// Tokens that go through the recursion together, and their working memory: [dim][trial][token].
inline constexpr uint32_t kShapedTokens = simd::kLanes == 1 ? 4 : 16;
inline constexpr uint32_t kShapedVectors = kShapedTokens / simd::kLanes;
inline constexpr uint32_t kShapedRow = kTrials * kShapedTokens;

struct ShapedTrials {
  float step[kShapedRow], inverse_step[kShapedRow];
  float cost[kShapedRow];  // |e R|^2
};

// For i = 0 .. d-1 and every trial: c = sum_{j<i} e_j R_ji / R_ii, code_i nearest to z_i + c, e_i = z_i - level. As
// (e R)_i = R_ii (e_i + c), the cost comes with it.
inline void shaped_recursion(const float* z, uint32_t dim, uint32_t slot, const float* root, const float* ratio,
                             const SlotLevels& levels, ShapedTrials& trials, float* errors, uint8_t* codes) {
  using simd::Vec;
  for (uint32_t k = 0; k < kShapedRow; ++k) trials.cost[k] = 0.0f;
  for (uint32_t i = 0; i < dim; ++i) {
    const float* ratio_row = ratio + static_cast<uint64_t>(i) * dim;
    Vec carried[kTrials][kShapedVectors];
    for (uint32_t m = 0; m < kTrials; ++m)
      for (uint32_t v = 0; v < kShapedVectors; ++v) carried[m][v] = simd::broadcast(0.0f);
    for (uint32_t j = 0; j < i; ++j) {
      const Vec factor = simd::broadcast(ratio_row[j]);
      const float* error = errors + j * kShapedRow;
      for (uint32_t m = 0; m < kTrials; ++m)
        for (uint32_t v = 0; v < kShapedVectors; ++v)
          carried[m][v] = simd::fma(simd::load(error + m * kShapedTokens + v * simd::kLanes), factor, carried[m][v]);
    }
    const Vec pivot = simd::broadcast(root[static_cast<uint64_t>(i) * dim + i]);
    for (uint32_t v = 0; v < kShapedVectors; ++v) {
      const uint32_t t = v * simd::kLanes;
      const Vec zi = simd::load(z + i * kBlockTokens + slot + t);
      for (uint32_t m = 0; m < kTrials; ++m) {
        const uint32_t k = m * kShapedTokens + t;
        const Vec target = simd::add(zi, carried[m][v]);
        const Vec code = nearest_code(target, simd::load(trials.inverse_step + k), levels, slot + t);
        const Vec u = simd::sub(code, simd::load(levels.centre + slot + t));
        const Vec e = simd::negated_fma(simd::load(trials.step + k), u, zi);
        const Vec residual = simd::mul(pivot, simd::add(e, carried[m][v]));
        simd::store(errors + i * kShapedRow + k, e);
        simd::store_codes(codes + i * kShapedRow + k, code);
        simd::store(trials.cost + k, simd::fma(residual, residual, simd::load(trials.cost + k)));
      }
    }
  }
}

// Codes of the trial of least cost, the first of equals.
inline void take_best_trial(const ShapedTrials& trials, const uint8_t* trial_codes, uint32_t dim, uint32_t slot,
                            uint8_t* codes) {
  uint8_t chosen[kShapedRow];  // 255 at the chosen trial
  for (uint32_t t = 0; t < kShapedTokens; ++t) {
    uint32_t best = 0;
    for (uint32_t m = 1; m < kTrials; ++m)
      if (trials.cost[m * kShapedTokens + t] < trials.cost[best * kShapedTokens + t]) best = m;
    for (uint32_t m = 0; m < kTrials; ++m) chosen[m * kShapedTokens + t] = m == best ? 255 : 0;
  }
  for (uint32_t i = 0; i < dim; ++i) {
    const uint8_t* trial = trial_codes + i * kShapedRow;
    for (uint32_t t = 0; t < kShapedTokens; ++t) {
      uint8_t code = 0;
      for (uint32_t m = 0; m < kTrials; ++m)
        code = static_cast<uint8_t>(code | (trial[m * kShapedTokens + t] & chosen[m * kShapedTokens + t]));
      codes[i * kBlockTokens + slot + t] = code;
    }
  }
}

// errors: dim * kShapedRow floats; trial_codes: dim * kShapedRow bytes.
inline void round_shaped(const float* z, uint32_t dim, const float* search, const float* root, const float* ratio,
                         const SlotLevels& levels, float* errors, uint8_t* trial_codes, uint8_t* codes) {
  ShapedTrials trials;
  for (uint32_t slot = 0; slot < kBlockTokens; slot += kShapedTokens) {
    for (uint32_t m = 0; m < kTrials; ++m)
      for (uint32_t t = 0; t < kShapedTokens; ++t) {
        const float trial = levels.wide[slot + t] ? 1.0f : kTrialScale[m];
        const float scale = search[slot + t] > 0.0f ? search[slot + t] * trial : 1.0f;
        const float step = scale * levels.ratio[slot + t];
        trials.step[m * kShapedTokens + t] = step;
        trials.inverse_step[m * kShapedTokens + t] = 1.0f / step;
      }
    shaped_recursion(z, dim, slot, root, ratio, levels, trials, errors, trial_codes);
    take_best_trial(trials, trial_codes, dim, slot, codes);
  }
}

// norm[t] = |y_t R|^2 for upper triangular R: every (y R)_j one fma chain over i <= j, then one over j.
inline void metric_norms(const float* y, const float* root, uint32_t dim, float* norm) {
  using simd::kLanes;
  using simd::Vec;
  constexpr uint32_t kOutputs = 4, kVectors = kLanes == 1 ? 1 : kLanes == 8 ? 2 : 4;
  for (uint32_t t = 0; t < kBlockTokens; t += kVectors * kLanes) {
    Vec total[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) total[v] = simd::broadcast(0.0f);
    for (uint32_t j = 0; j < dim; j += kOutputs) {
      Vec sum[kOutputs][kVectors];
      for (uint32_t o = 0; o < kOutputs; ++o)
        for (uint32_t v = 0; v < kVectors; ++v) sum[o][v] = simd::broadcast(0.0f);
      for (uint32_t i = 0; i < j + kOutputs; ++i) {  // R is 0 below the diagonal: adding that changes no sum
        const float* row = root + static_cast<uint64_t>(i) * dim + j;
        for (uint32_t v = 0; v < kVectors; ++v) {
          const Vec yi = simd::load(y + i * kBlockTokens + t + v * kLanes);
          for (uint32_t o = 0; o < kOutputs; ++o) sum[o][v] = simd::fma(yi, simd::broadcast(row[o]), sum[o][v]);
        }
      }
      for (uint32_t o = 0; o < kOutputs; ++o)
        for (uint32_t v = 0; v < kVectors; ++v) total[v] = simd::fma(sum[o][v], sum[o][v], total[v]);
    }
    for (uint32_t v = 0; v < kVectors; ++v) simd::store(norm + t + v * kLanes, total[v]);
  }
}

// u = code - centre, as floats.
inline void centred_codes(const uint8_t* codes, uint32_t dim, const SlotLevels& levels, float* u) {
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t t = 0; t < kBlockTokens; t += simd::kLanes)
      simd::store(u + i * kBlockTokens + t,
                  simd::sub(simd::load_codes(codes + i * kBlockTokens + t), simd::load(levels.centre + t)));
}

}  // namespace oscar::OSCAR_ISA
