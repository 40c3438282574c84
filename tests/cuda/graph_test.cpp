// A captured step replayed while its sequences grow, pack, fork, are cut and replaced by padding: bit for bit what the same
// calls give eagerly.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "oscar/oscar.h"
#include "require.h"

namespace {

#define OK(call) REQUIRE((call) == OSCAR_OK)
#define CUDA(call) REQUIRE((call) == cudaSuccess)

struct Geometry {
  uint32_t n_layers, n_q_heads, n_kv_heads, dim;
};

// A tensor [n, heads, dim] on the device, F32.
struct Buffer {
  float* data = nullptr;
  oscar_tensor tensor{};
  size_t n = 0;
  void create(uint32_t rows, uint32_t heads, uint32_t dim) {
    n = size_t{rows} * heads * dim;
    CUDA(cudaMalloc(reinterpret_cast<void**>(&data), n * sizeof(float)));
    tensor.data = data;
    tensor.device_type = OSCAR_DEVICE_CUDA;
    tensor.dtype_code = OSCAR_DTYPE_FLOAT;
    tensor.dtype_bits = 32;
    tensor.dtype_lanes = 1;
    tensor.ndim = dim ? 3 : 2;
    tensor.shape[0] = rows;
    tensor.shape[1] = heads;
    tensor.shape[2] = dim;
  }
  ~Buffer() { cudaFree(data); }
};

// One cache and the tensors of its steps, at fixed addresses.
class Model {
 public:
  Model(const Geometry& g, uint32_t n_rows) : g_(g), layers_(g.n_layers) {
    oscar_cache_config c;
    OK(oscar_cache_config_init(&c, sizeof c, "2bit"));
    c.n_layers = g.n_layers;
    c.n_q_heads = g.n_q_heads;
    c.n_kv_heads = g.n_kv_heads;
    c.key_dim = g.dim;
    c.n_sink = 4;
    c.n_recent = 32;
    c.max_step_tokens = 256;
    c.max_tokens = 4096;
    c.capacity_bytes = 64u << 20;
    c.device_type = OSCAR_DEVICE_CUDA;
    OK(oscar_cache_create(&c, &cache));
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (Layer& l : layers_) {
      l.q.create(n_rows, g.n_q_heads, g.dim);
      l.k.create(n_rows, g.n_kv_heads, g.dim);
      l.v.create(n_rows, g.n_kv_heads, g.dim);
      l.out.create(n_rows, g.n_q_heads, g.dim);
    }
  }
  ~Model() {
    oscar_cache_destroy(cache);
    if (graph_) cudaGraphExecDestroy(graph_);
    cudaStreamDestroy(stream);
  }

  // The same numbers for the same step in every model.
  void fill(uint32_t step) {
    std::minstd_rand random(step + 1);
    std::normal_distribution<float> normal;
    for (Layer& l : layers_)
      for (Buffer* b : {&l.q, &l.k, &l.v}) {
        host_.resize(b->n);
        for (float& x : host_) x = normal(random);
        CUDA(cudaMemcpy(b->data, host_.data(), b->n * sizeof(float), cudaMemcpyHostToDevice));
      }
  }
  void run_layers(oscar_step step) {
    for (uint32_t i = 0; i < g_.n_layers; ++i) {
      oscar_layer_args a{};
      a.struct_size = sizeof a;
      a.layer = i;
      a.q = layers_[i].q.tensor;
      a.k = layers_[i].k.tensor;
      a.v = layers_[i].v.tensor;
      a.out = layers_[i].out.tensor;
      OK(oscar_layer(cache, step, &a, reinterpret_cast<oscar_stream>(stream)));
    }
  }
  oscar_step begin(const std::vector<oscar_step_entry>& entries, bool is_replay) {
    oscar_step_args a{};
    a.struct_size = sizeof a;
    a.n_entries = static_cast<uint32_t>(entries.size());
    a.entries = entries.data();
    a.is_replay = is_replay;
    oscar_step step;
    OK(oscar_step_begin(cache, &a, reinterpret_cast<oscar_stream>(stream), &step));
    return step;
  }
  void run_eager(const std::vector<oscar_step_entry>& entries) {
    const oscar_step step = begin(entries, false);
    run_layers(step);
    OK(oscar_step_end(cache, step));
  }
  // Captures at first, later replays.
  void run_graph(const std::vector<oscar_step_entry>& entries) {
    const oscar_step step = begin(entries, graph_ != nullptr);
    if (!graph_) {
      cudaGraph_t graph;
      CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
      run_layers(step);
      CUDA(cudaStreamEndCapture(stream, &graph));
      CUDA(cudaGraphInstantiate(&graph_, graph, 0));
      CUDA(cudaGraphDestroy(graph));
    }
    CUDA(cudaGraphLaunch(graph_, stream));
    OK(oscar_step_end(cache, step));
  }
  std::vector<float> outputs() {
    CUDA(cudaStreamSynchronize(stream));
    std::vector<float> all;
    for (Layer& l : layers_) {
      host_.resize(l.out.n);
      CUDA(cudaMemcpy(host_.data(), l.out.data, l.out.n * sizeof(float), cudaMemcpyDeviceToHost));
      all.insert(all.end(), host_.begin(), host_.end());
    }
    return all;
  }

