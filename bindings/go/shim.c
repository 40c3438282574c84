#include "shim.h"

#include <stddef.h>
#include <string.h>

static oscar_go_result result(oscar_status status) {
  oscar_go_result r = {NULL, NULL, 0, status, 0};
  if (status != OSCAR_OK) r.text = strdup(oscar_last_error());
  return r;
}

static oscar_go_result value_result(oscar_status status, uint64_t value) {
  oscar_go_result r = result(status);
  r.value = value;
  return r;
}

static oscar_go_result object_result(oscar_status status, void *object) {
  oscar_go_result r = result(status);
  r.object = object;
  return r;
}

/* Describes a tensor that was all zero. Absent ones stay so; words are copied one by one as Go wrote them just before:
 * wider loads would wait for those stores. */
static void set_tensor(oscar_tensor *t, const oscar_go_view *view, oscar_go_data data) {
  if (view->ndim == 0) return;
  t->data = data;
  t->device_type = view->device_type;
  t->device_id = view->device_id;
  t->dtype_code = view->dtype_code;
  t->dtype_bits = view->dtype_bits;
  t->dtype_lanes = view->dtype_lanes;
  t->ndim = view->ndim;
  for (int i = 0; i < view->ndim; ++i) {
    t->shape[i] = view->shape[i];
    t->stride[i] = view->stride[i];
  }
}

static oscar_stream stream_of(oscar_go_stream stream) { return (oscar_stream)(uintptr_t)stream; }

static oscar_cache_config complete(const oscar_cache_config *config, oscar_layer_config *layers,
                                   const oscar_calibration *calibration) {
  oscar_cache_config c = *config;
  c.struct_size = sizeof c;
  c.layers = layers;
  c.calibration = calibration;
  for (uint32_t i = 0; i < c.n_layer_configs; ++i) layers[i].struct_size = sizeof layers[i];
  return c;
}

static oscar_calibrator_args calibrator_args(const oscar_go_calibrator_args *given, oscar_go_data rope_frequencies) {
  oscar_calibrator_args args = {.struct_size = sizeof args, .n_positions = given->n_positions};
  args.rope_pairing = given->rope_pairing;
  args.value_basis = given->value_basis;
  set_tensor(&args.rope_frequencies, &given->frequencies, rope_frequencies);
  args.model = given->model;
  args.note = given->note;
  return args;
}

/* ------------------------------------------------------------------------------------------------ library ---- */

oscar_go_result oscar_go_backend_get(uint32_t index, oscar_backend_info *info) {
  info->struct_size = sizeof *info;
  return result(oscar_backend_get(index, info));
}

/* ----------------------------------------------------------------------------------- policy and calibration ---- */

oscar_go_result oscar_go_cache_config_init(oscar_cache_config *config, const char *profile) {
  return result(oscar_cache_config_init(config, sizeof *config, profile));
}

oscar_go_result oscar_go_cache_check(const oscar_cache_config *config, oscar_layer_config *layers,
                                     const oscar_calibration *calibration, const oscar_go_calibrator_args *self_args,
                                     oscar_go_data rope_frequencies, uint64_t context, oscar_cache_report *report) {
  oscar_cache_config c = complete(config, layers, calibration);
  const oscar_calibrator_args args = calibrator_args(self_args, rope_frequencies);
  if (self_args->is_given) c.self_calibrate = &args;
  report->struct_size = sizeof *report;
  return result(oscar_cache_check(&c, context, report));
}

oscar_go_result oscar_go_cache_create(const oscar_cache_config *config, oscar_layer_config *layers,
                                      const oscar_calibration *calibration, const oscar_go_calibrator_args *self_args,
                                      oscar_go_data rope_frequencies) {
  oscar_cache_config c = complete(config, layers, calibration);
  const oscar_calibrator_args args = calibrator_args(self_args, rope_frequencies);
  if (self_args->is_given) c.self_calibrate = &args;
  oscar_cache *cache = NULL;
  const oscar_status status = oscar_cache_create(&c, &cache);
  return object_result(status, cache);
}

oscar_go_result oscar_go_cache_freeze(oscar_cache *cache) {
  oscar_calibration *calibration = NULL;
  const oscar_status status = oscar_cache_freeze(cache, &calibration);
  return object_result(status, calibration);
}

