// Caches that calibrate themselves, through the public header: what freezing makes of what they collect, and that forks,
// cuts and steps behave in between as they always do.
#include "property/self_calibration.h"

using namespace test;

TEST_CASE("freezing is calibrating with a calibrator on the same tokens, for the heads that the test prefers it for") {
  for (const char* profile : {"2bit", "2bit-plain", "3bit"}) {
    const Geometry g{2, 4, 2, 64, 96};
    const Rope rope;
    oscar_cache_config config = config_of(g, profile);
    oscar_calibrator* calibrator = nullptr;
    OSCAR_OK_(oscar_calibrator_create(&config, &rope.args, &calibrator));
    config.self_calibrate = &rope.args;
    Cache cache(config);
    const oscar_seq seq = cache.open();
    for (const std::vector<uint64_t>& tokens : block_steps(config.n_sink, 4 + 3 * 128 + 70)) {
      feed(cache, g, seq, tokens);
      for (uint32_t layer = 0; layer < g.n_layers; ++layer) {
        LayerInput in = rounded_input(g, tokens, layer);
        const int64_t n = static_cast<int64_t>(tokens.size());
        oscar_calibrator_feed_args a{};
        a.struct_size = sizeof a;
        a.layer = layer;
        a.first_position = tokens[0];
        a.q = tensor(in.q.data(), {n, g.n_q_heads, g.key_dim});
        a.k = tensor(in.k.data(), {n, g.n_kv_heads, g.key_dim});
        a.v = tensor(in.v.data(), {n, g.n_kv_heads, g.value_dim});
        OSCAR_OK_(oscar_calibrator_feed(calibrator, &a));
      }
    }
    CHECK(cache.stats().state == OSCAR_CACHE_COLLECTING);
    Calibration ours, theirs;
    OSCAR_OK_(oscar_cache_freeze(cache, &ours.handle));
    OSCAR_OK_(oscar_calibrator_finish(calibrator, &theirs.handle));
    oscar_calibrator_destroy(calibrator);
    CHECK(cache.stats().state == OSCAR_CACHE_FROZEN);

    for (uint32_t layer = 0; layer < g.n_layers; ++layer)
      for (uint32_t head = 0; head < g.n_kv_heads; ++head) {
        const auto a = ours.head(layer, head), b = theirs.head(layer, head);
        INFO(profile << " layer " << layer << " head " << head);
        CHECK(a.is_shaped == 1);
        CHECK(a.has_own_values == (head == 0));  // the others' are not what was learned
        // Where keys and values are both new, the head is the calibrator's, bit for bit.
        CHECK((a.fingerprint == b.fingerprint) == (head == 0));
      }
    const oscar_calibration_info a = ours.info(), b = theirs.info();
    CHECK(a.source == OSCAR_CALIBRATION_CACHE);
    CHECK(b.source == OSCAR_CALIBRATION_CALIBRATOR);
    CHECK(a.n_tokens == 3 * 128 + 70);
    CHECK(b.n_tokens == a.n_tokens);
    CHECK(a.end_position == 4 + 3 * 128 + 70);
    CHECK(a.n_positions == 2048);
    CHECK(a.n_heads == 4);
    CHECK(a.knows_rope == 1);
    CHECK(a.n_refined == config.n_refined);
    CHECK(std::string(a.model) == "made up");
    CHECK(std::string(a.note) == "for a test");
    CHECK(std::string(a.objective).find("p = 1/8") != std::string::npos);
  }
}

TEST_CASE("what freezing returns is saved, loaded, and packs the same bits in a fresh cache") {
  for (const char* profile : {"2bit-plain", "3bit", "2bit"}) {
    for (uint64_t chunk : {64ull, 400ull}) {
      INFO(profile << " chunk " << chunk);
      const Geometry g{2, 4, 2, 64, 64};
      const Rope rope;
      oscar_cache_config config = config_of(g, profile);
      config.self_calibrate = &rope.args;
      Cache cache(config);
      const oscar_seq seq = cache.open();
      for (uint64_t first = 0; first < 800; first += chunk) feed(cache, g, seq, range(first, chunk));
      Calibration made, loaded;
      OSCAR_OK_(oscar_cache_freeze(cache, &made.handle));
      const std::vector<uint8_t> bytes = made.save();
      OSCAR_OK_(oscar_calibration_load(bytes.data(), bytes.size(), &loaded.handle));
      CHECK(loaded.info().fingerprint == made.info().fingerprint);
      CHECK(std::string(loaded.info().model) == "made up");
      config.self_calibrate = nullptr;
      config.calibration = loaded.handle;
      Cache fresh(config);
      const oscar_seq again = fresh.open();
      for (uint64_t first = 0; first < 800; first += chunk) feed(fresh, g, again, range(first, chunk));
      CHECK(cache.stats().n_blocks == fresh.stats().n_blocks);
      CHECK(cache.stats().n_exact_pages == fresh.stats().n_exact_pages);
      CHECK(cache.stats().bytes_sequences == fresh.stats().bytes_sequences);
      CHECK(cache.stats().bytes_fixed == fresh.stats().bytes_fixed);
      CHECK(cache.stats().bytes_calibration == fresh.stats().bytes_calibration);
      const std::vector<float> a = read_all(cache, g, seq), b = read_all(fresh, g, again);
      if (std::string(profile) != "2bit") {
        CHECK(same_bits(a, b));
      } else {
        // Votes for the first block came from exact rows in both caches; later ones from blocks in the fresh one.
        const size_t dim = 64, n = 800;
        for (size_t part = 0; part < 2 * g.n_layers * g.n_kv_heads; ++part)
          CHECK(std::equal(a.begin() + part * n * dim, a.begin() + part * n * dim + 132 * dim,
                           b.begin() + part * n * dim));
      }
      // And from here on they are the same kind of cache.
      if (std::string(profile) == "2bit") continue;
      const LayerOutput x = run_step(cache, g, seq, range(800, 300)), y = run_step(fresh, g, again, range(800, 300));
      CHECK(same_bits(x.out, y.out));
    }
  }
}

