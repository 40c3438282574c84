// What a decode step costs beside its attention: appending, votes' upkeep, and packing with both writers.
//
//   cpu_append        one JSON object a line
//
// 256 steps of one token at a context of 32K: every 128th packs a block of all KV heads. `share`: all but the attention,
// relative to the attention. The shaped writer has a dense metric here, as after calibration.
#include "cpu_layers.h"

int main() {
  for (uint32_t n_threads : {1u, 2u})
    for (const bool shaped : {false, true}) {
      CpuSetting s;
      s.context = 32768;
      s.n_layers = 2;
      s.n_threads = n_threads;
      s.shaped = shaped;
      CpuLayers layers(s);
      double upkeep = 0.0, attention = 0.0, longest = 0.0;
      for (uint32_t i = 0; i < 256; ++i) {
        const double start = now_ms();
        const oscar_step step = layers.begin(1);
        for (uint32_t layer = 0; layer < s.n_layers; ++layer) layers.append(step, layer, 1);
        const double appended = now_ms();
        for (uint32_t layer = 0; layer < s.n_layers; ++layer) layers.attend(step, layer, 1);
        const double attended = now_ms();
        layers.end(step);
        const double rest = appended - start + now_ms() - attended;
        upkeep += rest;
        attention += attended - appended;
        longest = std::max(longest, rest);
      }
      std::printf(
          "{\"bench\": \"cpu_append\", \"backend\": \"%s\", \"threads\": %u, \"heads\": \"32/8\", \"head_dim\": 128, "
          "\"context\": %u, \"writer\": \"%s\", \"attention_ms\": %.3f, \"rest_ms\": %.4f, \"longest_rest_ms\": "
          "%.2f, \"share\": %.4f}\n",
          selected_backend().c_str(), n_threads, s.context, shaped ? "shaped" : "plain", attention / 256 / s.n_layers,
          upkeep / 256 / s.n_layers, longest / s.n_layers, upkeep / attention);
      std::fflush(stdout);
    }
  return 0;
}
