#include "transform/calibrator.h"

#include <doctest/doctest.h>

#include <Eigen/Dense>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "format/error.h"
#include "transform/basis.h"
#include "transform/calibration_build.h"

using namespace oscar;

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr uint32_t kDim = 64, kHeads = 2, kGroup = 2;
constexpr uint64_t kPositions = 512;

std::vector<float> frequencies() {
  std::vector<float> f(kDim / 2);
  for (uint32_t j = 0; j < f.size(); ++j) f[j] = std::pow(1e4f, -2.0f * static_cast<float>(j) / kDim);
  return f;
}

CalibratorLayer layer_like(uint32_t kv_source, bool exact = false) {
  return {
      {kHeads, kDim, kDim}, kHeads * kGroup, kv_source, exact, Rope(kDim, RopePairing::kInterleaved, frequencies())};
}

CalibratorConfig config_of(std::vector<CalibratorLayer> layers) {
  return {std::move(layers), true, kPositions, 4, ValueBasis::kHadamard};
}

// Rows [n][heads][dim] of which different elements vary differently, with a mean.
struct Rows {
  uint32_t n_heads;
  std::vector<float> values;
  Rows(uint64_t n, uint32_t heads, uint64_t seed) : n_heads(heads), values(n * heads * kDim) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = 0.3f + normal(random) / (1.0f + static_cast<float>(i % kDim));
  }
  float& at(uint64_t row, uint32_t head, uint32_t i) { return values[(row * n_heads + head) * kDim + i]; }
  RowLoader loader() const {
    return [this](uint64_t row, uint32_t head, float* to) {
      std::copy_n(&values[(row * n_heads + head) * kDim], kDim, to);
    };
  }
};

struct Tokens {
  uint64_t n;
  Rows q, k, v;
  explicit Tokens(uint64_t count, uint64_t seed)
      : n(count), q(n, kHeads * kGroup, seed), k(n, kHeads, seed + 1), v(n, kHeads, seed + 2) {}
  FedTokens at(uint64_t first) const { return {first, n, q.loader(), k.loader(), v.loader()}; }
  FedTokens queries_at(uint64_t first) const { return {first, n, q.loader(), {}, {}}; }
};

template <class Call>
std::pair<Status, std::string> refusal(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.status(), error.what()};
  }
  return {Status{0}, "not refused"};
}

#define REFUSED(call, wanted_status, words)                                                                            \
  do {                                                                                                                 \
    const auto [status, text] = refusal([&] { (void)(call); });                                                        \
    CHECK_MESSAGE(status == (wanted_status), text);                                                                    \
    CHECK_MESSAGE(text.find(words) != std::string::npos, text);                                                        \
  } while (0)

Matrix view(const float* values) {
  return Eigen::Map<const Eigen::Matrix<float, kDim, kDim, Eigen::RowMajor>>(values).cast<double>();
}

// Turns a row vector to a position: x R.
Matrix turning(double position) {
  Matrix r = Matrix::Zero(kDim, kDim);
  for (uint32_t j = 0; j < kDim / 2; ++j) {
    const double angle = position * static_cast<double>(frequencies()[j]);
    r(2 * j, 2 * j) = r(2 * j + 1, 2 * j + 1) = std::cos(angle);
    r(2 * j, 2 * j + 1) = std::sin(angle);
    r(2 * j + 1, 2 * j) = -std::sin(angle);
  }
  return r;
}

// E of x^T x over `rows`, un-rotated by their positions, then averaged over all positions served, one after the other.
Matrix averaged(const std::vector<Matrix>& rows, const std::vector<double>& positions, double share) {
  Matrix moment = Matrix::Zero(kDim, kDim), average = Matrix::Zero(kDim, kDim);
  for (size_t i = 0; i < rows.size(); ++i) {
    const Matrix x = rows[i] * turning(positions[i]).transpose();
    moment += x.transpose() * x / static_cast<double>(rows.size());
  }
  for (uint64_t p = 0; p < kPositions; ++p) {
    const Matrix r = turning(static_cast<double>(p));
    average += r.transpose() * moment * r / static_cast<double>(kPositions);
  }
  const double floor = kFloor * average.trace() / kDim;
  double log_sum = 0;
  for (uint32_t i = 0; i < kDim; ++i) log_sum += std::log(average(i, i) + floor);
  return average + (floor + share * std::exp(log_sum / kDim)) * Matrix::Identity(kDim, kDim);
}

Matrix row_of(const Rows& rows, uint64_t row, uint32_t head) {
  Matrix x(1, kDim);
  for (uint32_t i = 0; i < kDim; ++i)
    x(0, i) = static_cast<double>(rows.values[(row * rows.n_heads + head) * kDim + i]);
  return x;
}

double off_diagonal(const Matrix& m) {
  return (m - Matrix(m.diagonal().asDiagonal())).cwiseAbs().maxCoeff() / m.cwiseAbs().maxCoeff();
}

}  // namespace

