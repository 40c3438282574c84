#include "transform/calibration.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "format/checksum.h"
#include "format/error.h"
#include "pack_case.h"
#include "transform/calibration_build.h"

using namespace oscar;
using namespace oscar::test;

namespace {

const LayerGeometry kSmall[] = {{2, 64, 80}, {3, 96, 64}};

std::vector<LayerMatrices> small_matrices() {
  std::mt19937_64 random(301);
  return {random_matrices(kSmall[0], true, random), random_matrices(kSmall[1], false, random)};
}

// The status and text that `call` throws; status 0 where it does not.
template <class Call>
std::pair<int32_t, std::string> thrown_by(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return {static_cast<int32_t>(error.status()), error.what()};
  }
  return {0, ""};
}

template <class Change>
std::pair<int32_t, std::string> refusal(Change&& change) {
  std::vector<LayerMatrices> layers = small_matrices();
  change(layers);
  return thrown_by([&] { Calibration::from_matrices(layers); });
}

void refused_as_corrupt(std::span<const uint8_t> bytes) {
  const auto [status, text] = thrown_by([&] { Calibration::deserialize(bytes); });
  REQUIRE(status == static_cast<int32_t>(Status::kCorrupt));
  REQUIRE(text.size() > 20);
}

// A file whose checksum is right again after a change.
std::vector<uint8_t> resealed(std::vector<uint8_t> bytes) {
  Checksum checksum;
  checksum.update(bytes.data(), bytes.size() - 8);
  const uint64_t value = checksum.value();
  std::memcpy(bytes.data() + bytes.size() - 8, &value, 8);
  return bytes;
}

template <class T>
std::vector<uint8_t> with(std::vector<uint8_t> bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return resealed(bytes);
}

bool same_matrix(const float* a, const float* b, uint32_t dim) {
  return (a == nullptr) == (b == nullptr) && (!a || std::memcmp(a, b, sizeof(float) * dim * dim) == 0);
}

bool same_map(const LinearMap& a, const LinearMap& b) {
  return a.kind == b.kind && a.dim == b.dim && a.transposed == b.transposed && same_matrix(a.matrix, b.matrix, a.dim);
}

void check_same(const Calibration& a, const Calibration& b) {
  REQUIRE(a.layers().size() == b.layers().size());
  CHECK(a.fingerprint() == b.fingerprint());
  for (uint32_t l = 0; l < a.layers().size(); ++l) {
    REQUIRE(a.layers()[l] == b.layers()[l]);
    for (uint32_t h = 0; h < a.layers()[l].n_kv_heads; ++h) {
      const HeadTransform &x = a.head(l, h), &y = b.head(l, h);
      CHECK(same_map(x.key, y.key));
      CHECK(same_map(x.query, y.query));
      CHECK(same_map(x.value, y.value));
      CHECK(same_map(x.value_inverse, y.value_inverse));
      CHECK(same_matrix(x.metric_root, y.metric_root, x.key.dim));
      CHECK(same_matrix(x.metric_ratio, y.metric_ratio, x.key.dim));
    }
  }
}

double entry(const float* m, uint32_t dim, uint32_t i, uint32_t j) { return static_cast<double>(m[i * dim + j]); }

}  // namespace

TEST_CASE("a calibration survives saving and loading, derived matrices included, bit for bit") {
  std::vector<LayerMatrices> moment_only = small_matrices();
  moment_only[0].key_transform.clear();
  moment_only[0].value_transform.clear();
  const Calibration all[] = {Calibration::data_free(kSmall), Calibration::identity(kSmall),
                             Calibration::from_matrices(small_matrices()), Calibration::from_matrices(moment_only)};
  for (const Calibration& c : all) {
    const std::vector<uint8_t> bytes = c.serialize();
    check_same(c, Calibration::deserialize(bytes));
    CHECK(Calibration::deserialize(bytes).serialize() == bytes);
    std::vector<uint8_t> unaligned(bytes.size() + 1);
    std::copy(bytes.begin(), bytes.end(), unaligned.begin() + 1);
    check_same(c, Calibration::deserialize(std::span(unaligned).subspan(1)));
  }
  for (const Calibration& a : all)
    for (const Calibration& b : all) CHECK((a.fingerprint() == b.fingerprint()) == (&a == &b));
}