  oscar_cache* cache = nullptr;
  cudaStream_t stream = nullptr;

 private:
  struct Layer {
    Buffer q, k, v, out;
  };
  Geometry g_;
  std::vector<Layer> layers_;
  std::vector<float> host_;
  cudaGraphExec_t graph_ = nullptr;
};

// A fork, a cut and padding between replays; both models see the same.
void change_sequences(const std::function<void(const std::function<void(oscar_cache*)>&)>& both, uint32_t step,
                      std::vector<oscar_step_entry>& entries) {
  if (step == 150) both([&](oscar_cache* c) { OK(oscar_seq_truncate(c, entries[1].seq, 77)); });
  if (step == 260) {
    oscar_seq fork = 0;
    both([&](oscar_cache* c) { OK(oscar_seq_fork(c, entries[0].seq, 200, &fork)); });
    entries[2].seq = fork;
  }
  if (step == 400) entries[1].seq = 0;
}

uint32_t replay(const Geometry& g, uint32_t n_new, uint32_t n_steps) {
  Model eager(g, 3 * n_new), graph(g, 3 * n_new);
  const auto both = [&](const std::function<void(oscar_cache*)>& call) {
    call(eager.cache);
    call(graph.cache);
  };
  std::vector<oscar_step_entry> entries(3);
  for (oscar_step_entry& e : entries) {
    e.n_new = n_new;
    both([&](oscar_cache* c) { OK(oscar_seq_open(c, &e.seq)); });
  }
  uint32_t n_different = 0;
  for (uint32_t step = 0; step < n_steps; ++step) {
    change_sequences(both, step, entries);
    for (Model* m : {&eager, &graph}) m->fill(step);
    eager.run_eager(entries);
    graph.run_graph(entries);
    const std::vector<float> a = eager.outputs(), b = graph.outputs();
    n_different += std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0;
  }
  oscar_cache_stats stats{};
  stats.struct_size = sizeof stats;
  OK(oscar_cache_stats_get(graph.cache, &stats));
  std::printf("%u layers, %u/%u heads, d %u, %u new tokens: %u replays, %llu tokens packed, %u steps differ\n",
              g.n_layers, g.n_q_heads, g.n_kv_heads, g.dim, n_new, n_steps - 1,
              static_cast<unsigned long long>(stats.n_packed_tokens), n_different);
  REQUIRE(stats.n_packed_tokens > 0);
  return n_different;
}

}  // namespace

int main() {
  int n_devices = 0;
  if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  uint32_t n_different = replay({3, 8, 2, 128}, 1, 600);  // the decode kernel
  n_different += replay({2, 4, 4, 96}, 1, 450);           // a head_dim that it was not built for
  n_different += replay({2, 8, 2, 64}, 3, 420);           // several new tokens each
  return n_different == 0 ? 0 : 1;
}
