// Time of one layer's attention for a chunk of 512 new tokens on the CPU, over a prefix that the cache holds.
//
//   cpu_prefill
//       one JSON object a line; exit status 1 where a result was wrong
//   cpu_prefill serve N_Q_HEADS N_KV_HEADS DIM CONTEXT N_THREADS
//       one setting for bench/cpu.py (cpu_layers.h)
//
// The chunk attends to the prefix and to itself, and votes; it is not kept. GFLOP: 4 * head_dim for each pair of a query
// row and a token that it sees.
#include <cstring>

#include "cpu_layers.h"

namespace {

constexpr uint32_t kChunk = 512;

double gflop(const CpuSetting& s) {
  const double pairs = double{kChunk} * s.context + 0.5 * kChunk * (kChunk + 1);
  return 4e-9 * s.dim * s.n_q_heads * pairs;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 7 && std::strcmp(argv[1], "serve") == 0) {
    const CpuSetting given = setting_of(argv + 2);
    return serve(given, kChunk, ", \"gflop\": " + std::to_string(gflop(given)));
  }
  CpuSetting s;
  const double error = error_of(s, kChunk);
  std::printf("{\"bench\": \"cpu_prefill\", \"heads\": \"32/8\", \"difference_from_reference\": %.2e}\n", error);
  if (!(error < kMaxError)) return 1;
  for (uint32_t n_threads : {1u, 2u})
    for (uint32_t context : {0u, 8192u, 32768u}) {
      s.context = context;
      s.n_threads = n_threads;
      CpuLayers layers(s);
      std::vector<double> ms;
      for (int i = 0; i < 5; ++i) ms.push_back(layers.attend_ms(kChunk)[0]);
      std::printf(
          "{\"bench\": \"cpu_prefill\", \"backend\": \"%s\", \"threads\": %u, \"heads\": \"32/8\", \"head_dim\": "
          "128, \"prefix\": %u, \"new_tokens\": %u, \"ms\": %.2f, \"gflop_per_s\": %.1f}\n",
          selected_backend().c_str(), n_threads, context, kChunk, median(ms), gflop(s) / median(ms) * 1e3);
      std::fflush(stdout);
    }
  return 0;
}
