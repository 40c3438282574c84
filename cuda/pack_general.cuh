// The packing kernel for every transform (dense, Hadamard either way, identity) and for shaped rounding. Bound by FP32
// arithmetic: a dense map is D^2 multiply-adds a token, shaped rounding another 2 D^2 (four trials), its norms about
// 1.3 D^2.
//
// Grid: keys of every (job, head), then values; a CTA of 128 threads packs one side of one block. Everything lies in
// shared memory as [dimension][slot], so a thread's own column needs no barrier and hits no bank twice:
//   z       f32 [D][128]
//   x       BF16 [D][136]   rows as they came; later trial codes u16 [D][128]; later whole codes [128][pad + 4]
//   slab    16 rows (two stages of 8) of a matrix of D columns
//   mean, pivots, order, inverse order, scratch
// Products with matrices give each thread 8 slots x 4 Q columns in registers.
#pragma once
#include <cuda_pipeline.h>

#include "cuda/pack_plain.cuh"
#include "cuda/pack_planes.cuh"
#include "cuda/pack_side.cuh"

namespace oscar::cuda {

template <uint32_t D>
struct GeneralShape {
  static constexpr uint32_t kPad = round_up(D, kDimUnit);
  static constexpr uint32_t kPasses = D > 128 ? 2 : 1;  // over the columns of a matrix product
  static constexpr uint32_t kColumns = round_up(D / kPasses, 32), kQuads = kColumns / 32;
  static constexpr uint32_t kRowPitch = kBlockTokens + 8;  // of x, elements
  static constexpr uint32_t kCodePitch = kPad / 4 + 1;     // words
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
  find_order(p, s, m.order);
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
  constexpr uint32_t kM = hadamard_paley_order(D);
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
        const uint32_t mask = paley_column < kM == 1 ? 12 : kM > (j, map.transposed != 0);
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

// ---- products with matrices

// Rows [first, first + n) and `columns` columns (a multiple of 4) from column0 on of matrix[D][D] to slab, pitch in floats.
template <uint32_t D>
__device__ __forceinline__ void stage_matrix(const float* matrix, uint32_t first, uint32_t n, uint32_t column0,
                                             uint32_t columns, uint32_t pitch, float* slab) {
  for (uint32_t k = threadIdx.x; k < n * columns / 4; k += kPackThreads) {
    const uint32_t row = k / (columns / 4), column = k % (columns / 4) * 4;
    __pipeline_memcpy_async(slab + row * pitch + column, matrix + (first + row) * D + column0 + column, 16);
  }
  __pipeline_commit();
}

// Thread: slots 4 t .. 4 t + 3 and 64 + 4 t .., t = thread % 16; columns 4 (8 c + thread / 16) .. + 3 of the pass, c < Q.
struct Eight {
  float v[8];
};
__device__ __forceinline__ Eight load_eight(const float* z_row) {
  const float4 a = *reinterpret_cast<const float4*>(z_row + threadIdx.x % 16 * 4);
  const float4 b = *reinterpret_cast<const float4*>(z_row + 64 + threadIdx.x % 16 * 4);
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ __forceinline__ Eight load_eight(const uint16_t* x_row, float factor) {
  const uint2 a = *reinterpret_cast<const uint2*>(x_row + threadIdx.x % 16 * 4);
  const uint2 b = *reinterpret_cast<const uint2*>(x_row + 64 + threadIdx.x % 16 * 4);
  Eight e = {{bf16_low(a.x), bf16_high(a.x), bf16_low(a.y), bf16_high(a.y), bf16_low(b.x), bf16_high(b.x),
              bf16_low(b.y), bf16_high(b.y)}};
#pragma unroll
  for (float& x : e.v) x = __fmul_rn(x, factor);
  return e;
}

// One slab of 8 matrix rows into the sums of column chunks [First, Q).
template <uint32_t First, uint32_t Q, uint32_t Pitch, typename Load>
__device__ __forceinline__ void add_slab(const float* slab, uint32_t row, Load load, float (&sum)[8][4 * Q]) {
#pragma unroll 2
  for (uint32_t r = 0; r < 8; ++r) {
    const Eight x = load(row + r);
#pragma unroll
    for (uint32_t c = First; c < Q; ++c) {
      const float4 f = *reinterpret_cast<const float4*>(slab + r * Pitch + c * 32 + threadIdx.x / 16 * 4);
#pragma unroll
      for (uint32_t t = 0; t < 8; ++t) {
        sum[t][c * 4] = __fmaf_rn(x.v[t], f.x, sum[t][c * 4]);
        sum[t][c * 4 + 1] = __fmaf_rn(x.v[t], f.y, sum[t][c * 4 + 1]);
        sum[t][c * 4 + 2] = __fmaf_rn(x.v[t], f.z, sum[t][c * 4 + 2]);
        sum[t][c * 4 + 3] = __fmaf_rn(x.v[t], f.w, sum[t][c * 4 + 3]);
      }
    }
  }
}

// Columns of one pass of (inputs x matrix) to z. Triangular: the matrix is 0 below the diagonal, and chunks of columns
// that a row does not reach are left out: adding zeros changes no sum. The inputs may lie in z: they are read before a
// barrier that precedes the stores (and a later pass of a triangular product needs none of what was overwritten).
template <uint32_t D, bool Triangular, typename Load>
__device__ void multiply_pass(const float* matrix, uint32_t pass, const GeneralMemory<D>& m, Load load) {
  using Shape = GeneralShape<D>;
  constexpr uint32_t Q = Shape::kQuads, kPitch = Shape::kColumns, kStage = Shape::kSlabRows * kPitch;
  const uint32_t column0 = pass * Shape::kColumns, columns = min(Shape::kColumns, D - column0);
  const uint32_t n_rows = Triangular ? min(D, column0 + Shape::kColumns) : D;
  float sum[8][4 * Q];
#pragma unroll
  for (uint32_t t = 0; t < 8; ++t)
#pragma unroll
    for (uint32_t c = 0; c < 4 * Q; ++c) sum[t][c] = 0.0f;
  stage_matrix<D>(matrix, 0, 8, column0, columns, kPitch, m.slab);
#pragma unroll 1
  for (uint32_t row = 0; row < n_rows; row += 8) {
    const float* slab = m.slab + row / 8 % 2 * kStage;
    if (row + 8 < n_rows) {
      stage_matrix<D>(matrix, row + 8, 8, column0, columns, kPitch, m.slab + (row / 8 + 1) % 2 * kStage);
      __pipeline_wait_prior(1);
    } else {
      __pipeline_wait_prior(0);
    }
    __syncthreads();
    const uint32_t first = !Triangular || row < column0 ? 0 : (row - column0) / 32;
    if (first == 0) add_slab<0, Q, kPitch>(slab, row, load, sum);
    if constexpr (Triangular) {
      if (first == 1) add_slab<1, Q, kPitch>(slab, row, load, sum);
      if (Q > 2 && first == 2) add_slab<2, Q, kPitch>(slab, row, load, sum);
      if (Q > 3 && first == 3) add_slab<3, Q, kPitch>(slab, row, load, sum);
    }
    __syncthreads();
  }
#pragma unroll
  for (uint32_t c = 0; c < 4 * Q; ++c) {
    const uint32_t column = column0 + c / 4 * 32 + threadIdx.x / 16 * 4 + c % 4;
    if (column >= D) continue;
    float* out = m.z + column * kBlockTokens + threadIdx.x % 16 * 4;
    *reinterpret_cast<float4*>(out) = make_float4(sum[0][c], sum[1][c], sum[2][c], sum[3][c]);
    *reinterpret_cast<float4*>(out + 64) = make_float4(sum[4][c], sum[5][c], sum[6][c], sum[7][c]);
  }
}

// z = x M, dense. Ends with a barrier.
template <uint32_t D>
__device__ void multiply_rows(const float* matrix, const GeneralMemory<D>& m, float factor) {
  for (uint32_t pass = 0; pass < GeneralShape<D>::kPasses; ++pass)
    multiply_pass<D, false>(matrix, pass, m,
                            [&](uint32_t i) { return load_eight(m.x + i * GeneralShape<D>::kRowPitch, factor); });
  __syncthreads();
}

// |z R|^2 of the slot; z is lost. To be called between barriers: reads what other threads wrote, ends without one.
template <uint32_t D>
__device__ float metric_norm(const float* root, const GeneralMemory<D>& m) {
  for (uint32_t pass = GeneralShape<D>::kPasses; pass-- > 0;)  // the last columns first: they need all of z
    multiply_pass<D, true>(root, pass, m, [&](uint32_t i) { return load_eight(m.z + i * kBlockTokens); });
  __syncthreads();
  float norm = 0.0f;
#pragma unroll 8
  for (uint32_t j = 0; j < D; ++j) {
    const float y = m.z[j * kBlockTokens + threadIdx.x];
    norm = __fmaf_rn(y, y, norm);
  }
  return norm;
}

// ---- rounding

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

// Codes of the slot to its row of whole codes. Returns <z, u>; uu = <u, u>.
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
    codes[i / 4] = word;
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
  for (uint32_t i = 0; i < D / 4; ++i) m.codes[threadIdx.x * GeneralShape<D>::kCodePitch + i] = words[i];
}

// z = u, from the whole codes.
template <uint32_t D>
__device__ void centred_columns(const GeneralMemory<D>& m, float centre) {
#pragma unroll 2
  for (uint32_t i = 0; i < D; i += 4) {
    const uint32_t word = m.codes[threadIdx.x * GeneralShape<D>::kCodePitch + i / 4];
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k)
      m.z[(i + k) * kBlockTokens + threadIdx.x] = __fsub_rn(static_cast<float>(word >> 8 * k & 255u), centre);
  }
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

template <uint32_t D>
__device__ float shaped_scale(const HeadTransform& t, const GeneralMemory<D>& m, float rms, const SlotLevels& levels) {
  for (uint32_t i = threadIdx.x; i < D; i += kPackThreads) m.pivots[i] = t.metric_root[i * D + i];
  round_shaped<D>(t.metric_ratio, m, rms, levels);
  __syncthreads();
  const float zz = metric_norm<D>(t.metric_root, m);
  centred_columns<D>(m, levels.centre);
  __syncthreads();
  const float uu = metric_norm<D>(t.metric_root, m);
  return __fsqrt_rn(ratio_or_zero(zz, uu));
}

template <uint32_t D>
__global__ void __launch_bounds__(kPackThreads, D <= 128 ? 2 : 1)
    pack_general_kernel(const __grid_constant__ PackLaunch p, const __grid_constant__ bool values_only) {
  extern __shared__ __align__(16) uint8_t shared[];
  const GeneralMemory<D> m(shared);
  const Side s(p, blockIdx.x, values_only);
  const HeadTransform& transform = p.transforms[p.first_head + s.head];
  const LinearMap& map = s.is_key ? transform.key : transform.value;

  const RowScan scan = gather_columns<D>(p, s, m);
  const float factor = power_of_two(scan.exponent);
  float mean_scale = 0.0f;
  if (s.is_key) {
    mean_of_columns<D>(m, factor, m.mean + D);
    map_row<D>(map, m.mean + D, m.mean);
    mean_scale = quantize_mean<D>(m.mean, scan.exponent, s.block + p.layout.key_mean, m.scratch);
  }
  if (map.kind == MapKind::kDense)
    multiply_rows<D>(map.matrix, m, factor);
  else
    map_columns<D>(map, m, factor);
  const uint32_t plane = s.is_key ? p.layout.key_plane : p.layout.value_plane;
  const SlotLevels levels(threadIdx.x < p.layout.h ? plane : 0);
  const float norm = subtract_and_norm<D>(m, s.is_key), rms = rms_of<D>(norm);
  __syncthreads();  // x is done with
  float scale;
  if (s.is_key && p.shaped && transform.metric_root) {
    scale = shaped_scale<D>(transform, m, rms, levels);
  } else {
    float uu;
    const float zu = round_plain<D>(m, rms, levels, uu);
    scale = s.is_key ? __fsqrt_rn(ratio_or_zero(norm, uu)) : ratio_or_zero(norm, zu);
  }
  const float base = write_scales(rms > 0.0f ? scale : 0.0f, p.layout.h, plane, scan.exponent,
                                  s.block + (s.is_key ? p.layout.key_scales : p.layout.value_scales), m.scratch);
  write_header(p, s, mean_scale, base, scan.n_non_finite, m.order);
  const CodeRows codes = {m.codes, GeneralShape<D>::kCodePitch, nullptr, p.layout.h, plane};
  write_planes<D>(p.layout, s.is_key, codes, s.block);
}

}  // namespace oscar::cuda
