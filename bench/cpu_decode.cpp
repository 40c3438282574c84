// Time of one layer's decode attention on the CPU through the C ABI, against the rate at which one thread reads memory.
//
//   cpu_decode [quick]      one JSON object a line, on stdout; exit status 1 where a result was wrong
//
// OSCAR_BACKEND chooses the instruction set. First its output is compared with that of the double-precision reference on
// a short context. Then steps of one new token for each of several layers, together larger than the caches of most
// processors; each layer's attention is timed alone. ms: median over layers and steps. Bytes: all that the cache keeps
// of the sequence for one layer.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "client.h"

namespace {

struct Setting {
  uint32_t n_q_heads, n_kv_heads, dim, context, n_layers;
};

constexpr uint32_t kFeed = 2048;  // tokens of a step that fills the cache

oscar_tensor cpu_tensor(std::vector<uint16_t>& rows, uint32_t n, uint32_t heads, uint32_t dim) {
  return tensor_of(rows.data(), OSCAR_DEVICE_CPU, n, heads, dim);
}

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Run {
 public:
  explicit Run(const Setting& s)
      : out(uint64_t{s.n_q_heads} * s.dim), s_(s), q_(random_rows(uint64_t{s.n_q_heads} * s.dim, 3)),
        k_(random_rows(uint64_t{kFeed} * s.n_kv_heads * s.dim, 1)),
        v_(random_rows(uint64_t{kFeed} * s.n_kv_heads * s.dim, 2)) {
    oscar_cache_config c;
    OK(oscar_cache_config_init(&c, sizeof c, "2bit"));
    c.n_layers = s.n_layers;
    c.n_q_heads = s.n_q_heads;
    c.n_kv_heads = s.n_kv_heads;
    c.key_dim = s.dim;
    c.n_sink = 64;
    c.n_recent = 256;
    c.max_sequences = 1;
    c.max_step_tokens = kFeed;
    c.max_tokens = s.context + 4096;
    c.capacity_bytes = uint64_t{1} << 37;
    oscar_cache_report report{};
    report.struct_size = sizeof report;
    OK(oscar_cache_check(&c, s.context + kFeed, &report));
    require(report.served, report.reason);
    c.capacity_bytes = 2 * report.bytes_sequences + (uint64_t{64} << 20);
    OK(oscar_cache_create(&c, &cache_));
    OK(oscar_seq_open(cache_, &seq_));
    for (uint32_t n = 0; n < s.context;) n += feed(std::min(kFeed, s.context - n));
  }
  ~Run() { oscar_cache_destroy(cache_); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // A step of one token; the time of each layer's attention.
  std::vector<double> decode() {
    const oscar_step step = begin(1);
    std::vector<double> ms;
    for (uint32_t layer = 0; layer < s_.n_layers; ++layer) {
      append(step, layer, 1);
      oscar_attend_args a{};
      a.struct_size = sizeof a;
      a.layer = layer;
      a.q = cpu_tensor(q_, 1, s_.n_q_heads, s_.dim);
      a.out = cpu_tensor(out, 1, s_.n_q_heads, s_.dim);
      const double start = now_ms();
      OK(oscar_attend(cache_, step, &a, nullptr));
      ms.push_back(now_ms() - start);
    }
    OK(oscar_step_end(cache_, step));
    return ms;
  }

  oscar_cache_stats stats() const {
    oscar_cache_stats stats{};
    stats.struct_size = sizeof stats;
    OK(oscar_cache_stats_get(cache_, &stats));
    return stats;
  }

  std::vector<uint16_t> out;

 private:
  oscar_step begin(uint32_t n) {
    const oscar_step_entry entry{seq_, n, 0};
    oscar_step_args a{};
    a.struct_size = sizeof a;
    a.n_entries = 1;
    a.entries = &entry;
    oscar_step step;
    OK(oscar_step_begin(cache_, &a, nullptr, &step));
    return step;
  }
  void append(oscar_step step, uint32_t layer, uint32_t n) {
    oscar_append_args a{};
    a.struct_size = sizeof a;
    a.layer = layer;
    a.k = cpu_tensor(k_, n, s_.n_kv_heads, s_.dim);
    a.v = cpu_tensor(v_, n, s_.n_kv_heads, s_.dim);
    OK(oscar_append(cache_, step, &a, nullptr));
  }
  uint32_t feed(uint32_t n) {
    const oscar_step step = begin(n);
    for (uint32_t layer = 0; layer < s_.n_layers; ++layer) append(step, layer, n);
    OK(oscar_step_end(cache_, step));
    return n;
  }

  Setting s_;
  std::vector<uint16_t> q_, k_, v_;
  oscar_cache* cache_ = nullptr;
  oscar_seq seq_{};
};

// Worst row of |out - reference| / |reference|.
double error_of(Setting s) {
  s.context = 3000;
  s.n_layers = 1;
  const char* forced = std::getenv("OSCAR_BACKEND");
  const std::string before = forced ? forced : "";
  std::vector<uint16_t> want, got;
  {
    Run run(s);
    run.decode();
    got = run.out;
  }
  setenv("OSCAR_BACKEND", "reference", 1);
  {
    Run run(s);
    run.decode();
    want = run.out;
  }
  if (forced)
    setenv("OSCAR_BACKEND", before.c_str(), 1);
  else
    unsetenv("OSCAR_BACKEND");
  double worst = 0.0;
  for (size_t row = 0; row < want.size(); row += s.dim) {
    double error = 0.0, size = 0.0;
    for (size_t d = row; d < row + s.dim; ++d) {
      const double w = from_bf16(want[d]), e = from_bf16(got[d]) - w;
      error += e * e;
      size += w * w;
    }
    const double relative = std::sqrt(error / size);
    if (!(relative <= worst)) worst = relative;
  }
  return worst;
}

// GB/s at which this thread sums a gigabyte.
double read_rate() {
  std::vector<uint64_t> data((uint64_t{1} << 30) / 8, 1);
  std::vector<double> ms;
  volatile uint64_t sink = 0;
  for (int k = 0; k < 5; ++k) {
    const double start = now_ms();
    uint64_t sum = 0;
    for (uint64_t x : data) sum += x;
    sink = sink + sum;
    ms.push_back(now_ms() - start);
  }
  return static_cast<double>(data.size() * 8) / median(ms) * 1e-6;
}

// The backend that a cache created now uses.
std::string selected_backend() {
  for (uint32_t i = 0;; ++i) {
    oscar_backend_info info{};
    info.struct_size = sizeof info;
    OK(oscar_backend_get(i, &info));
    if (info.selected) return info.name;
  }
}

void measure(Setting s, double rate) {
  Run run(s);
  std::vector<double> ms;
  const uint32_t n_steps = std::max(3u, 40u / s.n_layers);
  for (uint32_t i = 0; i < n_steps; ++i)
    for (double x : run.decode())
      if (i > 0) ms.push_back(x);
  const oscar_cache_stats stats = run.stats();
  const double bytes = static_cast<double>(stats.bytes_sequences) / s.n_layers, time = median(ms);
  std::printf(
      "{\"bench\": \"cpu_decode\", \"backend\": \"%s\", \"threads\": 1, \"profile\": \"2bit\", \"heads\": \"%u/%u\", "
      "\"head_dim\": %u, \"context\": %u, \"layers\": %u, \"bits_per_element\": %.3f, \"ms\": %.3f, "
      "\"ms_least\": %.3f, \"gb_per_s\": %.2f, \"read_gb_per_s\": %.2f}\n",
      selected_backend().c_str(), s.n_q_heads, s.n_kv_heads, s.dim, s.context, s.n_layers, stats.bits_per_element, time,
      *std::min_element(ms.begin(), ms.end()), bytes / time * 1e-6, rate);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "quick") == 0;
  const double rate = read_rate();
  for (const Setting& shape : {Setting{32, 8, 128, 0, 0}, Setting{9, 3, 64, 0, 0}}) {
    const double error = error_of(shape);
    std::printf("{\"bench\": \"cpu_decode\", \"heads\": \"%u/%u\", \"difference_from_reference\": %.2e}\n",
                shape.n_q_heads, shape.n_kv_heads, error);
    if (!(error < 8e-3)) return 1;  // outputs are BF16: 2^-8
    for (uint32_t context : {4096u, 16384u, 65536u, 131072u}) {
      if (quick && context > 16384) continue;
      Setting s = shape;
      s.context = context;
      s.n_layers = std::max(2u, 262144u / context);
      measure(s, rate);
    }
  }
  return 0;
}
