// Steps, and the layers within them.
#include <cmath>
#include <vector>

#include "border/arguments.h"
#include "border/guard.h"
#include "border/handles.h"
#include "border/log.h"

using namespace oscar;
using namespace oscar::border;

namespace {

struct LayerShape {
  int64_t n_rows, max_new, n_q_heads, n_kv_heads, key_dim, value_dim;
  Place place;
};

Place place_of(const Cache& cache) {
  const CacheConfig& config = cache.plan().config;
  return {static_cast<int32_t>(config.device), config.device_id};
}

LayerShape shape_of(const Cache& cache, oscar_step step, uint32_t layer) {
  const Step& s = cache.step(step);
  const CachePlan& plan = cache.plan();
  if (layer >= plan.layers.size())
    throw Error(Status::kInvalid, "layer is %u, the cache has %zu", layer, plan.layers.size());
  const LayerClass& c = plan.classes[plan.layers[layer].layer_class];
  return {s.n_rows, s.max_new, plan.layers[layer].n_q_heads, c.n_kv_heads, c.key_dim, c.value_dim, place_of(cache)};
}

struct KeyValue {
  TensorView k, v;
};

KeyValue check_key_value(const LayerShape& s, const oscar_tensor& k, const oscar_tensor& v) {
  return {check_tensor(k, {"k", {s.n_rows, s.n_kv_heads, s.key_dim}, kFloats}, s.place),
          check_tensor(v, {"v", {s.n_rows, s.n_kv_heads, s.value_dim}, kFloats}, s.place)};
}

// The tensors and numbers of an attention, from oscar_attend_args or oscar_layer_args.
template <class Args>
AttendRequest check_attend_args(const LayerShape& s, const Args& a) {
  AttendRequest r;
  r.layer = a.layer;
  r.q = check_tensor(a.q, {"q", {s.n_rows, s.n_q_heads, s.key_dim}, kFloats}, s.place);
  r.out = check_tensor(a.out, {"out", {s.n_rows, s.n_q_heads, s.value_dim}, kFloats, Access::kOut}, s.place);
  r.lse = check_tensor(a.lse, {"lse", {s.n_rows, s.n_q_heads}, kF32Only, Access::kOut, true}, s.place);
  r.sink_logits = check_tensor(a.sink_logits, {"sink_logits", {s.n_q_heads}, kF32Only, Access::kIn, true}, s.place);
  r.mask = check_tensor(a.mask, {"mask", {s.n_rows, s.max_new}, {Dtype::kU8}, Access::kIn, true}, s.place);
  r.scale = a.scale;
  r.softcap = a.softcap;
  if (!std::isfinite(a.scale) || a.scale < 0)
    throw Error(Status::kInvalid, "scale is %g, wanted: positive, or 0 for 1/sqrt(key_dim)",
                static_cast<double>(a.scale));
  if (!std::isfinite(a.softcap) || a.softcap < 0)
    throw Error(Status::kInvalid, "softcap is %g, wanted: positive, or 0 for none", static_cast<double>(a.softcap));
  return r;
}

}  // namespace

extern "C" {

oscar_status oscar_step_begin(oscar_cache* cache, const oscar_step_args* args, oscar_stream stream,
                              oscar_step* step_out) {
  return guarded_room("oscar_step_begin", cache, [&] {
    require(step_out, "step_out");
    *step_out = 0;
    require(cache, "cache");
    check_stream(stream, place_of(cache->cache));
    const oscar_step_args a = read_struct(args, "args");
    if (a.n_entries == 0 || a.n_entries > cache->cache.plan().config.max_step_tokens)
      throw Error(Status::kInvalid, "n_entries is %u, allowed: 1 .. max_step_tokens = %u", a.n_entries,
                  cache->cache.plan().config.max_step_tokens);
    require(a.entries, "entries");
    if (a.is_replay > 1) throw Error(Status::kInvalid, "is_replay is %u, allowed: 0, 1", a.is_replay);
    if (a.reserved != 0) throw Error(Status::kInvalid, "reserved is %u, wanted: 0", a.reserved);
    std::vector<StepRequest> requests;
    for (uint32_t i = 0; i < a.n_entries; ++i) {
      const oscar_step_entry& e = a.entries[i];
      const bool query_only = e.n_draft == OSCAR_QUERY_ONLY;
      requests.push_back({e.seq, e.n_new, query_only ? 0 : e.n_draft, query_only});
    }
    *step_out = cache->cache.begin(requests, a.is_replay != 0, stream);
  });
}

oscar_status oscar_step_end(oscar_cache* cache, oscar_step step) {
  return guarded("oscar_step_end", [&] {
    require(cache, "cache");
    cache->cache.end(step);
  });
}

oscar_status oscar_step_abort(oscar_cache* cache, oscar_step step) {
  return guarded("oscar_step_abort", [&] {
    require(cache, "cache");
    cache->cache.abort(step);
  });
}

oscar_status oscar_append(oscar_cache* cache, oscar_step step, const oscar_append_args* args, oscar_stream stream) {
  return guarded("oscar_append", [&] {
    require(cache, "cache");
    check_stream(stream, place_of(cache->cache));
    const oscar_append_args a = read_struct(args, "args");
    const LayerShape shape = shape_of(cache->cache, step, a.layer);
    const KeyValue kv = check_key_value(shape, a.k, a.v);
    cache->cache.append(step, a.layer, kv.k, kv.v, stream);
  });
}

oscar_status oscar_attend(oscar_cache* cache, oscar_step step, const oscar_attend_args* args, oscar_stream stream) {
  return guarded("oscar_attend", [&] {
    require(cache, "cache");
    check_stream(stream, place_of(cache->cache));
    const oscar_attend_args a = read_struct(args, "args");
    const LayerShape shape = shape_of(cache->cache, step, a.layer);
    cache->cache.attend(step, check_attend_args(shape, a), stream);
  });
}

oscar_status oscar_layer(oscar_cache* cache, oscar_step step, const oscar_layer_args* args, oscar_stream stream) {
  return guarded("oscar_layer", [&] {
    require(cache, "cache");
    check_stream(stream, place_of(cache->cache));
    const oscar_layer_args a = read_struct(args, "args");
    const LayerShape shape = shape_of(cache->cache, step, a.layer);
    const KeyValue kv = check_key_value(shape, a.k, a.v);
    const AttendRequest request = check_attend_args(shape, a);
    cache->cache.append(step, a.layer, kv.k, kv.v, stream);
    cache->cache.attend(step, request, stream);
  });
}

}  // extern "C"
