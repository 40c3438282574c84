// What packing promises about numbers: errors of every width, norm matching, unbiased values, shaped rounding. The
// expected numbers are computed here in double precision from the transforms.
#include <doctest/doctest.h>

#include "pack_case.h"
#include "transform/hadamard.h"

using namespace oscar;
using namespace oscar::test;
using Transforms = PackCase::Transforms;

namespace {

using Row = std::vector<double>;

// A token in the transformed basis: exactly, and as the block says.
struct TokenPair {
  Row exact, stored;
};

Row times(const Row& x, const LinearMap& map) {
  Row y(map.dim, 0.0);
  for (uint32_t i = 0; i < map.dim; ++i)
    for (uint32_t j = 0; j < map.dim; ++j) y[j] += x[i] * static_cast<double>(map.matrix[i * map.dim + j]);
  return y;
}

Row row_of(const std::vector<uint16_t>& rows, uint32_t token, uint32_t dim) {
  Row x(dim);
  for (uint32_t i = 0; i < dim; ++i) x[i] = static_cast<double>(bf16_to_f32(rows[token * dim + i]));
  return x;
}

// Keys without the block mean.
TokenPair key_of(const PackCase& c, const BlockReader& reader, uint32_t slot) {
  TokenPair pair{times(row_of(c.keys, c.order[slot], c.shape.key_dim), c.transform().key), Row(c.shape.key_dim)};
  for (uint32_t d = 0; d < c.shape.key_dim; ++d) {
    pair.exact[d] -= reader.key_mean(d);
    pair.stored[d] = reader.key(slot, d) - reader.key_mean(d);
  }
  return pair;
}

TokenPair value_of(const PackCase& c, const BlockReader& reader, uint32_t slot) {
  TokenPair pair{times(row_of(c.values, c.order[slot], c.shape.value_dim), c.transform().value),
                 Row(c.shape.value_dim)};
  for (uint32_t d = 0; d < c.shape.value_dim; ++d) pair.stored[d] = reader.value(slot, d);
  return pair;
}

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

Row minus(Row a, const Row& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

double relative_error(const TokenPair& p) {
  const Row e = minus(p.exact, p.stored);
  return dot(e, e) / dot(p.exact, p.exact);
}

constexpr double kScaleRounding = 1.0 / 32;  // of a stored scale

}  // namespace

TEST_CASE("refined tokens have the error of their width, the others that of two bits") {
  std::mt19937_64 random(201);
  const IsaVariant isa = runnable_isa_variants().back();
  // Distortion of the uniform quantizers for a Gaussian is .119, .037, .0115 (Max 1960); matching the norm instead of
  // least squares adds to the error: (2 - 2 sqrt(1 - D)) for two bits, that is .122.
  const double low[] = {0.10, 0.030, 0.009}, high[] = {0.15, 0.048, 0.0155};
  for (uint32_t plane = 0; plane <= 2; ++plane) {
    CAPTURE(plane);
    const PackCase c({128, 128, 32, plane, 2 - plane}, Transforms::kMatrices, random);
    const std::vector<uint8_t> block = c.pack(isa);
    const BlockReader reader(c.layout, block.data());
    double keys[2] = {}, values[2] = {};
    for (uint32_t s = 0; s < kBlockTokens; ++s) {
      keys[s < 32] += relative_error(key_of(c, reader, s)) / (s < 32 ? 32 : 96);
      values[s < 32] += relative_error(value_of(c, reader, s)) / (s < 32 ? 32 : 96);
    }
    CHECK(keys[0] > low[0]);
    CHECK(keys[0] < high[0]);
    CHECK(values[0] > low[0]);
    CHECK(values[0] < high[0]);
    CHECK(keys[1] > low[plane]);
    CHECK(keys[1] < high[plane]);
    CHECK(values[1] > low[2 - plane]);
    CHECK(values[1] < high[2 - plane]);
  }
}

TEST_CASE("no element of eight bits is off by more than half of its token's step") {
  std::mt19937_64 random(207);
  const IsaVariant isa = runnable_isa_variants().back();
  PackCase c({128, 64, 40, 6, 6}, Transforms::kMatrices, random);
  for (uint32_t t = 0; t < kBlockTokens; t += 3) c.values[t * 64 + 5] = f32_to_bf16(30.0f);  // outliers are not cut off
  const std::vector<uint8_t> block = c.pack(isa);
  const BlockReader reader(c.layout, block.data());
  double keys = 0;
  for (uint32_t s = 0; s < 40; ++s) {
    const TokenPair key = key_of(c, reader, s), value = value_of(c, reader, s);
    keys += relative_error(key) / 40;
    for (const auto& [pair, scale] : {std::pair{&key, reader.key_scale(s)}, std::pair{&value, reader.value_scale(s)}}) {
      double worst = 0, largest = 0;
      for (size_t d = 0; d < pair->exact.size(); ++d) {
        worst = std::max(worst, std::abs(pair->exact[d] - pair->stored[d]));
        largest = std::max(largest, std::abs(pair->exact[d]));
      }
      const double step = scale / 64;
      CHECK(worst <= 0.5001 * step + 1e-6);
      CHECK(step <= largest / 127.5 * (1 + 1.0 / 16 + 1e-4));
    }
  }
  // The largest of 128 Gaussian elements is about 2.7 rms: a step of .021 to .023, whose square over 12 is the error.
  CHECK(keys > 2.5e-5);
  CHECK(keys < 6e-5);
}

TEST_CASE("the base codes of a refined token are a coarse token of their own") {
  std::mt19937_64 random(208);
  const IsaVariant isa = runnable_isa_variants().back();
  const PackCase c({128, 128, 64, 2, 2}, Transforms::kMatrices, random);
  const std::vector<uint8_t> block = c.pack(isa);
  const BlockReader reader(c.layout, block.data());
  double keys = 0, values = 0;
  for (uint32_t s = 0; s < 64; ++s) {
    TokenPair key = key_of(c, reader, s), value = value_of(c, reader, s);
    for (uint32_t d = 0; d < 128; ++d) {
      key.stored[d] = reader.key_scale(s) * ((reader.key_code(s, d) >> 2) - 1.5);
      value.stored[d] = reader.value_scale(s) * ((reader.value_code(s, d) >> 2) - 1.5);
    }
    keys += relative_error(key) / 64;
    values += relative_error(value) / 64;
  }
  for (const double error : {keys, values}) {
    CHECK(error > 0.145);
    CHECK(error < 0.17);
  }
}

TEST_CASE("plain keys keep their norm") {
  std::mt19937_64 random(202);
  const IsaVariant isa = runnable_isa_variants().back();
  const PackCase c({64, 64, 4, 2, 2}, Transforms::kMatrices, random);
  const std::vector<uint8_t> block = c.pack(isa);
  const BlockReader reader(c.layout, block.data());
  for (uint32_t s = 0; s < kBlockTokens; ++s) {
    const TokenPair key = key_of(c, reader, s);
    CHECK(std::sqrt(dot(key.stored, key.stored) / dot(key.exact, key.exact)) ==
          doctest::Approx(1.0).epsilon(kScaleRounding + 1e-4));
  }
}

TEST_CASE("values are unbiased: <v, stored v> = <v, v>") {
  std::mt19937_64 random(203);
  const IsaVariant isa = runnable_isa_variants().back();
  const PackCase c({64, 192, 4, 2, 1}, Transforms::kMatrices, random);
  const std::vector<uint8_t> block = c.pack(isa);
  const BlockReader reader(c.layout, block.data());
  for (uint32_t s = 0; s < kBlockTokens; ++s) {
    const TokenPair value = value_of(c, reader, s);
    CHECK(dot(value.exact, value.stored) / dot(value.exact, value.exact) ==
          doctest::Approx(1.0).epsilon(kScaleRounding + 1e-4));
  }
}

TEST_CASE(
    "shaped keys keep their norm in the metric of the queries, and their error there is far below plain rounding's") {
  std::mt19937_64 random(204);
  const IsaVariant isa = runnable_isa_variants().back();
  PackCase c({128, 64, 4, 2, 0}, Transforms::kShaped, random);
  LinearMap root{MapKind::kDense, 128, 0, 0, c.transform().metric_root};
  double error[2];
  for (const bool shaped : {false, true}) {
    c.shaped = shaped;
    const std::vector<uint8_t> block = c.pack(isa);
    const BlockReader reader(c.layout, block.data());
    double sum = 0;
    for (uint32_t s = 0; s < kBlockTokens; ++s) {
      const TokenPair key = key_of(c, reader, s);
      const Row exact = times(key.exact, root), stored = times(key.stored, root), e = minus(exact, stored);
      sum += dot(e, e) / dot(exact, exact);
      if (shaped)
        CHECK(std::sqrt(dot(stored, stored) / dot(exact, exact)) ==
              doctest::Approx(1.0).epsilon(kScaleRounding + 1e-3));
    }
    error[shaped] = sum;
  }
  CHECK(error[1] < 0.6 * error[0]);
}

TEST_CASE("the decoded block mean is the mean of the transformed keys, to half a step") {
  std::mt19937_64 random(205);
  const IsaVariant isa = runnable_isa_variants().back();
  const PackCase c({192, 64, 0, 0, 0}, Transforms::kMatrices, random);
  const std::vector<uint8_t> block = c.pack(isa);
  const BlockReader reader(c.layout, block.data());
  Row mean(192, 0.0);
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    const Row z = times(row_of(c.keys, t, 192), c.transform().key);
    for (uint32_t d = 0; d < 192; ++d) mean[d] += z[d] / kBlockTokens;
  }
  for (uint32_t d = 0; d < 192; ++d)
    CHECK(std::abs(reader.key_mean(d) - mean[d]) <= 0.501 * static_cast<double>(reader.header.mean_scale));
}

