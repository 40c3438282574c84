// Packs 128 tokens of one KV head into a block. FP32 throughout, in the canonical order of docs/numerics.md: every
// instruction set writes the same bytes.
#include <cstdint>
#include <cstring>

#include "backend/isa.h"
#include "format/scale.h"
#include "quant/code_planes.h"
#include "quant/gather.h"
#include "quant/rounding.h"
#include "transform/map_kernel.h"

namespace oscar::OSCAR_ISA {
namespace {

struct Scratch {
  float* gathered;       // [dim][128]: rows in slot order; later u = code - centre
  float* z;              // [dim][128]: transformed
  float* errors;         // [dim][kShapedRow]
  float* mean;           // [dim], model basis
  float* mean_z;         // [dim], transformed basis
  uint8_t* codes;        // [dim][128]
  uint8_t* trial_codes;  // [dim][kShapedRow]
};

Scratch carve(void* memory, uint32_t dim) {
  Scratch s;
  s.gathered = static_cast<float*>(memory);
  s.z = s.gathered + dim * kBlockTokens;
  s.errors = s.z + dim * kBlockTokens;
  s.mean = s.errors + dim * kShapedRow;
  s.mean_z = s.mean + dim;
  s.codes = reinterpret_cast<uint8_t*>(s.mean_z + dim);
  s.trial_codes = s.codes + dim * kBlockTokens;
  return s;
}

// Writes the scale bytes of one side; `scales` are those of the fine codes, in units of 2^-exponent. Returns the base.
float write_scales(float* scales, uint32_t h, uint32_t plane, int exponent, uint8_t* bytes) {
  float largest = 0.0f;
  for (uint32_t s = 0; s < kBlockTokens; ++s) {
    if (s < h) scales[s] *= static_cast<float>(1u << plane);  // the step of the base code
    largest = largest > scales[s] ? largest : scales[s];
  }
  if (!(largest > 0.0f)) {
    std::memset(bytes, 0, kBlockTokens);
    return scale_base(0.0f);
  }
  // Undo the power of two of the input, inside the range that scale_base keeps to (format/scale.h).
  int base_exponent = static_cast<int>(__builtin_bit_cast(uint32_t, scale_base(largest)) >> 23) - 127 - exponent;
  base_exponent = base_exponent < -110 ? -110 : base_exponent > 126 ? 126 : base_exponent;
  const float base_here = power_of_two(base_exponent + exponent);
  for (uint32_t s = 0; s < kBlockTokens; ++s) bytes[s] = encode_scale(scales[s], base_here);
  return power_of_two(base_exponent);
}

// The block mean of the transformed keys as int8, and z -= the decoded mean. Returns the scale to store.
float subtract_mean(const PackWork& work, int exponent, const Scratch& s) {
  const uint32_t dim = work.key_dim;
  mean_row(work.key, dim, power_of_two(exponent), s.mean);
  apply_map(work.transform->key, s.mean, s.mean_z);
  float largest = 0.0f;
  for (uint32_t i = 0; i < dim; ++i) {
    const float magnitude = __builtin_fabsf(s.mean_z[i]);
    largest = largest > magnitude ? largest : magnitude;
  }
  const float stored = largest / 127.0f * power_of_two(-exponent);
  const float step = stored * power_of_two(exponent);  // as a reader sees it
  for (uint32_t i = 0; i < dim; ++i) {
    float level = step > 0.0f ? __builtin_rintf(s.mean_z[i] / step) : 0.0f;
    level = level > 127.0f ? 127.0f : level < -127.0f ? -127.0f : level;
    work.block[work.layout->key_mean + i] = static_cast<uint8_t>(static_cast<int8_t>(level));
    const float mean = level * step;
    float* row = s.z + i * kBlockTokens;
    for (uint32_t t = 0; t < kBlockTokens; ++t) row[t] -= mean;
  }
  return stored;
}

float ratio_or_zero(float a, float b) { return a > 0.0f && b > 0.0f ? a / b : 0.0f; }

void pack_keys(const PackWork& work, int exponent, const Scratch& s, BlockHeader& header) {
  const BlockLayout& layout = *work.layout;
  const uint32_t dim = work.key_dim;
  gather_slots(work.key, work.order, dim, power_of_two(exponent), s.gathered);
  apply_map_tokens(work.transform->key, false, s.gathered, s.z);
  header.mean_scale = subtract_mean(work, exponent, s);

  const SlotLevels levels(layout.h, layout.key_plane);
  float zz[kBlockTokens], uu[kBlockTokens], zu[kBlockTokens], search[kBlockTokens], scales[kBlockTokens];
  squared_norms(s.z, dim, zz);
  search_scales(s.z, zz, dim, levels, search);
  if (work.counts) {
    const float cost = work.shaped ? work.transform->key_cost_shaped : work.transform->key_cost;
    count_clipped(s.z, dim, search, levels, work.counts->keys);
    count_block(s.gathered, s.mean, zz, dim, cost, work.counts->keys);
  }
  if (work.shaped) {
    const float* root = work.transform->metric_root;
    round_shaped(s.z, dim, search, root, work.transform->metric_ratio, levels, s.errors, s.trial_codes, s.codes);
    centred_codes(s.codes, dim, levels, s.gathered);
    metric_norms(s.z, root, dim, zz);
    metric_norms(s.gathered, root, dim, uu);
  } else {
    round_plain(s.z, dim, search, levels, s.codes, uu, zu);
  }
  for (uint32_t t = 0; t < kBlockTokens; ++t) {  // norm matching, in the metric where there is one
    const float matched = search[t] > 0.0f ? __builtin_sqrtf(ratio_or_zero(zz[t], uu[t])) : 0.0f;
    scales[t] = levels.wide[t] ? search[t] : matched;
  }
  header.key_base = write_scales(scales, layout.h, layout.key_plane, exponent, work.block + layout.key_scales);
  split_key_refinement(layout, dim, s.codes, work.block);
  write_key_codes(layout, s.codes, dim, work.block);
}

void pack_values(const PackWork& work, int exponent, const Scratch& s, BlockHeader& header) {
  const BlockLayout& layout = *work.layout;
  const uint32_t dim = work.value_dim;
  gather_slots(work.value, work.order, dim, power_of_two(exponent), s.gathered);
  apply_map_tokens(work.transform->value, false, s.gathered, s.z);

  const SlotLevels levels(layout.h, layout.value_plane);
  float zz[kBlockTokens], uu[kBlockTokens], zu[kBlockTokens], search[kBlockTokens], scales[kBlockTokens];
  squared_norms(s.z, dim, zz);
  search_scales(s.z, zz, dim, levels, search);
  if (work.counts) {
    count_clipped(s.z, dim, search, levels, work.counts->values);
    count_block(s.gathered, nullptr, zz, dim, work.transform->value_cost, work.counts->values);
  }
  round_plain(s.z, dim, search, levels, s.codes, uu, zu);
  for (uint32_t t = 0; t < kBlockTokens; ++t) {  // unbiased: <z, s u> = <z, z>
    const float unbiased = search[t] > 0.0f ? ratio_or_zero(zz[t], zu[t]) : 0.0f;
    scales[t] = levels.wide[t] ? search[t] : unbiased;
  }
  header.value_base = write_scales(scales, layout.h, layout.value_plane, exponent, work.block + layout.value_scales);
  split_value_refinement(layout, dim, s.codes, work.block);
  write_value_codes(layout, s.codes, dim, work.block);
}

}  // namespace

size_t pack_scratch_bytes(uint32_t key_dim, uint32_t value_dim) {
  const size_t dim = key_dim > value_dim ? key_dim : value_dim;
  return dim * (sizeof(float) * (2 * kBlockTokens + kShapedRow + 2) + kBlockTokens + kShapedRow);
}

void pack_block(const PackWork& work, void* scratch) {
  const BlockLayout& layout = *work.layout;
  const Scratch s = carve(scratch, work.key_dim > work.value_dim ? work.key_dim : work.value_dim);
  const RowScan keys = scan_rows(work.key, work.key_dim), values = scan_rows(work.value, work.value_dim);
  std::memset(work.block, 0, layout.bytes);  // padding has the same bytes everywhere
  BlockHeader header{};
  header.n_non_finite = keys.n_non_finite + values.n_non_finite;
  if (work.counts) work.counts->n_non_finite += header.n_non_finite;
  pack_keys(work, keys.exponent, s, header);
  pack_values(work, values.exponent, s, header);
  std::memcpy(work.block + layout.header, &header, sizeof header);
  if (layout.has_ids()) std::memcpy(work.block + layout.ids, work.order, layout.h);
}

}  // namespace oscar::OSCAR_ISA
