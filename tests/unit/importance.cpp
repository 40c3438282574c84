#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "importance/choice.h"
#include "importance/votes.h"

using namespace oscar;

TEST_CASE("the slots hold every token once, the h highest votes first, both parts ascending") {
  std::mt19937 random(1);
  for (uint32_t h : {0u, 1u, 4u, 31u, 127u, 128u}) {
    float votes[kBlockTokens];
    for (float& v : votes) v = static_cast<float>(random() % 20);  // many ties
    uint8_t order[kBlockTokens];
    slot_order(votes, h, order);
    std::vector<uint8_t> all(order, order + kBlockTokens);
    CHECK(std::is_sorted(all.begin(), all.begin() + h));
    CHECK(std::is_sorted(all.begin() + h, all.end()));
    if (h > 0 && h < kBlockTokens)
      for (uint32_t chosen = 0; chosen < h; ++chosen)
        for (uint32_t other = h; other < kBlockTokens; ++other) {
          const float a = votes[order[chosen]], b = votes[order[other]];
          REQUIRE((a > b || (a == b && order[chosen] < order[other])));
        }
    std::sort(all.begin(), all.end());
    for (uint32_t i = 0; i < kBlockTokens; ++i) REQUIRE(all[i] == i);
  }
}

TEST_CASE("counted votes are the sum over the queries of the recent window, in any cut") {
  const uint32_t n_recent = 20, rollback = 4, n_tokens = 150;
  const VoteLayout layout(n_recent, rollback);
  std::vector<float> memory(layout.bytes() / sizeof(float) + 1);
  const VoteArea area{reinterpret_cast<uint8_t*>(memory.data()), layout};
  std::vector<double> want(n_tokens, 0.0);
  std::mt19937 random(9);
  const uint64_t first = 30;  // tokens before are decided
  for (uint64_t query = 0; query < n_tokens; ++query) {
    area.score(0, query) = 0.0f;
    for (uint64_t token = query > n_recent + rollback ? query - n_recent - rollback : 0; token < query; ++token) {
      const float vote = static_cast<float>(random() % 100);
      area.vote(query, token) = f32_to_f16(vote);
      if (token >= first && token + n_recent >= query) want[token] += vote;
    }
    area.count(0, query, first, n_recent);
  }
  for (uint64_t token = first; token < n_tokens; ++token) CHECK(area.score(0, token) == doctest::Approx(want[token]));
}
