// How wrong attention over a packed cache is, on the queries, keys and values of a dump.
#pragma once
#include <cstdint>
#include <vector>

#include "dump.h"
#include "serving.h"

namespace oscar::cli {

// Attention outputs of every token of one layer, [n_tokens][n_q_heads][value_dim], through a cache of this choice, fed in
// steps of kErrorStep tokens: within a step tokens see one another exactly.
inline constexpr uint32_t kErrorStep = 32;
struct LayerRun {
  std::vector<float> out;
  // oscar_scores, [n_kv_heads][n_tokens]; empty where the profile makes no choice
  std::vector<std::vector<float>> scores;
};
LayerRun run_layer(const Dump& dump, uint32_t layer, const Choice& choice);

// |out - exact| / |exact| over the tokens from `first` on, for every KV head's group of query heads.
std::vector<double> errors_by_head(const Dump& dump, const LayerRun& run, const LayerRun& exact, uint32_t first);

// The root of the mean square over heads.
double together(const std::vector<double>& errors);

}  // namespace oscar::cli
