#include "transform/trial.h"

#include <doctest/doctest.h>

#include <cmath>

#include "backend/backend.h"
#include "pack_case.h"
#include "transform/calibration.h"
#include "transform/moments.h"

using namespace oscar;
using namespace oscar::test;

namespace {

constexpr uint32_t kDim = 64, kRows = 100;

const Backend& backend() {
  char error[256];
  return *backend_select(error, sizeof error);
}

struct Rows {
  std::vector<uint16_t> k, v;
  Rows() : k(kRows * kDim), v(kRows * kDim) {
    std::mt19937_64 random(401);
    const std::vector<float> a = gaussian(kRows * kDim, random), b = gaussian(kRows * kDim, random);
    for (size_t i = 0; i < k.size(); ++i) {
      k[i] = f32_to_bf16(a[i] * (i % kDim == 9 ? 20.0f : 1.0f));
      v[i] = f32_to_bf16(b[i]);
    }
  }
};

std::vector<double> identity(double scale) {
  std::vector<double> m(kDim * kDim, 0.0);
  for (uint32_t i = 0; i < kDim; ++i) m[i * kDim + i] = scale;
  return m;
}

std::vector<float> frequencies() {
  std::vector<float> f(kDim / 2);
  for (uint32_t j = 0; j < f.size(); ++j) f[j] = std::pow(1e4f, -2.0f * static_cast<float>(j) / kDim);
  return f;
}

double square(double x) { return x * x; }

}  // namespace

TEST_CASE("errors are those of the block's own unpacking, weighted with what queries see") {
  const Rows rows;
  const LayerGeometry g{1, kDim, kDim};
  const Calibration free = Calibration::data_free({&g, 1});
  for (const uint32_t h : {0u, 4u, 128u}) {
    const BlockLayout layout = block_layout({kDim, kDim, h, 2, 2});
    Trial trial(backend(), layout, kDim, kDim);
    const Rope rope(kDim, RopePairing::kHalf, frequencies());
    const PackingErrors got = trial.errors(free.head(0, 0), false, rows.k.data(), rows.v.data(), kRows, rope, {},
                                           identity(1.0));

    // The same block, packed and read without a Trial.
    AlignedBytes block(layout.bytes), scratch(backend().scratch_bytes(kDim, kDim));
    PackWork work{};
    work.layout = &layout;
    work.transform = &free.head(0, 0);
    work.key_dim = work.value_dim = kDim;
    work.block = block.data.get();
    for (uint32_t t = 0; t < kBlockTokens; ++t) {
      work.key[t] = &rows.k[t % kRows * kDim];
      work.value[t] = &rows.v[t % kRows * kDim];
      work.order[t] = static_cast<uint8_t>(t);
    }
    backend().pack(work, scratch.data.get());
    std::vector<float> k(kRows * kDim), v(kRows * kDim);
    backend().unpack(layout, free.head(0, 0), kDim, kDim, block.data.get(), 0, kRows, k.data(), v.data(),
                     scratch.data.get());
    double keys = 0, values = 0;
    for (size_t i = 0; i < k.size(); ++i) {
      keys += square(static_cast<double>(k[i]) - static_cast<double>(bf16_to_f32(rows.k[i]))) / kRows;
      values += square(static_cast<double>(v[i]) - static_cast<double>(bf16_to_f32(rows.v[i])));
    }
    CHECK(got.keys == doctest::Approx(keys).epsilon(1e-9));
    CHECK(got.values == doctest::Approx(values).epsilon(1e-9));
    CHECK(values > 0);

    const PackingErrors twice = trial.errors(free.head(0, 0), false, rows.k.data(), rows.v.data(), kRows, rope, {},
                                             identity(2.0));
    CHECK(twice.keys == doctest::Approx(2 * keys).epsilon(1e-9));
    CHECK(twice.values == got.values);
  }
}

TEST_CASE("keys further on are the same keys, turned") {
  const Rows rows;
  const LayerGeometry g{1, kDim, kDim};
  const Calibration free = Calibration::data_free({&g, 1});
  const BlockLayout layout = block_layout({kDim, kDim, 0, 0, 0});
  Trial trial(backend(), layout, kDim, kDim);
  const Rope rope(kDim, RopePairing::kHalf, frequencies());
  const double distance = 1000;
  std::vector<uint16_t> later(rows.k.size());
  for (uint32_t i = 0; i < kRows; ++i)
    for (uint32_t j = 0; j < kDim / 2; ++j) {
      const double angle = distance * static_cast<double>(frequencies()[j]);
      const double a = static_cast<double>(bf16_to_f32(rows.k[i * kDim + j]));
      const double b = static_cast<double>(bf16_to_f32(rows.k[i * kDim + j + kDim / 2]));
      later[i * kDim + j] = f32_to_bf16(static_cast<float>(a * std::cos(angle) - b * std::sin(angle)));
      later[i * kDim + j + kDim / 2] = f32_to_bf16(static_cast<float>(a * std::sin(angle) + b * std::cos(angle)));
    }
  const auto errors = [&](const std::vector<uint16_t>& k, const std::vector<double>& turns) {
    return trial.errors(free.head(0, 0), false, k.data(), rows.v.data(), kRows, rope, turns, identity(1.0)).keys;
  };
  const double here = errors(rows.k, {}), there = errors(later, {});
  CHECK(here != doctest::Approx(there).epsilon(1e-3));
  CHECK(errors(rows.k, {distance}) == doctest::Approx((here + there) / 2).epsilon(1e-9));
}
