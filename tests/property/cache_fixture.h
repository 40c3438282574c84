// A small C++ skin over the public header for tests, and the tokens they feed.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "oscar/oscar.h"

namespace test {

inline oscar_tensor tensor(float* data, std::initializer_list<int64_t> shape) {
  oscar_tensor t{};
  t.data = data;
  t.device_type = OSCAR_DEVICE_CPU;
  t.dtype_code = OSCAR_DTYPE_FLOAT;
  t.dtype_bits = 32;
  t.dtype_lanes = 1;
  for (int64_t extent : shape) t.shape[t.ndim++] = extent;
  return t;
}

inline oscar_tensor tensor(uint8_t* data, std::initializer_list<int64_t> shape) {
  oscar_tensor t = tensor(reinterpret_cast<float*>(data), shape);
  t.dtype_code = OSCAR_DTYPE_UINT;
  t.dtype_bits = 8;
  return t;
}

#define OSCAR_OK_(call)                                                                                                \
  do {                                                                                                                 \
    const oscar_status status_ = (call);                                                                               \
    INFO(oscar_last_error());                                                                                          \
    REQUIRE(oscar_status_name(status_) == std::string("OSCAR_OK"));                                                    \
  } while (0)

// What the last failed call had to say.
inline bool says(const char* text) { return std::string(oscar_last_error()).find(text) != std::string::npos; }

#define REFUSED(call, status, text)                                                                                    \
  do {                                                                                                                 \
    CHECK(oscar_status_name(call) == std::string(oscar_status_name(status)));                                          \
    INFO("last error: " << oscar_last_error());                                                                        \
    CHECK(says(text));                                                                                                 \
  } while (0)

inline float to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  std::memcpy(&x, &bits, 4);
  return x;
}

struct Geometry {
  uint32_t n_layers = 2, n_q_heads = 4, n_kv_heads = 2, key_dim = 64, value_dim = 64;
};

inline oscar_cache_config config_of(const Geometry& g, const char* profile) {
  oscar_cache_config c;
  OSCAR_OK_(oscar_cache_config_init(&c, sizeof c, profile));
  c.n_layers = g.n_layers;
  c.n_q_heads = g.n_q_heads;
  c.n_kv_heads = g.n_kv_heads;
  c.key_dim = g.key_dim;
  c.value_dim = g.value_dim;
  c.n_sink = 4;
  c.n_recent = 32;
  c.max_rollback = 8;
  c.max_sequences = 8;
  c.max_step_tokens = 512;
  c.max_tokens = 4096;
  c.capacity_bytes = 64u << 20;
  return c;
}

// One entry for every layer of the configuration, which then points to them.
inline std::vector<oscar_layer_config> layers_of(oscar_cache_config& c) {
  std::vector<oscar_layer_config> layers(c.n_layers);
  for (oscar_layer_config& layer : layers) OSCAR_OK_(oscar_layer_config_init(&layer, sizeof layer));
  c.layers = layers.data();
  c.n_layer_configs = c.n_layers;
  return layers;
}

class Cache {
 public:
  explicit Cache(const oscar_cache_config& config) { OSCAR_OK_(oscar_cache_create(&config, &handle_)); }
  ~Cache() { oscar_cache_destroy(handle_); }
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  operator oscar_cache*() const { return handle_; }
  void forget() { handle_ = nullptr; }

  oscar_seq open() const {
    oscar_seq seq;
    OSCAR_OK_(oscar_seq_open(handle_, &seq));
    return seq;
  }
  uint64_t length(oscar_seq seq) const {
    uint64_t n;
    OSCAR_OK_(oscar_seq_length(handle_, seq, &n));
    return n;
  }
  oscar_cache_stats stats() const {
    oscar_cache_stats s{};
    s.struct_size = sizeof s;
    OSCAR_OK_(oscar_cache_stats_get(handle_, &s));
    return s;
  }

 private:
  oscar_cache* handle_ = nullptr;
};

// The tensors of one layer for the new tokens of a step.
struct LayerInput {
  std::vector<float> k, v, q;
};

// Keys, values and queries as a function of (seed, layer): the same token always has the same vectors. Some channels are
// larger than others and every 37th token draws attention, as in real models.
inline LayerInput make_input(const Geometry& g, const std::vector<uint64_t>& tokens, uint32_t layer) {
  LayerInput in;
  for (uint64_t token : tokens) {
    std::minstd_rand random(static_cast<uint32_t>(token * 2654435761u + layer * 97u + 1u));
    std::normal_distribution<float> normal;
    for (uint32_t h = 0; h < g.n_kv_heads; ++h)
      for (uint32_t d = 0; d < g.key_dim; ++d)
        in.k.push_back(normal(random) * (d % 16 == 3 ? 4.0f : 1.0f) + (d % 32 == 5 ? 3.0f : 0.0f) +
                       (token % 37 == 0 && d % 8 == 0 ? 2.0f : 0.0f));
    for (uint32_t i = 0; i < g.n_kv_heads * g.value_dim; ++i) in.v.push_back(normal(random));
    for (uint32_t h = 0; h < g.n_q_heads; ++h)
      for (uint32_t d = 0; d < g.key_dim; ++d) in.q.push_back(normal(random) + (d % 8 == 0 ? 0.5f : 0.0f));
  }
  return in;
}