TEST_CASE("heads of one layer may be of different kinds, and keep their fingerprints in files and slices") {
  std::mt19937_64 random(305);
  const LayerMatrices full = random_matrices({1, 64, 80}, true, random);
  const MapKind free = MapKind::kHadamard, dense = MapKind::kDense;
  const float *key = full.key_transform.data(), *moment = full.query_moment.data(),
              *value = full.value_transform.data();
  const LayerSource layers[] = {{{3, 64, 80},
                                 {{dense, dense, key, moment, value},
                                  {free, free, nullptr, nullptr, nullptr},
                                  {free, dense, nullptr, moment, value}}},
                                {{1, 64, 80}, {{dense, free, key, moment, nullptr}}}};
  Provenance provenance;
  provenance.source = CalibrationSource::kCache;
  provenance.knows_rope = true;
  provenance.n_tokens = 300;
  provenance.n_positions = 1u << 20;
  provenance.end_position = 316;
  provenance.n_refined = 4;
  provenance.refined_key_bits = 3;
  provenance.refined_value_bits = 2;
  provenance.objective = std::string(63, 'o');
  provenance.model = "a model";
  provenance.note = std::string(127, 'n');
  const Calibration c = CalibrationBuilder::build(layers, provenance, Status::kInvalid);
  CHECK_FALSE(c.is_data_free());
  CHECK(c.is_data_free(0, 1));
  CHECK_FALSE(c.is_data_free(0, 2));
  CHECK(c.is_shaped(0));
  CHECK_FALSE(c.is_shaped(0, 1));
  CHECK(c.is_shaped(0, 2));
  CHECK(c.bytes() <= Calibration::most_bytes(c.layers()));

  const Calibration loaded = Calibration::deserialize(c.serialize());
  check_same(c, loaded);
  CHECK(loaded.provenance() == provenance);
  CHECK(loaded.bytes() == c.bytes());

  const CalibrationPart parts[] = {{1, 0, 1}, {0, 1, 2}, {0, 0, 1}};
  const Calibration slice = c.slice(parts);
  REQUIRE(slice.layers().size() == 3);
  CHECK(slice.layers()[1] == LayerGeometry{2, 64, 80});
  CHECK(slice.provenance() == provenance);
  CHECK(slice.fingerprint(0, 0) == c.fingerprint(1, 0));
  CHECK(slice.fingerprint(1, 0) == c.fingerprint(0, 1));
  CHECK(slice.fingerprint(1, 1) == c.fingerprint(0, 2));
  CHECK(same_map(slice.head(2, 0).query, c.head(0, 0).query));
  CHECK(same_matrix(slice.head(2, 0).metric_ratio, c.head(0, 0).metric_ratio, 64));
  CHECK(slice.fingerprint() != c.fingerprint());
  const CalibrationPart both[] = {{0, 0, 3}, {1, 0, 1}};
  CHECK(c.slice(both).fingerprint() == c.fingerprint());
  CHECK(c.fingerprint(0, 0) != c.fingerprint(0, 2));
}

TEST_CASE("a calibration says what it is") {
  const Calibration free = Calibration::data_free(kSmall), given = Calibration::from_matrices(small_matrices());
  CHECK(free.is_data_free());
  CHECK_FALSE(Calibration::identity(kSmall).is_data_free());
  CHECK_FALSE(given.is_data_free());
  CHECK(given.is_shaped(0));
  CHECK_FALSE(given.is_shaped(1));
  CHECK_FALSE(free.is_shaped(0));
  // F, F^-T, moment, R, ratio, F_v, F_v^-1 of two heads, and F, F^-T, F_v, F_v^-1 of three.
  CHECK(given.bytes() >= sizeof(float) * (2 * (5 * 64 * 64 + 2 * 80 * 80) + 3 * (2 * 96 * 96 + 2 * 64 * 64)));
}

