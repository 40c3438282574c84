#include "transform/moments.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "format/block.h"

using namespace oscar;

namespace {

constexpr uint32_t kKeyDim = 64, kValueDim = 80, kHeads = 2, kGroup = 3;
const LayerGeometry kGeometry{kHeads, kKeyDim, kValueDim};

std::vector<float> frequencies() {
  std::vector<float> f(kKeyDim / 2);
  for (uint32_t j = 0; j < f.size(); ++j) f[j] = std::pow(1e4f, -2.0f * static_cast<float>(j) / kKeyDim);
  return f;
}

// Rows [n][heads][dim].
struct Rows {
  uint32_t n_heads, dim;
  std::vector<float> values;
  Rows(uint64_t n, uint32_t heads, uint32_t d, std::mt19937_64& random)
      : n_heads(heads), dim(d), values(n * heads * d) {
    std::normal_distribution<float> normal(0.5f, 1.0f);
    for (float& x : values) x = normal(random);
  }
  double at(uint64_t row, uint32_t head, uint32_t i) const {
    return static_cast<double>(values[(row * n_heads + head) * dim + i]);
  }
  RowLoader from(uint64_t first) const {
    return [this, first](uint64_t row, uint32_t head, float* to) {
      std::copy_n(&values[((first + row) * n_heads + head) * dim], dim, to);
    };
  }
};

struct Tokens {
  Rows q, k, v;
  Tokens(uint64_t n, std::mt19937_64& random)
      : q(n, kHeads * kGroup, kKeyDim, random), k(n, kHeads, kKeyDim, random), v(n, kHeads, kValueDim, random) {}
};

using Row = std::vector<double>;

// A row of pairs (j, j + d/2) at `position`, taken back to position 0.
Row taken_back(Row row, double position) {
  const uint32_t half = kKeyDim / 2;
  for (uint32_t j = 0; j < half; ++j) {
    const double angle = position * static_cast<double>(frequencies()[j]), a = row[j], b = row[j + half];
    row[j] = a * std::cos(angle) + b * std::sin(angle);
    row[j + half] = b * std::cos(angle) - a * std::sin(angle);
  }
  return row;
}

Row row_of(const Rows& rows, uint64_t row, uint32_t head) {
  Row r(rows.dim);
  for (uint32_t i = 0; i < rows.dim; ++i) r[i] = rows.at(row, head, i);
  return r;
}

std::vector<double> moment_of(const std::vector<Row>& rows) {
  const size_t d = rows[0].size();
  std::vector<double> m(d * d, 0.0);
  for (const Row& r : rows)
    for (size_t i = 0; i < d; ++i)
      for (size_t j = 0; j < d; ++j) m[i * d + j] += r[i] * r[j] / static_cast<double>(rows.size());
  return m;
}

// Rows of keys [first, first + n), at positions from `position` on, less their mean, taken back by their middle.
void add_block(std::vector<Row>& rows, const Rows& k, uint32_t head, uint64_t first, uint64_t n, uint64_t position) {
  Row mean(kKeyDim, 0.0);
  for (uint64_t t = 0; t < n; ++t)
    for (uint32_t i = 0; i < kKeyDim; ++i) mean[i] += k.at(first + t, head, i) / static_cast<double>(n);
  const double middle = static_cast<double>(position) + (static_cast<double>(n) - 1) / 2;
  for (uint64_t t = 0; t < n; ++t) {
    Row row = row_of(k, first + t, head);
    for (uint32_t i = 0; i < kKeyDim; ++i) row[i] -= mean[i];
    rows.push_back(taken_back(row, middle));
  }
}

void check_close(const std::vector<double>& got, const std::vector<double>& wanted) {
  REQUIRE(got.size() == wanted.size());
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) largest = std::max(largest, std::fabs(got[i] - wanted[i]));
  CHECK(largest < 1e-11);
}

LayerMoments empty_moments(uint64_t n_sink) {
  return LayerMoments(kGeometry, Rope(kKeyDim, RopePairing::kHalf, frequencies()), n_sink);
}

