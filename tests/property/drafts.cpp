// Speculative decoding: what is rejected leaves no trace.
#include <cstdlib>

#include "property/cache_fixture.h"

using namespace test;

namespace {

oscar_cache_config speculative_config(const Geometry& g) {
  oscar_cache_config c = config_of(g, "2bit");
  c.batch_invariant = 1;
  c.n_recent = 16;
  c.max_sequences = 2;
  c.max_tokens = 131072;
  return c;
}

std::vector<float> scores_of(const Cache& cache, oscar_seq seq, uint32_t layer, uint32_t head) {
  const uint64_t n = cache.length(seq);
  std::vector<float> scores(n);
  const oscar_tensor t = tensor(scores.data(), {static_cast<int64_t>(n)});
  OSCAR_OK_(oscar_scores(cache, seq, layer, head, 0, n, &t));
  return scores;
}

std::vector<float> keys_of(const Cache& cache, oscar_seq seq, uint32_t head) {
  const uint64_t n = cache.length(seq);
  std::vector<float> keys(n * 64);
  const oscar_tensor t = tensor(keys.data(), {static_cast<int64_t>(n), 64});
  OSCAR_OK_(oscar_read(cache, seq, 0, head, 0, n, &t, nullptr));
  return keys;
}

// A mask of the chain that the accepted tokens form within a tree of n tokens: each accepted one sees the accepted ones
// before it, each other one sees only itself.
std::vector<uint8_t> path_mask(uint32_t n, const std::vector<uint32_t>& path) {
  std::vector<uint8_t> mask(n * n, 0);
  for (uint32_t a : path)
    for (uint32_t b : path)
      if (b < a) mask[a * n + b] = 1;
  return mask;
}

}  // namespace