TEST_CASE("the transforms suit moments that are un-rotated, averaged over positions and added up one by one") {
  const Tokens tokens(4 + 128, 731);
  Calibrator calibrator(config_of({layer_like(0)}));
  calibrator.feed(0, tokens.at(0));
  const Calibration calibration = calibrator.finish();
  CHECK(calibration.is_shaped(0));
  for (uint32_t h = 0; h < kHeads; ++h) {
    std::vector<Matrix> queries, keys;
    std::vector<double> positions, centres;
    Matrix mean = Matrix::Zero(1, kDim);
    for (uint64_t t = 4; t < tokens.n; ++t) mean += row_of(tokens.k, t, h) / 128;
    for (uint64_t t = 4; t < tokens.n; ++t) {
      keys.push_back(row_of(tokens.k, t, h) - mean);
      centres.push_back(4 + 63.5);
      for (uint32_t g = 0; g < kGroup; ++g) {
        queries.push_back(row_of(tokens.q, t, h * kGroup + g));
        positions.push_back(static_cast<double>(t));
      }
    }
    const Matrix query = averaged(queries, positions, kQueryShare), key = averaged(keys, centres, kKeyShare);
    const HeadTransform& head = calibration.head(0, h);
    const Matrix given = view(CalibrationBuilder::query_moment(head));
    CHECK((given - query).cwiseAbs().maxCoeff() < 1e-6 * query.cwiseAbs().maxCoeff());  // one rounding to FP32
    // What defines F: keys of unit mean variance, and one orthonormal matrix (Hadamard) makes both moments diagonal.
    REQUIRE(head.key.kind == MapKind::kDense);
    const Matrix f = view(head.key.matrix), inverse = f.inverse();
    const Matrix keys_stored = f.transpose() * key * f, queries_stored = inverse * query * inverse.transpose();
    CHECK(keys_stored.trace() == doctest::Approx(kDim).epsilon(1e-5));
    Matrix hadamard(kDim, kDim);
    for (uint32_t i = 0; i < kDim; ++i)
      for (uint32_t j = 0; j < kDim; ++j) hadamard(i, j) = (__builtin_popcount(i & j) % 2 ? -1 : 1) / 8.0;
    CHECK(off_diagonal(hadamard * keys_stored * hadamard) < 1e-5);
    CHECK(off_diagonal(hadamard * queries_stored * hadamard) < 1e-5);
    CHECK(off_diagonal(keys_stored) > 1e-2);
    CHECK(head.value.kind == MapKind::kHadamard);
  }
}

TEST_CASE("the same tokens at other positions give the same transforms, where RoPE is known") {
  // Turned from position p to p + 1000, as a model would have them there.
  const Tokens here(4 + 128, 732);
  Tokens there = here;
  const Matrix turn = turning(1000);
  for (Rows* rows : {&there.q, &there.k})
    for (uint64_t t = 0; t < here.n; ++t)
      for (uint32_t h = 0; h < rows->n_heads; ++h) {
        const Matrix x = row_of(*rows, t, h) * turn;
        for (uint32_t i = 0; i < kDim; ++i) rows->at(t, h, i) = static_cast<float>(x(0, i));
      }
  CalibratorConfig config = config_of({layer_like(0)});
  config.n_sink = 0;
  Calibrator a(config), b(config);
  a.feed(0, here.at(0));
  b.feed(0, there.at(1000));
  const Calibration of_a = a.finish(), of_b = b.finish();
  const Matrix f = view(of_a.head(0, 1).key.matrix), g = view(of_b.head(0, 1).key.matrix);
  const Matrix ratio = f.transpose() * f - g.transpose() * g;  // signs of eigenvectors may differ
  CHECK(ratio.diagonal().cwiseAbs().maxCoeff() < 1e-3 * (f.transpose() * f).diagonal().maxCoeff());
  const Matrix q = view(CalibrationBuilder::query_moment(of_a.head(0, 1)));
  CHECK((q - view(CalibrationBuilder::query_moment(of_b.head(0, 1)))).cwiseAbs().maxCoeff() < 1e-5 * q.maxCoeff());
}

TEST_CASE("balanced values get a transform of their own") {
  CalibratorConfig config = config_of({layer_like(0)});
  config.value_basis = ValueBasis::kBalanced;
  Calibrator calibrator(config);
  calibrator.feed(0, Tokens(4 + 128, 733).at(0));
  const Calibration calibration = calibrator.finish();
  CHECK(calibration.head(0, 0).value.kind == MapKind::kDense);
  CHECK(calibration.head(0, 1).value_inverse.kind == MapKind::kDense);
}

