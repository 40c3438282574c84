// Read-back, scores, and merging of partial attentions.
#include <algorithm>
#include <vector>

#include "attention/merge.h"
#include "border/arguments.h"
#include "border/guard.h"
#include "border/handles.h"

using namespace oscar;
using namespace oscar::border;

namespace {

const LayerClass& check_head(const Cache& cache, uint32_t layer, uint32_t kv_head) {
  const CachePlan& plan = cache.plan();
  if (layer >= plan.layers.size())
    throw Error(Status::kInvalid, "layer is %u, the cache has %zu", layer, plan.layers.size());
  const LayerClass& c = plan.classes[plan.layers[layer].layer_class];
  if (kv_head >= c.n_kv_heads)
    throw Error(Status::kInvalid, "kv_head is %u, layer %u has %u", kv_head, layer, c.n_kv_heads);
  return c;
}

TensorView optional_rows(const oscar_tensor* tensor, const char* name, uint64_t n, uint32_t dim) {
  if (!tensor) return {};
  return check_tensor(*tensor, {name, {static_cast<int64_t>(n), dim}, kFloats, Access::kOut, true});
}

// A dense F32 tensor of any 1 to 4 dimensions.
float* check_dense(const oscar_tensor* t, const char* name) {
  require(t, name);
  require(static_cast<const char*>(t->data), name);
  if (t->device_type != OSCAR_DEVICE_CPU)
    throw Error(Status::kUnsupported, "%s: device type is %d, wanted: the CPU (%d)", name, t->device_type,
                OSCAR_DEVICE_CPU);
  if (t->ndim < 1 || t->ndim > 4) throw Error(Status::kInvalid, "%s: ndim is %d, wanted 1 .. 4", name, t->ndim);
  if (t->dtype_code != OSCAR_DTYPE_FLOAT || t->dtype_bits != 32 || t->dtype_lanes != 1)
    throw Error(Status::kInvalid, "%s: dtype code %u, %u bits; wanted: F32", name, t->dtype_code, t->dtype_bits);
  if (reinterpret_cast<uintptr_t>(t->data) % alignof(float) != 0)
    throw Error(Status::kInvalid, "%s: data is not aligned to its 4-byte elements", name);
  const bool strided = std::any_of(t->stride, t->stride + t->ndim, [](int64_t s) { return s != 0; });
  int64_t step = 1;
  for (int32_t i = t->ndim - 1; i >= 0; --i) {
    if (t->shape[i] < 1)
      throw Error(Status::kInvalid, "%s: shape[%d] is %lld", name, i, static_cast<long long>(t->shape[i]));
    if (strided && t->shape[i] > 1 && t->stride[i] != step)
      throw Error(Status::kInvalid, "%s: stride[%d] is %lld, wanted a dense tensor (%lld)", name, i,
                  static_cast<long long>(t->stride[i]), static_cast<long long>(step));
    if (__builtin_mul_overflow(step, t->shape[i], &step))
      throw Error(Status::kInvalid, "%s: the shape's product exceeds 2^63", name);
  }
  return static_cast<float*>(t->data);
}

void check_shape(const oscar_tensor* t, const char* name, const std::vector<int64_t>& wanted) {
  if (t->ndim != static_cast<int32_t>(wanted.size()))
    throw Error(Status::kInvalid, "%s: ndim is %d, wanted %zu", name, t->ndim, wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i)
    if (t->shape[i] != wanted[i])
      throw Error(Status::kInvalid, "%s: shape[%zu] is %lld, wanted %lld", name, i, static_cast<long long>(t->shape[i]),
                  static_cast<long long>(wanted[i]));
}

}  // namespace

extern "C" {

oscar_status oscar_read(const oscar_cache* cache, oscar_seq seq, uint32_t layer, uint32_t kv_head, uint64_t first,
                        uint64_t n, const oscar_tensor* k_out, const oscar_tensor* v_out) {
  return guarded("oscar_read", [&] {
    require(cache, "cache");
    const LayerClass& c = check_head(cache->cache, layer, kv_head);
    const TensorView k = optional_rows(k_out, "k_out", n, c.key_dim), v = optional_rows(v_out, "v_out", n, c.value_dim);
    cache->cache.read(seq, layer, kv_head, first, n, k, v);
  });
}

oscar_status oscar_scores(const oscar_cache* cache, oscar_seq seq, uint32_t layer, uint32_t kv_head, uint64_t first,
                          uint64_t n, const oscar_tensor* scores_out) {
  return guarded("oscar_scores", [&] {
    require(cache, "cache");
    require(scores_out, "scores_out");
    check_head(cache->cache, layer, kv_head);
    const TensorView out = check_tensor(*scores_out, {"scores_out", {static_cast<int64_t>(n)}, kF32Only, Access::kOut});
    cache->cache.scores(seq, layer, kv_head, first, n, out);
  });
}

oscar_status oscar_merge(const oscar_tensor* outs, const oscar_tensor* lses, const oscar_tensor* out,
                         const oscar_tensor* lse, oscar_stream stream) {
  return guarded("oscar_merge", [&] {
    check_stream(stream);
    const float* parts = check_dense(outs, "outs");
    const float* part_lses = check_dense(lses, "lses");
    float* merged = check_dense(out, "out");
    float* merged_lse = lse && (lse->data || lse->ndim != 0) ? check_dense(lse, "lse") : nullptr;
    if (outs->ndim < 2) throw Error(Status::kInvalid, "outs: ndim is %d, wanted at least [n_parts, d]", outs->ndim);
    const std::vector<int64_t> shape(outs->shape, outs->shape + outs->ndim);
    check_shape(lses, "lses", {shape.begin(), shape.end() - 1});
    check_shape(out, "out", {shape.begin() + 1, shape.end()});
    // A single row has no dimensions left: its lse is one element.
    if (merged_lse && outs->ndim > 2) check_shape(lse, "lse", {shape.begin() + 1, shape.end() - 1});
    if (merged_lse && outs->ndim == 2) check_shape(lse, "lse", {1});
    size_t n_rows = 1;
    for (size_t i = 1; i + 1 < shape.size(); ++i) n_rows *= static_cast<size_t>(shape[i]);
    merge_partials(parts, part_lses, static_cast<size_t>(shape.front()), n_rows, static_cast<size_t>(shape.back()),
                   merged, merged_lse);
  });
}

}  // extern "C"
