// Flat forms of the C calls that take a struct of arguments: the struct is filled here, on the C side, so that Python
// hands over plain values and the tensors go through one typemap.
#pragma once
#include "list.h"

namespace oscar_py {

inline oscar_status step_begin(oscar_cache* cache, const oscar_step_entry* entries, uint32_t n_entries,
                               uint32_t is_replay, oscar_stream on_stream, oscar_step* step_out) {
  const oscar_step_args args{sizeof args, n_entries, entries, is_replay, 0};
  return oscar_step_begin(cache, &args, on_stream, step_out);
}

inline oscar_status append(oscar_cache* cache, oscar_step step, uint32_t layer, const oscar_tensor* k,
                           const oscar_tensor* v, oscar_stream on_stream) {
  const oscar_append_args args{sizeof args, layer, *k, *v};
  return oscar_append(cache, step, &args, on_stream);
}

inline oscar_status attend(oscar_cache* cache, oscar_step step, uint32_t layer, const oscar_tensor* q,
                           const oscar_tensor* out, const oscar_tensor* lse, const oscar_tensor* mask,
                           const oscar_tensor* sink_logits, float scale, float softcap, oscar_stream on_stream) {
  const oscar_attend_args args{sizeof args, layer, *q, *out, *lse, *sink_logits, *mask, scale, softcap};
  return oscar_attend(cache, step, &args, on_stream);
}

inline oscar_status layer(oscar_cache* cache, oscar_step step, uint32_t layer, const oscar_tensor* k,
                          const oscar_tensor* v, const oscar_tensor* q, const oscar_tensor* out,
                          const oscar_tensor* lse, const oscar_tensor* mask, const oscar_tensor* sink_logits,
                          float scale, float softcap, oscar_stream on_stream) {
  const oscar_layer_args args{sizeof args, layer, *k, *v, *q, *out, *lse, *sink_logits, *mask, scale, softcap};
  return oscar_layer(cache, step, &args, on_stream);
}

// calibrates 0: the arguments behind it are ignored.
inline oscar_status cache_create(const oscar_cache_config* config, uint32_t calibrates, uint32_t rope_pairing,
                                 uint32_t value_basis, uint64_t n_positions, const oscar_tensor* rope_frequencies,
                                 const char* model, const char* note, oscar_cache** cache_out) {
  const oscar_calibrator_args args{sizeof args, rope_pairing,      value_basis, 0,
                                   n_positions, *rope_frequencies, model,       note};
  oscar_cache_config full = *config;
  full.self_calibrate = calibrates ? &args : nullptr;
  return oscar_cache_create(&full, cache_out);
}

inline oscar_status cache_check(const oscar_cache_config* config, uint32_t calibrates, uint32_t rope_pairing,
                                uint32_t value_basis, uint64_t n_positions, const oscar_tensor* rope_frequencies,
                                const char* model, const char* note, uint64_t context, oscar_cache_report* report_out) {
  const oscar_calibrator_args args{sizeof args, rope_pairing,      value_basis, 0,
                                   n_positions, *rope_frequencies, model,       note};
  oscar_cache_config full = *config;
  full.self_calibrate = calibrates ? &args : nullptr;
  return oscar_cache_check(&full, context, report_out);
}

inline oscar_status calibrator_create(const oscar_cache_config* config, uint32_t rope_pairing, uint32_t value_basis,
                                      uint64_t n_positions, const oscar_tensor* rope_frequencies, const char* model,
                                      const char* note, oscar_calibrator** calibrator_out) {
  const oscar_calibrator_args args{sizeof args, rope_pairing,      value_basis, 0,
                                   n_positions, *rope_frequencies, model,       note};
  return oscar_calibrator_create(config, &args, calibrator_out);
}

inline oscar_status calibrator_feed(oscar_calibrator* calibrator, uint32_t layer, uint64_t first_position,
                                    const oscar_tensor* q, const oscar_tensor* k, const oscar_tensor* v) {
  const oscar_calibrator_feed_args args{sizeof args, layer, first_position, *q, *k, *v};
  return oscar_calibrator_feed(calibrator, &args);
}

// Files of rotations; an absent one is None. layer_ids empty: none.
inline oscar_status calibration_import_torch(const oscar_cache_config* config, const OptionalBytesArg* key,
                                             const OptionalBytesArg* value, uint32_t n, const uint32_t* indices,
                                             oscar_calibration** calibration_out) {
  const oscar_calibration_import_args args{
      sizeof args, n, key->data(), key->size(), value->data(), value->size(), n > 0 ? indices : nullptr};
  return oscar_calibration_import_torch(config, &args, calibration_out);
}

// The serialized calibration as a bytes object.
inline PyObject* calibration_save(const oscar_calibration* calibration) {
  uint64_t size = 0;
  if (const oscar_status status = oscar_calibration_save(calibration, nullptr, 0, &size); status != OSCAR_OK) {
    raise_last(status);
    return nullptr;
  }
  PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size));
  if (bytes == nullptr) return nullptr;
  if (const oscar_status status = oscar_calibration_save(calibration, PyBytes_AS_STRING(bytes), size, &size);
      status != OSCAR_OK) {
    raise_last(status);
    Py_DECREF(bytes);
    return nullptr;
  }
  return bytes;
}

}  // namespace oscar_py
