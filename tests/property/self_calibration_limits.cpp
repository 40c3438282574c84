// Caches that calibrate themselves: what is refused, what they cost, and slices of what they make.
#include "property/self_calibration.h"

using namespace test;

TEST_CASE("too few tokens are refused, nothing has changed, and more of them will do") {
  const Geometry g{2, 4, 2, 64, 64};
  const Rope rope;
  Cache cache(collecting_config(g, rope));
  auto* untouched = reinterpret_cast<oscar_calibration*>(&cache);
  REFUSED(oscar_cache_freeze(cache, &untouched), OSCAR_E_STATE, "a sequence of 196 tokens has them");
  CHECK(untouched == nullptr);
  const oscar_seq seq = cache.open();
  feed(cache, g, seq, range(0, 195));
  REFUSED(oscar_cache_freeze(cache, nullptr), OSCAR_E_STATE, "128 keys to learn from and 0 to test with");
  CHECK(cache.stats().state == OSCAR_CACHE_COLLECTING);
  feed(cache, g, seq, range(195, 1));
  OSCAR_OK_(oscar_cache_freeze(cache, nullptr));
  REFUSED(oscar_cache_freeze(cache, nullptr), OSCAR_E_STATE, "frozen already");
}

TEST_CASE("wider heads say how many tokens they need") {
  const Geometry g{1, 2, 1, 256, 256};
  const Rope rope(256);
  Cache cache(collecting_config(g, rope));
  const oscar_seq seq = cache.open();
  feed(cache, g, seq, range(0, 387));
  REFUSED(oscar_cache_freeze(cache, nullptr), OSCAR_E_STATE, "a sequence of 388 tokens has them");
  feed(cache, g, seq, range(387, 1));
  OSCAR_OK_(oscar_cache_freeze(cache, nullptr));
}

TEST_CASE("without frequencies a cache freezes when a sequence has had every position") {
  const Geometry g{1, 4, 2, 64, 64};
  Rope rope(64, 600);
  rope.args.rope_frequencies = {};
  oscar_cache_config config = collecting_config(g, rope);
  oscar_cache_report report{};
  report.struct_size = sizeof report;
  OSCAR_OK_(oscar_cache_check(&config, 100, &report));
  CHECK(report.served == 1);
  CHECK(std::string(report.reason).find("without rope_frequencies") != std::string::npos);
  Cache cache(config);
  const oscar_seq seq = cache.open();
  feed(cache, g, seq, range(0, 500));
  REFUSED(oscar_cache_freeze(cache, nullptr), OSCAR_E_STATE, "600 positions are to be served");
  feed(cache, g, seq, range(500, 100 + 128));
  Calibration made;
  OSCAR_OK_(oscar_cache_freeze(cache, &made.handle));
  CHECK(made.info().knows_rope == 0);
}

TEST_CASE("what cannot calibrate itself is refused when it is created") {
  const Geometry g{1, 4, 2, 64, 64};
  const Rope rope;
  oscar_cache_config config = config_of(g, "2bit");
  Calibration free;
  OSCAR_OK_(oscar_calibration_default(&config, &free.handle));
  oscar_cache* made = nullptr;
  config.self_calibrate = &rope.args;
  config.calibration = free.handle;
  REFUSED(oscar_cache_create(&config, &made), OSCAR_E_INVALID, "both given");
  config.calibration = nullptr;
  config.writer = OSCAR_WRITER_SHAPED;
  REFUSED(oscar_cache_create(&config, &made), OSCAR_E_UNSUPPORTED, "shaped writer");
  config.writer = OSCAR_WRITER_AUTO;
  config.device_type = OSCAR_DEVICE_CUDA;
  REFUSED(oscar_cache_create(&config, &made), OSCAR_E_UNSUPPORTED, "on the CPU only");
  config.device_type = OSCAR_DEVICE_CPU;
  oscar_calibrator_args bad = rope.args;
  bad.rope_pairing = 2;
  config.self_calibrate = &bad;
  REFUSED(oscar_cache_create(&config, &made), OSCAR_E_INVALID, "rope_pairing is 2");
  bad = rope.args;
  const std::string long_name(64, 'x'), long_note(128, 'y');
  bad.model = long_name.c_str();
  REFUSED(oscar_cache_create(&config, &made), OSCAR_E_INVALID, "model has more than 63 bytes");
  bad.model = nullptr;
  bad.note = long_note.c_str();
  REFUSED(oscar_cache_create(&config, &made), OSCAR_E_INVALID, "note has more than 127 bytes");
  oscar_cache_config exact = config_of(g, "exact");
  exact.self_calibrate = &rope.args;
  REFUSED(oscar_cache_create(&exact, &made), OSCAR_E_INVALID, "every layer is exact");
  CHECK(made == nullptr);
  config.self_calibrate = nullptr;
  Cache plain(config);
  REFUSED(oscar_cache_freeze(plain, nullptr), OSCAR_E_STATE, "without self_calibrate");
  REFUSED(oscar_cache_freeze(nullptr, nullptr), OSCAR_E_INVALID, "cache is NULL");
}

TEST_CASE("graph replays wait for the freeze") {
  const Geometry g{1, 4, 2, 64, 64};
  const Rope rope;
  Cache cache(collecting_config(g, rope));
  const oscar_step_entry entry{cache.open(), 1, 0};
  const oscar_step_args a{sizeof a, 1, &entry, 1, 0};
  oscar_step step = 1;
  REFUSED(oscar_step_begin(cache, &a, nullptr, &step), OSCAR_E_STATE, "oscar_cache_freeze comes first");
}

