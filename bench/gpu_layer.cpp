// Time of a decode step through the C ABI on the GPU: what attention, append and votes cost a layer, and what begin and
// end cost a step.
//
//   gpu_layer [quick]      one JSON object a line, on stdout; exit status 1 where a result was wrong
//
// First the device's output is compared with the CPU's on a short context; steps are of one new token a sequence and of 16. Then CUDA graphs run the layers of a cache one
// after the other; together they are larger than 270 MB, so that every launch finds a cold L2. Median over replays.
//   attend_us   oscar_attend alone      layer_us   oscar_layer: append, attention, votes
//   begin_us    host time of oscar_step_begin and oscar_step_end, the device idle
//   step_us     the whole step, begin to the last layer, divided by the layers
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "client.h"

namespace {

#define CUDA(call) require((call) == cudaSuccess, #call)

struct Setting {
  uint32_t context, batch, n_layers;
  uint32_t n_new = 1;  // tokens of each sequence in the step
  bool batch_invariant = false;
  uint32_t n_q_heads = 32, n_kv_heads = 8, dim = 128;
  uint32_t n_rows() const { return batch * n_new; }
};

constexpr uint32_t kFeed = 2048;  // tokens of a step that fills the cache

// Rows of a tensor on the host or the device.
struct Rows {
  Rows(bool on_device, uint32_t n, uint32_t heads, uint32_t dim, uint32_t seed) : on_device_(on_device) {
    host = random_rows(uint64_t{n} * heads * dim, seed);
    void* data = host.data();
    if (on_device) {
      CUDA(cudaMalloc(&data, host.size() * 2));
      CUDA(cudaMemcpy(data, host.data(), host.size() * 2, cudaMemcpyHostToDevice));
    }
    tensor = tensor_of(data, on_device ? OSCAR_DEVICE_CUDA : OSCAR_DEVICE_CPU, n, heads, dim);
  }
  ~Rows() {
    if (on_device_) cudaFree(tensor.data);
  }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  const std::vector<uint16_t>& fetch() {
    if (on_device_) CUDA(cudaMemcpy(host.data(), tensor.data, host.size() * 2, cudaMemcpyDeviceToHost));
    return host;
  }
  std::vector<uint16_t> host;
  oscar_tensor tensor{};

 private:
  bool on_device_;
};

class Run {
 public:
  Run(const Setting& s, bool on_device)
      : s_(s), on_device_(on_device), feed_k_(on_device, kFeed, s.n_kv_heads, s.dim, 1),
        feed_v_(on_device, kFeed, s.n_kv_heads, s.dim, 2), q(on_device, s.n_rows(), s.n_q_heads, s.dim, 3),
        k(on_device, s.n_rows(), s.n_kv_heads, s.dim, 4), v(on_device, s.n_rows(), s.n_kv_heads, s.dim, 5),
        out(on_device, s.n_rows(), s.n_q_heads, s.dim, 6) {
    oscar_cache_config c;
    OK(oscar_cache_config_init(&c, sizeof c, "2bit"));
    c.n_layers = s.n_layers;
    c.n_q_heads = s.n_q_heads;
    c.n_kv_heads = s.n_kv_heads;
    c.key_dim = s.dim;
    c.n_sink = 64;
    c.n_recent = 256;
    c.max_sequences = s.batch;
    c.max_step_tokens = kFeed;
    c.max_tokens = s.context + 8192;
    c.batch_invariant = s.batch_invariant;
    c.device_type = on_device ? OSCAR_DEVICE_CUDA : OSCAR_DEVICE_CPU;
    c.capacity_bytes = uint64_t{1} << 37;
    oscar_cache_report report{};
    report.struct_size = sizeof report;
    OK(oscar_cache_check(&c, s.context + 8192, &report));
    require(report.served, report.reason);
    c.capacity_bytes = report.bytes_sequences * (s.batch + 1) + (uint64_t{64} << 20);
    bits = report.bits_per_element;
    OK(oscar_cache_create(&c, &cache));
    if (on_device) CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    seqs.resize(s.batch);
    for (oscar_seq& seq : seqs) {
      OK(oscar_seq_open(cache, &seq));
      for (uint32_t n = 0; n < s.context;) n += feed(seq, std::min(kFeed, s.context - n));
    }
  }
  ~Run() {
    oscar_cache_destroy(cache);
    if (stream) cudaStreamDestroy(stream);
  }
  oscar_stream handle() const { return reinterpret_cast<oscar_stream>(stream); }

