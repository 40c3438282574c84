// Layers of one sequence on the CPU through the public header: what the CPU benchmarks time.
#pragma once
#include <chrono>
#include <cmath>
#include <string>
#include <thread>

#include "client.h"

struct CpuSetting {
  uint32_t n_q_heads = 32, n_kv_heads = 8, dim = 128;
  uint32_t context = 0, n_layers = 1, n_threads = 1;
  const char* profile = "2bit";
  bool shaped = false;  // dense transforms, and the shaped writer
};

inline double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The backend that a cache created now uses.
inline std::string selected_backend() {
  for (uint32_t i = 0;; ++i) {
    oscar_backend_info info{};
    info.struct_size = sizeof info;
    OK(oscar_backend_get(i, &info));
    if (info.selected) return info.name;
  }
}

// Dense transforms and a query moment for every head, as a calibrator gives them: what the shaped writer works on.
inline oscar_calibration* dense_calibration(const CpuSetting& s) {
  std::vector<float> scaled(uint64_t{s.n_kv_heads} * s.dim * s.dim), moment(scaled.size());
  for (uint64_t i = 0; i < uint64_t{s.n_kv_heads} * s.dim; ++i) {
    scaled[i * s.dim + i % s.dim] = 1.0f + 0.001f * static_cast<float>(i % s.dim);
    moment[i * s.dim + i % s.dim] = 1.0f;
  }
  const auto matrices = [&](std::vector<float>& data) {
    oscar_tensor t = tensor_of(data.data(), OSCAR_DEVICE_CPU, s.n_kv_heads, s.dim, s.dim);
    t.dtype_code = OSCAR_DTYPE_FLOAT;
    t.dtype_bits = 32;
    return t;
  };
  oscar_calibration_layer layer{};
  layer.struct_size = sizeof layer;
  layer.n_kv_heads = s.n_kv_heads;
  layer.key_dim = layer.value_dim = s.dim;
  layer.key_transform = layer.value_transform = matrices(scaled);
  layer.query_moment = matrices(moment);
  const std::vector<oscar_calibration_layer> layers(s.n_layers, layer);
  oscar_calibration* calibration;
  OK(oscar_calibration_create(layers.data(), s.n_layers, &calibration));
  return calibration;
}

class CpuLayers {
 public:
  static constexpr uint32_t kFeed = 2048;  // tokens of a step that fills the cache

  // With s.context tokens in it.
  explicit CpuLayers(const CpuSetting& s)
      : out(uint64_t{kFeed} * s.n_q_heads * s.dim), s_(s), q_(random_rows(uint64_t{kFeed} * s.n_q_heads * s.dim, 3)),
        k_(random_rows(uint64_t{kFeed} * s.n_kv_heads * s.dim, 1)),
        v_(random_rows(uint64_t{kFeed} * s.n_kv_heads * s.dim, 2)) {
    oscar_cache_config c;
    OK(oscar_cache_config_init(&c, sizeof c, s.profile));
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
    c.n_threads = s.n_threads;
    oscar_calibration* calibration = s.shaped ? dense_calibration(s) : nullptr;
    c.calibration = calibration;
    if (s.shaped) c.writer = OSCAR_WRITER_SHAPED;
    oscar_cache_report report{};
    report.struct_size = sizeof report;
    OK(oscar_cache_check(&c, s.context + kFeed, &report));
    require(report.served, report.reason);
    c.capacity_bytes = 2 * report.bytes_sequences + (uint64_t{64} << 20);
    OK(oscar_cache_create(&c, &cache_));
    oscar_calibration_destroy(calibration);
    OK(oscar_seq_open(cache_, &seq_));
    for (uint32_t n = 0; n < s.context; n += kFeed) {
      const uint32_t chunk = std::min(kFeed, s.context - n);
      const oscar_step step = begin(chunk);
      for (uint32_t layer = 0; layer < s.n_layers; ++layer) append(step, layer, chunk);
      OK(oscar_step_end(cache_, step));
    }
  }
  ~CpuLayers() { oscar_cache_destroy(cache_); }
  CpuLayers(const CpuLayers&) = delete;
  CpuLayers& operator=(const CpuLayers&) = delete;

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
    a.k = tensor_of(k_.data(), OSCAR_DEVICE_CPU, n, s_.n_kv_heads, s_.dim);
    a.v = tensor_of(v_.data(), OSCAR_DEVICE_CPU, n, s_.n_kv_heads, s_.dim);
    OK(oscar_append(cache_, step, &a, nullptr));
  }
  void attend(oscar_step step, uint32_t layer, uint32_t n) {
    oscar_attend_args a{};
    a.struct_size = sizeof a;
    a.layer = layer;
    a.q = tensor_of(q_.data(), OSCAR_DEVICE_CPU, n, s_.n_q_heads, s_.dim);
    a.out = tensor_of(out.data(), OSCAR_DEVICE_CPU, n, s_.n_q_heads, s_.dim);
    OK(oscar_attend(cache_, step, &a, nullptr));
  }
  void end(oscar_step step) { OK(oscar_step_end(cache_, step)); }
  void abort(oscar_step step) { OK(oscar_step_abort(cache_, step)); }

  // A step of n tokens that is not kept; the milliseconds of each layer's attention.
  std::vector<double> attend_ms(uint32_t n) {
    const oscar_step step = begin(n);
    std::vector<double> ms;
    for (uint32_t layer = 0; layer < s_.n_layers; ++layer) {
      append(step, layer, n);
      const double start = now_ms();
      attend(step, layer, n);
      ms.push_back(now_ms() - start);
    }
    abort(step);
    return ms;
  }

  oscar_cache_stats stats() const {
    oscar_cache_stats stats{};
    stats.struct_size = sizeof stats;
    OK(oscar_cache_stats_get(cache_, &stats));
    return stats;
  }
  double bytes_per_layer() const { return static_cast<double>(stats().bytes_sequences) / s_.n_layers; }

  std::vector<uint16_t> out;

 private:
  CpuSetting s_;
  std::vector<uint16_t> q_, k_, v_;
  oscar_cache* cache_ = nullptr;
  oscar_seq seq_{};
};