TEST_CASE("derived matrices are what their names say") {
  const Calibration c = Calibration::from_matrices(small_matrices());
  const std::vector<LayerMatrices> given = small_matrices();
  for (uint32_t h = 0; h < 2; ++h) {
    const HeadTransform& t = c.head(0, h);
    const uint32_t d = 64;
    const float* moment = given[0].query_moment.data() + h * d * d;
    double inverse_error = 0, metric_error = 0, trace = 0, scale = 0;
    std::vector<double> metric(d * d);  // F^-1 Q F^-T = (F^-T)^T Q F^-T
    for (uint32_t i = 0; i < d; ++i)
      for (uint32_t j = 0; j < d; ++j) {
        double product = 0;
        for (uint32_t k = 0; k < d; ++k) product += entry(t.key.matrix, d, i, k) * entry(t.query.matrix, d, j, k);
        inverse_error = std::max(inverse_error, std::abs(product - (i == j)));
        for (uint32_t k = 0; k < d; ++k)
          for (uint32_t l = 0; l < d; ++l)
            metric[i * d + j] += entry(t.query.matrix, d, k, i) * entry(moment, d, k, l) *
                                 entry(t.query.matrix, d, l, j);
      }
    CHECK(inverse_error < 1e-6);
    for (uint32_t i = 0; i < d; ++i) scale += metric[i * d + i] / d;
    for (uint32_t i = 0; i < d; ++i)
      for (uint32_t j = 0; j < d; ++j) {
        double product = 0;
        for (uint32_t k = 0; k < d; ++k) product += entry(t.metric_root, d, i, k) * entry(t.metric_root, d, j, k);
        metric_error = std::max(metric_error, std::abs(product - metric[i * d + j] / scale));
        trace += i == j ? product : 0;
        if (j < i) {
          REQUIRE(t.metric_root[i * d + j] == 0.0f);
          REQUIRE(entry(t.metric_ratio, d, i, j) ==
                  doctest::Approx(entry(t.metric_root, d, j, i) / entry(t.metric_root, d, i, i)).epsilon(1e-6));
        } else {
          REQUIRE(t.metric_ratio[i * d + j] == 0.0f);
        }
      }
    CHECK(metric_error < 1e-5);
    CHECK(trace == doctest::Approx(d).epsilon(1e-5));
  }
}

TEST_CASE("the scale of matrices is theirs to choose") {
  std::vector<LayerMatrices> layers = small_matrices();
  for (float& x : layers[0].query_moment) x *= 0x1p60f;
  for (float& x : layers[0].key_transform) x *= 0x1p-30f;
  const Calibration scaled = Calibration::from_matrices(layers), plain = Calibration::from_matrices(small_matrices());
  CHECK(same_matrix(scaled.head(0, 1).metric_ratio, plain.head(0, 1).metric_ratio, 64));
  CHECK(scaled.head(0, 1).query.matrix[7] == plain.head(0, 1).query.matrix[7] * 0x1p30f);
}

