#include "transform/rope.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <utility>

using namespace oscar;

namespace {

// The pairs of a head, from the definition of the two orders.
std::vector<std::pair<uint32_t, uint32_t>> pairs(RopePairing pairing, uint32_t n) {
  std::vector<std::pair<uint32_t, uint32_t>> all;
  for (uint32_t j = 0; j < n; ++j)
    all.push_back(pairing == RopePairing::kHalf ? std::pair{j, j + n} : std::pair{2 * j, 2 * j + 1});
  return all;
}

// R_p as a matrix for row vectors: x R_p is x at position p.
std::vector<double> turning(uint32_t dim, RopePairing pairing, const std::vector<float>& frequencies, double position) {
  std::vector<double> r(dim * dim, 0.0);
  for (uint32_t i = 0; i < dim; ++i) r[i * dim + i] = 1;
  const auto all = pairs(pairing, static_cast<uint32_t>(frequencies.size()));
  for (size_t j = 0; j < all.size(); ++j) {
    const auto [a, b] = all[j];
    const double angle = position * static_cast<double>(frequencies[j]);
    r[a * dim + a] = r[b * dim + b] = std::cos(angle);
    r[a * dim + b] = std::sin(angle);
    r[b * dim + a] = -std::sin(angle);
  }
  return r;
}

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b, uint32_t dim,
                            bool transpose_a) {
  std::vector<double> c(dim * dim, 0.0);
  for (uint32_t i = 0; i < dim; ++i)
    for (uint32_t k = 0; k < dim; ++k)
      for (uint32_t j = 0; j < dim; ++j)
        c[i * dim + j] += (transpose_a ? a[k * dim + i] : a[i * dim + k]) * b[k * dim + j];
  return c;
}

std::vector<double> random_moment(uint32_t dim, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<double> a(dim * dim);
  for (double& x : a) x = normal(random);
  return product(a, a, dim, true);
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

// Fast and slow pairs, two of one frequency, one that does not turn, one that turns by whole circles, and backwards.
const std::vector<float> kFrequencies = {1.0f, 0.3f, 0.3f, 0.01f, 1e-5f, 0.0f, 6.2831855f, -0.5f};

}  // namespace

TEST_CASE("undo takes a row back from where RoPE has turned it") {
  std::mt19937_64 random(701);
  std::normal_distribution<double> normal;
  for (RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved})
    for (uint32_t dim : {16u, 24u}) {  // all elements turn; the last 8 do not
      const Rope rope(dim, pairing, kFrequencies);
      CHECK(rope.dim() == dim);
      for (double position : {0.0, 1.0, 63.5, 100000.0}) {
        std::vector<double> row(dim), turned(dim, 0.0), cos_sin(dim);
        for (double& x : row) x = normal(random);
        const std::vector<double> r = turning(dim, pairing, kFrequencies, position);
        for (uint32_t i = 0; i < dim; ++i)
          for (uint32_t j = 0; j < dim; ++j) turned[j] += row[i] * r[i * dim + j];
        if (position > 0) CHECK(largest_difference(turned, row) > 0.1);
        rope.phases(position, cos_sin.data());
        rope.undo(cos_sin.data(), turned.data());
        CHECK(largest_difference(turned, row) < 1e-12);
      }
    }
}

TEST_CASE("the average over positions is the sum over every position, divided") {
  std::mt19937_64 random(702);
  for (RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved})
    for (uint32_t dim : {16u, 24u})
      for (uint64_t n : {1u, 2u, 7u, 1000u}) {
        const std::vector<double> moment = random_moment(dim, random);
        std::vector<double> wanted(dim * dim, 0.0), got = moment;
        for (uint64_t p = 0; p < n; ++p) {
          const std::vector<double> r = turning(dim, pairing, kFrequencies, static_cast<double>(p));
          const std::vector<double> turned = product(r, product(moment, r, dim, false), dim, true);
          for (size_t i = 0; i < wanted.size(); ++i) wanted[i] += turned[i] / static_cast<double>(n);
        }
        Rope(dim, pairing, kFrequencies).average(n, got.data());
        CHECK(largest_difference(got, wanted) < 1e-9);
        if (n == 1) CHECK(largest_difference(got, moment) < 1e-12);
      }
}

TEST_CASE("averaged over long contexts, fast pairs keep only what all positions share") {
  std::mt19937_64 random(703);
  const std::vector<float> frequencies = {1.0f, 0.1f};
  std::vector<double> moment = random_moment(4, random);
  const double share = (moment[0] + moment[10]) / 2;  // elements 0 and 2 are a pair
  Rope(4, RopePairing::kHalf, frequencies).average(uint64_t{1} << 24, moment.data());
  CHECK(moment[0] == doctest::Approx(share).epsilon(1e-4));
  CHECK(moment[10] == doctest::Approx(share).epsilon(1e-4));
  CHECK(std::fabs(moment[1]) < 1e-4 * share);
}

TEST_CASE("without frequencies nothing turns") {
  std::mt19937_64 random(704);
  const std::vector<double> moment = random_moment(16, random);
  std::vector<double> got = moment;
  Rope(16, RopePairing::kHalf, {}).average(1000, got.data());
  CHECK(largest_difference(got, moment) < 1e-12);
}