struct LayerOutput {
  std::vector<float> out, lse;
};

// Appends and attends one layer of an open step; returns what attention gave.
inline LayerOutput run_layer(oscar_cache* cache, oscar_step step, const Geometry& g, uint32_t layer, LayerInput& in,
                             std::vector<uint8_t>* mask = nullptr) {
  const int64_t n = static_cast<int64_t>(in.q.size() / (g.n_q_heads * g.key_dim));
  LayerOutput result;
  result.out.assign(static_cast<size_t>(n) * g.n_q_heads * g.value_dim, NAN);
  result.lse.assign(static_cast<size_t>(n) * g.n_q_heads, NAN);
  oscar_layer_args a{};
  a.struct_size = sizeof a;
  a.layer = layer;
  a.k = tensor(in.k.data(), {n, g.n_kv_heads, g.key_dim});
  a.v = tensor(in.v.data(), {n, g.n_kv_heads, g.value_dim});
  a.q = tensor(in.q.data(), {n, g.n_q_heads, g.key_dim});
  a.out = tensor(result.out.data(), {n, g.n_q_heads, g.value_dim});
  a.lse = tensor(result.lse.data(), {n, g.n_q_heads});
  if (mask) a.mask = tensor(mask->data(), {n, static_cast<int64_t>(mask->size()) / n});
  OSCAR_OK_(oscar_layer(cache, step, &a, nullptr));
  return result;
}

inline oscar_step begin(oscar_cache* cache, const std::vector<oscar_step_entry>& entries) {
  oscar_step_args a{};
  a.struct_size = sizeof a;
  a.n_entries = static_cast<uint32_t>(entries.size());
  a.entries = entries.data();
  oscar_step step;
  OSCAR_OK_(oscar_step_begin(cache, &a, nullptr, &step));
  return step;
}

// A whole step, tokens entry by entry; the outputs of all layers, one after the other.
inline LayerOutput run_entries(oscar_cache* cache, const Geometry& g, const std::vector<oscar_step_entry>& entries,
                               const std::vector<uint64_t>& tokens, std::vector<uint8_t>* mask = nullptr) {
  const oscar_step step = begin(cache, entries);
  LayerOutput all;
  for (uint32_t layer = 0; layer < g.n_layers; ++layer) {
    LayerInput in = make_input(g, tokens, layer);
    const LayerOutput one = run_layer(cache, step, g, layer, in, mask);
    all.out.insert(all.out.end(), one.out.begin(), one.out.end());
    all.lse.insert(all.lse.end(), one.lse.begin(), one.lse.end());
  }
  OSCAR_OK_(oscar_step_end(cache, step));
  return all;
}

inline LayerOutput run_step(oscar_cache* cache, const Geometry& g, oscar_seq seq, const std::vector<uint64_t>& tokens,
                            uint32_t n_draft = 0, std::vector<uint8_t>* mask = nullptr) {
  return run_entries(cache, g, {{seq, static_cast<uint32_t>(tokens.size()), n_draft}}, tokens, mask);
}

// Appends n tokens, all the same: for tests that count bytes. Attention is not asked for.
inline void feed_same(oscar_cache* cache, const Geometry& g, oscar_seq seq, uint64_t n) {
  static std::vector<float> numbers;
  numbers.resize(n * g.n_kv_heads * (g.key_dim > g.value_dim ? g.key_dim : g.value_dim), 0.25f);
  const oscar_step step = begin(cache, {{seq, static_cast<uint32_t>(n), 0}});
  for (uint32_t layer = 0; layer < g.n_layers; ++layer) {
    oscar_append_args a{};
    a.struct_size = sizeof a;
    a.layer = layer;
    a.k = tensor(numbers.data(), {static_cast<int64_t>(n), g.n_kv_heads, g.key_dim});
    a.v = tensor(numbers.data(), {static_cast<int64_t>(n), g.n_kv_heads, g.value_dim});
    OSCAR_OK_(oscar_append(cache, step, &a, nullptr));
  }
  OSCAR_OK_(oscar_step_end(cache, step));
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline std::vector<uint64_t> range(uint64_t first, uint64_t n) {
  std::vector<uint64_t> r(n);
  for (uint64_t i = 0; i < n; ++i) r[i] = first + i;
  return r;
}

}  // namespace test
