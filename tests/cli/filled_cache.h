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
  std::vector<uint8_t> exported() const {
    std::vector<uint8_t> bytes;
    auto args = sized<oscar_export_args>();
    args.user = &bytes;
    args.write = [](void* user, const void* piece, uint64_t size) -> oscar_status {
      const auto* from = static_cast<const uint8_t*>(piece);
      static_cast<std::vector<uint8_t>*>(user)->insert(static_cast<std::vector<uint8_t>*>(user)->end(), from,
                                                       from + size);
      return OSCAR_OK;
    };
    uint64_t size = 0;
    call(oscar_seq_export(cache_.get(), seq_, &args, &size));
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
    args.k = host_tensor(rows_.data(), {n, l.n_kv_heads, l.key_dim});
    args.v = host_tensor(rows_.data(), {n, l.n_kv_heads, l.value_dim});
    call(oscar_append(cache_.get(), step, &args, nullptr));
  }

  Serving serving_;
  Cache cache_;
  oscar_seq seq_ = 0;
  std::vector<float> rows_;
};

}  // namespace oscar::cli::test
