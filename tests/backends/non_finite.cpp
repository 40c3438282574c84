// NaN and infinity reach the rows that see them, and no others.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "backend/cpu.h"
#include "random_work.h"

namespace oscar::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

Geometry small_geometry(Random& random) {
  Geometry geometry = random_geometry(random);
  geometry.group = random.between(1, 4);
  geometry.n_new = random.between(4, 40);
  geometry.n_blocks = random.below(3);
  geometry.n_voters = geometry.n_new;
  geometry.window = random.chance(0.5) ? random.between(1, geometry.n_new) : 0;
  geometry.tree_mask = random.chance(0.5);
  return geometry;
}

bool row_is_nan(const Result& result, const AttendWork& work, uint64_t row) {
  bool all = std::isnan(result.lse[row]);
  for (uint32_t d = 0; d < work.value_dim; ++d) all = all && std::isnan(result.out[row * work.value_dim + d]);
  return all;
}

bool row_is_unchanged(const Result& a, const Result& b, const AttendWork& work, uint64_t row) {
  const uint64_t at = row * work.value_dim;
  return a.lse[row] == b.lse[row] && std::memcmp(&a.out[at], &b.out[at], work.value_dim * sizeof(float)) == 0;
}

template <typename Check>
void for_each_problem(Check check) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    for (const BackendEntry& entry : backend_list()) {
      if (!entry.backend) continue;
      Random random(0xbad0000u + seed);
      Problem problem(small_geometry(random), random, best_backend());
      check(*entry.backend, problem, random);
    }
  }
}

TEST_CASE("a query that is not finite spoils its own row only, and has no vote") {
  for_each_problem([](const Backend& backend, Problem& problem, Random& random) {
    const AttendWork& work = problem.work();
    const Result before = attend(backend, work);
    const uint64_t bad = random.below(static_cast<uint32_t>(problem.n_rows()));
    problem.queries()[bad * work.key_dim + random.below(work.key_dim)] = random.chance(0.5) ? kNaN : kInfinity;
    const Result after = attend(backend, work);
    CHECK(row_is_nan(after, work, bad));
    for (uint64_t row = 0; row < problem.n_rows(); ++row)
      if (row != bad) CHECK(row_is_unchanged(before, after, work, row));
    for (uint32_t v = 0; v < work.n_voters; ++v)
      for (uint64_t j = 0; work.vote_first + j < work.first_position + v; ++j)
        CHECK(std::isfinite(after.votes[v * work.vote_stride + j]));
  });
}

TEST_CASE("a key that is NaN spoils the rows that see it, masked and windowed rows keep their bits") {
  for_each_problem([](const Backend& backend, Problem& problem, Random& random) {
    const AttendWork& work = problem.work();
    const Result before = attend(backend, work);
    const uint32_t bad = random.below(work.n_new);
    problem.key(work.first_position + bad)[random.below(work.key_dim)] = f32_to_bf16(kNaN);
    const Result after = attend(backend, work);
    for (uint32_t i = 0; i < work.n_new; ++i) {
      const bool in_window = bad <= i && (work.window == 0 || i - bad < work.window);
      const bool sees = i == bad || (in_window && (!work.mask || work.mask[i * work.mask_stride + bad]));
      for (uint64_t row = uint64_t{i} * work.group; row < uint64_t{i + 1} * work.group; ++row)
        if (sees)
          CHECK(row_is_nan(after, work, row));
        else
          CHECK(row_is_unchanged(before, after, work, row));
    }
  });
}

TEST_CASE("a value that is infinite spoils one element of the rows that see it") {
  for_each_problem([](const Backend& backend, Problem& problem, Random& random) {
    const AttendWork& work = problem.work();
    const Result before = attend(backend, work);
    const uint32_t bad = random.below(work.n_new), d = random.below(work.value_dim);
    problem.value(work.first_position + bad)[d] = f32_to_bf16(kInfinity);
    const Result after = attend(backend, work);
    for (uint32_t i = 0; i < work.n_new; ++i) {
      const bool in_window = bad <= i && (work.window == 0 || i - bad < work.window);
      const bool sees = i == bad || (in_window && (!work.mask || work.mask[i * work.mask_stride + bad]));
      for (uint64_t row = uint64_t{i} * work.group; row < uint64_t{i + 1} * work.group; ++row) {
        if (!sees)
          CHECK(row_is_unchanged(before, after, work, row));
        else
          CHECK_FALSE(std::isfinite(after.out[row * work.value_dim + d]));
        CHECK(after.lse[row] == before.lse[row]);
      }
    }
  });
}

TEST_CASE("an infinite key whose logit is -infinity weighs nothing, even alone in its chunk") {
  for (const BackendEntry& entry : backend_list()) {
    if (!entry.backend) continue;
    Random random(0xbad);
    Geometry geometry = small_geometry(random);
    geometry.group = geometry.n_new = 1;
    geometry.n_sinks = 1;
    geometry.n_blocks = 1;
    geometry.n_recent = 50;
    geometry.n_voters = geometry.window = 0;
    geometry.softcap = 0.0f;
    geometry.tree_mask = geometry.sink_logits = false;
    Problem problem(geometry, random, best_backend());
    problem.key(0)[0] = f32_to_bf16(problem.queries()[0] > 0.0f ? -kInfinity : kInfinity);
    const Result got = attend(*entry.backend, problem.work());
    AttendWork without = problem.work();
    ++without.rows;
    --without.n_rows;
    const Result want = attend(reference_backend(), without);
    CHECK(std::fabs(got.lse[0] - want.lse[0]) < 1e-3f);
    for (uint32_t d = 0; d < geometry.value_dim; ++d) CHECK(std::fabs(got.out[d] - want.out[d]) < 1e-3f);
  }
}

}  // namespace
}  // namespace oscar::testing
