// What the tests of caches that calibrate themselves share.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "property/cache_fixture.h"

namespace test {

// Arguments with the frequencies of RoPE, theta 1e4; keys and queries of make_input do not turn, which is as good a model
// as any.
struct Rope {
  std::vector<float> frequencies;
  oscar_calibrator_args args{};
  explicit Rope(uint32_t key_dim = 64, uint64_t n_positions = 2048) : frequencies(key_dim / 2) {
    for (size_t j = 0; j < frequencies.size(); ++j)
      frequencies[j] = std::pow(1e4f, -2.0f * static_cast<float>(j) / static_cast<float>(key_dim));
    args.struct_size = sizeof args;
    args.n_positions = n_positions;
    args.rope_frequencies = tensor(frequencies.data(), {static_cast<int64_t>(frequencies.size())});
    args.model = "made up";
    args.note = "for a test";
  }
};

// A cache that collects until it is frozen.
inline oscar_cache_config collecting_config(const Geometry& g, const Rope& rope) {
  oscar_cache_config config = config_of(g, "2bit");
  config.self_calibrate = &rope.args;
  return config;
}

struct Calibration {
  oscar_calibration* handle = nullptr;
  Calibration() = default;
  ~Calibration() { oscar_calibration_destroy(handle); }
  Calibration(const Calibration&) = delete;
  Calibration& operator=(const Calibration&) = delete;

  oscar_calibration_info info() const {
    oscar_calibration_info i{};
    i.struct_size = sizeof i;
    OSCAR_OK_(oscar_calibration_info_get(handle, &i));
    return i;
  }
  oscar_calibration_head_info head(uint32_t layer, uint32_t head) const {
    oscar_calibration_head_info i{};
    i.struct_size = sizeof i;
    OSCAR_OK_(oscar_calibration_head_get(handle, layer, head, &i));
    return i;
  }
  std::vector<uint8_t> save() const {
    uint64_t size = 0;
    OSCAR_OK_(oscar_calibration_save(handle, nullptr, 0, &size));
    std::vector<uint8_t> bytes(size);
    OSCAR_OK_(oscar_calibration_save(handle, bytes.data(), size, &size));
    return bytes;
  }
};

// A calibration of two layers with one KV head: its maps multiply every element by a number of its own.
inline void scale_elements(const std::vector<float>& factors, Calibration& made) {
  const auto dim = static_cast<uint32_t>(factors.size());
  std::vector<float> matrix(uint64_t{dim} * dim, 0.0f);
  for (uint32_t d = 0; d < dim; ++d) matrix[d * (dim + 1)] = factors[d];
  oscar_calibration_layer layers[2] = {};
  for (oscar_calibration_layer& l : layers) {
    l.struct_size = sizeof l;
    l.n_kv_heads = 1;
    l.key_dim = l.value_dim = dim;
    l.key_transform = l.value_transform = tensor(matrix.data(), {1, dim, dim});
  }
  OSCAR_OK_(oscar_calibration_create(layers, 2, &made.handle));
}

// make_input with every number rounded to BF16: a cache then stores what a calibrator is fed. Values of KV head 0 have
// large elements, which a transform can make use of; those of the others have one, but for the second of every four
// blocks, which a cache holds out in its first sequence: what is learned from the rest is wrong there.
inline LayerInput rounded_input(const Geometry& g, const std::vector<uint64_t>& tokens, uint32_t layer) {
  LayerInput in = make_input(g, tokens, layer);
  for (size_t row = 0; row < tokens.size(); ++row) {
    float* values = &in.v[row * g.n_kv_heads * g.value_dim];
    for (size_t d = 0; d < g.value_dim; d += 8) values[d] *= 8.0f;
    const bool is_held_out = tokens[row] >= 4 && (tokens[row] - 4) / 128 % 4 == 1;
    for (size_t head = 1; head < g.n_kv_heads && !is_held_out; ++head) values[head * g.value_dim + 3] *= 512.0f;
  }
  for (auto* values : {&in.k, &in.v, &in.q})
    for (float& x : *values) x = to_bf16(x);
  return in;
}

inline void feed(oscar_cache* cache, const Geometry& g, oscar_seq seq, const std::vector<uint64_t>& tokens) {
  const oscar_step step = begin(cache, {{seq, static_cast<uint32_t>(tokens.size()), 0}});
  for (uint32_t layer = 0; layer < g.n_layers; ++layer) {
    LayerInput in = rounded_input(g, tokens, layer);
    run_layer(cache, step, g, layer, in);
  }
  OSCAR_OK_(oscar_step_end(cache, step));
}

// The steps whose ends are those of the blocks that are collected: sinks, then 128 tokens each.
inline std::vector<std::vector<uint64_t>> block_steps(uint32_t n_sink, uint64_t n) {
  std::vector<std::vector<uint64_t>> steps{range(0, n_sink)};
  for (uint64_t first = n_sink; first < n; first += 128)
    steps.push_back(range(first, std::min<uint64_t>(128, n - first)));
  return steps;
}

inline std::vector<float> read_all(oscar_cache* cache, const Geometry& g, oscar_seq seq) {
  uint64_t n = 0;
  OSCAR_OK_(oscar_seq_length(cache, seq, &n));
  std::vector<float> all;
  for (uint32_t layer = 0; layer < g.n_layers; ++layer)
    for (uint32_t head = 0; head < g.n_kv_heads; ++head) {
      std::vector<float> k(n * g.key_dim), v(n * g.value_dim);
      const oscar_tensor kt = tensor(k.data(), {static_cast<int64_t>(n), g.key_dim});
      const oscar_tensor vt = tensor(v.data(), {static_cast<int64_t>(n), g.value_dim});
      OSCAR_OK_(oscar_read(cache, seq, layer, head, 0, n, &kt, &vt));
      all.insert(all.end(), k.begin(), k.end());
      all.insert(all.end(), v.begin(), v.end());
    }
  return all;
}

// |got - wanted|^2 / |wanted|^2
inline double relative_error(const std::vector<float>& got, const std::vector<float>& wanted) {
  REQUIRE(got.size() == wanted.size());
  double wrong = 0, all = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    wrong += double{got[i] - wanted[i]} * double{got[i] - wanted[i]};
    all += double{wanted[i]} * double{wanted[i]};
  }
  return wrong / all;
}

// The keys of one KV head of layer 0, all tokens.
inline std::vector<float> keys_of(oscar_cache* cache, const Geometry& g, oscar_seq seq, uint32_t head) {
  uint64_t n = 0;
  OSCAR_OK_(oscar_seq_length(cache, seq, &n));
  std::vector<float> k(n * g.key_dim);
  const oscar_tensor t = tensor(k.data(), {static_cast<int64_t>(n), g.key_dim});
  OSCAR_OK_(oscar_read(cache, seq, 0, head, 0, n, &t, nullptr));
  return k;
}

}  // namespace test
