#include "bench_cache.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <thread>

#include "fit.h"

namespace oscar::cli {

namespace {

constexpr uint32_t kFeed = 512;  // tokens of a step that fills the cache

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// BF16 numbers from a counter, near enough to normal ones, with a few large channels as in real keys.
std::vector<uint16_t> made_up_rows(uint64_t n) {
  std::vector<uint16_t> rows(n);
  uint64_t state = 0x9e3779b97f4a7c15u;
  for (uint64_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    float sum = 0;
    for (int k = 0; k < 4; ++k) sum += static_cast<float>(state >> (16 * k) & 0xffffu) / 65536.0f - 0.5f;
    sum *= i % 64 == 5 ? 6.8f : 1.7f;
    uint32_t bits = 0;
    std::memcpy(&bits, &sum, sizeof bits);
    rows[i] = static_cast<uint16_t>(bits >> 16);
  }
  return rows;
}

oscar_tensor bf16(const std::vector<uint16_t>& rows, uint32_t n, uint32_t heads, uint32_t dim) {
  return host_tensor(rows.data(), OSCAR_DTYPE_BFLOAT, 16, {n, heads, dim});
}

Choice with_room(Choice choice, uint64_t context) {
  choice.max_tokens = context + kFeed;
  choice.n_sequences = 1;
  choice.max_step_tokens = kFeed;
  return choice;
}

}  // namespace

BenchCache::BenchCache(const Model& model, const Choice& choice, uint64_t context)
    : serving_(model, with_room(choice, context)) {
  const oscar_layer_config& l = serving_.config.layers[0];
  // Slabs of several kinds, and a step's pages: more than the bytes in use.
  serving_.config.capacity_bytes = 2 * serving_.check(context, kMostCapacity).bytes_sequences + (uint64_t{256} << 20);
  oscar_cache* created = nullptr;
  call(oscar_cache_create(&serving_.config, &created));
  cache_.reset(created);
  call(oscar_seq_open(created, &seq_));
  rows_ = made_up_rows(uint64_t{kFeed} * std::max(l.n_q_heads, l.n_kv_heads) * std::max(l.key_dim, l.value_dim));
  out_.resize(uint64_t{serving_.config.n_layers} * l.n_q_heads * l.value_dim);
  for (uint64_t n = 0; n < context; n += kFeed) {
    const auto chunk = static_cast<uint32_t>(std::min<uint64_t>(kFeed, context - n));
    const oscar_step step = begin_step(created, seq_, chunk);
    for (uint32_t layer = 0; layer < serving_.config.n_layers; ++layer) append(step, layer, chunk);
    call(oscar_step_end(created, step));
  }
}

void BenchCache::append(oscar_step step, uint32_t layer, uint32_t n) {
  const oscar_layer_config& l = serving_.config.layers[layer];
  auto args = sized<oscar_append_args>();
  args.layer = layer;
  args.k = bf16(rows_, n, l.n_kv_heads, l.key_dim);
  args.v = bf16(rows_, n, l.n_kv_heads, l.value_dim);
  call(oscar_append(cache_.get(), step, &args, nullptr));
}

std::vector<double> BenchCache::attend_us() {
  const oscar_step step = begin_step(cache_.get(), seq_, 1);
  std::vector<double> us;
  for (uint32_t layer = 0; layer < serving_.config.n_layers; ++layer) {
    const oscar_layer_config& l = serving_.config.layers[layer];
    append(step, layer, 1);
    auto args = sized<oscar_attend_args>();
    args.layer = layer;
    args.q = bf16(rows_, 1, l.n_q_heads, l.key_dim);
    args.out = host_tensor(out_.data() + uint64_t{layer} * l.n_q_heads * l.value_dim, {1, l.n_q_heads, l.value_dim});
    const double start = now_us();
    call(oscar_attend(cache_.get(), step, &args, nullptr));
    us.push_back(now_us() - start);
  }
  call(oscar_step_abort(cache_.get(), step));
  return us;
}

uint64_t BenchCache::bytes() const {
  auto stats = sized<oscar_cache_stats>();
  call(oscar_cache_stats_get(cache_.get(), &stats));
  return stats.bytes_sequences;
}

ReadSpeed::ReadSpeed(uint32_t n_threads) : n_threads_(n_threads), numbers_((size_t{256} << 20) / sizeof(uint64_t), 1) {}

double ReadSpeed::bytes_per_us() const {
  const size_t share = numbers_.size() / n_threads_;
  std::vector<uint64_t> sums(n_threads_);
  const double start = now_us();
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < n_threads_; ++t)
    threads.emplace_back([&, t] {
      const auto from = numbers_.begin() + static_cast<std::ptrdiff_t>(share * t);
      sums[t] = std::accumulate(from, from + static_cast<std::ptrdiff_t>(share), uint64_t{0});
    });
  for (std::thread& thread : threads) thread.join();
  const double us = now_us() - start;
  // Every number is 1: the sum is how many were read.
  return static_cast<double>(std::accumulate(sums.begin(), sums.end(), uint64_t{0}) * sizeof(uint64_t)) / us;
}

double median(std::vector<double> numbers) {
  const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

}  // namespace oscar::cli