TEST_CASE("layers that pack nothing need not be fed; queries of a layer that borrows keys count for their owner") {
  const Tokens tokens(4 + 128, 734), others(4 + 128, 735);
  Calibrator calibrator(config_of({layer_like(0), layer_like(0), layer_like(2, true)}));
  calibrator.feed(0, tokens.at(0));
  const Calibration without = calibrator.finish();
  calibrator.feed(1, others.queries_at(0));
  calibrator.feed(2, tokens.at(0));
  const Calibration with = calibrator.finish();
  for (uint32_t l : {1u, 2u}) CHECK(with.head(l, 0).key.kind == MapKind::kHadamard);
  Calibrator alone(config_of({layer_like(0)}));
  alone.feed(0, others.at(0));
  const Calibration of_others = alone.finish();
  const auto query = [](const Calibration& c) { return view(CalibrationBuilder::query_moment(c.head(0, 0))); };
  const Matrix mean = (query(without) + query(of_others)) / 2;
  // But for what regularises them, which is not linear.
  CHECK((query(with) - mean).cwiseAbs().maxCoeff() < 1e-5 * mean.maxCoeff());
  CHECK((query(without) - mean).cwiseAbs().maxCoeff() > 1e-3 * mean.maxCoeff());
}

TEST_CASE("too little is refused with the layer, and more can be fed afterwards") {
  Calibrator calibrator(config_of({layer_like(0), layer_like(1)}));
  const Tokens tokens(4 + 128, 736);
  calibrator.feed(0, tokens.at(0));
  REFUSED(calibrator.finish(), Status::kState, "layer 1 has been fed nothing");
  calibrator.feed(1, Tokens(131, 737).at(0));
  REFUSED(calibrator.finish(), Status::kState, "layer 1: 127 keys count, wanted at least 128");
  calibrator.feed(1, Tokens(64, 738).at(131));
  CHECK(calibrator.finish().is_shaped(1));
}

TEST_CASE("without frequencies, positions beyond those fed are refused") {
  CalibratorConfig config = config_of({layer_like(0)});
  config.knows_rope = false;
  config.layers[0].rope = Rope(kDim, RopePairing::kHalf, {});
  Calibrator calibrator(config);
  const Tokens tokens(256, 739);
  calibrator.feed(0, tokens.at(0));
  REFUSED(calibrator.finish(), Status::kState, "512 positions are to be served and tokens come from the first 256");
  calibrator.feed(0, tokens.at(256));
  CHECK(calibrator.finish().is_shaped(0));
}

TEST_CASE("an element that is not finite is refused with its place, and the call counts nothing") {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  Calibrator calibrator(config_of({layer_like(0)}));
  calibrator.feed(0, Tokens(4 + 128, 740).at(0));
  const uint64_t before = calibrator.finish().fingerprint();
  Tokens bad(128, 741);
  bad.q.at(127, 3, 63) = nan;
  REFUSED(calibrator.feed(0, bad.at(132)), Status::kInvalid, "layer 0: q[127][3][63] is nan");
  bad = Tokens(128, 741);
  bad.k.at(0, 1, 5) = infinity;
  REFUSED(calibrator.feed(0, bad.at(132)), Status::kInvalid, "layer 0: k[0][1][5] is inf");
  bad = Tokens(128, 741);
  bad.v.at(64, 0, 0) = -infinity;
  REFUSED(calibrator.feed(0, bad.at(132)), Status::kInvalid, "layer 0: v[64][0][0] is -inf");
  CHECK(calibrator.finish().fingerprint() == before);
}

TEST_CASE("keys that do not vary and queries of zero are refused with layer and head") {
  const auto finish = [](auto&& change) {
    Tokens tokens(4 + 128, 742);
    for (uint64_t t = 0; t < tokens.n; ++t)
      for (uint32_t i = 0; i < kDim; ++i) change(tokens, t, i);
    Calibrator calibrator(config_of({layer_like(0)}));
    calibrator.feed(0, tokens.at(0));
    return calibrator.finish();
  };
  REFUSED(finish([](Tokens& x, uint64_t t, uint32_t i) { x.k.at(t, 1, i) = 0.5f; }), Status::kInvalid,
          "layer 0, head 1: the keys of a block are all the same");
  REFUSED(finish([](Tokens& x, uint64_t t, uint32_t i) { x.q.at(t, 0, i) = x.q.at(t, 1, i) = 0; }), Status::kInvalid,
          "layer 0, head 0: the queries are zero");
  // Keys and queries along one line: served, by what is added to the diagonal.
  const Calibration thin = finish([](Tokens& x, uint64_t t, uint32_t i) {
    const float value = std::sin(static_cast<float>(t)) * static_cast<float>(1 + i % 7);
    for (uint32_t h = 0; h < kHeads; ++h) x.k.at(t, h, i) = value;
    for (uint32_t h = 0; h < kHeads * kGroup; ++h) x.q.at(t, h, i) = value;
  });
  CHECK(thin.is_shaped(0));
}

TEST_CASE("geometries that no cache serves are refused") {
  CalibratorConfig config = config_of({layer_like(0)});
  config.layers[0].geometry.key_dim = 72;
  REFUSED(Calibrator(config), Status::kInvalid, "key_dim is 72");
}