// Worst row of |out - reference| / |reference| over a step of n tokens, on a short context.
inline double error_of(CpuSetting s, uint32_t n) {
  s.context = 3000;
  s.n_layers = 1;
  const char* forced = std::getenv("OSCAR_BACKEND");
  const std::string before = forced ? forced : "";
  const auto result = [&] {
    CpuLayers layers(s);
    layers.attend_ms(n);
    return layers.out;
  };
  const std::vector<uint16_t> got = result();
  setenv("OSCAR_BACKEND", "reference", 1);
  const std::vector<uint16_t> want = result();
  if (forced)
    setenv("OSCAR_BACKEND", before.c_str(), 1);
  else
    unsetenv("OSCAR_BACKEND");
  double worst = 0.0;
  for (size_t row = 0; row < uint64_t{n} * s.n_q_heads * s.dim; row += s.dim) {
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
inline constexpr double kMaxError = 8e-3;  // outputs are BF16: 2^-8, and the largest of many

// N_Q_HEADS N_KV_HEADS DIM CONTEXT N_THREADS
inline CpuSetting setting_of(char** words) {
  const auto number = [words](int i) { return static_cast<uint32_t>(std::atoi(words[i])); };
  CpuSetting s;
  s.n_q_heads = number(0);
  s.n_kv_heads = number(1);
  s.dim = number(2);
  s.context = number(3);
  s.n_threads = number(4);
  return s;
}

// For bench/cpu.py, which takes turns between programs: after a line of JSON about the setting, the milliseconds of one
// layer's attention for n_new tokens for every line that it reads. `more`: fields of the JSON, or "".
inline int serve(const CpuSetting& s, uint32_t n_new, const std::string& more) {
  const double error = error_of(s, n_new);
  if (!(error < kMaxError)) return 1;
  CpuLayers layers(s);
  layers.attend_ms(n_new);  // touches all of it once
  std::printf("{\"bytes\": %.0f, \"bits_per_element\": %.3f, \"error\": %.2e, \"backend\": \"%s\"%s}\n",
              layers.bytes_per_layer(), layers.stats().bits_per_element, error, selected_backend().c_str(),
              more.c_str());
  std::fflush(stdout);
  std::vector<double> left;
  for (char line[64]; std::fgets(line, sizeof line, stdin);) {
    if (left.empty()) left = layers.attend_ms(n_new);
    std::printf("%.4f\n", left.back());
    std::fflush(stdout);
    left.pop_back();
  }
  return 0;
}

// GB/s at which n threads together sum a gigabyte.
inline double read_rate(uint32_t n_threads) {
  const size_t n = (uint64_t{1} << 30) / 8 / n_threads;
  std::vector<std::vector<uint64_t>> data(n_threads, std::vector<uint64_t>(n, 1));
  std::vector<double> ms;
  std::vector<uint64_t> sums(n_threads);
  for (int round = 0; round < 5; ++round) {
    const double start = now_ms();
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < n_threads; ++i)
      threads.emplace_back([&, i] {
        uint64_t sum = 0;
        for (uint64_t x : data[i]) sum += x;
        sums[i] += sum;
      });
    for (std::thread& thread : threads) thread.join();
    ms.push_back(now_ms() - start);
  }
  for (uint64_t sum : sums) require(sum == 5 * n, "the sum of ones");
  return static_cast<double>(n_threads * n * 8) / median(ms) * 1e-6;
}