TEST_CASE("a collecting cache costs what check predicts, and once frozen too") {
  for (const char* profile : {"2bit", "3bit"}) {
    const Geometry g{3, 4, 2, 64, 96};
    const Rope rope;
    oscar_cache_config config = config_of(g, profile);
    std::vector<oscar_layer_config> layers = layers_of(config);
    layers[1].window = 500;
    layers[2].storage = OSCAR_STORAGE_EXACT;
    config.self_calibrate = &rope.args;
    Cache cache(config);
    const oscar_seq seq = cache.open();
    uint64_t fed = 0;
    const auto predicted = [&](uint64_t context) {
      oscar_cache_report r{};
      r.struct_size = sizeof r;
      OSCAR_OK_(oscar_cache_check(&config, context, &r));
      return r;
    };
    for (uint64_t context : {0ull, 36ull, 164ull, 400ull, 1060ull}) {
      INFO(profile << " context " << context);
      while (fed < context) {
        const uint64_t n = std::min<uint64_t>(90, context - fed);
        feed(cache, g, seq, range(fed, n));
        fed += n;
      }
      const oscar_step step = begin(cache, {{seq, 1, 0}});
      CHECK(cache.stats().bytes_sequences == predicted(context).bytes_sequences);
      CHECK(cache.stats().bytes_fixed == predicted(context).bytes_fixed);
      CHECK(predicted(context).bytes_sequences >= predicted(context).bytes_sequences_frozen);
      OSCAR_OK_(oscar_step_abort(cache, step));
    }
    Calibration made;
    OSCAR_OK_(oscar_cache_freeze(cache, &made.handle));
    const oscar_step step = begin(cache, {{seq, 1, 0}});
    CHECK(cache.stats().bytes_sequences == predicted(fed).bytes_sequences_frozen);
    CHECK(cache.stats().bytes_fixed <= predicted(fed).bytes_fixed_frozen);
    CHECK(cache.stats().bytes_calibration == made.info().bytes);
    OSCAR_OK_(oscar_step_abort(cache, step));
  }
}

TEST_CASE("a collecting cache that is full says so, loses nothing, and goes on after the freeze") {
  const Geometry g{2, 4, 2, 64, 64};
  const Rope rope;
  oscar_cache_config config = config_of(g, "2bit");
  config.capacity_bytes = 2u << 20;
  config.max_tokens = 20000;
  config.self_calibrate = &rope.args;
  Cache cache(config);
  uint64_t capacity = 0, n = 0;
  OSCAR_OK_(oscar_cache_capacity(cache, &capacity));
  const oscar_seq seq = cache.open();
  REQUIRE(capacity > 400);
  for (; n < capacity; ++n) feed(cache, g, seq, range(n, 1));
  const oscar_step_entry entry{seq, 1, 0};
  const oscar_step_args a{sizeof a, 1, &entry, 0, 0};
  oscar_step step = 0;
  REFUSED(oscar_step_begin(cache, &a, nullptr, &step), OSCAR_E_NO_SPACE, "until oscar_cache_freeze");
  CHECK(cache.length(seq) == n);
  OSCAR_OK_(oscar_cache_freeze(cache, nullptr));
  CHECK(cache.length(seq) == n);
  for (uint64_t end = 3 * n; n < end; n += 50) feed(cache, g, seq, range(n, 50));
}

TEST_CASE("a slice is the heads it names, and a cache takes it") {
  const Geometry g{3, 4, 2, 64, 64};
  const Rope rope;
  Cache cache(collecting_config(g, rope));
  const oscar_seq seq = cache.open();
  feed(cache, g, seq, range(0, 300));
  Calibration all, part;
  OSCAR_OK_(oscar_cache_freeze(cache, &all.handle));
  const oscar_calibration_part parts[] = {{2, 1, 1}, {0, 0, 1}, {1, 1, 1}};
  OSCAR_OK_(oscar_calibration_slice(all.handle, parts, 3, &part.handle));
  CHECK(part.info().n_layers == 3);
  CHECK(part.info().n_heads == 3);
  CHECK(part.info().n_tokens == all.info().n_tokens);
  CHECK(part.info().bytes < all.info().bytes);
  for (uint32_t i = 0; i < 3; ++i)
    CHECK(part.head(i, 0).fingerprint == all.head(parts[i].layer, parts[i].first_kv_head).fingerprint);
  const Geometry rank{3, 2, 1, 64, 64};
  oscar_cache_config rank_config = config_of(rank, "2bit");
  rank_config.calibration = part.handle;
  Cache rank_cache(rank_config);
  CHECK(rank_cache.stats().bytes_calibration == part.info().bytes);

  oscar_calibration* none = nullptr;
  const oscar_calibration_part beyond[] = {{3, 0, 1}, {0, 2, 1}, {0, 1, 2}, {0, 0, 0}, {0, 1, UINT32_MAX}};
  for (const oscar_calibration_part& bad : beyond)
    CHECK(oscar_calibration_slice(all.handle, &bad, 1, &none) == OSCAR_E_INVALID);
  CHECK(oscar_calibration_slice(all.handle, parts, 0, &none) == OSCAR_E_INVALID);
  CHECK(oscar_calibration_slice(all.handle, nullptr, 1, &none) == OSCAR_E_INVALID);
  oscar_calibration_head_info info{};
  info.struct_size = sizeof info;
  CHECK(oscar_calibration_head_get(all.handle, 3, 0, &info) == OSCAR_E_INVALID);
  CHECK(oscar_calibration_head_get(all.handle, 0, 2, &info) == OSCAR_E_INVALID);
}
