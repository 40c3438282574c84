// Every backend against the double-precision oracle on random geometries.
#include <cmath>
#include <cstdio>

#include "backend/cpu.h"
#include "random_work.h"
#include <doctest/doctest.h>

namespace oscar::testing {
namespace {

// The tolerances of this project's CPU kernels, and why:
//   lse   1e-3  absolute. Queries are rounded to max|q'| / 32639 per channel; a key of norm |k| then moves its logit by
//               about scale * |k| * max|q'| / (32639 * sqrt 12): 1e-4 for the biased keys drawn here, whose logits
//               reach 50, and five times that in the worst of 10^5 rows.
//   out   1e-3  ||out - ref|| / ||ref|| of a row: errors of logits move weights by the same relative amount; weights
//               rounded to 15 bits add 1e-5.
//   votes 1e-3  divided by the group size, the largest possible vote.
constexpr double kOutTolerance = 1e-3, kLseTolerance = 1e-3, kVoteTolerance = 1e-3;
constexpr uint32_t kProblems = 2000;

struct Worst {
  double error = 0.0;
  uint32_t seed = 0;
  void see(double e, uint32_t s) {
    if (!(e <= error)) error = e, seed = s;  // NaN counts as worst
  }
};

struct Report {
  Worst out, lse, votes;
};

void compare(const AttendWork& work, const Result& got, const Result& ref, uint32_t seed, Report& report) {
  const uint64_t n_rows = uint64_t{work.n_new} * work.group;
  for (uint64_t r = 0; r < n_rows; ++r) {
    double error = 0.0, norm = 0.0;
    for (uint32_t d = 0; d < work.value_dim; ++d) {
      const double x = static_cast<double>(ref.out[r * work.value_dim + d]);
      const double e = static_cast<double>(got.out[r * work.value_dim + d]) - x;
      error += e * e;
      norm += x * x;
    }
    report.out.see(std::sqrt(error / norm), seed);
    report.lse.see(std::fabs(static_cast<double>(got.lse[r]) - static_cast<double>(ref.lse[r])), seed);
  }
  for (uint32_t v = 0; v < work.n_voters; ++v)
    for (uint64_t j = 0; work.vote_first + j < work.first_position + work.n_new - 1; ++j) {
      const size_t at = v * work.vote_stride + j;
      report.votes.see(std::fabs(static_cast<double>(got.votes[at]) - static_cast<double>(ref.votes[at])) / work.group,
                       seed);
    }
}

TEST_CASE("every backend agrees with the double-precision oracle") {
  const std::span<const BackendEntry> backends = backend_list();
  std::vector<Report> reports(backends.size());
  for (uint32_t seed = 0; seed < kProblems; ++seed) {
    Random random(seed);
    const Geometry geometry = random_geometry(random);
    const Problem problem(geometry, random, best_backend());
    const Result ref = attend(reference_backend(), problem.work());
    for (size_t b = 0; b < backends.size(); ++b)
      if (backends[b].backend && backends[b].backend != &reference_backend())
        compare(problem.work(), attend(*backends[b].backend, problem.work()), ref, seed, reports[b]);
  }
  std::printf("%-10s %22s %22s %22s   (%u problems)\n", "backend", "worst row error", "worst lse error",
              "worst vote error", kProblems);
  std::printf("%-10s %10.1e %22.1e %22.1e\n", "tolerance", kOutTolerance, kLseTolerance, kVoteTolerance);
  for (size_t b = 0; b < backends.size(); ++b) {
    if (!backends[b].backend || backends[b].backend == &reference_backend()) continue;
    const Report& r = reports[b];
    std::printf("%-10s %10.2e (seed %4u) %10.2e (seed %4u) %10.2e (seed %4u)\n", backends[b].name, r.out.error,
                r.out.seed, r.lse.error, r.lse.seed, r.votes.error, r.votes.seed);
    CHECK(r.out.error <= kOutTolerance);
    CHECK(r.lse.error <= kLseTolerance);
    CHECK(r.votes.error <= kVoteTolerance);
  }
}

}  // namespace
}  // namespace oscar::testing
