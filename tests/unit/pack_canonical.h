// The packer once more, written token by token in the canonical arithmetic of docs/numerics.md: what every instruction
// set, and every other backend, must reproduce byte for byte. Slow and plain on purpose.
#pragma once
#include <cstring>

#include "format/scale.h"
#include "map_cases.h"
#include "pack_case.h"

namespace oscar::test {

class CanonicalPacker {
 public:
  explicit CanonicalPacker(const PackCase& c) : c_(c), layout_(c.layout), block_(c.layout.bytes, 0) {}

  std::vector<uint8_t> pack() {
    pack_keys();
    pack_values();
    std::memcpy(block_.data() + layout_.header, &header_, sizeof header_);
    for (uint32_t s = 0; layout_.has_ids() && s < layout_.h; ++s) block_[layout_.ids + s] = c_.order[s];
    return block_;
  }

 private:
  using Row = std::vector<float>;
  struct Rounded {
    Row u;  // code - (L - 1) / 2
    float scale;
  };

  // Elements as floats, times 2^exponent; the largest finite one comes to lie in [1, 2) where 2^+-126 allow it.
  std::vector<Row> scaled_rows(const std::vector<uint16_t>& rows, uint32_t dim, int& exponent) {
    float largest = 0.0f;
    for (const uint16_t x : rows)
      if (std::isfinite(bf16_to_f32(x))) largest = std::fmax(largest, std::fabs(bf16_to_f32(x)));
    exponent = largest == 0.0f ? 0 : std::isnormal(largest) ? -std::ilogb(largest) : 127;
    exponent = std::clamp(exponent, -126, 126);
    std::vector<Row> scaled(kBlockTokens, Row(dim));
    for (uint32_t t = 0; t < kBlockTokens; ++t)
      for (uint32_t i = 0; i < dim; ++i) {
        const float x = bf16_to_f32(rows[t * dim + i]);
        header_.n_non_finite += !std::isfinite(x);
        scaled[t][i] = std::isfinite(x) ? x * std::ldexp(1.0f, exponent) : 0.0f;
      }
    return scaled;
  }

  static float dot(const Row& a, const Row& b) {
    float sum = 0.0f;
    for (size_t i = 0; i < a.size(); ++i) sum = std::fma(a[i], b[i], sum);
    return sum;
  }

  static float rms(const Row& z) {
    const float exact = std::sqrt(dot(z, z) / static_cast<float>(z.size()));
    return exact > 0.0f ? round_to_scale_grid(exact) : 0.0f;
  }

  static float nearest_code(float y, float inverse_step, float n_levels) {
    return std::fmax(std::fmin(std::floor(std::fma(y, inverse_step, n_levels / 2)), n_levels - 1), 0.0f);
  }

  // Of codes of 8 bits: the largest element's share of half the levels. Nothing is fitted to it.
  static bool wide(uint32_t width) { return width == 6; }

  static float search_scale(const Row& z, uint32_t width) {
    if (!wide(width)) return rms(z);
    float largest = 0.0f;
    for (const float x : z) largest = std::fmax(largest, std::fabs(x));
    return largest > 0.0f ? raise_to_scale_grid(largest / 127.5f) : 0.0f;
  }

  static float step_ratio(uint32_t width) {
    return width == 0 ? 0.9957f : width == 1 ? 0.5860f : width == 2 ? 0.3352f : 1.0f;
  }

  static Row round_plain(const Row& z, uint32_t width) {
    const float s0 = search_scale(z, width), n_levels = static_cast<float>(4u << width);
    const float inverse = s0 > 0.0f ? 1.0f / (s0 * step_ratio(width)) : 1.0f;
    Row u(z.size());
    for (size_t i = 0; i < z.size(); ++i) u[i] = nearest_code(z[i], inverse, n_levels) - (n_levels - 1) / 2;
    return u;
  }

  Row round_shaped(const Row& z, uint32_t width) const {
    const HeadTransform& t = c_.transform();
    const size_t d = z.size();
    const float s0 = search_scale(z, width), n_levels = static_cast<float>(4u << width);
    Row best;
    float best_cost = 0.0f;
    for (const float trial : wide(width) ? Row{1.0f} : Row{0.9f, 1.0f, 1.1f, 1.2f}) {
      const float step = (s0 > 0.0f ? s0 * trial : 1.0f) * step_ratio(width), inverse = 1.0f / step;
      Row u(d), e(d);
      float cost = 0.0f;
      for (size_t i = 0; i < d; ++i) {
        float carried = 0.0f;
        for (size_t j = 0; j < i; ++j) carried = std::fma(e[j], t.metric_ratio[i * d + j], carried);
        u[i] = nearest_code(z[i] + carried, inverse, n_levels) - (n_levels - 1) / 2;
        e[i] = std::fma(-step, u[i], z[i]);
        const float residual = t.metric_root[i * d + i] * (e[i] + carried);
        cost = std::fma(residual, residual, cost);
      }
      if (best.empty() || cost < best_cost) {
        best = u;
        best_cost = cost;
      }
    }
    return best;
  }

  float metric_norm(const Row& y) const {
    const float* root = c_.transform().metric_root;
    const size_t d = y.size();
    Row image(d, 0.0f);
    for (size_t j = 0; j < d; ++j)
      for (size_t i = 0; i <= j; ++i) image[j] = std::fma(y[i], root[i * d + j], image[j]);
    return dot(image, image);
  }