TEST_CASE("rejected drafts are as if they had never been appended: 10,000 rounds, packing boundaries included") {
  const Geometry g{1, 2, 1, 64, 64};
  const char* text = std::getenv("OSCAR_PROPERTY_ROUNDS");
  const uint64_t n_rounds = text ? std::strtoull(text, nullptr, 10) : 10000;
  const oscar_cache_config config = speculative_config(g);
  Cache drafting(config), plain(config);
  std::mt19937 random(7);
  auto pick = [&random](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  oscar_seq a = drafting.open(), b = plain.open();
  uint64_t token = 0, n_packed = 0;
  for (uint64_t round = 0; round < n_rounds; ++round) {
    INFO("round " << round << " length " << drafting.length(a));
    // Short contexts keep the rounds cheap; each new sequence crosses several packing boundaries.
    if (drafting.length(a) > 700) {
      n_packed += drafting.stats().n_packed_tokens;
      OSCAR_OK_(oscar_seq_close(drafting, a));
      OSCAR_OK_(oscar_seq_close(plain, b));
      a = drafting.open();
      b = plain.open();
    }
    const uint32_t n_sure = round % 97 == 0 ? 120 + pick(40) : 1 + pick(3), n_draft = pick(8);
    std::vector<uint64_t> kept = range(token, n_sure), tokens = kept;
    for (uint32_t i = 0; i < n_draft; ++i) tokens.push_back(1000000007ull + round * 8 + i);
    token += n_sure;
    const LayerOutput with = run_step(drafting, g, a, tokens, n_draft), without = run_step(plain, g, b, kept);
    OSCAR_OK_(oscar_seq_truncate(drafting, a, drafting.length(a) - n_draft));
    REQUIRE(drafting.length(a) == plain.length(b));
    const std::vector<float> head(with.out.begin(), with.out.begin() + static_cast<std::ptrdiff_t>(without.out.size()));
    REQUIRE(same_bits(head, without.out));
    if (round % 50 == 0) REQUIRE(same_bits(scores_of(drafting, a, 0, 0), scores_of(plain, b, 0, 0)));
  }
  CHECK(n_packed > 0);
}

TEST_CASE("an accepted tree path is as if only its tokens had been appended") {
  const Geometry g{2, 4, 2, 64, 64};
  const oscar_cache_config config = speculative_config(g);
  Cache tree(config), plain(config);
  const oscar_seq a = tree.open(), b = plain.open();
  std::mt19937 random(11);
  uint64_t token = 0;
  for (uint64_t round = 0; round < 400; ++round) {
    INFO("round " << round);
    const uint32_t n_draft = 1 + random() % 7, n = n_draft + 1;
    std::vector<uint64_t> tokens = range(token, n), kept{token};
    token += n;
    std::vector<uint32_t> path{0}, accepted;
    for (uint32_t i = 0; i < n_draft; ++i) {
      if (random() % 2) continue;
      accepted.push_back(i);
      path.push_back(i + 1);
      kept.push_back(tokens[i + 1]);
    }
    std::vector<uint8_t> mask = path_mask(n, path);
    const LayerOutput with = run_step(tree, g, a, tokens, n_draft, &mask), without = run_step(plain, g, b, kept);
    const uint64_t base = tree.length(a) - n_draft;
    OSCAR_OK_(oscar_seq_accept(tree, a, base, static_cast<uint32_t>(accepted.size()), accepted.data()));
    REQUIRE(tree.length(a) == plain.length(b));
    const size_t row = g.n_q_heads * g.value_dim;
    // A drafted token sits at another position in the tree, so sums are cut elsewhere: equal but for rounding.
    for (uint32_t layer = 0; layer < g.n_layers; ++layer)
      for (size_t i = 0; i < path.size(); ++i)
        for (size_t d = 0; d < row; ++d)
          REQUIRE(std::abs(with.out[(layer * n + path[i]) * row + d] -
                           without.out[(layer * kept.size() + i) * row + d]) < 1e-5f);
    const std::vector<float> x = scores_of(tree, a, 1, 1), y = scores_of(plain, b, 1, 1);
    for (size_t t = 0; t < x.size(); ++t) REQUIRE((x[t] == y[t] || std::abs(x[t] - y[t]) < 1e-5f));
    for (uint32_t head = 0; head < g.n_kv_heads; ++head)
      REQUIRE(same_bits(keys_of(tree, a, head), keys_of(plain, b, head)));
  }
  CHECK(tree.stats().n_packed_tokens > 0);
}

TEST_CASE("what a block refines does not depend on the size of the step that packs it") {
  const Geometry g{1, 2, 1, 64, 64};
  oscar_cache_config config = speculative_config(g);
  config.max_rollback = 16;
  config.n_refined = 32;
  for (uint64_t first = 0; first < 20000; first += 1000) {
    Cache drafting(config), plain(config);
    const oscar_seq a = drafting.open(), b = plain.open();
    for (uint64_t t = 0; t < 148; ++t) {
      run_step(drafting, g, a, range(first + t, 1));
      run_step(plain, g, b, range(first + t, 1));
    }
    run_step(drafting, g, a, range(first + 500, 6), 3);  // packs, then all of it is taken back
    OSCAR_OK_(oscar_seq_truncate(drafting, a, 148));
    run_step(drafting, g, a, range(first + 148, 60));
    run_step(plain, g, b, range(first + 148, 60));
    REQUIRE(same_bits(scores_of(drafting, a, 0, 0), scores_of(plain, b, 0, 0)));
  }
}

TEST_CASE("taking back the newest max_rollback tokens, whoever declared them, takes back their votes") {
  const Geometry g{1, 4, 2, 64, 64};
  const oscar_cache_config config = speculative_config(g);
  Cache cache(config), plain(config);
  const oscar_seq a = cache.open(), b = plain.open();
  uint64_t token = 0;
  for (uint64_t round = 0; round < 300; ++round) {
    INFO("round " << round << " length " << cache.length(a));
    run_step(cache, g, a, range(token, 1));
    run_step(plain, g, b, range(token, 1));
    ++token;
    // Nothing may be packed between the tokens that are taken back: that would have come later without them.
    const uint64_t aged = token > 20 ? (token - 20) % 128 : 0, n = 1 + round % config.max_rollback;
    if (token > 20 && (aged == 0 || aged + n >= 128)) continue;
    for (uint64_t i = 0; i < n; ++i) run_step(cache, g, a, range(900000 + 10 * round + i, 1));
    OSCAR_OK_(oscar_seq_truncate(cache, a, token));
    REQUIRE(same_bits(scores_of(cache, a, 0, 1), scores_of(plain, b, 0, 1)));
  }
  CHECK(cache.stats().n_packed_tokens == 256);
}

TEST_CASE("a fork goes on as its parent would: same outputs, same votes") {
  const Geometry g{2, 4, 2, 64, 64};
  const oscar_cache_config config = speculative_config(g);
  Cache cache(config);
  const oscar_seq parent = cache.open();
  for (uint64_t t = 0; t < 250; ++t) run_step(cache, g, parent, range(t, 1));
  oscar_seq child = 0;
  OSCAR_OK_(oscar_seq_fork(cache, parent, 250, &child));
  REQUIRE(same_bits(scores_of(cache, parent, 1, 0), scores_of(cache, child, 1, 0)));
  for (uint64_t t = 250; t < 450; ++t) {
    const LayerOutput x = run_step(cache, g, parent, range(t, 1)), y = run_step(cache, g, child, range(t, 1));
    REQUIRE(same_bits(x.out, y.out));
  }
  REQUIRE(same_bits(scores_of(cache, parent, 1, 0), scores_of(cache, child, 1, 0)));
}

TEST_CASE("an aborted step leaves no trace in what follows") {
  const Geometry g{2, 4, 2, 64, 64};
  const oscar_cache_config config = speculative_config(g);
  Cache aborting(config), plain(config);
  const oscar_seq a = aborting.open(), b = plain.open();
  uint64_t token = 0;
  for (uint64_t round = 0; round < 120; ++round) {
    INFO("round " << round);
    const uint32_t n = round % 11 == 0 ? 150 : 1 + round % 20;
    // A step that reaches some of the layers, of the size of the real one, then is dropped.
    const oscar_step step = begin(aborting, {{a, n, 0}});
    for (uint32_t layer = 0; layer < round % 3; ++layer) {
      LayerInput in = make_input(g, range(5000000 + token, n), layer);
      run_layer(aborting, step, g, layer, in);
    }
    OSCAR_OK_(oscar_step_abort(aborting, step));
    const LayerOutput x = run_step(aborting, g, a, range(token, n)), y = run_step(plain, g, b, range(token, n));
    token += n;
    REQUIRE(same_bits(x.out, y.out));
    REQUIRE(same_bits(x.lse, y.lse));
    REQUIRE(same_bits(scores_of(aborting, a, 0, 0), scores_of(plain, b, 0, 0)));
  }
  CHECK(aborting.stats().n_packed_tokens > 0);
}
