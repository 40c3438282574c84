/* The C side of the Go binding: flat calls without pointers to pointers, so that Go slices are passed as direct
 * arguments. The structs of the C ABI are filled here, and the text of an error is fetched in the call that failed: a
 * goroutine may be on another thread, with another oscar_last_error(), by its next call. */
#ifndef OSCAR_GO_SHIM_H
#define OSCAR_GO_SHIM_H

#include <oscar/oscar.h>

/* What a call gives back. text is NULL, or belongs to the caller (free); it is NULL where there is no memory for it. */
typedef struct oscar_go_result {
  char *text;
  void *object;   /* of calls that create something */
  uint64_t value; /* of calls that answer with an id or a count */
  oscar_status status;
  uint32_t reserved;
} oscar_go_result;

/* An oscar_tensor without its data pointer, which travels beside it. */
typedef struct oscar_go_view {
  int64_t shape[4];
  int64_t stride[4];
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint16_t dtype_lanes;
} oscar_go_view;

/* Memory of a tensor. A type without pointers in it, so that cgo need not look for any behind it. */
typedef uint8_t *oscar_go_data;

/* oscar_stream as a number: CUDA's handles 1 and 2 are no addresses, and Go does not suffer those in a pointer. */
typedef uint64_t oscar_go_stream;

oscar_go_result oscar_go_backend_get(uint32_t index, oscar_backend_info *info);

/* How a calibration is to be made, by a calibrator or by the cache itself. The texts may be NULL; the frequencies travel
 * beside it. */
typedef struct oscar_go_calibrator_args {
  oscar_go_view frequencies;
  uint64_t n_positions;
  const char *model; /* C memory */
  const char *note;
  uint32_t rope_pairing;
  uint32_t value_basis;
  uint32_t is_given; /* 0: the cache does not calibrate itself */
  uint32_t reserved;
} oscar_go_calibrator_args;

/* `config` comes without `layers` and `calibration`; every call of this group adds them. */
oscar_go_result oscar_go_cache_config_init(oscar_cache_config *config, const char *profile);
oscar_go_result oscar_go_cache_check(const oscar_cache_config *config, oscar_layer_config *layers,
                                     const oscar_calibration *calibration, const oscar_go_calibrator_args *self_args,
                                     oscar_go_data rope_frequencies, uint64_t context, oscar_cache_report *report);
oscar_go_result oscar_go_cache_create(const oscar_cache_config *config, oscar_layer_config *layers,
                                      const oscar_calibration *calibration, const oscar_go_calibrator_args *self_args,
                                      oscar_go_data rope_frequencies);
oscar_go_result oscar_go_cache_freeze(oscar_cache *cache);
oscar_go_result oscar_go_calibration_default(const oscar_cache_config *config, oscar_layer_config *layers);
oscar_go_result oscar_go_calibration_identity(const oscar_cache_config *config, oscar_layer_config *layers);

/* The caller has pinned the matrices that `layers` point to. */
oscar_go_result oscar_go_calibration_create(oscar_calibration_layer *layers, uint32_t n_layers);
oscar_go_result oscar_go_calibration_save(const oscar_calibration *calibration, uint8_t *bytes, uint64_t capacity);
oscar_go_result oscar_go_calibration_load(const uint8_t *bytes, uint64_t size);
oscar_go_result oscar_go_calibration_import_torch(const oscar_cache_config *config, oscar_layer_config *layers,
                                                  const uint8_t *key_bytes, uint64_t key_size,
                                                  const uint8_t *value_bytes, uint64_t value_size,
                                                  const uint32_t *layer_ids, uint32_t n_layer_ids);
oscar_go_result oscar_go_calibration_info_get(const oscar_calibration *calibration, oscar_calibration_info *info);

oscar_go_result oscar_go_calibration_head_get(const oscar_calibration *calibration, uint32_t layer, uint32_t kv_head,
                                              oscar_calibration_head_info *info);
oscar_go_result oscar_go_calibration_slice(const oscar_calibration *calibration, const oscar_calibration_part *parts,
                                           uint32_t n_parts);