  oscar_step begin(bool is_replay) {
    entries_.clear();
    for (oscar_seq seq : seqs) entries_.push_back({seq, s_.n_new, 0});
    return begin(is_replay, entries_);
  }
  void layer(oscar_step step, uint32_t index) {
    oscar_layer_args a{};
    a.struct_size = sizeof a;
    a.layer = index;
    a.k = k.tensor;
    a.v = v.tensor;
    a.q = q.tensor;
    a.out = out.tensor;
    OK(oscar_layer(cache, step, &a, handle()));
  }
  void attend(oscar_step step, uint32_t index) {
    oscar_attend_args a{};
    a.struct_size = sizeof a;
    a.layer = index;
    a.q = q.tensor;
    a.out = out.tensor;
    OK(oscar_attend(cache, step, &a, handle()));
  }

 private:
  oscar_step begin(bool is_replay, const std::vector<oscar_step_entry>& entries) {
    oscar_step_args a{};
    a.struct_size = sizeof a;
    a.n_entries = static_cast<uint32_t>(entries.size());
    a.entries = entries.data();
    a.is_replay = is_replay;
    oscar_step step;
    OK(oscar_step_begin(cache, &a, handle(), &step));
    return step;
  }
  // Keys and values without attention: packed by equal votes.
  uint32_t feed(oscar_seq seq, uint32_t n) {
    const oscar_step step = begin(false, {{seq, n, 0}});
    for (uint32_t i = 0; i < s_.n_layers; ++i) {
      oscar_append_args a{};
      a.struct_size = sizeof a;
      a.layer = i;
      a.k = feed_k_.tensor;
      a.v = feed_v_.tensor;
      a.k.shape[0] = a.v.shape[0] = n;
      OK(oscar_append(cache, step, &a, handle()));
    }
    OK(oscar_step_end(cache, step));
    return n;
  }

  Setting s_;
  bool on_device_;
  std::vector<oscar_step_entry> entries_;
  Rows feed_k_, feed_v_;

 public:
  Rows q, k, v, out;
  oscar_cache* cache = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<oscar_seq> seqs;
  double bits = 0.0;
};

// Worst row of |device - CPU| / |CPU| for one decode step over 3,000 tokens.
double difference_from_cpu(Setting s) {
  std::vector<std::vector<uint16_t>> results;
  for (const bool on_device : {false, true}) {
    Run run(s, on_device);
    const oscar_step step = run.begin(false);
    run.layer(step, 0);
    OK(oscar_step_end(run.cache, step));
    if (on_device) CUDA(cudaStreamSynchronize(run.stream));
    results.push_back(run.out.fetch());
  }
  double worst = 0.0;
  for (size_t row = 0; row < results[0].size(); row += s.dim) {
    double error = 0.0, size = 0.0;
    for (size_t d = row; d < row + s.dim; ++d) {
      const double want = from_bf16(results[0][d]), got = from_bf16(results[1][d]);
      error += (got - want) * (got - want);
      size += want * want;
    }
    worst = std::max(worst, std::sqrt(error / size));
  }
  return worst;
}

// The calls of one step as a graph; `before` runs first and is not timed.
template <class Layers>
cudaGraphExec_t capture(Run& run, const Layers& layers) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CUDA(cudaStreamBeginCapture(run.stream, cudaStreamCaptureModeGlobal));
  layers();
  CUDA(cudaStreamEndCapture(run.stream, &graph));
  CUDA(cudaGraphInstantiate(&exec, graph, 0));
  CUDA(cudaGraphDestroy(graph));
  return exec;
}