TEST_CASE("degenerate matrices are refused with layer, head and reason") {
  constexpr int32_t kInvalid = static_cast<int32_t>(Status::kInvalid);
  const auto refuses = [&](const char* where, const char* reason, auto change) {
    const auto [status, text] = refusal(change);
    CAPTURE(text);
    CHECK(status == kInvalid);
    CHECK(text.find(where) != std::string::npos);
    CHECK(text.find(reason) != std::string::npos);
  };
  using Layers = std::vector<LayerMatrices>&;
  constexpr size_t d2 = 64 * 64, e2 = 96 * 96;
  const auto zero_row = [](std::vector<float>& m, size_t head, size_t dim) {
    std::fill_n(m.begin() + static_cast<std::ptrdiff_t>(head * dim * dim + 5 * dim), dim, 0.0f);
  };
  refuses("layer 1, head 2", "key_transform", [&](Layers l) { zero_row(l[1].key_transform, 2, 96); });
  refuses("layer 1, head 2", "ill-conditioned", [&](Layers l) {
    for (size_t j = 0; j < 96; ++j) l[1].key_transform[2 * e2 + 96 + j] = l[1].key_transform[2 * e2 + j] * (1 + 1e-7f);
  });
  refuses("layer 0, head 1", "value_transform", [&](Layers l) { zero_row(l[0].value_transform, 1, 80); });
  refuses("layer 0, head 0", "largest entry", [](Layers l) {
    for (size_t i = 0; i < d2; ++i) l[0].key_transform[i] *= 0x1p50f;
  });
  refuses("layer 0, head 0", "largest entry", [](Layers l) { std::fill_n(l[0].key_transform.begin(), d2, 0.0f); });
  refuses("layer 0, head 1", "finite", [](Layers l) { l[0].key_transform[d2 + 9] = std::nanf(""); });
  refuses("layer 0, head 1", "finite", [](Layers l) { l[0].value_transform[80 * 80 + 9] = INFINITY; });
  refuses("layer 0, head 1", "finite", [](Layers l) { l[0].query_moment[d2 + 9] = -INFINITY; });
  refuses("layer 0, head 1", "transpose", [](Layers l) { l[0].query_moment[d2 + 9] += 1.0f; });
  refuses("layer 0, head 1", "positive definite", [](Layers l) { l[0].query_moment[d2 + 65 * 3] = -1.0f; });
  refuses("layer 0, head 0", "positive definite", [](Layers l) { std::fill_n(l[0].query_moment.begin(), d2, 0.0f); });
  refuses("layer 0, head 0", "positive definite", [](Layers l) { std::fill_n(l[0].query_moment.begin(), d2, 1.0f); });
  refuses("layer 1", "key_dim is 72", [](Layers l) { l[1].geometry.key_dim = 72; });
  refuses("layer 1", "value_dim is 0", [](Layers l) { l[1].geometry.value_dim = 0; });
  refuses("layer 0", "n_kv_heads is 0", [](Layers l) { l[0].geometry.n_kv_heads = 0; });
  refuses("layer 0", "n_kv_heads is 1025", [](Layers l) { l[0].geometry.n_kv_heads = 1025; });
  refuses("layer 0", "query_moment has 100 elements", [](Layers l) { l[0].query_moment.resize(100); });
  refuses("0 layers", "wanted 1 to 4096", [](Layers l) { l.clear(); });
  CHECK(refusal([](Layers) {}).first == 0);
}

TEST_CASE("every single-byte change of a file is refused") {
  const std::vector<uint8_t> small = Calibration::data_free(kSmall).serialize();
  for (size_t at = 0; at < small.size(); ++at)
    for (int mask = 1; mask < 256; ++mask) {
      std::vector<uint8_t> bytes = small;
      bytes[at] ^= static_cast<uint8_t>(mask);
      refused_as_corrupt(bytes);
    }
  std::mt19937_64 random(302);
  LayerMatrices one = random_matrices({1, 64, 64}, false, random);
  one.value_transform.clear();
  std::vector<uint8_t> bytes = Calibration::from_matrices({&one, 1}).serialize();
  for (size_t at = 0; at < bytes.size(); ++at) {
    const auto mask = static_cast<uint8_t>(1u << random() % 8);
    bytes[at] ^= mask;
    refused_as_corrupt(bytes);
    bytes[at] ^= mask;
  }
  CHECK_NOTHROW(Calibration::deserialize(bytes));
}

TEST_CASE("every truncation and every extension of a file is refused") {
  const std::vector<uint8_t> bytes = Calibration::from_matrices(small_matrices()).serialize();
  for (size_t size = 0; size < bytes.size(); size += size < 500 ? 1 : 61) refused_as_corrupt({bytes.data(), size});
  std::vector<uint8_t> longer = bytes;
  for (int i = 0; i < 20; ++i) {
    longer.push_back(0);
    refused_as_corrupt(longer);
  }
}