oscar_go_result oscar_go_calibration_default(const oscar_cache_config *config, oscar_layer_config *layers) {
  const oscar_cache_config c = complete(config, layers, NULL);
  oscar_calibration *calibration = NULL;
  const oscar_status status = oscar_calibration_default(&c, &calibration);
  return object_result(status, calibration);
}

oscar_go_result oscar_go_calibration_identity(const oscar_cache_config *config, oscar_layer_config *layers) {
  const oscar_cache_config c = complete(config, layers, NULL);
  oscar_calibration *calibration = NULL;
  const oscar_status status = oscar_calibration_identity(&c, &calibration);
  return object_result(status, calibration);
}

oscar_go_result oscar_go_calibration_create(oscar_calibration_layer *layers, uint32_t n_layers) {
  for (uint32_t i = 0; i < n_layers; ++i) layers[i].struct_size = sizeof layers[i];
  oscar_calibration *calibration = NULL;
  const oscar_status status = oscar_calibration_create(layers, n_layers, &calibration);
  return object_result(status, calibration);
}

oscar_go_result oscar_go_calibration_save(const oscar_calibration *calibration, uint8_t *bytes, uint64_t capacity) {
  uint64_t size = 0;
  const oscar_status status = oscar_calibration_save(calibration, bytes, capacity, &size);
  return value_result(status, size);
}

oscar_go_result oscar_go_calibration_load(const uint8_t *bytes, uint64_t size) {
  oscar_calibration *calibration = NULL;
  const oscar_status status = oscar_calibration_load(bytes, size, &calibration);
  return object_result(status, calibration);
}

oscar_go_result oscar_go_calibration_import_torch(const oscar_cache_config *config, oscar_layer_config *layers,
                                                  const uint8_t *key_bytes, uint64_t key_size,
                                                  const uint8_t *value_bytes, uint64_t value_size,
                                                  const uint32_t *layer_ids, uint32_t n_layer_ids) {
  const oscar_cache_config c = complete(config, layers, NULL);
  oscar_calibration_import_args args = {.struct_size = sizeof args, .n_layer_ids = n_layer_ids};
  args.key_bytes = key_bytes;
  args.key_size = key_size;
  args.value_bytes = value_bytes;
  args.value_size = value_size;
  args.layer_ids = layer_ids;
  oscar_calibration *calibration = NULL;
  const oscar_status status = oscar_calibration_import_torch(&c, &args, &calibration);
  return object_result(status, calibration);
}

oscar_go_result oscar_go_calibration_info_get(const oscar_calibration *calibration, oscar_calibration_info *info) {
  info->struct_size = sizeof *info;
  return result(oscar_calibration_info_get(calibration, info));
}

oscar_go_result oscar_go_calibration_head_get(const oscar_calibration *calibration, uint32_t layer, uint32_t kv_head,
                                              oscar_calibration_head_info *info) {
  info->struct_size = sizeof *info;
  return result(oscar_calibration_head_get(calibration, layer, kv_head, info));
}

oscar_go_result oscar_go_calibration_slice(const oscar_calibration *calibration, const oscar_calibration_part *parts,
                                           uint32_t n_parts) {
  oscar_calibration *slice = NULL;
  const oscar_status status = oscar_calibration_slice(calibration, parts, n_parts, &slice);
  return object_result(status, slice);
}

oscar_go_result oscar_go_calibrator_create(const oscar_cache_config *config, oscar_layer_config *layers,
                                           const oscar_go_calibrator_args *given, oscar_go_data rope_frequencies) {
  const oscar_cache_config c = complete(config, layers, NULL);
  const oscar_calibrator_args args = calibrator_args(given, rope_frequencies);
  oscar_calibrator *calibrator = NULL;
  const oscar_status status = oscar_calibrator_create(&c, &args, &calibrator);
  return object_result(status, calibrator);
}

oscar_go_result oscar_go_calibrator_feed(oscar_calibrator *calibrator, uint32_t layer, uint64_t first_position,
                                         const oscar_go_view *views, oscar_go_data q, oscar_go_data k,
                                         oscar_go_data v) {
  oscar_calibrator_feed_args args = {.struct_size = sizeof args, .layer = layer, .first_position = first_position};
  set_tensor(&args.q, &views[0], q);
  set_tensor(&args.k, &views[1], k);
  set_tensor(&args.v, &views[2], v);
  return result(oscar_calibrator_feed(calibrator, &args));
}