  static float ratio_or_zero(float a, float b) { return a > 0.0f && b > 0.0f ? a / b : 0.0f; }

  void pack_keys() {
    const uint32_t dim = c_.shape.key_dim;
    int exponent = 0;
    const std::vector<Row> rows = scaled_rows(c_.keys, dim, exponent);
    Row mean(dim, 0.0f);
    for (const Row& row : rows)
      for (uint32_t i = 0; i < dim; ++i) mean[i] += row[i];
    for (float& x : mean) x /= 128.0f;
    mean = canonical_map(c_.transform().key, mean);
    float largest = 0.0f;
    for (const float x : mean) largest = std::fmax(largest, std::fabs(x));
    header_.mean_scale = largest / 127.0f * std::ldexp(1.0f, -exponent);
    const float mean_step = header_.mean_scale * std::ldexp(1.0f, exponent);
    for (uint32_t i = 0; i < dim; ++i) {
      const float level = mean_step > 0.0f ? std::clamp(std::nearbyint(mean[i] / mean_step), -127.0f, 127.0f) : 0.0f;
      block_[layout_.key_mean + i] = static_cast<uint8_t>(static_cast<int8_t>(level));
      mean[i] = level * mean_step;
    }
    std::vector<Rounded> slots;
    for (uint32_t s = 0; s < kBlockTokens; ++s) {
      const uint32_t width = s < layout_.h ? layout_.key_plane : 0;
      Row z = canonical_map(c_.transform().key, rows[c_.order[s]]);
      for (uint32_t i = 0; i < dim; ++i) z[i] -= mean[i];
      const Row u = c_.shaped ? round_shaped(z, width) : round_plain(z, width);
      const float ratio = c_.shaped ? ratio_or_zero(metric_norm(z), metric_norm(u))
                                    : ratio_or_zero(dot(z, z), dot(u, u));
      const float fitted = rms(z) > 0.0f ? std::sqrt(ratio) : 0.0f;
      slots.push_back({u, wide(width) ? search_scale(z, width) : fitted});
    }
    header_.key_base = write_scales(slots, layout_.key_plane, exponent, layout_.key_scales);
    for (uint32_t s = 0; s < kBlockTokens; ++s)
      for (uint32_t d = 0; d < dim; ++d) {
        const uint32_t width = s < layout_.h ? layout_.key_plane : 0, code = code_of(slots[s].u[d], width);
        put(layout_.key_code(s, d), code >> width);
        put_refinement(code, width, [&](uint32_t part) { return layout_.key_refinement(s, d, part); });
      }
  }

  void pack_values() {
    const uint32_t dim = c_.shape.value_dim;
    int exponent = 0;
    const std::vector<Row> rows = scaled_rows(c_.values, dim, exponent);
    std::vector<Rounded> slots;
    for (uint32_t s = 0; s < kBlockTokens; ++s) {
      const Row z = canonical_map(c_.transform().value, rows[c_.order[s]]);
      const uint32_t width = s < layout_.h ? layout_.value_plane : 0;
      const Row u = round_plain(z, width);
      const float fitted = rms(z) > 0.0f ? ratio_or_zero(dot(z, z), dot(z, u)) : 0.0f;
      slots.push_back({u, wide(width) ? search_scale(z, width) : fitted});
    }
    header_.value_base = write_scales(slots, layout_.value_plane, exponent, layout_.value_scales);
    for (uint32_t s = 0; s < kBlockTokens; ++s)
      for (uint32_t d = 0; d < dim; ++d) {
        const uint32_t width = s < layout_.h ? layout_.value_plane : 0, code = code_of(slots[s].u[d], width);
        put(layout_.value_code(s, d), code >> width);
        put_refinement(code, width, [&](uint32_t part) { return layout_.value_refinement(s, d, part); });
      }
  }

  static uint32_t code_of(float u, uint32_t width) {
    return static_cast<uint32_t>(u + (static_cast<float>(4u << width) - 1) / 2);
  }

  void put(CodeAt at, uint32_t code) { block_[at.at] = static_cast<uint8_t>(block_[at.at] | code << at.shift); }

  // The bits below the base's, two at a time where there are as many, from the top.
  template <typename At>
  void put_refinement(uint32_t code, uint32_t width, At at) {
    const uint32_t bits = std::min(width, 2u);
    for (uint32_t part = 0, left = width; left > 0; ++part) {
      left -= bits;
      put(at(part), code >> left & ((1u << bits) - 1));
    }
  }

  float write_scales(const std::vector<Rounded>& slots, uint32_t plane, int exponent, uint32_t at) {
    Row scales;
    float largest = 0.0f;
    for (uint32_t s = 0; s < kBlockTokens; ++s) {
      scales.push_back(s < layout_.h ? slots[s].scale * static_cast<float>(1u << plane) : slots[s].scale);
      largest = std::fmax(largest, scales[s]);
    }
    if (!(largest > 0.0f)) return 1.0f;
    const int base_exponent = std::clamp(std::ilogb(scale_base(largest)) - exponent, -110, 126);
    for (uint32_t s = 0; s < kBlockTokens; ++s)
      block_[at + s] = encode_scale(scales[s], std::ldexp(1.0f, base_exponent + exponent));
    return std::ldexp(1.0f, base_exponent);
  }

  const PackCase& c_;
  const BlockLayout& layout_;
  std::vector<uint8_t> block_;
  BlockHeader header_{};
};

}  // namespace oscar::test
