// Time of one layer's decode attention on the CPU through the C ABI.
//
//   cpu_decode [quick]
//       one JSON object a line for two shapes, several contexts, 1 and 2 threads; exit status 1 where a result was wrong
//   cpu_decode serve N_Q_HEADS N_KV_HEADS DIM CONTEXT N_THREADS
//       one setting for bench/cpu.py (cpu_layers.h)
//
// OSCAR_BACKEND chooses the instruction set. Before anything is timed, output is compared with that of the
// double-precision reference on a short context. Steps have one new token, for each of several layers, together larger
// than the caches of most processors; each layer's attention is timed alone. ms: median over layers and steps. Bytes: all
// that the cache keeps of the sequence for one layer.
#include <array>
#include <cstring>

#include "cpu_layers.h"

namespace {

uint32_t layers_for(uint32_t context) { return std::max(2u, 262144u / context); }

void measure(const CpuSetting& s, double rate) {
  CpuLayers layers(s);
  std::vector<double> ms;
  const uint32_t n_steps = std::max(3u, 40u / s.n_layers);
  for (uint32_t i = 0; i < n_steps; ++i)
    for (double x : layers.attend_ms(1))
      if (i > 0) ms.push_back(x);
  const double time = median(ms);
  std::printf(
      "{\"bench\": \"cpu_decode\", \"backend\": \"%s\", \"threads\": %u, \"profile\": \"%s\", \"heads\": \"%u/%u\", "
      "\"head_dim\": %u, \"context\": %u, \"layers\": %u, \"bits_per_element\": %.3f, \"ms\": %.3f, "
      "\"ms_least\": %.3f, \"gb_per_s\": %.2f, \"read_gb_per_s\": %.2f}\n",
      selected_backend().c_str(), s.n_threads, s.profile, s.n_q_heads, s.n_kv_heads, s.dim, s.context, s.n_layers,
      layers.stats().bits_per_element, time, *std::min_element(ms.begin(), ms.end()),
      layers.bytes_per_layer() / time * 1e-6, rate);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 7 && std::strcmp(argv[1], "serve") == 0) {
    CpuSetting s = setting_of(argv + 2);
    s.n_layers = layers_for(s.context);
    return serve(s, 1, "");
  }
  const bool quick = argc > 1 && std::strcmp(argv[1], "quick") == 0;
  const double rate[2] = {read_rate(1), read_rate(2)};
  for (const auto& [n_q_heads, n_kv_heads, dim] : {std::array{32u, 8u, 128u}, std::array{9u, 3u, 64u}}) {
    CpuSetting s;
    s.n_q_heads = n_q_heads;
    s.n_kv_heads = n_kv_heads;
    s.dim = dim;
    const double error = error_of(s, 1);
    std::printf("{\"bench\": \"cpu_decode\", \"heads\": \"%u/%u\", \"difference_from_reference\": %.2e}\n", n_q_heads,
                n_kv_heads, error);
    if (!(error < kMaxError)) return 1;
    for (uint32_t context : {4096u, 16384u, 65536u, 131072u}) {
      if (quick && context > 16384) continue;
      for (uint32_t n_threads : {1u, 2u}) {
        s.context = context;
        s.n_layers = layers_for(context);
        s.n_threads = n_threads;
        measure(s, rate[n_threads - 1]);
      }
    }
  }
  return 0;
}