oscar_go_result oscar_go_calibrator_finish(const oscar_calibrator *calibrator) {
  oscar_calibration *calibration = NULL;
  const oscar_status status = oscar_calibrator_finish(calibrator, &calibration);
  return object_result(status, calibration);
}

/* ------------------------------------------------------------------------------------- cache and sequences ---- */

oscar_go_result oscar_go_cache_stats_get(const oscar_cache *cache, oscar_cache_stats *stats) {
  stats->struct_size = sizeof *stats;
  return result(oscar_cache_stats_get(cache, stats));
}

oscar_go_result oscar_go_layer_stats_get(const oscar_cache *cache, uint32_t layer, oscar_layer_stats *stats) {
  stats->struct_size = sizeof *stats;
  return result(oscar_layer_stats_get(cache, layer, stats));
}

oscar_go_result oscar_go_cache_capacity(const oscar_cache *cache) {
  uint64_t n_tokens = 0;
  const oscar_status status = oscar_cache_capacity(cache, &n_tokens);
  return value_result(status, n_tokens);
}

oscar_go_result oscar_go_seq_open(oscar_cache *cache) {
  oscar_seq seq = 0;
  const oscar_status status = oscar_seq_open(cache, &seq);
  return value_result(status, seq);
}

oscar_go_result oscar_go_seq_close(oscar_cache *cache, oscar_seq seq) { return result(oscar_seq_close(cache, seq)); }

oscar_go_result oscar_go_seq_fork(oscar_cache *cache, oscar_seq parent, uint64_t n_tokens) {
  oscar_seq child = 0;
  const oscar_status status = oscar_seq_fork(cache, parent, n_tokens, &child);
  return value_result(status, child);
}

oscar_go_result oscar_go_seq_truncate(oscar_cache *cache, oscar_seq seq, uint64_t n_tokens) {
  return result(oscar_seq_truncate(cache, seq, n_tokens));
}

oscar_go_result oscar_go_seq_accept(oscar_cache *cache, oscar_seq seq, uint64_t base, uint32_t n,
                                    const uint32_t *indices) {
  return result(oscar_seq_accept(cache, seq, base, n, indices));
}

oscar_go_result oscar_go_seq_length(const oscar_cache *cache, oscar_seq seq) {
  uint64_t n_tokens = 0;
  const oscar_status status = oscar_seq_length(cache, seq, &n_tokens);
  return value_result(status, n_tokens);
}

/* Written in Go. */
oscar_status oscarGoWrite(uintptr_t handle, void *bytes, uint64_t size);
oscar_status oscarGoRead(uintptr_t handle, void *bytes, uint64_t size);

static oscar_status call_write(void *user, const void *bytes, uint64_t size) {
  return oscarGoWrite((uintptr_t)user, (void *)bytes, size);
}

static oscar_status call_read(void *user, void *bytes, uint64_t size) {
  return oscarGoRead((uintptr_t)user, bytes, size);
}

oscar_go_result oscar_go_seq_export(const oscar_cache *cache, oscar_seq seq, uint64_t n_tokens, uintptr_t handle) {
  oscar_export_args args = {.struct_size = sizeof args, .n_tokens = n_tokens};
  args.user = (void *)handle;
  if (handle) args.write = call_write;
  uint64_t size = 0;
  const oscar_status status = oscar_seq_export(cache, seq, &args, &size);
  return value_result(status, size);
}

oscar_go_result oscar_go_seq_import(oscar_cache *cache, uintptr_t handle) {
  oscar_import_args args = {.struct_size = sizeof args};
  args.user = (void *)handle;
  args.read = call_read;
  oscar_seq seq = 0;
  const oscar_status status = oscar_seq_import(cache, &args, &seq);
  return value_result(status, seq);
}

/* ---------------------------------------------------------------------------------------- steps and layers ---- */

oscar_go_result oscar_go_step_begin(oscar_cache *cache, const oscar_step_entry *entries, uint32_t n_entries,
                                    uint32_t is_replay, oscar_go_stream stream) {
  oscar_step_args args = {.struct_size = sizeof args, .n_entries = n_entries, .is_replay = is_replay};
  args.entries = entries;
  oscar_step step = 0;
  const oscar_status status = oscar_step_begin(cache, &args, stream_of(stream), &step);
  return value_result(status, step);
}