double time_graph(Run& run, cudaGraphExec_t graph, int n) {
  cudaEvent_t start, stop;
  CUDA(cudaEventCreate(&start));
  CUDA(cudaEventCreate(&stop));
  std::vector<double> us;
  for (int i = 0; i < n + 2; ++i) {
    CUDA(cudaEventRecord(start, run.stream));
    CUDA(cudaGraphLaunch(graph, run.stream));
    CUDA(cudaEventRecord(stop, run.stream));
    CUDA(cudaEventSynchronize(stop));
    float ms;
    CUDA(cudaEventElapsedTime(&ms, start, stop));
    if (i >= 2) us.push_back(ms * 1e3);
  }
  CUDA(cudaEventDestroy(start));
  CUDA(cudaEventDestroy(stop));
  return median(us);
}

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void measure(Setting s) {
  const uint64_t layer_bytes = uint64_t{s.batch} * s.context * s.n_kv_heads * s.dim * 2 * 23 / 80;
  s.n_layers = std::max<uint32_t>(4, static_cast<uint32_t>(270000000 / layer_bytes) + 1);
  Run run(s, true);
  oscar_step step = run.begin(false);
  const cudaGraphExec_t layers = capture(run, [&] {
    for (uint32_t i = 0; i < s.n_layers; ++i) run.layer(step, i);
  });
  const cudaGraphExec_t attends = capture(run, [&] {
    for (uint32_t i = 0; i < s.n_layers; ++i) run.attend(step, i);
  });
  const double layer_us = time_graph(run, layers, 20) / s.n_layers;
  const double attend_us = time_graph(run, attends, 20) / s.n_layers;
  OK(oscar_step_end(run.cache, step));

  std::vector<double> begin_us, step_us;
  for (uint32_t i = 0; i < 300 && i * s.n_new < 4096; ++i) {
    CUDA(cudaStreamSynchronize(run.stream));
    const double t0 = now_us();
    step = run.begin(true);
    const double t1 = now_us();
    CUDA(cudaGraphLaunch(layers, run.stream));
    CUDA(cudaStreamSynchronize(run.stream));
    const double t2 = now_us();
    OK(oscar_step_end(run.cache, step));
    begin_us.push_back(t1 - t0 + now_us() - t2);
    step_us.push_back((t2 - t0) / s.n_layers);
  }
  CUDA(cudaGraphExecDestroy(layers));
  CUDA(cudaGraphExecDestroy(attends));
  const double bytes = s.batch * uint64_t{s.context} * s.n_kv_heads * s.dim * 2 * run.bits / 8;
  std::printf(
      "{\"bench\": \"gpu_layer\", \"profile\": \"2bit\", \"heads\": \"%u/%u\", \"head_dim\": %u, \"context\": %u, "
      "\"batch\": %u, \"new_tokens\": %u, \"batch_invariant\": %d, \"layers\": %u, \"bits_per_element\": %.3f, "
      "\"attend_us\": %.2f, \"attend_gb_per_s\": %.0f, "
      "\"layer_us\": %.2f, \"begin_us\": %.1f, \"step_us\": %.2f}\n",
      s.n_q_heads, s.n_kv_heads, s.dim, s.context, s.batch, s.n_new, s.batch_invariant, s.n_layers, run.bits, attend_us,
      bytes / attend_us / 1e3, layer_us, median(begin_us), median(step_us));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "quick") == 0;
  for (const bool invariant : {false, true})
    for (const uint32_t n_new : {1u, 16u}) {
      const double difference = difference_from_cpu({3000, 2, 1, n_new, invariant});
      std::printf(
          "{\"bench\": \"gpu_layer\", \"new_tokens\": %u, \"batch_invariant\": %d, \"difference_from_cpu\": %.2e}\n",
          n_new, invariant, difference);
      if (!(difference < 8e-3)) return 1;  // outputs are BF16: 2^-8
    }
  for (const uint32_t context : {4096u, 32768u, 102400u})
    for (const uint32_t batch : {1u, 4u, 16u})
      if (!quick || context == 102400) measure({context, batch, 0});
  for (const uint32_t batch : {1u, 4u, 16u}) measure({102400, batch, 0, 1, true});
  for (const uint32_t n_new : {1u, 4u, 8u, 16u}) measure({32768, 1, 0, n_new});
  measure({32768, 1, 0, 16, true});
  return 0;
}