oscar_go_result oscar_go_calibrator_create(const oscar_cache_config *config, oscar_layer_config *layers,
                                           const oscar_go_calibrator_args *given, oscar_go_data rope_frequencies);

/* views: of q, k and v. */
oscar_go_result oscar_go_calibrator_feed(oscar_calibrator *calibrator, uint32_t layer, uint64_t first_position,
                                         const oscar_go_view *views, oscar_go_data q, oscar_go_data k, oscar_go_data v);
oscar_go_result oscar_go_calibrator_finish(const oscar_calibrator *calibrator);

oscar_go_result oscar_go_cache_stats_get(const oscar_cache *cache, oscar_cache_stats *stats);
oscar_go_result oscar_go_layer_stats_get(const oscar_cache *cache, uint32_t layer, oscar_layer_stats *stats);
oscar_go_result oscar_go_cache_capacity(const oscar_cache *cache);

oscar_go_result oscar_go_seq_open(oscar_cache *cache);
oscar_go_result oscar_go_seq_close(oscar_cache *cache, oscar_seq seq);
oscar_go_result oscar_go_seq_fork(oscar_cache *cache, oscar_seq parent, uint64_t n_tokens);
oscar_go_result oscar_go_seq_truncate(oscar_cache *cache, oscar_seq seq, uint64_t n_tokens);
oscar_go_result oscar_go_seq_accept(oscar_cache *cache, oscar_seq seq, uint64_t base, uint32_t n,
                                    const uint32_t *indices);
oscar_go_result oscar_go_seq_length(const oscar_cache *cache, oscar_seq seq);

/* handle: a cgo.Handle, for oscarGoWrite and oscarGoRead; 0: nothing is written. */
oscar_go_result oscar_go_seq_export(const oscar_cache *cache, oscar_seq seq, uint64_t n_tokens, uintptr_t handle);
oscar_go_result oscar_go_seq_import(oscar_cache *cache, uintptr_t handle);

oscar_go_result oscar_go_step_begin(oscar_cache *cache, const oscar_step_entry *entries, uint32_t n_entries,
                                    uint32_t is_replay, oscar_go_stream stream);
oscar_go_result oscar_go_step_end(oscar_cache *cache, oscar_step step);
oscar_go_result oscar_go_step_abort(oscar_cache *cache, oscar_step step);

/* views: of k and v. */
oscar_go_result oscar_go_append(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_go_view *views,
                                oscar_go_data k, oscar_go_data v, oscar_go_stream stream);

/* views: of q, out, lse, sink_logits and mask. */
oscar_go_result oscar_go_attend(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_go_view *views,
                                oscar_go_data q, oscar_go_data out, oscar_go_data lse, oscar_go_data sink_logits,
                                oscar_go_data mask, float scale, float softcap, oscar_go_stream stream);

/* views: of k, v, q, out, lse, sink_logits and mask. */
oscar_go_result oscar_go_layer(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_go_view *views,
                               oscar_go_data k, oscar_go_data v, oscar_go_data q, oscar_go_data out, oscar_go_data lse,
                               oscar_go_data sink_logits, oscar_go_data mask, float scale, float softcap,
                               oscar_go_stream stream);

/* views: of k and v. */
oscar_go_result oscar_go_read(const oscar_cache *cache, oscar_seq seq, uint32_t layer, uint32_t kv_head, uint64_t first,
                              uint64_t n, const oscar_go_view *views, oscar_go_data k, oscar_go_data v);
oscar_go_result oscar_go_scores(const oscar_cache *cache, oscar_seq seq, uint32_t layer, uint32_t kv_head,
                                uint64_t first, uint64_t n, const oscar_go_view *view, oscar_go_data scores);

/* views: of outs, lses, out and lse. */
oscar_go_result oscar_go_merge(const oscar_go_view *views, oscar_go_data outs, oscar_go_data lses, oscar_go_data out,
                               oscar_go_data lse, oscar_go_stream stream);

#endif /* OSCAR_GO_SHIM_H */