namespace {

// A collecting cache and an exact one that are asked the same. Layer 1 has a window in blocks, layer 2 one that is exact.
struct Twins {
  const Geometry g{3, 4, 2, 64, 64};
  const Rope rope;
  oscar_cache_config config = config_of(g, "2bit"), exact_config = config_of(g, "exact");
  std::vector<oscar_layer_config> layers = layers_of(config), exact_layers = layers_of(exact_config);
  std::vector<std::pair<oscar_seq, oscar_seq>> seqs;
  uint64_t next_token = 0;
  Cache cache, exact;

  Twins() : cache(configured()), exact(exact_config) { seqs.push_back({cache.open(), exact.open()}); }

  const oscar_cache_config& configured() {
    layers[1].window = exact_layers[1].window = 400;
    layers[2].window = exact_layers[2].window = 90;
    config.self_calibrate = &rope.args;
    return config;
  }
  std::pair<LayerOutput, LayerOutput> step(size_t i, uint32_t n, uint32_t n_draft) {
    const std::vector<uint64_t> tokens = range(next_token, n);
    next_token += n;
    return {run_step(cache, g, seqs[i].first, tokens, n_draft), run_step(exact, g, seqs[i].second, tokens, n_draft)};
  }
  void step_alike(size_t i, uint32_t n, uint32_t n_draft) {
    const auto [a, b] = step(i, n, n_draft);
    CHECK(same_bits(a.out, b.out));
    CHECK(same_bits(a.lse, b.lse));
  }
  void truncate(size_t i, uint64_t n_tokens) {
    const oscar_status status = oscar_seq_truncate(cache, seqs[i].first, n_tokens);
    CHECK(status == oscar_seq_truncate(exact, seqs[i].second, n_tokens));
  }
  void fork(size_t i, uint64_t n_tokens) {
    oscar_seq a = 0, b = 0;
    const oscar_status status = oscar_seq_fork(cache, seqs[i].first, n_tokens, &a);
    CHECK(status == oscar_seq_fork(exact, seqs[i].second, n_tokens, &b));
    if (status == OSCAR_OK) seqs.push_back({a, b});
  }
  void close(size_t i) {
    OSCAR_OK_(oscar_seq_close(cache, seqs[i].first));
    OSCAR_OK_(oscar_seq_close(exact, seqs[i].second));
    seqs.erase(seqs.begin() + static_cast<std::ptrdiff_t>(i));
  }
};

void do_something(Twins& twins, std::mt19937_64& random) {
  const size_t i = random() % twins.seqs.size();
  const uint64_t length = twins.cache.length(twins.seqs[i].first), op = random() % 8;
  if (op < 4 || length < 10) {
    twins.step_alike(i, op == 0 ? 300 : 1 + static_cast<uint32_t>(random() % 40), 0);
  } else if (op == 4) {
    twins.step_alike(i, 6, 5);
    twins.truncate(i, length + 6 - random() % 6);
  } else if (op == 5 && twins.seqs.size() < 6) {
    twins.fork(i, length - std::min<uint64_t>(length, random() % 60));
  } else if (op == 6) {
    twins.truncate(i, length - std::min<uint64_t>(length, random() % 60));
  } else if (twins.seqs.size() > 2) {
    twins.close(i);
  }
}

}  // namespace

