// Rows that attend and append nothing: what a cache is asked for that holds another part of the context.
#include "property/cache_fixture.h"

using namespace test;

namespace {

LayerOutput merged(const Geometry& g, const LayerOutput& x, const LayerOutput& y) {
  const auto n = static_cast<int64_t>(x.lse.size());
  std::vector<float> outs = x.out, lses = x.lse;
  outs.insert(outs.end(), y.out.begin(), y.out.end());
  lses.insert(lses.end(), y.lse.begin(), y.lse.end());
  LayerOutput joined{std::vector<float>(x.out.size()), std::vector<float>(x.lse.size())};
  const oscar_tensor parts = tensor(outs.data(), {2, n, g.value_dim}), logs = tensor(lses.data(), {2, n}),
                     out = tensor(joined.out.data(), {n, g.value_dim}), lse = tensor(joined.lse.data(), {n});
  OSCAR_OK_(oscar_merge(&parts, &logs, &out, &lse, nullptr));
  return joined;
}

double worst_row(const std::vector<float>& got, const std::vector<float>& want, size_t dim) {
  double worst = 0.0;
  for (size_t row = 0; row < want.size(); row += dim) {
    double error = 0.0, size = 0.0;
    for (size_t d = row; d < row + dim; ++d) {
      const double x = static_cast<double>(got[d]), y = static_cast<double>(want[d]);
      error += (x - y) * (x - y);
      size += y * y;
    }
    worst = std::max(worst, std::sqrt(error / size));
  }
  return worst;
}

// A context in two caches, the second of which gets the new tokens, beside one cache that has it all. Exact keys and
// values: where a block begins does not matter.
void check_halves(const Geometry& g, uint32_t n_new) {
  CAPTURE(g.key_dim);
  CAPTURE(n_new);
  oscar_cache_config config = config_of(g, "exact");
  config.batch_invariant = 1;
  Cache whole(config), first(config), second(config);
  const oscar_seq w = whole.open(), a = first.open(), b = second.open();
  const uint64_t n_first = 333;
  run_step(whole, g, w, range(0, 500));
  run_step(first, g, a, range(0, n_first));
  run_step(second, g, b, range(n_first, 500 - n_first));
  for (uint64_t token = 500; token < 500 + 5 * uint64_t{n_new}; token += n_new) {
    const std::vector<uint64_t> tokens = range(token, n_new);
    const LayerOutput want = run_step(whole, g, w, tokens);
    const LayerOutput old = run_entries(first, g, {{a, n_new, OSCAR_QUERY_ONLY}}, tokens);
    const LayerOutput got = merged(g, old, run_step(second, g, b, tokens));
    CHECK(worst_row(got.out, want.out, g.value_dim) < 1e-5);
    for (size_t i = 0; i < got.lse.size(); ++i) CHECK(std::abs(got.lse[i] - want.lse[i]) < 1e-5f);
  }
  CHECK(first.length(a) == n_first);
}

}  // namespace

TEST_CASE("attention over two caches, joined by their log-sum-exp, is attention over one") {
  for (const uint32_t n_new : {1u, 7u, 40u, 130u}) {
    check_halves({2, 4, 2, 64, 64}, n_new);
    check_halves({1, 4, 4, 128, 128}, n_new);
    check_halves({1, 6, 2, 96, 64}, n_new);
  }
}

