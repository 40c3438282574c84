// What the packing kernels share. A CTA of 128 threads packs one side (keys or values) of one block; slot = thread
// where nothing else is said. Arithmetic is written with rounding intrinsics: the compiler contracts none of them, and
// the order of every sum is the canonical one of docs/numerics.md.
#pragma once
#include <cstdint>

#include "cuda/pack.h"
#include "cuda/pack_choice.cuh"
#include "format/scale.h"
#include "transform/hadamard.h"

namespace oscar::cuda {

inline constexpr uint32_t kPackThreads = kBlockTokens;

// Step of the search in units of the rms, and what the shaped writer tries: quant/rounding.h.
__device__ __forceinline__ float step_ratio(uint32_t width) {
  return width == 0 ? 0.9957f : width == 1 ? 0.5860f : 0.3352f;
}

__device__ __forceinline__ float power_of_two(int exponent) {
  return __uint_as_float(static_cast<uint32_t>(exponent + 127) << 23);
}

// Which block and side this CTA packs: keys of all blocks first, as they take longer.
struct Side {
  const PackJob* job;
  uint32_t unit;  // job * n_heads + head of the launch
  uint32_t head;  // of the launch
  bool is_key;
  uint8_t* block;

  __device__ Side(const PackLaunch& p, uint32_t cta, bool values_only) {
    const uint32_t n_units = p.n_jobs * p.n_heads;
    is_key = !values_only && cta < n_units;
    unit = cta < n_units ? cta : cta - n_units;
    head = unit % p.n_heads;
    job = p.jobs + unit / p.n_heads;
    block = job->blocks + uint64_t{p.first_head + head} * p.layout.bytes;
  }
};

// BF16 rows of one side of a block: row(t) of the token at offset t, `dim` elements.
struct SideRows {
  const PackJob* job;
  uint64_t in_page, chunk_bytes_first;
  int64_t token_stride;
  const uint16_t* chunk;
  uint32_t page_offset, chunk_from, dim;