oscar_go_result oscar_go_step_end(oscar_cache *cache, oscar_step step) { return result(oscar_step_end(cache, step)); }

oscar_go_result oscar_go_step_abort(oscar_cache *cache, oscar_step step) {
  return result(oscar_step_abort(cache, step));
}

oscar_go_result oscar_go_append(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_go_view *views,
                                oscar_go_data k, oscar_go_data v, oscar_go_stream stream) {
  oscar_append_args args = {.struct_size = sizeof args, .layer = layer};
  set_tensor(&args.k, &views[0], k);
  set_tensor(&args.v, &views[1], v);
  return result(oscar_append(cache, step, &args, stream_of(stream)));
}

oscar_go_result oscar_go_attend(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_go_view *views,
                                oscar_go_data q, oscar_go_data out, oscar_go_data lse, oscar_go_data sink_logits,
                                oscar_go_data mask, float scale, float softcap, oscar_go_stream stream) {
  oscar_attend_args args = {.struct_size = sizeof args, .layer = layer, .scale = scale, .softcap = softcap};
  set_tensor(&args.q, &views[0], q);
  set_tensor(&args.out, &views[1], out);
  set_tensor(&args.lse, &views[2], lse);
  set_tensor(&args.sink_logits, &views[3], sink_logits);
  set_tensor(&args.mask, &views[4], mask);
  return result(oscar_attend(cache, step, &args, stream_of(stream)));
}

oscar_go_result oscar_go_layer(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_go_view *views,
                               oscar_go_data k, oscar_go_data v, oscar_go_data q, oscar_go_data out, oscar_go_data lse,
                               oscar_go_data sink_logits, oscar_go_data mask, float scale, float softcap,
                               oscar_go_stream stream) {
  oscar_layer_args args = {.struct_size = sizeof args, .layer = layer, .scale = scale, .softcap = softcap};
  set_tensor(&args.k, &views[0], k);
  set_tensor(&args.v, &views[1], v);
  set_tensor(&args.q, &views[2], q);
  set_tensor(&args.out, &views[3], out);
  set_tensor(&args.lse, &views[4], lse);
  set_tensor(&args.sink_logits, &views[5], sink_logits);
  set_tensor(&args.mask, &views[6], mask);
  return result(oscar_layer(cache, step, &args, stream_of(stream)));
}

/* ------------------------------------------------------------------------------------- inspect and pieces ---- */

oscar_go_result oscar_go_read(const oscar_cache *cache, oscar_seq seq, uint32_t layer, uint32_t kv_head, uint64_t first,
                              uint64_t n, const oscar_go_view *views, oscar_go_data k, oscar_go_data v) {
  oscar_tensor k_out = {0}, v_out = {0};
  set_tensor(&k_out, &views[0], k);
  set_tensor(&v_out, &views[1], v);
  return result(oscar_read(cache, seq, layer, kv_head, first, n, &k_out, &v_out));
}

oscar_go_result oscar_go_scores(const oscar_cache *cache, oscar_seq seq, uint32_t layer, uint32_t kv_head,
                                uint64_t first, uint64_t n, const oscar_go_view *view, oscar_go_data scores) {
  oscar_tensor scores_out = {0};
  set_tensor(&scores_out, view, scores);
  return result(oscar_scores(cache, seq, layer, kv_head, first, n, &scores_out));
}

oscar_go_result oscar_go_merge(const oscar_go_view *views, oscar_go_data outs, oscar_go_data lses, oscar_go_data out,
                               oscar_go_data lse, oscar_go_stream stream) {
  oscar_tensor outs_in = {0}, lses_in = {0}, out_out = {0}, lse_out = {0};
  set_tensor(&outs_in, &views[0], outs);
  set_tensor(&lses_in, &views[1], lses);
  set_tensor(&out_out, &views[2], out);
  set_tensor(&lse_out, &views[3], lse);
  return result(oscar_merge(&outs_in, &lses_in, &out_out, views[3].ndim ? &lse_out : NULL, stream_of(stream)));
}
