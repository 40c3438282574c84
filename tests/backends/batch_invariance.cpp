// A row's bits depend on its query, its position and the tokens that it sees; on nothing that is computed beside it.
#include <doctest/doctest.h>

#include "backend/cpu.h"
#include "random_work.h"

namespace oscar::testing {
namespace {

constexpr uint32_t kProblems = 150;

bool same_bits(const float* a, const float* b, uint64_t n) {
  return n == 0 || std::memcmp(a, b, n * sizeof(float)) == 0;
}

// The work of the new tokens [begin, begin + n) alone, the new tokens before them being part of the cache.
AttendWork slice_tokens(AttendWork work, uint32_t begin, uint32_t n) {
  work.q += uint64_t{begin} * work.group * work.key_dim;
  work.first_position += begin;
  const uint32_t first_voter = work.n_new - work.n_voters, end = begin + n;
  work.n_voters = end > first_voter ? end - (begin > first_voter ? begin : first_voter) : 0;
  work.n_new = n;
  return work;
}

template <typename Check>
void for_each_problem(bool with_mask, Check check) {
  for (uint32_t seed = 0; seed < kProblems; ++seed) {
    Random random(0x5eed0000u + seed);
    Geometry geometry = random_geometry(random);
    geometry.tree_mask = with_mask && geometry.tree_mask;
    const Problem problem(geometry, random, best_backend());
    for (const BackendEntry& entry : backend_list())
      if (entry.backend && entry.backend != &reference_backend()) check(*entry.backend, problem.work(), random);
  }
}

TEST_CASE("a token's rows have the same bits alone and among other new tokens, votes included") {
  uint64_t n_compared = 0;
  for_each_problem(false, [&](const Backend& backend, const AttendWork& work, Random& random) {
    const Result all = attend(backend, work);
    for (uint32_t begin = 0; begin < work.n_new;) {
      const uint32_t n = random.between(1, work.n_new - begin);
      const AttendWork part = slice_tokens(work, begin, n);
      const Result one = attend(backend, part);
      const uint64_t row = uint64_t{begin} * work.group, n_rows = uint64_t{n} * work.group;
      CHECK(same_bits(one.out.data(), all.out.data() + row * work.value_dim, n_rows * work.value_dim));
      CHECK(same_bits(one.lse.data(), all.lse.data() + row, n_rows));
      const uint32_t first_voter = work.n_new - work.n_voters;
      for (uint32_t v = 0; v < part.n_voters; ++v) {
        const uint64_t token = begin + n - part.n_voters + v, own = work.first_position + token;
        const uint64_t length = own > work.vote_first ? own - work.vote_first : 0;
        CHECK(same_bits(one.votes.data() + v * work.vote_stride,
                        all.votes.data() + (token - first_voter) * work.vote_stride, length));
      }
      n_compared += n_rows;
      begin += n;
    }
  });
  CHECK(n_compared > 1000);
}

TEST_CASE("a head's row has the same bits alone and with the other heads of its group") {
  for_each_problem(true, [&](const Backend& backend, const AttendWork& work, Random& random) {
    const Result all = attend(backend, work);
    const uint32_t head = random.below(work.group);
    std::vector<float> q(uint64_t{work.n_new} * work.key_dim);
    for (uint32_t i = 0; i < work.n_new; ++i)
      std::memcpy(q.data() + uint64_t{i} * work.key_dim, work.q + (uint64_t{i} * work.group + head) * work.key_dim,
                  work.key_dim * sizeof(float));
    AttendWork one = work;
    one.group = 1;
    one.n_voters = 0;
    one.q = q.data();
    if (work.sink_logits) one.sink_logits = work.sink_logits + head;
    const Result alone = attend(backend, one);
    for (uint32_t i = 0; i < work.n_new; ++i) {
      const uint64_t row = uint64_t{i} * work.group + head;
      CHECK(same_bits(&alone.out[uint64_t{i} * work.value_dim], &all.out[row * work.value_dim], work.value_dim));
      CHECK(same_bits(&alone.lse[i], &all.lse[row], 1));
    }
  });
}

TEST_CASE("bits do not depend on how exact rows are cut into spans") {
  for_each_problem(true, [&](const Backend& backend, const AttendWork& work, Random&) {
    std::vector<RowSpan> single;
    for (uint32_t s = 0; s < work.n_rows; ++s)
      for (uint32_t i = 0; i < work.rows[s].n; ++i) {
        RowSpan row = work.rows[s];
        row.key += uint64_t{i} * row.key_stride;
        row.value += uint64_t{i} * row.value_stride;
        row.position += i;
        row.n = 1;
        single.push_back(row);
      }
    AttendWork cut = work;
    cut.rows = single.data();
    cut.n_rows = static_cast<uint32_t>(single.size());
    const Result a = attend(backend, work), b = attend(backend, cut);
    CHECK(same_bits(a.out.data(), b.out.data(), a.out.size()));
    CHECK(same_bits(a.lse.data(), b.lse.data(), a.lse.size()));
    CHECK(same_bits(a.votes.data(), b.votes.data(), a.votes.size()));
  });
}

}  // namespace
}  // namespace oscar::testing
