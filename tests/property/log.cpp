// A cache tells its log what somebody should know, at once and once, when the call is done; and nothing where nobody asked.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "property/self_calibration.h"

using namespace test;

namespace {

struct Record {
  uint32_t level, event, layer;
  std::string text;
};

// A log that looks at its cache, and whose own calls fail.
struct Listener {
  explicit Listener(oscar_cache* of, uint32_t min_level = 0) : cache(of) {
    const oscar_log_args args{sizeof args, min_level, this, write};
    OSCAR_OK_(oscar_cache_log_set(cache, &args));
  }
  static void write(void* user, const oscar_log_record* r) {
    auto* me = static_cast<Listener*>(user);
    REQUIRE(r->struct_size == sizeof *r);
    me->records.push_back({r->level, r->event, r->layer, r->text});
    oscar_cache_stats s{};
    s.struct_size = sizeof s;
    OSCAR_OK_(oscar_cache_stats_get(me->cache, &s));
    me->n_open_steps = s.n_open_steps;
    uint64_t n = 0;
    CHECK(oscar_seq_length(me->cache, 12345, &n) == OSCAR_E_NOT_FOUND);
    if (me->throws) throw std::runtime_error("not the library's business");
  }
  std::vector<Record> of(uint32_t event) const {
    std::vector<Record> found;
    for (const Record& r : records)
      if (r.event == event) found.push_back(r);
    return found;
  }
  oscar_cache* cache;
  std::vector<Record> records;
  uint32_t n_open_steps = 0;
  bool throws = false;
};

const Geometry kGeometry{2, 2, 1, 64, 64};

oscar_cache_config config() {
  oscar_cache_config c = config_of(kGeometry, "2bit");
  c.n_recent = 16;
  return c;
}

}  // namespace

TEST_CASE("a refusal for want of room is told with the text of the last error, whatever the log's own calls do") {
  oscar_cache_config c = config();
  c.capacity_bytes = 1u << 20;
  c.max_sequences = 2;
  c.max_tokens = 65536;
  Cache cache(c);
  Listener log(cache);
  const oscar_seq seq = cache.open();
  oscar_seq other = 0;
  std::vector<std::string> told;
  const auto refused = [&](oscar_status status) {
    CHECK(oscar_status_name(status) == std::string("OSCAR_E_NO_SPACE"));
    told.emplace_back(oscar_last_error());
  };
  oscar_status status = OSCAR_OK;
  for (uint64_t n = 0; status == OSCAR_OK && n < 1000; ++n) {
    const oscar_step_entry entry{seq, 40, 0};
    const oscar_step_args args{sizeof args, 1, &entry, 0, 0};
    oscar_step step = 0;
    status = oscar_step_begin(cache, &args, nullptr, &step);
    if (status != OSCAR_OK) break;
    for (uint32_t layer = 0; layer < 2; ++layer) {
      LayerInput in = make_input(kGeometry, range(40 * n, 40), layer);
      run_layer(cache, step, kGeometry, layer, in);
    }
    OSCAR_OK_(oscar_step_end(cache, step));
    CHECK(log.records.empty());
  }
  refused(status);
  CHECK(told[0].find("bytes short") != std::string::npos);
  OSCAR_OK_(oscar_seq_open(cache, &other));
  refused(oscar_seq_open(cache, &other));
  REQUIRE(log.records.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    CHECK(log.records[i].level == OSCAR_LOG_WARNING);
    CHECK(log.records[i].event == OSCAR_EVENT_NO_SPACE);
    CHECK(log.records[i].layer == OSCAR_DEFAULT);
    CHECK(log.records[i].text == told[i]);
  }
  CHECK(oscar_seq_close(cache, 99) == OSCAR_E_NOT_FOUND);  // an error of the caller is none of the cache's news
  CHECK(log.records.size() == 2);

  const oscar_log_args off{sizeof off, 0, nullptr, nullptr}, wrong{sizeof wrong, 3, nullptr, nullptr};
  REFUSED(oscar_cache_log_set(cache, &wrong), OSCAR_E_INVALID, "args.min_level is 3, allowed");
  CHECK(oscar_seq_open(cache, &other) == OSCAR_E_NO_SPACE);
  CHECK(log.records.size() == 3);
  OSCAR_OK_(oscar_cache_log_set(cache, &off));
  CHECK(oscar_seq_open(cache, &other) == OSCAR_E_NO_SPACE);
  CHECK(log.records.size() == 3);
}

