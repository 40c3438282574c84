// The header's rule of threads: const calls may run beside one another, caches that share a calibration beside one another,
// and every other call has its cache to itself, whatever thread it comes from. Results are those of one thread; the thread
// sanitizer (preset tsan) looks for races.
#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include "property/exported.h"

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

uint64_t n_threads_of_process() {
  return static_cast<uint64_t>(std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}));
}

// What a cache gives for long and short steps, batches, drafts and single tokens, over two splits of the
// blocks.
std::vector<float> run_through(const Geometry& g, oscar_cache_config config, uint32_t n_threads) {
  config.n_threads = n_threads;
  config.max_tokens = 16384;
  Cache cache(config);
  std::vector<float> all;
  const auto keep = [&](const LayerOutput& output) {
    all.insert(all.end(), output.out.begin(), output.out.end());
    all.insert(all.end(), output.lse.begin(), output.lse.end());
  };
  const oscar_seq seq = cache.open(), other = cache.open();
  for (uint64_t t = 0; t < 5000; t += 500) keep(run_step(cache, g, seq, range(t, 500)));
  for (uint64_t t = 0; t < 300; t += 100) keep(run_step(cache, g, other, range(50000 + t, 100)));
  for (uint64_t t = 0; t < 4; ++t) {
    keep(run_step(cache, g, seq, range(5000 + t, 1)));
    const oscar_step step = begin(cache, {{other, 3, 2}, {0, 1, 0}, {seq, 40, 0}});
    std::vector<uint64_t> tokens = range(60000 + 3 * t, 44);
    for (uint32_t layer = 0; layer < g.n_layers; ++layer) {
      LayerInput in = make_input(g, tokens, layer);
      keep(run_layer(cache, step, g, layer, in));
    }
    OSCAR_OK_(oscar_step_abort(cache, step));
  }
  const uint64_t n = 5004;
  std::vector<float> keys(n * g.key_dim), scores(n);
  const oscar_tensor k = tensor(keys.data(), {static_cast<int64_t>(n), g.key_dim}),
                     s = tensor(scores.data(), {static_cast<int64_t>(n)});
  OSCAR_OK_(oscar_read(cache, seq, 0, 0, 0, n, &k, nullptr));
  OSCAR_OK_(oscar_scores(cache, seq, 0, 0, 0, n, &s));
  all.insert(all.end(), keys.begin(), keys.end());
  all.insert(all.end(), scores.begin(), scores.end());
  return all;
}

}  // namespace

TEST_CASE("results do not depend on the number of threads") {
  for (const Geometry& g : {Geometry{1, 4, 1, 64, 64}, Geometry{1, 6, 3, 64, 96}}) {
    const oscar_cache_config config = config_of(g, "2bit");
    const std::vector<float> one = run_through(g, config, 1);
    for (uint32_t n_threads : {2u, 3u, 7u}) CHECK(same_bits(run_through(g, config, n_threads), one));
  }
}

TEST_CASE("a cache has the threads that it was asked to have, and no longer than it lives") {
  const Geometry g;
  oscar_cache_config config = config_of(g, "2bit");
  const uint64_t before = n_threads_of_process();
  for (uint32_t n_threads : {0u, 1u, OSCAR_DEFAULT, 4u}) {
    config.n_threads = n_threads;
    {
      const Cache cache(config);
      run_step(cache, g, cache.open(), range(0, 200));
      CHECK(n_threads_of_process() == before + (n_threads == 4 ? 3 : 0));
    }
    // A thread that has been joined may show for a moment.
    for (int i = 0; i < 1000 && n_threads_of_process() != before; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(n_threads_of_process() == before);
  }
  config.n_threads = 1025;
  oscar_cache* cache = nullptr;
  REFUSED(oscar_cache_create(&config, &cache), OSCAR_E_INVALID, "n_threads is 1025, allowed: 1 .. 1024");
}

TEST_CASE("const calls run beside one another and give what they give alone") {
  const Geometry g{2, 4, 2, 64, 64};
  const Cache cache(config_of(g, "2bit"));
  const oscar_seq seq = cache.open();
  const uint64_t n = 400;
  run_step(cache, g, seq, range(0, 300));
  run_step(cache, g, seq, range(300, 100));
  struct View {
    std::vector<float> keys, values, scores;
    uint64_t length = 0, capacity = 0, size = 0;
    oscar_cache_stats stats{};
    ExportedBytes bytes{};
  };
  auto look = [&](uint32_t head) {
    View v{std::vector<float>(n * 64), std::vector<float>(n * 64), std::vector<float>(n)};
    v.stats.struct_size = sizeof v.stats;
    const oscar_export_args whole{sizeof whole, 0, 0, &v.bytes, append_bytes};
    const auto rows = static_cast<int64_t>(n);
    const oscar_tensor k = tensor(v.keys.data(), {rows, 64}), x = tensor(v.values.data(), {rows, 64}),
                       s = tensor(v.scores.data(), {rows});
    const bool ok = oscar_read(cache, seq, 1, head, 0, n, &k, &x) == OSCAR_OK &&
                    oscar_scores(cache, seq, 1, head, 0, n, &s) == OSCAR_OK &&
                    oscar_seq_export(cache, seq, &whole, &v.size) == OSCAR_OK &&
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
                        same_bits(got.scores, want.scores) && got.bytes == want.bytes && got.length == want.length &&
                        got.capacity == want.capacity && std::memcmp(&got.stats, &want.stats, sizeof got.stats) == 0;
      // The text of an error belongs to its thread.
      bool refused = true;
      for (int again = 0; again < 1000; ++again) refused &= error_of(i) == errors[i];
      n_failures += !same || !refused;
    }
  });
}

