// Caches and sequences.
#include "border/arguments.h"
#include "border/config.h"
#include "border/guard.h"
#include "border/handles.h"
#include "border/log.h"

using namespace oscar;
using namespace oscar::border;

extern "C" {

oscar_status oscar_cache_create(const oscar_cache_config* config, oscar_cache** cache_out) {
  return guarded("oscar_cache_create", [&] {
    require(cache_out, "cache_out");
    *cache_out = nullptr;
    CachePlan plan(resolve_config(config));
    char error[256];
    const Backend* backend = backend_select(error, sizeof error);
    if (!backend) throw Error(Status::kBackend, "%s", error);
    *cache_out = new oscar_cache(std::move(plan), *backend);
  });
}

void oscar_cache_destroy(oscar_cache* cache) { delete cache; }

oscar_status oscar_cache_stats_get(const oscar_cache* cache, oscar_cache_stats* stats_out) {
  return guarded("oscar_cache_stats_get", [&] {
    require(stats_out, "stats_out");
    write_struct(stats_out, oscar_cache_stats{}, "stats_out");
    require(cache, "cache");
    const CacheStats s = cache->cache.stats();
    oscar_cache_stats stats{};
    stats.n_sequences = static_cast<uint32_t>(s.n_sequences);
    stats.n_open_steps = static_cast<uint32_t>(s.n_open_steps);
    stats.state = s.collecting ? OSCAR_CACHE_COLLECTING : OSCAR_CACHE_FROZEN;
    stats.n_tokens = s.n_tokens;
    stats.n_packed_tokens = s.n_packed_tokens;
    stats.n_blocks = s.n_blocks;
    stats.n_exact_pages = s.n_exact_pages;
    stats.n_non_finite = s.n_non_finite;
    stats.bytes_sequences = s.bytes_sequences;
    stats.bytes_fixed = s.bytes_fixed;
    stats.bytes_slabs = s.bytes_slabs;
    stats.bytes_free = s.bytes_free;
    stats.bits_per_element = s.bits_per_element;
    stats.bytes_calibration = s.bytes_calibration;
    stats.bytes_base = s.bytes_base;
    stats.bytes_refined = s.bytes_refined;
    stats.bytes_exact = s.bytes_exact;
    stats.bytes_scores = s.bytes_scores;
    stats.bytes_tables = s.bytes_tables;
    stats.bytes_shared = s.bytes_shared;
    stats.n_shared_blocks = s.n_shared_blocks;
    stats.n_block_references = s.n_block_references;
    stats.n_steps = s.n_steps;
    stats.n_blocks_packed = s.n_blocks_packed;
    stats.n_rollbacks = s.n_rollbacks;
    stats.n_tokens_forgotten = s.n_tokens_forgotten;
    write_struct(stats_out, stats, "stats_out");
  });
}

oscar_status oscar_layer_stats_get(const oscar_cache* cache, uint32_t layer, oscar_layer_stats* stats_out) {
  return guarded("oscar_layer_stats_get", [&] {
    require(stats_out, "stats_out");
    write_struct(stats_out, oscar_layer_stats{}, "stats_out");
    require(cache, "cache");
    const size_t n_layers = cache->cache.plan().layers.size();
    if (layer >= n_layers) throw Error(Status::kInvalid, "layer is %u, the cache has %zu", layer, n_layers);
    const PackCounts c = cache->cache.layer_stats(layer);
    const oscar_layer_stats stats{
        0,  // struct_size: the caller's
        0,
        c.keys.n_blocks,
        c.keys.n_elements,
        c.keys.n_clipped,
        c.keys.n_worse,
        c.values.n_elements,
        c.values.n_clipped,
        c.values.n_worse,
        c.n_non_finite,
    };
    write_struct(stats_out, stats, "stats_out");
  });
}

oscar_status oscar_cache_freeze(oscar_cache* cache, oscar_calibration** calibration_out) {
  return guarded("oscar_cache_freeze", [&] {
    if (calibration_out) *calibration_out = nullptr;
    require(cache, "cache");
    // Before the cache changes: nothing fails after it has.
    auto handle = std::make_unique<oscar_calibration>();
    handle->calibration = cache->cache.freeze();
    if (calibration_out) *calibration_out = handle.release();
  });
}

oscar_status oscar_cache_capacity(const oscar_cache* cache, uint64_t* n_tokens_out) {
  return guarded("oscar_cache_capacity", [&] {
    require(n_tokens_out, "n_tokens_out");
    *n_tokens_out = 0;
    require(cache, "cache");
    *n_tokens_out = cache->cache.capacity();
  });
}

oscar_status oscar_seq_open(oscar_cache* cache, oscar_seq* seq_out) {
  return guarded_room("oscar_seq_open", cache, [&] {
    require(seq_out, "seq_out");
    *seq_out = 0;
    require(cache, "cache");
    *seq_out = cache->cache.open();
  });
}

oscar_status oscar_seq_close(oscar_cache* cache, oscar_seq seq) {
  return guarded("oscar_seq_close", [&] {
    require(cache, "cache");
    cache->cache.close(seq);
  });
}

oscar_status oscar_seq_fork(oscar_cache* cache, oscar_seq parent, uint64_t n_tokens, oscar_seq* child_out) {
  return guarded_room("oscar_seq_fork", cache, [&] {
    require(child_out, "child_out");
    *child_out = 0;
    require(cache, "cache");
    *child_out = cache->cache.fork(parent, n_tokens);
  });
}

oscar_status oscar_seq_truncate(oscar_cache* cache, oscar_seq seq, uint64_t n_tokens) {
  return guarded("oscar_seq_truncate", [&] {
    require(cache, "cache");
    cache->cache.truncate(seq, n_tokens);
  });
}

oscar_status oscar_seq_accept(oscar_cache* cache, oscar_seq seq, uint64_t base, uint32_t n, const uint32_t* indices) {
  return guarded("oscar_seq_accept", [&] {
    require(cache, "cache");
    if (n > 0) require(indices, "indices");
    cache->cache.accept(seq, base, {indices, n});
  });
}

oscar_status oscar_seq_length(const oscar_cache* cache, oscar_seq seq, uint64_t* n_tokens_out) {
  return guarded("oscar_seq_length", [&] {
    require(n_tokens_out, "n_tokens_out");
    *n_tokens_out = 0;
    require(cache, "cache");
    *n_tokens_out = cache->cache.length(seq);
  });
}

}  // extern "C"