TEST_CASE("a file that lies with a right checksum is refused before it costs memory") {
  // 32 bytes of header, 304 of provenance, then layer records {n_kv_heads, key_dim, value_dim} of 12 bytes, then head
  // records {key_kind, value_kind, has_moment, 0} of 4, then zeros up to a multiple of 8.
  const std::vector<uint8_t> bytes = Calibration::data_free(kSmall).serialize();
  REQUIRE(bytes.size() == 384 + 8);
  CHECK_NOTHROW(Calibration::deserialize(resealed(bytes)));
  for (const uint32_t lie : {0u, 1u, 3u, 4097u, 0x7fffffffu, 0xffffffffu}) {
    refused_as_corrupt(with(bytes, 8, lie));                                // version
    refused_as_corrupt(with(bytes, 12, lie));                               // header bytes
    refused_as_corrupt(with(bytes, 16, lie));                               // layers
    refused_as_corrupt(with(bytes, 20, lie));                               // heads of all layers
    refused_as_corrupt(with(bytes, 24, uint64_t{lie}));                     // file bytes
    refused_as_corrupt(with(bytes, 32, lie | 6u));                          // source
    refused_as_corrupt(with(bytes, 36, lie | 2u));                          // knows_rope
    refused_as_corrupt(with(bytes, 76, lie | 1u));                          // reserved
    refused_as_corrupt(with(bytes, 336, lie == 1 || lie == 3 ? 0u : lie));  // heads of a layer
    refused_as_corrupt(with(bytes, 340, lie));                              // key_dim
    refused_as_corrupt(with(bytes, 344, lie));                              // value_dim
    refused_as_corrupt(with(bytes, 360, static_cast<uint8_t>(lie | 2u)));   // a dense key transform that is not there
    refused_as_corrupt(with(bytes, 361, static_cast<uint8_t>(lie | 2u)));   // of values
    refused_as_corrupt(with(bytes, 362, static_cast<uint8_t>(lie | 1u)));   // a moment that is not there
    refused_as_corrupt(with(bytes, 363, static_cast<uint8_t>(lie | 1u)));   // reserved
    refused_as_corrupt(with(bytes, 380, static_cast<uint8_t>(lie | 1u)));   // padding
  }
  for (const size_t text : {80u, 144u, 208u}) {
    std::vector<uint8_t> unending = bytes;
    std::fill_n(unending.begin() + static_cast<std::ptrdiff_t>(text), text == 208 ? 128 : 64, uint8_t{'x'});
    refused_as_corrupt(resealed(unending));
    refused_as_corrupt(with(bytes, text + 5, uint8_t{'x'}));  // something after the end
  }
  const auto [status, words] = thrown_by([&] { Calibration::deserialize(with(bytes, 8, 1u)); });
  CHECK(status == static_cast<int32_t>(Status::kCorrupt));
  CHECK(words.find("calibrate again") != std::string::npos);
  std::mt19937_64 random(303);
  const LayerMatrices one = random_matrices({1, 64, 64}, true, random);
  const std::vector<uint8_t> full = Calibration::from_matrices({&one, 1}).serialize();
  const size_t key = 32 + 304 + 12 + 4, moment = key + 4 * 64 * 64, value = moment + 4 * 64 * 64;
  for (const size_t at : {key, moment, value}) {
    refused_as_corrupt(with(full, at + 8, std::numeric_limits<float>::quiet_NaN()));
    refused_as_corrupt(with(full, at, 1e30f));
  }
}

TEST_CASE("a file may not declare more heads than any model has") {
  std::vector<LayerGeometry> layers(64, {1024, 64, 64});
  CHECK(thrown_by([&] { Calibration::data_free(layers); }).first == 0);
  layers.push_back({1, 64, 64});
  const auto [status, text] = thrown_by([&] { Calibration::data_free(layers); });
  CHECK(status == static_cast<int32_t>(Status::kInvalid));
  CHECK(text.find("65537") != std::string::npos);
}