namespace {

// Makes a call that has the cache to itself.
template <class Call>
auto alone(std::shared_mutex& turn, Call&& call) {
  const std::unique_lock lock(turn);
  return call();
}

// A cache that threads share by the header's rule, each with a sequence and a step of its own.
class SharedCache {
 public:
  SharedCache() : cache_(config()) {
    for (oscar_seq& seq : seqs_) seq = cache_.open();
    run_step(cache_, kGeometry, prompt_, range(90000, 300));
  }

  static constexpr uint32_t kThreads = 3;

  // Five steps of sequence i: what attention gives, and within each step what the keys of a head and its scores are, and the
  // export of a sequence that is in none.
  std::vector<float> run(uint32_t i) {
    std::vector<float> all;
    uint64_t length = 0;
    for (uint32_t n : {200u, 1u, 30u, 1u, 140u}) {
      const oscar_step step = alone(turn_, [&] { return begin(cache_, {{seqs_[i], n, 0}}); });
      for (uint32_t layer = 0; layer < kGeometry.n_layers; ++layer) {
        LayerInput in = make_input(kGeometry, range(1000 * i + length, n), layer);
        const LayerOutput out = alone(turn_, [&] { return run_layer(cache_, step, kGeometry, layer, in); });
        all.insert(all.end(), out.out.begin(), out.out.end());
        all.insert(all.end(), out.lse.begin(), out.lse.end());
      }
      look(seqs_[i], length, all);
      alone(turn_, [&] { OSCAR_OK_(oscar_step_end(cache_, step)); });
      length += n;
    }
    return all;
  }

 private:
  static constexpr Geometry kGeometry{2, 4, 2, 64, 64};

  static oscar_cache_config config() {
    oscar_cache_config c = config_of(kGeometry, "2bit");
    c.max_open_steps = kThreads;
    c.n_threads = 2;
    return c;
  }

  void look(oscar_seq seq, uint64_t n, std::vector<float>& to) {
    const std::shared_lock lock(turn_);
    std::vector<float> keys(n * 64), scores(n);
    const auto rows = static_cast<int64_t>(n);
    const oscar_tensor k = tensor(keys.data(), {rows, 64}), s = tensor(scores.data(), {rows});
    const ExportedBytes bytes = exported(cache_, prompt_);
    to.insert(to.end(), bytes.begin(), bytes.end());
    if (n == 0) return;
    OSCAR_OK_(oscar_read(cache_, seq, 1, 1, 0, n, &k, nullptr));
    OSCAR_OK_(oscar_scores(cache_, seq, 1, 1, 0, n, &s));
    to.insert(to.end(), keys.begin(), keys.end());
    to.insert(to.end(), scores.begin(), scores.end());
  }

  std::shared_mutex turn_;  // const calls share it
  Cache cache_;
  const oscar_seq prompt_ = cache_.open();
  oscar_seq seqs_[kThreads] = {};
};

}  // namespace

TEST_CASE("threads that take turns at a cache, each with a step of its own, get what they get one after the other") {
  SharedCache one, shared;
  std::vector<std::vector<float>> alone, beside(SharedCache::kThreads);
  for (uint32_t i = 0; i < SharedCache::kThreads; ++i) alone.push_back(one.run(i));
  run_beside(SharedCache::kThreads, [&](uint32_t i, std::atomic<int>&) { beside[i] = shared.run(i); });
  for (uint32_t i = 0; i < SharedCache::kThreads; ++i) CHECK(same_bits(alone[i], beside[i]));
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