TEST_CASE("a collecting cache gives what an exact one gives, whatever happens, and near that once it is frozen") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    INFO("seed " << seed);
    Twins twins;
    std::mt19937_64 random(seed);
    twins.step_alike(0, 250, 0);
    for (int i = 0; i < 60; ++i) do_something(twins, random);
    const Geometry& g = twins.g;
    Cache& cache = twins.cache;
    const oscar_step open_step = begin(cache, {{twins.seqs[0].first, 3, 0}});
    REFUSED(oscar_cache_freeze(cache, nullptr), OSCAR_E_STATE, "1 steps are open");
    OSCAR_OK_(oscar_step_abort(cache, open_step));

    const oscar_cache_stats before = cache.stats();
    OSCAR_OK_(oscar_cache_freeze(cache, nullptr));
    const oscar_cache_stats after = cache.stats();
    CHECK(after.state == OSCAR_CACHE_FROZEN);
    CHECK(before.n_packed_tokens == 0);
    CHECK(after.n_packed_tokens > 0);
    CHECK(after.n_blocks == before.n_blocks);
    CHECK(after.n_tokens == before.n_tokens);
    CHECK(after.n_exact_pages < before.n_exact_pages);
    CHECK(after.bytes_sequences < before.bytes_sequences);
    for (size_t i = 0; i < twins.seqs.size(); ++i) {
      const auto [seq, twin] = twins.seqs[i];
      CHECK(cache.length(seq) == twins.exact.length(twin));
      for (uint32_t head = 0; head < g.n_kv_heads && cache.length(seq) > 0; ++head)
        CHECK(relative_error(keys_of(cache, g, seq, head), keys_of(twins.exact, g, twin, head)) < 0.3);
      const auto [a, b] = twins.step(i, 40, 0);
      CHECK(relative_error(a.out, b.out) < 0.5);
    }
  }
}

TEST_CASE("a shared block is packed from whoever still has its rows") {
  const Geometry g{1, 4, 2, 64, 64};
  const Rope rope;
  oscar_cache_config config = config_of(g, "2bit-plain");
  config.self_calibrate = &rope.args;
  Cache whole(config), cut(config);
  const oscar_seq a = whole.open(), b = cut.open();
  for (oscar_cache* cache : {static_cast<oscar_cache*>(whole), static_cast<oscar_cache*>(cut)})
    for (uint64_t first = 0; first < 500; first += 100) feed(cache, g, cache == whole ? a : b, range(first, 100));
  oscar_seq child = 0;
  OSCAR_OK_(oscar_seq_fork(cut, b, 500, &child));
  OSCAR_OK_(oscar_seq_truncate(cut, b, 90));  // the first block's rows from 90 on are the child's alone
  feed(cut, g, b, range(9000, 60));           // and other tokens stand in their places
  Calibration first, second;
  OSCAR_OK_(oscar_cache_freeze(whole, &first.handle));
  OSCAR_OK_(oscar_cache_freeze(cut, &second.handle));
  // The new tokens fill no block: keys' and values' statistics are the same, those of queries nearly. The rows that the child
  // alone has are those of the cache that was never cut.
  const std::vector<float> wanted = read_all(whole, g, a), got = read_all(cut, g, child);
  const auto tail = [](const std::vector<float>& all) {
    return std::vector<float>(all.begin() + 90 * 64, all.begin() + 132 * 64);
  };
  CHECK(relative_error(tail(got), tail(wanted)) < 0.3);
  CHECK(relative_error(got, wanted) < 0.1);
  // Parent and child see the same bits in what they share.
  const std::vector<float> parent = read_all(cut, g, b);
  CHECK(std::memcmp(parent.data(), got.data(), 90 * 64 * sizeof(float)) == 0);
}

TEST_CASE("many short sequences that have long been closed are as good as one that is open") {
  const Geometry g{1, 4, 2, 64, 64};
  const Rope rope;
  Cache cache(collecting_config(g, rope));
  for (uint64_t i = 0; i < 4; ++i) {
    const oscar_seq seq = cache.open();
    feed(cache, g, seq, range(1000 * i, 100));
    OSCAR_OK_(oscar_seq_close(cache, seq));
  }
  CHECK(cache.stats().n_tokens == 0);
  Calibration made;
  OSCAR_OK_(oscar_cache_freeze(cache, &made.handle));
  CHECK(made.info().n_tokens == 4 * 96);
  CHECK(made.info().n_data_free_heads < 2);
}

TEST_CASE("elements that are not finite, and heads that cannot be solved for, cost no more than themselves") {
  const Geometry g{1, 4, 2, 64, 64};
  const Rope rope;
  Cache cache(collecting_config(g, rope));
  const oscar_seq seq = cache.open();
  for (uint64_t first = 0; first < 400; first += 100) {
    LayerInput in = rounded_input(g, range(first, 100), 0);
    in.k[5] = INFINITY;
    in.q[7] = NAN;
    // KV head 1 has the same key for every token, and no values.
    for (size_t row = 0; row < 100; ++row)
      for (size_t d = 0; d < 64; ++d) {
        in.k[(row * 2 + 1) * 64 + d] = 1.0f;
        in.v[(row * 2 + 1) * 64 + d] = 0.0f;
      }
    const oscar_step step = begin(cache, {{seq, 100, 0}});
    run_layer(cache, step, g, 0, in);
    OSCAR_OK_(oscar_step_end(cache, step));
  }
  CHECK(cache.stats().n_non_finite == 0);  // nothing is packed yet
  Calibration made;
  OSCAR_OK_(oscar_cache_freeze(cache, &made.handle));
  CHECK(cache.stats().n_non_finite > 0);
  CHECK(made.head(0, 0).is_shaped == 1);
  CHECK(made.head(0, 1).is_data_free == 1);
  CHECK(made.info().n_data_free_heads == 1);
  CHECK(made.info().is_shaped == 0);
}