  __device__ SideRows(const PackLaunch& p, const Side& s) {
    job = s.job;
    dim = s.is_key ? p.key_dim : p.value_dim;
    in_page = (p.first_head + s.head) * p.head_page_bytes + (s.is_key ? 0 : uint64_t{kPageTokens} * p.key_dim * 2);
    page_offset = job->page_offset;
    chunk_from = job->chunk_from;
    token_stride = s.is_key ? job->key_token_stride : job->value_token_stride;
    chunk = s.is_key ? job->chunk_keys + s.head * job->key_head_stride
                     : job->chunk_values + s.head * job->value_head_stride;
  }
  __device__ const uint16_t* row(uint32_t t) const {
    // Both candidates: which page it is need not be known before they are asked for.
    const uint8_t *here = job->pages[t / kPageTokens], *next = job->pages[t / kPageTokens + 1];
    if (t >= chunk_from) return chunk + int64_t{t - chunk_from} * token_stride;
    const uint32_t at = page_offset + t;
    const uint8_t* page = at / kPageTokens == t / kPageTokens ? here : next;
    return reinterpret_cast<const uint16_t*>(page + in_page) + at % kPageTokens * dim;
  }
};

// order[slot] = token, in two parts: votes are asked for early. Warp 0 works; a barrier must follow.
__device__ __forceinline__ bool is_voted(const PackLaunch& p, const Side& s) {
  return threadIdx.x < 32 && p.layout.has_ids() && s.job->votes;
}
__device__ __forceinline__ FourVotes ask_votes(const PackLaunch& p, const Side& s) {
  if (!is_voted(p, s)) return {};
  return load_votes(s.job->votes + s.head * s.job->vote_head_stride, s.job->vote_first, s.job->n_votes);
}
__device__ inline void find_order(const PackLaunch& p, const Side& s, const FourVotes& votes, uint8_t* order) {
  if (is_voted(p, s)) {
    choose_slots(votes, p.layout.h, order);
  } else if (threadIdx.x < 32) {
    const uint32_t first = 4 * threadIdx.x;
    reinterpret_cast<uint32_t*>(order)[threadIdx.x] = first | (first + 1) << 8 | (first + 2) << 16 | (first + 3) << 24;
  }
}

// ---- sums and maxima over the CTA; `scratch`: 4 words that nothing else uses between two barriers

__device__ __forceinline__ uint32_t cta_max(uint32_t x, uint32_t* scratch) {
  x = __reduce_max_sync(~0u, x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = max(max(scratch[0], scratch[1]), max(scratch[2], scratch[3]));
  __syncthreads();
  return x;
}

__device__ __forceinline__ uint32_t cta_sum(uint32_t x, uint32_t* scratch) {
  x = __reduce_add_sync(~0u, x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = scratch[0] + scratch[1] + scratch[2] + scratch[3];
  __syncthreads();
  return x;
}

__device__ __forceinline__ bool is_finite_bf16(uint32_t x) { return (x & 0x7f80u) != 0x7f80u; }

// Elements are multiplied by 2^exponent (quant/gather.h); `largest`: bits of the largest finite magnitude.
__device__ __forceinline__ int scan_exponent(uint32_t largest) {
  const int exponent = 127 - static_cast<int>(largest >> 7);
  return largest == 0 ? 0 : exponent > 126 ? 126 : exponent < -126 ? -126 : exponent;
}

// hadamard_factor of transform/hadamard.h, which nvcc cannot evaluate at compile time: (float)(1 / sqrt(d)).
__device__ constexpr float hadamard_factor_of(uint32_t dim) {
  switch (dim) {
    case 64: return 0.125f;
    case 80: return 0.11180339887498949f;
    case 96: return 0.10206207261596577f;
    case 128: return 0.08838834764831845f;
    case 192: return 0.07216878364870322f;
    default: return 0.0625f;
  }
}

// ---- the block mean

struct PaleyMasks {  // bit i of column[j]: entry (i, j) is -1
  uint32_t column12[12], column20[20];
  constexpr PaleyMasks() : column12(), column20() {
    for (uint32_t j = 0; j < 12; ++j)
      for (uint32_t i = 0; i < 12; ++i) column12[j] |= uint32_t{paley_sign(12, i, j) < 0} << i;
    for (uint32_t j = 0; j < 20; ++j)
      for (uint32_t i = 0; i < 20; ++i) column20[j] |= uint32_t{paley_sign(20, i, j) < 0} << i;
  }
};
static __constant__ PaleyMasks kPaleyMasks = PaleyMasks();

// Bit i set: entry (i, j) of the Paley matrix (of its transpose) is -1.
template <uint32_t M>
__device__ __forceinline__ uint32_t paley_column(uint32_t j, bool transposed) {
  const uint32_t* columns = M == 12 ? kPaleyMasks.column12 : kPaleyMasks.column20;
  if (!transposed) return columns[j];
  uint32_t mask = 0;
  for (uint32_t i = 0; i < M; ++i) mask |= (columns[i] >> j & 1u) << i;
  return mask;
}

__device__ __forceinline__ float negate_if(float x, uint32_t bit) {
  return __uint_as_float(__float_as_uint(x) ^ bit << 31);
}

// y = x M for one row in shared memory, by the whole CTA; ends with a barrier.
template <uint32_t D>
__device__ void map_row(const LinearMap& map, const float* x, float* y) {
  if (map.kind == MapKind::kDense) {
    for (uint32_t j = threadIdx.x; j < D; j += kPackThreads) {
      float sum = 0.0f;
#pragma unroll 16
      for (uint32_t i = 0; i < D; ++i) sum = __fmaf_rn(x[i], map.matrix[i * D + j], sum);
      y[j] = sum;
    }
    __syncthreads();
    return;
  }
  constexpr uint32_t kM = hadamard_paley_order(D);
  const bool hadamard = map.kind == MapKind::kHadamard;
  for (uint32_t j = threadIdx.x; j < D; j += kPackThreads) {
    float sum = x[j];
    if constexpr (kM > 1) {
      if (hadamard) {
        const uint32_t mask = paley_column<kM>(j % kM, map.transposed != 0), a = j - j % kM;
        sum = 0.0f;
        for (uint32_t i = 0; i < kM; ++i) sum = __fadd_rn(sum, negate_if(x[a + i], mask >> i & 1u));
      }
    }
    y[j] = sum;
  }
  __syncthreads();
  if (!hadamard) return;
  for (uint32_t stride = kM; stride < D; stride *= 2) {
    for (uint32_t n = threadIdx.x; n < D / 2; n += kPackThreads) {
      const uint32_t at = n / stride * 2 * stride + n % stride;
      const float u = y[at], v = y[at + stride];
      y[at] = __fadd_rn(u, v);
      y[at + stride] = __fsub_rn(u, v);
    }
    __syncthreads();
  }
  constexpr float kFactor = hadamard_factor_of(D);
  for (uint32_t j = threadIdx.x; j < D; j += kPackThreads) y[j] = __fmul_rn(y[j], kFactor);
  __syncthreads();
}

// int8 levels of the mean: `stored` for a reader, `step` what a reader makes of it, at the scale of the input here.
struct MeanScale {
  float stored, step;
  __device__ MeanScale(float largest, int exponent) {
    stored = __fmul_rn(__fdiv_rn(largest, 127.0f), power_of_two(-exponent));
    step = __fmul_rn(stored, power_of_two(exponent));
  }
  __device__ float level(float mean_z) const {
    const float level = step > 0.0f ? rintf(__fdiv_rn(mean_z, step)) : 0.0f;
    return level > 127.0f ? 127.0f : level < -127.0f ? -127.0f : level;
  }
};

// mean_z (shared) becomes the decoded mean; the levels go to the block, with zeros behind them. Returns the scale to
// store. Ends with a barrier.
template <uint32_t D>
__device__ float quantize_mean(float* mean_z, int exponent, uint8_t* levels, uint32_t* scratch) {
  float largest = 0.0f;
  for (uint32_t i = threadIdx.x; i < D; i += kPackThreads) largest = fmaxf(largest, fabsf(mean_z[i]));
  const MeanScale scale(__uint_as_float(cta_max(__float_as_uint(largest), scratch)), exponent);
  for (uint32_t i = threadIdx.x; i < round_up(D, kDimUnit); i += kPackThreads) {
    float level = 0.0f;
    if (i < D) {
      level = scale.level(mean_z[i]);
      mean_z[i] = __fmul_rn(level, scale.step);
    }
    levels[i] = static_cast<uint8_t>(static_cast<int8_t>(level));
  }
  __syncthreads();
  return scale.stored;
}

// ---- codes and scales

// Root mean square on the grid of the scale bytes; 0 for a row of zeros.
template <uint32_t D>
__device__ __forceinline__ float rms_of(float squared_norm) {
  const float exact = __fsqrt_rn(__fdiv_rn(squared_norm, static_cast<float>(D)));
  return exact > 0.0f ? round_to_scale_grid(exact) : 0.0f;
}

// 2^23 + code of the level nearest to y: floor(y / step + L/2), clamped, for L levels and inverse = 1 / (step L). All
// is scaled by 1 / L, a power of two, so that the clamp is the saturation of the multiply-add; the last float below 1
// stands for L - 1 and above; rounding towards zero is the floor. No step is 0 or denormal here: the squares of a row
// whose rms is not 0 do not underflow.
__device__ __forceinline__ float nearest_code(float y, float inverse, float n_levels) {
  return __fmaf_rz(fminf(__saturatef(__fmaf_rn(y, inverse, 0.5f)), 0x1.fffffep-1f), n_levels, 8388608.0f);
}
__device__ __forceinline__ float centred(float shifted_code, float centre) {
  return __fsub_rn(__fsub_rn(shifted_code, 8388608.0f), centre);
}
// Low bytes of four of them.
__device__ __forceinline__ uint32_t join_codes(float a, float b, float c, float d) {
  const uint32_t low = __byte_perm(__float_as_uint(a), __float_as_uint(b), 0x0040);
  const uint32_t high = __byte_perm(__float_as_uint(c), __float_as_uint(d), 0x0040);
  return __byte_perm(low, high, 0x5410);
}

// |u|^2 of a row from sum(code) and sum(code^2): multiples of 1/4 below 2^22, so exact in any order.
__device__ __forceinline__ float centred_norm(uint32_t sum, uint32_t sum_of_squares, uint32_t top, uint32_t dim) {
  return 0.25f * static_cast<float>(static_cast<int32_t>(4 * sum_of_squares + dim * top * top) -
                                    static_cast<int32_t>(4 * top * sum));
}

__device__ __forceinline__ float ratio_or_zero(float a, float b) {
  return a > 0.0f && b > 0.0f ? __fdiv_rn(a, b) : 0.0f;
}

// Scale bytes of one side, `scale` that of this thread's slot, in units of 2^-exponent. Returns the base.
__device__ inline float write_scales(float scale, uint32_t h, uint32_t plane, int exponent, uint8_t* bytes,
                                     uint32_t* scratch) {
  if (threadIdx.x < h) scale = __fmul_rn(scale, static_cast<float>(1u << plane));
  const float largest = __uint_as_float(cta_max(__float_as_uint(scale), scratch));
  if (!(largest > 0.0f)) {
    bytes[threadIdx.x] = 0;
    return scale_base(0.0f);
  }
  int base_exponent = static_cast<int>(__float_as_uint(scale_base(largest)) >> 23) - 127 - exponent;
  base_exponent = base_exponent < -110 ? -110 : base_exponent > 126 ? 126 : base_exponent;
  bytes[threadIdx.x] = encode_scale(scale, power_of_two(base_exponent + exponent));
  return power_of_two(base_exponent);
}

// Header and ids. The two sides of a block meet in arrivals[unit]: bits 0..23 what the first one counted, bit 24 that
// it was here; the second one writes the sum and leaves a zero.
__device__ inline void write_header(const PackLaunch& p, const Side& s, float mean_scale, float base,
                                    uint32_t n_non_finite, const uint8_t* order) {
  if (s.is_key && p.layout.has_ids() && threadIdx.x < round_up(p.layout.h, 16))
    s.block[p.layout.ids + threadIdx.x] = threadIdx.x < p.layout.h ? order[threadIdx.x] : uint8_t{0};
  if (threadIdx.x != 0) return;
  auto* header = reinterpret_cast<BlockHeader*>(s.block + p.layout.header);
  if (s.is_key) {
    header->mean_scale = mean_scale;
    header->key_base = base;
  } else {
    header->value_base = base;
  }
  constexpr uint32_t kHere = 1u << 24;
  const uint32_t before = atomicAdd(p.arrivals + s.unit, n_non_finite | kHere);
  if (!(before & kHere)) return;
  const uint32_t total = (before & (kHere - 1)) + n_non_finite;
  header->n_non_finite = total;
  p.arrivals[s.unit] = 0;
  if (total && p.n_non_finite) atomicAdd(p.n_non_finite, static_cast<unsigned long long>(total));
}

}  // namespace oscar::cuda