TEST_CASE("rows that are queries only leave no trace, beside sequences that grow") {
  const Geometry g{2, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  config.batch_invariant = 1;
  Cache asked(config), plain(config);
  const oscar_seq a = asked.open(), other = asked.open(), b = plain.open(), beside = plain.open();
  for (uint64_t round = 0; round < 60; ++round) {
    INFO("round " << round);
    const uint32_t n = 1 + round * 7 % 23, n_queries = 1 + round * 5 % 9;
    const std::vector<uint64_t> tokens = range(1000 * round, n), queries = range(500000 + 10 * round, n_queries);
    std::vector<uint64_t> both = queries;
    for (uint64_t t : range(900000 + round, 1)) both.push_back(t);
    run_entries(asked, g, {{a, n_queries, OSCAR_QUERY_ONLY}, {other, 1, 0}}, both);
    run_entries(plain, g, {{beside, 1, 0}}, {900000 + round});
    run_step(asked, g, a, tokens);  // what has aged is packed by now, in both
    run_step(plain, g, b, tokens);
    REQUIRE(asked.length(a) == plain.length(b));
    REQUIRE(asked.length(other) == round + 1);
    REQUIRE(asked.stats().bytes_sequences == plain.stats().bytes_sequences);
  }
  const uint64_t n = asked.length(a);
  CHECK(asked.stats().n_packed_tokens > 128);
  std::vector<float> x(n), y(n), k(n * 64), l(n * 64);
  const oscar_tensor xt = tensor(x.data(), {static_cast<int64_t>(n)}), yt = tensor(y.data(), {static_cast<int64_t>(n)});
  OSCAR_OK_(oscar_scores(asked, a, 1, 1, 0, n, &xt));
  OSCAR_OK_(oscar_scores(plain, b, 1, 1, 0, n, &yt));
  CHECK(same_bits(x, y));
  const oscar_tensor kt = tensor(k.data(), {static_cast<int64_t>(n), 64}),
                     lt = tensor(l.data(), {static_cast<int64_t>(n), 64});
  OSCAR_OK_(oscar_read(asked, a, 1, 1, 0, n, &kt, nullptr));
  OSCAR_OK_(oscar_read(plain, b, 1, 1, 0, n, &lt, nullptr));
  CHECK(same_bits(k, l));
}

TEST_CASE("an empty sequence answers queries with nothing, and a step of queries alone takes no keys") {
  const Geometry g{1, 4, 2, 128, 128};
  Cache cache(config_of(g, "2bit"));
  const oscar_seq empty = cache.open(), full = cache.open();
  run_step(cache, g, full, range(0, 40));
  const oscar_step step = begin(cache, {{full, 1, OSCAR_QUERY_ONLY}, {empty, 2, OSCAR_QUERY_ONLY}, {0, 1, 0}});
  std::vector<float> q(4 * g.n_q_heads * g.key_dim, 0.5f), out(4 * g.n_q_heads * g.value_dim, NAN),
      lse(4 * g.n_q_heads, NAN);
  oscar_attend_args args{};
  args.struct_size = sizeof args;
  args.q = tensor(q.data(), {4, g.n_q_heads, g.key_dim});
  args.out = tensor(out.data(), {4, g.n_q_heads, g.value_dim});
  args.lse = tensor(lse.data(), {4, g.n_q_heads});
  OSCAR_OK_(oscar_attend(cache, step, &args, nullptr));
  OSCAR_OK_(oscar_step_end(cache, step));
  for (uint32_t h = 0; h < g.n_q_heads; ++h) CHECK(std::isfinite(lse[h]));
  for (size_t i = g.n_q_heads; i < lse.size(); ++i) CHECK(lse[i] == -INFINITY);
  for (size_t i = g.n_q_heads * g.value_dim; i < out.size(); ++i) CHECK(out[i] == 0.0f);
}

TEST_CASE("queries alone are refused over a sliding window") {
  const Geometry g{2, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  std::vector<oscar_layer_config> layers = layers_of(config);
  layers[1].window = 64;
  Cache cache(config);
  const oscar_step_entry entry{cache.open(), 1, OSCAR_QUERY_ONLY};
  oscar_step_args args{};
  args.struct_size = sizeof args;
  args.n_entries = 1;
  args.entries = &entry;
  oscar_step step;
  REFUSED(oscar_step_begin(cache, &args, nullptr, &step), OSCAR_E_UNSUPPORTED, "sliding window");
}
