// Memory: what check predicts is what stats report, and capacity tells how far a new sequence can go.
#include "property/cache_fixture.h"

using namespace test;

namespace {

oscar_cache_report check(const oscar_cache_config& config, uint64_t context) {
  oscar_cache_report report{};
  report.struct_size = sizeof report;
  OSCAR_OK_(oscar_cache_check(&config, context, &report));
  INFO(report.reason);
  REQUIRE(report.served == 1);
  return report;
}

void feed_to(oscar_cache* cache, const Geometry& g, oscar_seq seq, uint64_t target, uint64_t chunk) {
  uint64_t n = 0;
  OSCAR_OK_(oscar_seq_length(cache, seq, &n));
  for (; n < target; n += std::min(chunk, target - n)) feed_same(cache, g, seq, std::min(chunk, target - n));
}

}  // namespace

TEST_CASE("stats report the bytes that check predicted, however the tokens were fed") {
  std::vector<const char*> profiles{"2bit", "2bit-plain", "4bit", "exact"};
#ifndef OSCAR_TEST_ON_DEVICE
  profiles.push_back("8bit");  // of the CPU alone
#endif
  for (const char* profile : profiles) {
    for (uint64_t chunk : {1ull, 32ull, 500ull}) {
      const Geometry g{2, 4, 2, 64, 96};
      oscar_cache_config config = config_of(g, profile);
      Cache cache(config);
      const oscar_seq seq = cache.open();
      for (uint64_t context : {0ull, 3ull, 36ull, 164ull, 1000ull, 1060ull}) {
        INFO(profile << " chunk " << chunk << " context " << context);
        feed_to(cache, g, seq, context, chunk);
        const oscar_step step = begin(cache, {{seq, 1, 0}});
        const oscar_cache_stats s = cache.stats();
        const oscar_cache_report r = check(config, context);
        CHECK(s.bytes_sequences == r.bytes_sequences);
        CHECK(s.bytes_fixed == r.bytes_fixed);
        CHECK(s.bits_per_element == doctest::Approx(r.bits_per_element));
        OSCAR_OK_(oscar_step_abort(cache, step));
      }
    }
  }
}

TEST_CASE("bits per element at 1K, 8K, 32K and 128K are those predicted; 2-bit, 64/256 windows: <= 2.25 at 128K") {
  const Geometry g{1, 8, 8, 128, 128};
  oscar_cache_config config = config_of(g, "2bit");
  config.n_sink = 64;
  config.n_recent = 256;
  config.max_tokens = 131072 + 1;
  config.max_step_tokens = 2048;
  config.max_sequences = 1;
  config.capacity_bytes = 256u << 20;
  Cache cache(config);
  const oscar_seq seq = cache.open();
  double last = 16.0;
  for (uint64_t context : {1024ull, 8192ull, 32768ull, 131072ull}) {
    feed_to(cache, g, seq, context, 2048);
    const oscar_step step = begin(cache, {{seq, 1, 0}});
    const oscar_cache_stats s = cache.stats();
    const oscar_cache_report r = check(config, context);
    MESSAGE("context " << context << ": " << s.bits_per_element << " bits per element, blocks alone "
                       << r.block_bits_per_element);
    CHECK(s.bytes_sequences == r.bytes_sequences);
    CHECK(s.bits_per_element == doctest::Approx(r.bits_per_element).epsilon(1e-12));
    last = s.bits_per_element;
    OSCAR_OK_(oscar_step_abort(cache, step));
  }
  CHECK(last <= 2.25);
}

TEST_CASE("capacity is exact: that many tokens fit one by one, and the next step is refused") {
  for (const char* profile : {"2bit", "exact"}) {
    const Geometry g{2, 4, 2, 64, 64};
    oscar_cache_config config = config_of(g, profile);
    config.max_tokens = 100000;
    config.capacity_bytes = 6u << 20;
    Cache cache(config);
    const oscar_seq other = cache.open();
    feed_to(cache, g, other, 777, 100);
    uint64_t n = 0;
    OSCAR_OK_(oscar_cache_capacity(cache, &n));
    REQUIRE(n > 500);
    const oscar_seq seq = cache.open();
    feed_to(cache, g, seq, n, 1);
    const oscar_step_entry entry{seq, 1, 0};
    const oscar_step_args a{sizeof a, 1, &entry, 0, 0};
    oscar_step step = 3;
    CHECK(oscar_step_begin(cache, &a, nullptr, &step) == OSCAR_E_NO_SPACE);
    CHECK(step == 0);
    CHECK(cache.length(seq) == n);
  }
}

TEST_CASE("packed tokens are those of the layer that reads the most from blocks, whatever the other layers are") {
  const Geometry g{3, 4, 2, 64, 64};
  // Which layers have a sliding window of 400, as blocks; 0 of them keep it exact.
  for (const std::vector<uint32_t>& windowed : std::vector<std::vector<uint32_t>>{{}, {0}, {2}, {0, 1, 2}}) {
    oscar_cache_config config = config_of(g, "2bit");
    std::vector<oscar_layer_config> layers = layers_of(config);
    for (uint32_t layer : windowed) layers[layer].window = 400;
    layers[1].n_refined = 8;  // a class of its own
    Cache cache(config);
    const oscar_seq first = cache.open(), second = cache.open();
    feed_to(cache, g, first, 1000, 100);
    feed_to(cache, g, second, 300, 100);
    CAPTURE(windowed.size());
    // Full: of 1000 tokens, 4 are sinks and 32 recent; begin for the last 100 saw 900: 6 blocks. Of 300: 200, 1 block.
    // Windowed: no sinks, 6 blocks too, of which those before 1000 - 400 - 8 = 592 are gone: 4. Of 300: 1.
    CHECK(cache.stats().n_packed_tokens == (windowed.size() == 3 ? 2 + 1 : 6 + 1) * 128);
  }
}

TEST_CASE("a fork shares blocks and pays only for its exact rows and scores") {
  const Geometry g{1, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  config.max_sequences = 40;
  Cache cache(config);
  const oscar_seq parent = cache.open();
  feed_to(cache, g, parent, 2000, 500);
  const oscar_cache_stats before = cache.stats();
  oscar_seq child = 0;
  for (int i = 0; i < 30; ++i) OSCAR_OK_(oscar_seq_fork(cache, parent, 2000, &child));
  const oscar_cache_stats after = cache.stats();
  CHECK(after.n_blocks == before.n_blocks);
  CHECK(after.n_exact_pages == 31 * before.n_exact_pages);
  CHECK(after.n_tokens == 31 * before.n_tokens);
}
