// What must not change a row's bits, and what tokens the cache chooses to refine.
#include <algorithm>

#include "property/cache_fixture.h"

using namespace test;

namespace {

// Of a step of n_rows tokens, all layers' rows [first, first + n).
std::vector<float> rows_of(const LayerOutput& step, const Geometry& g, size_t n_rows, size_t first, size_t n) {
  const size_t row = g.n_q_heads * g.value_dim;
  std::vector<float> rows;
  for (uint32_t layer = 0; layer < g.n_layers; ++layer) {
    const auto begin_row = step.out.begin() + static_cast<std::ptrdiff_t>((layer * n_rows + first) * row);
    rows.insert(rows.end(), begin_row, begin_row + static_cast<std::ptrdiff_t>(n * row));
  }
  return rows;
}

void check_rest_of_batch(const Geometry& g, const char* profile) {
  CAPTURE(g.key_dim);
  CAPTURE(g.n_q_heads);
  CAPTURE(profile);
  oscar_cache_config config = config_of(g, profile);
  config.batch_invariant = 1;
  config.max_tokens = 8192;
  Cache alone(config), together(config);
  const oscar_seq a = alone.open(), b = together.open(), other = together.open(), third = together.open();
  run_step(alone, g, a, range(0, 300));
  run_step(together, g, b, range(0, 300));
  run_step(together, g, other, range(9000, 77));
  std::mt19937 random(5);
  const uint32_t sizes[] = {1, 1, 2, 4, 15, 16, 17, 33, 70, 140};
  uint64_t own = 300, next_other = 100000, next_third = 200000;
  for (uint32_t round = 0; round < 40; ++round) {
    const uint32_t n = sizes[random() % 10], n_other = sizes[random() % 10], n_third = sizes[random() % 10],
                   n_padding = round % 2 ? 1 : 20;
    INFO("round " << round << ": " << n << " tokens beside " << n_other << ", " << n_third);
    const std::vector<uint64_t> tokens = range(own, n);
    const LayerOutput want = run_step(alone, g, a, tokens);
    // The same tokens between rows of other sequences and padding.
    std::vector<uint64_t> all = range(next_other, n_other);
    for (uint32_t i = 0; i < n_padding; ++i) all.push_back(1);
    all.insert(all.end(), tokens.begin(), tokens.end());
    for (uint64_t t : range(next_third, n_third)) all.push_back(t);
    const LayerOutput step = run_entries(together, g,
                                         {{other, n_other, 0}, {0, n_padding, 0}, {b, n, 0}, {third, n_third, 0}}, all);
    const std::vector<float> got = rows_of(step, g, all.size(), n_other + n_padding, n);
    REQUIRE(same_bits(got, want.out));
    own += n;
    next_other += n_other;
    next_third += n_third;
  }
}

}  // namespace

TEST_CASE("a row's bits do not depend on the rest of the batch") {
  check_rest_of_batch({2, 4, 2, 128, 128}, "2bit");
  check_rest_of_batch({1, 6, 1, 64, 64}, "2bit");
  check_rest_of_batch({1, 4, 4, 128, 128}, "exact");
  check_rest_of_batch({1, 4, 2, 96, 64}, "2bit");
}

TEST_CASE("feeding in steps of any size up to 128 gives the same blocks") {
  const Geometry g{1, 4, 2, 64, 64};
  const oscar_cache_config config = config_of(g, "2bit");
  std::vector<std::vector<float>> contents;
  for (uint64_t chunk : {1ull, 5ull, 32ull, 128ull}) {
    Cache cache(config);
    const oscar_seq seq = cache.open();
    const uint64_t n = 640;
    for (uint64_t t = 0; t < n; t += chunk) run_step(cache, g, seq, range(t, std::min(chunk, n - t)));
    run_step(cache, g, seq, range(n, 1));
    std::vector<float> k(n * 64), v(n * 64);
    const oscar_tensor kt = tensor(k.data(), {static_cast<int64_t>(n), 64}),
                       vt = tensor(v.data(), {static_cast<int64_t>(n), 64});
    OSCAR_OK_(oscar_read(cache, seq, 0, 1, 0, 300, nullptr, nullptr));
    oscar_tensor kk = kt, vv = vt;
    kk.shape[0] = vv.shape[0] = 500;
    OSCAR_OK_(oscar_read(cache, seq, 0, 1, 0, 500, &kk, &vv));
    k.insert(k.end(), v.begin(), v.end());
    contents.push_back(k);
  }
  // Queries attend to a compressed past that depends on when it was packed, but votes come from keys that are exact for
  // every query that votes; only rounding differs, so nearly all choices agree.
  for (size_t i = 1; i < contents.size(); ++i) {
    size_t same = 0;
    for (size_t j = 0; j < contents[0].size(); ++j) same += contents[i][j] == contents[0][j];
    CHECK(same > contents[0].size() * 95 / 100);
  }
}

