// The oracle works in the blocks' own basis; here it meets a dense softmax over read-back keys and values, which knows
// nothing of bases, codes or maps.
#include "attention/oracle.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "../backends/random_work.h"
#include "backend/cpu.h"

namespace oscar {
namespace {

using testing::Problem;
using testing::Random;
using testing::Result;

struct Row {
  std::vector<float> key, value;
};

// Every cached token by position, in the model's basis.
std::map<uint64_t, Row> read_back(const AttendWork& work) {
  std::map<uint64_t, Row> rows;
  std::vector<uint8_t> scratch(scalar::cpu_backend().scratch_bytes(work.key_dim, work.value_dim) + 64);
  uint8_t* aligned = scratch.data() + (-reinterpret_cast<uintptr_t>(scratch.data()) & 63);
  for (uint32_t b = 0; b < work.n_blocks; ++b) {
    const BlockSpan& span = work.blocks[b];
    const uint32_t n = span.last - span.first;
    std::vector<float> keys(n * work.key_dim), values(n * work.value_dim);
    scalar::cpu_backend().unpack(*work.layout, *work.transform, work.key_dim, work.value_dim, span.bytes, span.first,
                                 span.last, keys.data(), values.data(), aligned);
    for (uint32_t i = 0; i < n; ++i)
      rows[span.start + span.first + i] = {
          {keys.begin() + i * work.key_dim, keys.begin() + (i + 1) * work.key_dim},
          {values.begin() + i * work.value_dim, values.begin() + (i + 1) * work.value_dim}};
  }
  for (uint32_t s = 0; s < work.n_rows; ++s)
    for (uint32_t i = 0; i < work.rows[s].n; ++i) {
      Row& row = rows[work.rows[s].position + i];
      for (uint32_t d = 0; d < work.key_dim; ++d)
        row.key.push_back(bf16_to_f32(work.rows[s].key[i * work.rows[s].key_stride + d]));
      for (uint32_t d = 0; d < work.value_dim; ++d)
        row.value.push_back(bf16_to_f32(work.rows[s].value[i * work.rows[s].value_stride + d]));
    }
  return rows;
}

struct DenseRow {
  std::vector<double> out;
  double denominator = 0.0;
  std::map<uint64_t, double> mass;  // by position, not yet divided
};

DenseRow dense_attention(const AttendWork& work, const std::map<uint64_t, Row>& rows, uint32_t i, uint32_t g) {
  DenseRow result{std::vector<double>(work.value_dim, 0.0), 0.0, {}};
  const float* q = work.q + (uint64_t{i} * work.group + g) * work.key_dim;
  const uint64_t p = work.first_position + i;
  if (work.sink_logits) result.denominator += std::exp(static_cast<double>(work.sink_logits[g]));
  for (const auto& [j, row] : rows) {
    const bool causal = j <= p, near = work.window == 0 || p < j + work.window;
    const bool allowed = j < work.first_position || j == p || !work.mask ||
                         (j < p && work.mask[i * work.mask_stride + (j - work.first_position)] != 0);
    if (!causal || !near || !allowed) continue;
    double logit = 0.0;
    for (uint32_t d = 0; d < work.key_dim; ++d) logit += static_cast<double>(q[d]) * static_cast<double>(row.key[d]);
    logit *= static_cast<double>(work.scale);
    if (work.softcap > 0.0f)
      logit = static_cast<double>(work.softcap) * std::tanh(logit / static_cast<double>(work.softcap));
    result.mass[j] = std::exp(logit);
    result.denominator += result.mass[j];
    for (uint32_t d = 0; d < work.value_dim; ++d) result.out[d] += result.mass[j] * static_cast<double>(row.value[d]);
  }
  return result;
}

void check_problem(const Problem& problem) {
  const AttendWork& work = problem.work();
  const Result got = testing::attend(reference_backend(), work);
  const std::map<uint64_t, Row> rows = read_back(work);
  std::vector<double> votes(got.votes.size(), 0.0);
  for (uint32_t i = 0; i < work.n_new; ++i)
    for (uint32_t g = 0; g < work.group; ++g) {
      const uint64_t r = uint64_t{i} * work.group + g;
      const DenseRow want = dense_attention(work, rows, i, g);
      double error = 0.0, norm = 0.0;
      for (uint32_t d = 0; d < work.value_dim; ++d) {
        const double x = want.out[d] / want.denominator;
        error += std::pow(static_cast<double>(got.out[r * work.value_dim + d]) - x, 2);
        norm += x * x;
      }
      CHECK(std::sqrt(error / norm) < 1e-5);
      CHECK(std::fabs(static_cast<double>(got.lse[r]) - std::log(want.denominator)) <
            1e-5 * (1.0 + std::fabs(std::log(want.denominator))));
      if (i < work.n_new - work.n_voters) continue;
      for (const auto& [j, mass] : want.mass)
        if (j >= work.vote_first && j < work.first_position + i)
          votes[(i - (work.n_new - work.n_voters)) * work.vote_stride + (j - work.vote_first)] += mass /
                                                                                                  want.denominator;
    }
  for (uint32_t v = 0; v < work.n_voters; ++v)
    for (uint64_t j = work.vote_first; j < work.first_position + work.n_new - work.n_voters + v; ++j) {
      const size_t at = v * work.vote_stride + (j - work.vote_first);
      CHECK(std::fabs(static_cast<double>(got.votes[at]) - votes[at]) < 1e-5 * work.group);
    }
}

TEST_CASE("the oracle equals a dense softmax over the tokens read back in the model's basis") {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    Random random(0xdead0000u + seed);
    testing::Geometry geometry = testing::random_geometry(random);
    while (geometry.group * geometry.n_new > 24) geometry.n_new > 1 ? geometry.n_new /= 2 : geometry.group /= 2;
    geometry.tree_mask = geometry.tree_mask && geometry.n_new > 1;
    geometry.n_voters = geometry.n_voters % (geometry.n_new + 1);
    check_problem(Problem(geometry, random, testing::best_backend()));
  }
}

TEST_CASE("attention to one token is that token's value, and its lse is the logit") {
  Random random(3);
  testing::Geometry geometry = testing::random_geometry(random);
  geometry.n_blocks = geometry.n_sinks = geometry.n_recent = geometry.window = 0;
  geometry.n_new = 1;
  geometry.group = 3;
  geometry.n_voters = 0;
  geometry.tree_mask = geometry.sink_logits = false;
  geometry.softcap = 0.0f;
  Problem problem(geometry, random, testing::best_backend());
  const Result got = testing::attend(reference_backend(), problem.work());
  for (uint32_t g = 0; g < 3; ++g) {
    double logit = 0.0;
    for (uint32_t d = 0; d < geometry.key_dim; ++d)
      logit += static_cast<double>(problem.queries()[g * geometry.key_dim + d]) *
               static_cast<double>(bf16_to_f32(problem.key(0)[d]));
    CHECK(static_cast<double>(got.lse[g]) ==
          doctest::Approx(logit * static_cast<double>(problem.work().scale)).epsilon(1e-6));
    for (uint32_t d = 0; d < geometry.value_dim; ++d)
      CHECK(got.out[g * geometry.value_dim + d] == bf16_to_f32(problem.value(0)[d]));
  }
}

}  // namespace
}  // namespace oscar