TEST_CASE("what unpack returns is what the codes say, back in the model's basis") {
  std::mt19937_64 random(206);
  for (const Transforms transforms : {Transforms::kDataFree, Transforms::kMatrices})
    for (const auto& [key_dim, value_dim] : {std::pair{80u, 192u}, std::pair{128u, 96u}}) {
      const PackCase c({key_dim, value_dim, 5, 2, 1}, transforms, random);
      for (const IsaVariant& isa : runnable_isa_variants()) {
        CAPTURE(isa.name);
        const std::vector<uint8_t> block = c.pack(isa);
        const BlockReader reader(c.layout, block.data());
        AlignedBytes scratch(isa.pack_scratch_bytes(key_dim, value_dim));
        const uint32_t first = 17, last = 90;
        std::vector<float> keys(size_t{last - first} * key_dim), values(size_t{last - first} * value_dim);
        isa.unpack_block(c.layout, c.transform(), key_dim, value_dim, block.data(), first, last, keys.data(), nullptr,
                         scratch.data.get());
        isa.unpack_block(c.layout, c.transform(), key_dim, value_dim, block.data(), first, last, nullptr, values.data(),
                         scratch.data.get());
        double key_error = 0, value_error = 0;
        for (uint32_t s = 0; s < kBlockTokens; ++s) {
          const uint32_t offset = c.order[s];
          if (offset < first || offset >= last) continue;
          Row key(keys.begin() + (offset - first) * key_dim, keys.begin() + (offset - first + 1) * key_dim);
          Row value(values.begin() + (offset - first) * value_dim, values.begin() + (offset - first + 1) * value_dim);
          const auto forward = [](const Row& x, const LinearMap& map) {  // into the transformed basis
            if (map.kind == MapKind::kDense) return times(x, map);
            std::vector<float> h(size_t{map.dim} * map.dim);
            hadamard_matrix(map.dim, h.data());
            return times(x, {MapKind::kDense, map.dim, 0, 0, h.data()});
          };
          key = forward(key, c.transform().key);
          value = forward(value, c.transform().value);
          for (uint32_t d = 0; d < key_dim; ++d) key_error = std::max(key_error, std::abs(key[d] - reader.key(s, d)));
          for (uint32_t d = 0; d < value_dim; ++d)
            value_error = std::max(value_error, std::abs(value[d] - reader.value(s, d)));
        }
        CHECK(key_error < 1e-4);  // of elements of about 3: FP32 inverse, two maps
        CHECK(value_error < 1e-5);
      }
    }
}
