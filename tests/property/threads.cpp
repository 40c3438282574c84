// The header's rule of threads: const calls may run beside one another, and caches that share a calibration beside one
// another. Results are those of one thread; the thread sanitizer (preset tsan) looks for races.
#include <atomic>
#include <functional>
#include <thread>

#include "property/cache_fixture.h"

using namespace test;

namespace {

// doctest's macros are for one thread: the others count what fails.
void run_beside(uint32_t n_threads, const std::function<void(uint32_t, std::atomic<int>&)>& work) {
  std::atomic<int> n_failures{0};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < n_threads; ++i) threads.emplace_back([&, i] { work(i, n_failures); });
  for (std::thread& thread : threads) thread.join();
  CHECK(n_failures == 0);
}

}  // namespace

TEST_CASE("const calls run beside one another and give what they give alone") {
  const Geometry g{2, 4, 2, 64, 64};
  const Cache cache(config_of(g, "2bit"));
  const oscar_seq seq = cache.open();
  const uint64_t n = 400;
  run_step(cache, g, seq, range(0, 300));
  run_step(cache, g, seq, range(300, 100));
  struct View {
    std::vector<float> keys, values, scores;
    uint64_t length = 0, capacity = 0;
    oscar_cache_stats stats{};
  };
  auto look = [&](uint32_t head) {
    View v{std::vector<float>(n * 64), std::vector<float>(n * 64), std::vector<float>(n)};
    v.stats.struct_size = sizeof v.stats;
    const auto rows = static_cast<int64_t>(n);
    const oscar_tensor k = tensor(v.keys.data(), {rows, 64}), x = tensor(v.values.data(), {rows, 64}),
                       s = tensor(v.scores.data(), {rows});
    const bool ok = oscar_read(cache, seq, 1, head, 0, n, &k, &x) == OSCAR_OK &&
                    oscar_scores(cache, seq, 1, head, 0, n, &s) == OSCAR_OK &&
                    oscar_seq_length(cache, seq, &v.length) == OSCAR_OK &&
                    oscar_cache_capacity(cache, &v.capacity) == OSCAR_OK &&
                    oscar_cache_stats_get(cache, &v.stats) == OSCAR_OK;
    if (!ok) v.length = UINT64_MAX;
    return v;
  };
  const View alone[2] = {look(0), look(1)};
  REQUIRE(alone[0].length == n);
  // Of a sequence that does not exist, with its number in the text.
  auto error_of = [&](uint32_t i) {
    uint64_t length = 0;
    return oscar_seq_length(cache, 1000 + i, &length) == OSCAR_E_NOT_FOUND ? std::string(oscar_last_error()) : "";
  };
  std::vector<std::string> errors;
  for (uint32_t i = 0; i < 4; ++i) errors.push_back(error_of(i));
  REQUIRE(errors[0] != errors[1]);
  run_beside(4, [&](uint32_t i, std::atomic<int>& n_failures) {
    for (int round = 0; round < 20; ++round) {
      const View& want = alone[i % 2];
      const View got = look(i % 2);
      const bool same = same_bits(got.keys, want.keys) && same_bits(got.values, want.values) &&
                        same_bits(got.scores, want.scores) && got.length == want.length &&
                        got.capacity == want.capacity && std::memcmp(&got.stats, &want.stats, sizeof got.stats) == 0;
      // The text of an error belongs to its thread.
      bool refused = true;
      for (int again = 0; again < 1000; ++again) refused &= error_of(i) == errors[i];
      n_failures += !same || !refused;
    }
  });
}

TEST_CASE("caches that share a calibration work in parallel threads as they work alone") {
  const Geometry g{2, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  oscar_calibration* calibration = nullptr;
  OSCAR_OK_(oscar_calibration_default(&config, &calibration));
  config.calibration = calibration;
  auto outputs = [&](uint32_t i) {
    std::vector<float> all;
    const Cache cache(config);
    const oscar_seq seq = cache.open();
    for (uint64_t n : {200ull, 1ull, 30ull, 1ull, 140ull}) {
      const LayerOutput out = run_step(cache, g, seq, range(1000 * i + cache.length(seq), n));
      all.insert(all.end(), out.out.begin(), out.out.end());
    }
    return all;
  };
  std::vector<std::vector<float>> alone, beside(3);
  for (uint32_t i = 0; i < 3; ++i) alone.push_back(outputs(i));
  run_beside(3, [&](uint32_t i, std::atomic<int>&) { beside[i] = outputs(i); });
  oscar_calibration_destroy(calibration);
  for (uint32_t i = 0; i < 3; ++i) CHECK(same_bits(alone[i], beside[i]));
}
