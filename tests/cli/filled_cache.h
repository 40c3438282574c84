// A real cache of a model's geometry, with tokens in it. Contents do not matter; attention is not asked for.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "library.h"
#include "serving.h"

namespace oscar::cli::test {

class FilledCache {
 public:
  FilledCache(const Model& model, const Choice& choice, uint64_t capacity_bytes) : serving_(model, choice) {
    serving_.config.capacity_bytes = capacity_bytes;
    oscar_cache* created = nullptr;
    call(oscar_cache_create(&serving_.config, &created));
    cache_.reset(created);
  }

  // Another sequence of n tokens; how many of them went in.
  uint64_t fill(uint64_t n_tokens) {
    if (oscar_seq_open(cache_.get(), &seq_) != OSCAR_OK) return 0;
    for (uint64_t n = 0; n < n_tokens;) {
      const auto chunk = static_cast<uint32_t>(std::min<uint64_t>(serving_.config.max_step_tokens, n_tokens - n));
      oscar_step step = 0;
      if (!begin(chunk, step)) return n;
      for (uint32_t layer = 0; layer < serving_.config.n_layers; ++layer) append(step, layer, chunk);
      call(oscar_step_end(cache_.get(), step));
      n += chunk;
    }
    return n_tokens;
  }

  uint64_t bytes_with_a_step_begun() {
    oscar_step step = 0;
    if (!begin(1, step)) return 0;
    const uint64_t bytes = stats().bytes_sequences;
    call(oscar_step_abort(cache_.get(), step));
    return bytes;
  }
  uint64_t bytes_fixed() const { return stats().bytes_fixed; }

 private:
  oscar_cache_stats stats() const {
    auto stats = sized<oscar_cache_stats>();
    call(oscar_cache_stats_get(cache_.get(), &stats));
    return stats;
  }
  bool begin(uint32_t n, oscar_step& step) {
    const oscar_step_entry entry{seq_, n, 0};
    auto args = sized<oscar_step_args>();
    args.n_entries = 1;
    args.entries = &entry;
    const oscar_status status = oscar_step_begin(cache_.get(), &args, nullptr, &step);
    if (status != OSCAR_E_NO_SPACE) call(status);
    return status == OSCAR_OK;
  }
  void append(oscar_step step, uint32_t layer, uint32_t n) {
    const oscar_layer_config& l = serving_.config.layers[layer];
    if (l.kv_source != OSCAR_DEFAULT) return;
    rows_.resize(uint64_t{n} * l.n_kv_heads * std::max(l.key_dim, l.value_dim), 0.25f);
    auto args = sized<oscar_append_args>();
    args.layer = layer;
    args.k = tensor(n, l.n_kv_heads, l.key_dim);
    args.v = tensor(n, l.n_kv_heads, l.value_dim);
    call(oscar_append(cache_.get(), step, &args, nullptr));
  }
  oscar_tensor tensor(uint32_t n, uint32_t heads, uint32_t dim) {
    oscar_tensor t{};
    t.data = rows_.data();
    t.device_type = OSCAR_DEVICE_CPU;
    t.dtype_code = OSCAR_DTYPE_FLOAT;
    t.dtype_bits = 32;
    t.dtype_lanes = 1;
    t.ndim = 3;
    t.shape[0] = n, t.shape[1] = heads, t.shape[2] = dim;
    return t;
  }

  Serving serving_;
  Cache cache_;
  oscar_seq seq_ = 0;
  std::vector<float> rows_;
};

}  // namespace oscar::cli::test