TEST_CASE("the tokens that attention has shown to matter are refined") {
  const Geometry g{1, 2, 1, 64, 64};
  const oscar_cache_config config = config_of(g, "2bit");
  Cache cache(config);
  const oscar_seq seq = cache.open();
  // Token 50 and token 90 have a key that every query likes.
  std::vector<uint64_t> important{50, 90};
  for (uint64_t t = 0; t < 200; ++t) {
    LayerInput in = make_input(g, {t}, 0);
    for (uint32_t d = 0; d < 64; ++d) in.q[d] = in.q[64 + d] = 1.0f + 0.1f * in.q[d];
    if (t == 50 || t == 90)
      for (uint32_t d = 0; d < 64; ++d) in.k[d] = 0.8f;
    else
      for (uint32_t d = 0; d < 64; ++d) in.k[d] *= 0.2f;
    const oscar_step step = begin(cache, {{seq, 1, 0}});
    run_layer(cache, step, g, 0, in);
    OSCAR_OK_(oscar_step_end(cache, step));
  }
  std::vector<float> scores(200);
  const oscar_tensor t = tensor(scores.data(), {200});
  OSCAR_OK_(oscar_scores(cache, seq, 0, 0, 0, 200, &t));
  CHECK(std::count_if(scores.begin(), scores.end(), [](float s) { return std::isinf(s); }) == 4);
  for (uint64_t token : important) CHECK(std::isinf(scores[token]));
  CHECK(scores[1] == 0.0f);
}

TEST_CASE("a long step packs within itself, and what it leaves is what short steps leave") {
  const Geometry g{2, 4, 2, 64, 64};
  const oscar_cache_config config = config_of(g, "2bit");
  Cache longer(config), shorter(config);
  const oscar_seq a = longer.open(), b = shorter.open();
  run_step(longer, g, a, range(0, 500));
  for (uint64_t t = 0; t < 500; t += 100) run_step(shorter, g, b, range(t, 100));
  CHECK(longer.stats().n_packed_tokens == 384);
  const oscar_step step = begin(shorter, {{b, 1, 0}});
  CHECK(shorter.stats().n_blocks == longer.stats().n_blocks);
  OSCAR_OK_(oscar_step_abort(shorter, step));
  // Unrefined tokens are quantized alike whoever chose the refined ones.
  std::vector<float> ka(500 * 64), kb(500 * 64), va(500 * 64), vb(500 * 64);
  const oscar_tensor kt[] = {tensor(ka.data(), {500, 64}), tensor(kb.data(), {500, 64})};
  const oscar_tensor vt[] = {tensor(va.data(), {500, 64}), tensor(vb.data(), {500, 64})};
  OSCAR_OK_(oscar_read(longer, a, 1, 0, 0, 500, &kt[0], &vt[0]));
  OSCAR_OK_(oscar_read(shorter, b, 1, 0, 0, 500, &kt[1], &vt[1]));
  size_t same = 0;
  for (size_t i = 0; i < ka.size(); ++i) same += std::abs(ka[i] - kb[i]) < 1e-5f && std::abs(va[i] - vb[i]) < 1e-5f;
  CHECK(same > ka.size() * 90 / 100);
}