TEST_CASE("elements that are not finite are told once, with their layer and number, when they are packed") {
  Cache cache(config());
  Listener log(cache);
  const oscar_seq seq = cache.open();
  for (uint64_t first : {0u, 64u, 128u, 192u, 256u, 320u, 384u}) {  // two blocks, of which the first has them
    const oscar_step step = begin(cache, {{seq, 64, 0}});
    for (uint32_t layer = 0; layer < 2; ++layer) {
      LayerInput in = make_input(kGeometry, range(first, 64), layer);
      if (layer == 1 && first == 64) in.k[5] = NAN, in.v[700] = INFINITY, in.v[701] = -INFINITY;
      run_layer(cache, step, kGeometry, layer, in);
    }
    OSCAR_OK_(oscar_step_end(cache, step));
  }
  REQUIRE(log.records.size() == 1);
  CHECK(log.records[0].event == OSCAR_EVENT_NON_FINITE);
  CHECK(log.records[0].level == OSCAR_LOG_WARNING);
  CHECK(log.records[0].layer == 1);
  CHECK(log.records[0].text.find("3 elements") != std::string::npos);
  CHECK(log.n_open_steps == 1);  // the step that packed had begun
  oscar_layer_stats s{};
  s.struct_size = sizeof s;
  OSCAR_OK_(oscar_layer_stats_get(cache, 1, &s));
  CHECK(s.n_non_finite == 3);
  CHECK(cache.stats().n_non_finite == 3);
}

TEST_CASE(
    "a freeze tells what it has made, and which heads stay data-free; what the log throws does not reach the caller") {
  for (const bool throws : {false, true}) {
    const Rope rope;
    oscar_cache_config c = config();
    c.self_calibrate = &rope.args;
    Cache cache(c);
    Listener log(cache);
    log.throws = throws;
    const oscar_seq seq = cache.open();
    const oscar_step step = begin(cache, {{seq, 300, 0}});
    for (uint32_t layer = 0; layer < 2; ++layer) {
      LayerInput in = make_input(kGeometry, range(0, 300), layer);
      if (layer == 1) std::fill(in.v.begin(), in.v.end(), 0.0f);  // of zeros no transform can be made
      run_layer(cache, step, kGeometry, layer, in);
    }
    OSCAR_OK_(oscar_step_end(cache, step));
    CHECK(log.records.empty());
    OSCAR_OK_(oscar_cache_freeze(cache, nullptr));
    const auto made = log.of(OSCAR_EVENT_FREEZE), fallbacks = log.of(OSCAR_EVENT_DATA_FREE);
    REQUIRE(made.size() == 1);
    CHECK(made[0].level == OSCAR_LOG_INFO);
    CHECK(made[0].layer == OSCAR_DEFAULT);
    CHECK(made[0].text.find("2 KV heads") != std::string::npos);
    const bool tells = std::any_of(fallbacks.begin(), fallbacks.end(), [](const Record& r) {
      return r.layer == 1 &&
             r.text.find("keys of 0 and values of 1 stay data-free, as no transform") != std::string::npos;
    });
    CHECK(tells);
    run_step(cache, kGeometry, seq, range(300, 1));  // it goes on
    CHECK(cache.stats().state == OSCAR_CACHE_FROZEN);
  }
}

TEST_CASE(
    "a drift is told when it begins, and again only after it has ended; only warnings where only they are wanted") {
  // A calibration for rows whose first half is large; those of layer 0 that are served later have the other half large.
  oscar_cache_config c = config();
  std::vector<float> factors(64, 2.0f);
  std::fill_n(factors.begin(), 32, 0.5f);
  Calibration calibration;
  scale_elements(factors, calibration);
  c.calibration = calibration.handle;
  c.max_tokens = 65536;
  Cache cache(c);
  Listener log(cache, OSCAR_LOG_WARNING);
  const oscar_seq seq = cache.open();
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  const auto serve = [&](bool drifts) {
    for (int i = 0; i < 50; ++i) {  // 50 blocks of one head: three looks, and a part of one
      const oscar_step step = begin(cache, {{seq, 128, 0}});
      for (uint32_t layer = 0; layer < 2; ++layer) {
        std::vector<float> k(128 * 64), v(128 * 64);
        for (size_t j = 0; j < k.size(); ++j) {
          const bool is_large = (j % 64 < 32) != (drifts && layer == 0);
          k[j] = normal(random) * (is_large ? 4.0f : 0.25f);
          v[j] = normal(random) * (j % 64 < 32 ? 4.0f : 0.25f);
        }
        oscar_append_args a{};
        a.struct_size = sizeof a;
        a.layer = layer;
        a.k = tensor(k.data(), {128, 1, 64});
        a.v = tensor(v.data(), {128, 1, 64});
        OSCAR_OK_(oscar_append(cache, step, &a, nullptr));
      }
      OSCAR_OK_(oscar_step_end(cache, step));
    }
  };
  serve(false);
  CHECK(log.records.empty());
  serve(true);
  REQUIRE(log.records.size() == 1);
  CHECK(log.records[0].level == OSCAR_LOG_WARNING);
  CHECK(log.records[0].event == OSCAR_EVENT_DRIFT);
  CHECK(log.records[0].layer == 0);
  CHECK(log.records[0].text.find("for the keys of ") != std::string::npos);
  serve(true);
  CHECK(log.records.size() == 1);
  serve(false);
  CHECK(log.records.size() == 1);
  serve(true);
  CHECK(log.records.size() == 2);
  const Listener other(cache);  // a drift that goes on is news to a log that begins
  serve(true);
  CHECK(log.records.size() == 2);
  CHECK(other.records.size() == 1);
}