void feed(LayerMoments& moments, const Tokens& tokens, uint64_t first_row, uint64_t n, uint64_t position) {
  MomentScratch scratch(kGeometry.key_dim, kGeometry.value_dim);
  moments.add_tokens(position, n, tokens.k.from(first_row), tokens.v.from(first_row), scratch);
  moments.add_queries(position, n, kGroup, moments.rope(), tokens.q.from(first_row), scratch);
}

}  // namespace

TEST_CASE("moments are those of a direct double computation, however the tokens are split into calls") {
  std::mt19937_64 random(711);
  constexpr uint64_t kTokens = 300, kSink = 5;
  const Tokens tokens(kTokens, random);
  std::vector<std::vector<uint64_t>> splits = {{300}, {128, 128, 44}, {1, 4, 1, 130, 64, 100}, {3, 297}};
  std::vector<uint64_t> singles(kTokens, 1);
  splits.push_back(singles);
  for (const auto& split : splits) {
    LayerMoments moments = empty_moments(kSink);
    uint64_t at = 0;
    for (uint64_t n : split) {
      feed(moments, tokens, at, n, at);
      at += n;
    }
    REQUIRE(at == kTokens);
    CHECK(moments.end_position() == kTokens);
    const std::vector<HeadMoments> heads = moments.heads();
    for (uint32_t h = 0; h < kHeads; ++h) {
      std::vector<Row> queries, keys, values;
      for (uint64_t t = kSink; t < kTokens; ++t) {
        values.push_back(row_of(tokens.v, t, h));
        for (uint32_t g = 0; g < kGroup; ++g)
          queries.push_back(taken_back(row_of(tokens.q, t, h * kGroup + g), static_cast<double>(t)));
      }
      for (uint64_t first = kSink; first + kBlockTokens <= kTokens; first += kBlockTokens)
        add_block(keys, tokens.k, h, first, kBlockTokens, first);  // 39 tokens are left over: less than half a block
      CHECK(heads[h].query.n_rows() == queries.size());
      CHECK(heads[h].key.n_rows() == keys.size());
      CHECK(heads[h].value.n_rows() == values.size());
      check_close(heads[h].query.mean(), moment_of(queries));
      check_close(heads[h].key.mean(), moment_of(keys));
      check_close(heads[h].value.mean(), moment_of(values));
    }
  }
}

TEST_CASE("a sequence's cut block counts from half a block on, and the next sequence begins its own") {
  std::mt19937_64 random(712);
  const Tokens tokens(400, random);
  LayerMoments moments = empty_moments(0);
  feed(moments, tokens, 0, 100, 0);      // 100 keys of a first sequence
  feed(moments, tokens, 100, 63, 5000);  // 63 of a second: too few
  feed(moments, tokens, 163, 128, 0);    // a whole block of a third
  feed(moments, tokens, 291, 64, 128);   // and half of one
  const std::vector<HeadMoments> heads = moments.heads();
  std::vector<Row> keys;
  add_block(keys, tokens.k, 1, 0, 100, 0);
  add_block(keys, tokens.k, 1, 163, 128, 0);
  add_block(keys, tokens.k, 1, 291, 64, 128);
  CHECK(heads[1].key.n_rows() == 100 + 128 + 64);
  check_close(heads[1].key.mean(), moment_of(keys));
  CHECK(moments.end_position() == 5063);

  SUBCASE("looking at the open block does not close it") {
    feed(moments, tokens, 355, 45, 192);
    CHECK(moments.heads()[0].key.n_rows() == 100 + 128 + 109);
  }
}

TEST_CASE("sinks do not count") {
  std::mt19937_64 random(713);
  const Tokens tokens(64, random);
  LayerMoments moments = empty_moments(100);
  feed(moments, tokens, 0, 64, 0);
  CHECK(moments.heads()[0].query.n_rows() == 0);
  CHECK(moments.heads()[0].value.n_rows() == 0);
  feed(moments, tokens, 0, 64, 64);
  CHECK(moments.heads()[0].query.n_rows() == kGroup * 28);
  CHECK(moments.heads()[0].value.n_rows() == 28);
}