TEST_CASE("layers that share keys read the owner's, in long steps too") {
  Geometry g{3, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  std::vector<oscar_layer_config> layers = layers_of(config);
  layers[2].kv_source = 0;
  Cache cache(config);
  const oscar_seq seq = cache.open();
  for (uint64_t n : {400ull, 3ull, 200ull}) {
    const oscar_step step = begin(cache, {{seq, static_cast<uint32_t>(n), 0}});
    std::vector<float> first;
    LayerInput in = make_input(g, range(cache.length(seq), n), 0);
    for (uint32_t layer = 0; layer < 2; ++layer) {
      const LayerOutput out = run_layer(cache, step, g, layer, in);
      if (layer == 0) first = out.out;
    }
    std::vector<float> shared(first.size());
    oscar_attend_args a{};
    a.struct_size = sizeof a;
    a.layer = 2;
    a.q = tensor(in.q.data(), {static_cast<int64_t>(n), 4, 64});
    a.out = tensor(shared.data(), {static_cast<int64_t>(n), 4, 64});
    OSCAR_OK_(oscar_attend(cache, step, &a, nullptr));
    CHECK(same_bits(first, shared));
    OSCAR_OK_(oscar_step_end(cache, step));
  }
  CHECK(cache.stats().n_packed_tokens > 0);
}

TEST_CASE("a layer that shares keys may attend before their owner: same outputs, same votes, same blocks") {
  const Geometry g{3, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  std::vector<oscar_layer_config> layers = layers_of(config);
  layers[1].kv_source = 0;
  // The owner is layer 0, its consumer layer 1; layer 2 has its own keys. Once the owner attends first, once last.
  std::vector<float> results[2];
  for (int late = 0; late < 2; ++late) {
    Cache cache(config);
    const oscar_seq seq = cache.open();
    for (uint64_t n : {400ull, 3ull, 200ull, 1ull, 130ull}) {
      const std::vector<uint64_t> tokens = range(cache.length(seq), n);
      const auto rows = static_cast<int64_t>(n);
      const oscar_step step = begin(cache, {{seq, static_cast<uint32_t>(n), 0}});
      LayerInput in = make_input(g, tokens, 0), other = make_input(g, tokens, 1);
      oscar_append_args append{};
      append.struct_size = sizeof append;
      append.k = tensor(in.k.data(), {rows, 2, 64});
      append.v = tensor(in.v.data(), {rows, 2, 64});
      OSCAR_OK_(oscar_append(cache, step, &append, nullptr));
      std::vector<float> outs[2];
      for (uint32_t layer : late ? std::vector<uint32_t>{1, 0} : std::vector<uint32_t>{0, 1}) {
        outs[layer].resize(n * 4 * 64);
        oscar_attend_args attend{};
        attend.struct_size = sizeof attend;
        attend.layer = layer;
        attend.q = tensor((layer == 0 ? in : other).q.data(), {rows, 4, 64});
        attend.out = tensor(outs[layer].data(), {rows, 4, 64});
        OSCAR_OK_(oscar_attend(cache, step, &attend, nullptr));
      }
      LayerInput own = make_input(g, tokens, 2);
      run_layer(cache, step, g, 2, own);
      OSCAR_OK_(oscar_step_end(cache, step));
      for (const auto& out : outs) results[late].insert(results[late].end(), out.begin(), out.end());
    }
    CHECK(cache.stats().n_packed_tokens >= 512);
    const uint64_t n = cache.length(seq);
    std::vector<float> keys(n * 64), scores(n);
    const oscar_tensor k = tensor(keys.data(), {static_cast<int64_t>(n), 64}),
                       s = tensor(scores.data(), {static_cast<int64_t>(n)});
    for (uint32_t head = 0; head < 2; ++head) {
      OSCAR_OK_(oscar_read(cache, seq, 0, head, 0, n, &k, nullptr));
      OSCAR_OK_(oscar_scores(cache, seq, 0, head, 0, n, &s));
      CHECK(std::count_if(scores.begin(), scores.end(), [](float x) { return x > 0.0f; }) > 16);
      results[late].insert(results[late].end(), keys.begin(), keys.end());
      results[late].insert(results[late].end(), scores.begin(), scores.end());
    }
  }
  CHECK(same_bits(results[0], results[1]));
}

TEST_CASE("steps on disjoint sequences may be open at the same time") {
  const Geometry g{2, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  config.max_open_steps = 2;
  Cache both(config), alone(config);
  const oscar_seq a = both.open(), b = both.open(), c = alone.open();
  const std::vector<uint64_t> tokens = range(0, 300), others = range(5000, 200);
  const oscar_step sa = begin(both, {{a, 300, 0}}), sb = begin(both, {{b, 200, 0}});
  const oscar_step_entry entry{a, 1, 0};
  const oscar_step_args args{sizeof args, 1, &entry, 0, 0};
  oscar_step third = 1;
  CHECK(oscar_step_begin(both, &args, nullptr, &third) == OSCAR_E_STATE);
  std::vector<float> got;
  for (uint32_t layer = 0; layer < 2; ++layer) {
    LayerInput in = make_input(g, tokens, layer), in2 = make_input(g, others, layer);
    const LayerOutput out = run_layer(both, sa, g, layer, in);
    run_layer(both, sb, g, layer, in2);
    got.insert(got.end(), out.out.begin(), out.out.end());
  }
  OSCAR_OK_(oscar_step_end(both, sa));
  OSCAR_OK_(oscar_step_end(both, sb));
  CHECK(same_bits(got, run_step(alone, g, c, tokens).out));
  CHECK(same_bits(run_step(both, g, a, range(300, 5)).out, run_step(alone, g, c, range(300, 5)).out));
}

TEST_CASE("votes count whichever order appends and attentions come in") {
  const Geometry g{2, 4, 2, 64, 64};
  Cache together(config_of(g, "2bit")), apart(config_of(g, "2bit"));
  const oscar_seq a = together.open(), b = apart.open();
  run_step(together, g, a, range(0, 20));
  const oscar_step step = begin(apart, {{b, 20, 0}});
  std::vector<LayerInput> in{make_input(g, range(0, 20), 0), make_input(g, range(0, 20), 1)};
  for (uint32_t layer : {0u, 1u, 0u}) {  // appending again before attention overwrites
    oscar_append_args append{};
    append.struct_size = sizeof append;
    append.layer = layer;
    append.k = tensor(in[layer].k.data(), {20, 2, 64});
    append.v = tensor(in[layer].v.data(), {20, 2, 64});
    OSCAR_OK_(oscar_append(apart, step, &append, nullptr));
  }
  for (uint32_t layer = 0; layer < 2; ++layer) {
    std::vector<float> out(20 * 4 * 64);
    oscar_attend_args attend{};
    attend.struct_size = sizeof attend;
    attend.layer = layer;
    attend.q = tensor(in[layer].q.data(), {20, 4, 64});
    attend.out = tensor(out.data(), {20, 4, 64});
    OSCAR_OK_(oscar_attend(apart, step, &attend, nullptr));
  }
  OSCAR_OK_(oscar_step_end(apart, step));
  for (uint32_t layer = 0; layer < 2; ++layer) {
    std::vector<float> x(20), y(20);
    const oscar_tensor xt = tensor(x.data(), {20}), yt = tensor(y.data(), {20});
    OSCAR_OK_(oscar_scores(together, a, layer, 0, 0, 20, &xt));
    OSCAR_OK_(oscar_scores(apart, b, layer, 0, 0, 20, &yt));
    CHECK(x[5] > 0.0f);
    CHECK(same_bits(x, y));
  }
}

TEST_CASE("a long step that is never attended to writes the blocks it reserves, also where they hold old tokens only") {
  const Geometry g{3, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  config.n_recent = 256;
  Cache cache(config);
  const oscar_seq seq = cache.open();
  run_step(cache, g, seq, range(0, 300));
  // 300 - 256 tokens have aged, 200 more make a block of old tokens ripe: it is packed within this step.
  const oscar_step step = begin(cache, {{seq, 200, 0}});
  for (uint32_t layer = 0; layer < g.n_layers; ++layer) {
    LayerInput in = make_input(g, range(300, 200), layer);
    oscar_append_args a{};
    a.struct_size = sizeof a;
    a.layer = layer;
    a.k = tensor(in.k.data(), {200, 2, 64});
    a.v = tensor(in.v.data(), {200, 2, 64});
    OSCAR_OK_(oscar_append(cache, step, &a, nullptr));
  }
  OSCAR_OK_(oscar_step_end(cache, step));
  CHECK(cache.stats().n_packed_tokens == 128);
  for (uint32_t layer = 0; layer < g.n_layers; ++layer) {
    LayerInput truth = make_input(g, range(0, 132), layer);
    std::vector<float> k(132 * 64);
    const oscar_tensor t = tensor(k.data(), {132, 64});
    OSCAR_OK_(oscar_read(cache, seq, layer, 0, 0, 132, &t, nullptr));
    double error = 0, energy = 0;
    for (size_t i = 0; i < k.size(); ++i) {
      const double want = truth.k[i / 64 * 128 + i % 64];
      error += (k[i] - want) * (k[i] - want);
      energy += want * want;
    }
    INFO("layer " << layer);
    CHECK(error < 0.2 * energy);
  }
}
