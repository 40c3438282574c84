// One block's worth of tokens with everything the packer needs, and its packing by any instruction set.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "format/bf16.h"
#include "importance/choice.h"
#include "isa_variants.h"
#include "quant/decode_block.h"
#include "transform/calibration.h"

namespace oscar::test {

struct AlignedBytes {
  explicit AlignedBytes(size_t n)
      : data(static_cast<uint8_t*>(std::aligned_alloc(64, (n + 63) / 64 * 64)), std::free) {}
  std::unique_ptr<uint8_t, void (*)(void*)> data;
};

inline std::vector<float> gaussian(size_t n, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& x : values) x = normal(random);
  return values;
}

// Transforms that are neither orthogonal nor symmetric, and a moment with a spread spectrum.
inline LayerMatrices random_matrices(const LayerGeometry& g, bool moment, std::mt19937_64& random) {
  LayerMatrices m{g, {}, {}, {}};
  const auto transform = [&](uint32_t dim) {
    std::vector<float> f = gaussian(size_t{g.n_kv_heads} * dim * dim, random);
    for (size_t i = 0; i < f.size(); ++i) f[i] = 0.3f * f[i] / std::sqrt(static_cast<float>(dim));
    for (size_t h = 0; h < g.n_kv_heads; ++h)
      for (size_t i = 0; i < dim; ++i) f[(h * dim + i) * dim + i] += 1.0f;
    return f;
  };
  m.key_transform = transform(g.key_dim);
  m.value_transform = transform(g.value_dim);
  if (!moment) return m;
  const size_t d = g.key_dim;
  m.query_moment.assign(g.n_kv_heads * d * d, 0.0f);
  for (size_t h = 0; h < g.n_kv_heads; ++h) {
    const std::vector<float> a = gaussian(d * d, random);
    for (size_t i = 0; i < d; ++i)
      for (size_t j = 0; j < d; ++j) {
        double sum = i == j ? 0.05 : 0.0;
        for (size_t k = 0; k < d; ++k) sum += static_cast<double>(a[i * d + k]) * a[j * d + k] / (1.0 + double(k));
        m.query_moment[(h * d + i) * d + j] = static_cast<float>(sum);
      }
  }
  return m;
}

struct PackCase {
  BlockShape shape;
  BlockLayout layout;
  Calibration calibration;
  std::vector<uint16_t> keys, values;  // [128][dim]
  uint8_t order[kBlockTokens];
  bool shaped;

  enum class Transforms { kDataFree, kMatrices, kShaped };

  PackCase(const BlockShape& s, Transforms transforms, std::mt19937_64& random)
      : shape(s), layout(block_layout(s)), calibration(make(s, transforms, random)),
        shaped(transforms == Transforms::kShaped) {
    const std::vector<float> bias = gaussian(s.key_dim, random);
    const std::vector<float> k = gaussian(kBlockTokens * s.key_dim, random);
    const std::vector<float> v = gaussian(kBlockTokens * s.value_dim, random);
    for (size_t i = 0; i < k.size(); ++i) keys.push_back(f32_to_bf16(k[i] + 3.0f * bias[i % s.key_dim]));
    for (const float x : v) values.push_back(f32_to_bf16(x));
    refine_random(random);
  }

  // A copy with the same tokens, order and transforms.
  PackCase with_same_transforms() const { return PackCase(*this, Calibration::deserialize(calibration.serialize())); }

  void refine_random(std::mt19937_64& random) {
    const std::vector<float> votes = gaussian(kBlockTokens, random);
    slot_order(votes.data(), layout.h, order);
  }

  const HeadTransform& transform() const { return calibration.head(0, 0); }

  PackWork work() const {
    PackWork w{};
    w.layout = &layout;
    w.transform = &transform();
    w.key_dim = shape.key_dim;
    w.value_dim = shape.value_dim;
    w.shaped = shaped;
    for (size_t t = 0; t < kBlockTokens; ++t) {
      w.key[t] = keys.data() + t * shape.key_dim;
      w.value[t] = values.data() + t * shape.value_dim;
      w.order[t] = order[t];
    }
    return w;
  }

  // `poison` fills block and scratch beforehand: the result must not depend on it.
  std::vector<uint8_t> pack(const IsaVariant& isa, uint8_t poison = 0xa5) const {
    const size_t scratch_bytes = isa.pack_scratch_bytes(shape.key_dim, shape.value_dim);
    AlignedBytes block(layout.bytes), scratch(scratch_bytes);
    std::fill_n(block.data.get(), layout.bytes, poison);
    std::fill_n(scratch.data.get(), scratch_bytes, poison);
    PackWork w = work();
    w.block = block.data.get();
    isa.pack_block(w, scratch.data.get());
    return {block.data.get(), block.data.get() + layout.bytes};
  }

  PackCase(PackCase&&) = default;

 private:
  PackCase(const PackCase& other, Calibration same)
      : shape(other.shape), layout(other.layout), calibration(std::move(same)), keys(other.keys), values(other.values),
        shaped(other.shaped) {
    std::copy_n(other.order, kBlockTokens, order);
  }

  static Calibration make(const BlockShape& s, Transforms transforms, std::mt19937_64& random) {
    const LayerGeometry g{1, s.key_dim, s.value_dim};
    if (transforms == Transforms::kDataFree) return Calibration::data_free({&g, 1});
    const LayerMatrices m = random_matrices(g, transforms == Transforms::kShaped, random);
    return Calibration::from_matrices({&m, 1});
  }
};

}  // namespace oscar::test
