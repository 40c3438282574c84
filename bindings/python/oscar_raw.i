// The raw module oscar._oscar, one to one with oscar/oscar.h: SWIG writes the glue, the typemaps below say how values
// cross. Statuses are raised as exceptions, output parameters are returned, structs are objects with attributes.
// Built with -builtin: the extension module stands alone, and SWIG's own oscar.py is not used.
%module(package="oscar") oscar

%{
#include <oscar/oscar.h>

#include "raw/call.h"
#include "raw/error.h"
#include "raw/handle.h"
#include "raw/integer.h"
#include "raw/list.h"
#include "raw/log.h"
#include "raw/stream.h"
#include "raw/tensor.h"
#include "raw/view.h"
%}

%init %{
  oscar_py::add_view_type(m);  // an error that it leaves makes the import fail; what to return depends on SWIG's version
%}

%include <stdint.i>
%include <carrays.i>

// ------------------------------------------------------------------------------------------------- statuses ----
%typemap(out, noblock=1) oscar_status {
  if ($1 != OSCAR_OK) {
    oscar_py::raise_last($1);
    SWIG_fail;
  }
  $result = Py_NewRef(Py_None);
}
// Helpers of the binding that set a Python error themselves.
%typemap(out, noblock=1) bool raises {
  if (!$1) SWIG_fail;
  $result = Py_NewRef(Py_None);
}
%typemap(out, noblock=1) PyObject *raises {
  $result = $1;
  if ($result == nullptr) SWIG_fail;
}

// -------------------------------------------------------------------------------------------------- tensors ----
%define %tensor(PARAMETER, ACCESS)
%typemap(in, noblock=1) const oscar_tensor *PARAMETER (oscar_py::TensorArg tensor) {
  if (!tensor.take($input, "$1_name", oscar_py::Access::ACCESS)) SWIG_fail;
  $1 = const_cast<oscar_tensor *>(tensor.get());
}
%enddef
%tensor(, kRead)
%tensor(out, kWrite)
%tensor(lse, kWrite)
%tensor(k_out, kWrite)
%tensor(v_out, kWrite)
%tensor(scores_out, kWrite)
// A stream is its address; calls on host tensors alone have none.
%typemap(in, numinputs=0, noblock=1) oscar_stream stream { $1 = nullptr; }
%typemap(in, noblock=1) oscar_stream on_stream (uint64_t address) {
  if (!oscar_py::as_u64($input, UINTPTR_MAX, "stream", &address)) SWIG_fail;
  $1 = reinterpret_cast<oscar_stream>(address);
}

// -------------------------------------------------------------------------------------------------- handles ----
%define %cache_argument(TYPE, EXCLUSIVE)
%typemap(in, noblock=1) TYPE *cache (void *pointer, oscar_py::CacheUse use) {
  if (!SWIG_IsOK(SWIG_ConvertPtr($input, &pointer, $descriptor(oscar_py::CacheHandle *), 0)) || pointer == nullptr) {
    PyErr_SetString(PyExc_TypeError, "$symname: the first argument is not a cache handle");
    SWIG_fail;
  }
  if (!use.enter(static_cast<oscar_py::CacheHandle *>(pointer), EXCLUSIVE)) SWIG_fail;
  $1 = use.cache();
}
%enddef
%cache_argument(oscar_cache, true)
%cache_argument(const oscar_cache, false)
%typemap(in, numinputs=0, noblock=1) oscar_cache **cache_out (oscar_cache *created = nullptr) { $1 = &created; }
%typemap(argout, noblock=1) oscar_cache **cache_out {
  Py_SETREF($result, SWIG_NewPointerObj(new oscar_py::CacheHandle(*$1), $descriptor(oscar_py::CacheHandle *),
                                        SWIG_POINTER_OWN));
}
%typemap(in, numinputs=0, noblock=1) oscar_calibration **calibration_out (oscar_calibration *created = nullptr) {
  $1 = &created;
}
%typemap(argout, noblock=1) oscar_calibration **calibration_out {
  Py_SETREF($result, SWIG_NewPointerObj(*$1, $descriptor(oscar_calibration *), SWIG_POINTER_OWN));
}
%typemap(in, numinputs=0, noblock=1) oscar_calibrator **calibrator_out (oscar_calibrator *created = nullptr) {
  $1 = &created;
}
%typemap(argout, noblock=1) oscar_calibrator **calibrator_out {
  Py_SETREF($result, SWIG_NewPointerObj(*$1, $descriptor(oscar_calibrator *), SWIG_POINTER_OWN));
}

// -------------------------------------------------------------------------------------------------- outputs ----
%typemap(in, numinputs=0, noblock=1) uint64_t *NUMBER_OUT (uint64_t number = 0) { $1 = &number; }
%typemap(argout, noblock=1) uint64_t *NUMBER_OUT { Py_SETREF($result, PyLong_FromUnsignedLongLong(*$1)); }
%apply uint64_t *NUMBER_OUT { oscar_seq *seq_out, oscar_seq *child_out, oscar_step *step_out, uint64_t *n_tokens_out };

%define %struct_output(TYPE, PARAMETER)
%typemap(in, numinputs=0, noblock=1) TYPE *PARAMETER (TYPE filled = {}) {
  filled.struct_size = sizeof filled;
  $1 = &filled;
}
%typemap(argout, noblock=1) TYPE *PARAMETER {
  Py_SETREF($result, SWIG_NewPointerObj(new TYPE(*$1), $descriptor(TYPE *), SWIG_POINTER_OWN));
}
%enddef
%struct_output(oscar_backend_info, info_out)
%struct_output(oscar_calibration_info, info_out)
%struct_output(oscar_calibration_head_info, info_out)
%struct_output(oscar_cache_report, report_out)
%struct_output(oscar_cache_stats, stats_out)
%struct_output(oscar_layer_stats, stats_out)
%typemap(in, numinputs=0, noblock=1) (oscar_cache_config *config_out, uint32_t size) (oscar_cache_config filled = {}) {
  $1 = &filled;
  $2 = sizeof filled;
}
%typemap(argout, noblock=1) (oscar_cache_config *config_out, uint32_t size) {
  Py_SETREF($result, SWIG_NewPointerObj(new oscar_cache_config(*$1), $descriptor(oscar_cache_config *),
                                        SWIG_POINTER_OWN));
}

// --------------------------------------------------------------------------------------------------- inputs ----
%typemap(in, noblock=1) uint32_t (uint32_t number) {
  if (!oscar_py::as_u32($input, "$1_name", &number)) SWIG_fail;
  $1 = number;
}
%typemap(in, noblock=1) uint64_t (uint64_t number) {
  if (!oscar_py::as_u64($input, UINT64_MAX, "$1_name", &number)) SWIG_fail;
  $1 = number;
}
%typemap(in, noblock=1) (const oscar_step_entry *entries, uint32_t n_entries) (std::vector<oscar_step_entry> list) {
  if (!oscar_py::step_entries($input, &list)) SWIG_fail;
  $1 = list.data();
  $2 = static_cast<uint32_t>(list.size());
}
%typemap(in, noblock=1) (uint32_t n, const uint32_t *indices) (std::vector<uint32_t> list) {
  if (!oscar_py::indices($input, &list)) SWIG_fail;
  $1 = static_cast<uint32_t>(list.size());
  $2 = list.data();
}
%typemap(in, noblock=1) (const oscar_calibration_part *parts, uint32_t n_parts) (
    std::vector<oscar_calibration_part> list) {
  if (!oscar_py::calibration_parts($input, &list)) SWIG_fail;
  $1 = list.data();
  $2 = static_cast<uint32_t>(list.size());
}
// A text, or None.
%typemap(in, noblock=1) const char *optional_text (const char *text = nullptr) {
  if ($input != Py_None && (text = PyUnicode_AsUTF8($input)) == nullptr) SWIG_fail;
  $1 = const_cast<char *>(text);
}
%apply const char *optional_text { const char *model, const char *note };
%typemap(in, noblock=1) (const oscar_calibration_layer *layers, uint32_t n_layers) (oscar_py::CalibrationLayers list) {
  if (!list.take($input)) SWIG_fail;
  $1 = const_cast<oscar_calibration_layer *>(list.data());
  $2 = list.size();
}
%typemap(in, noblock=1) (const void *bytes, uint64_t size) (oscar_py::BytesArg borrowed) {
  if (!borrowed.take($input)) SWIG_fail;
  $1 = borrowed.data();
  $2 = borrowed.size();
}
%typemap(in, noblock=1) const oscar_py::OptionalBytesArg * (oscar_py::OptionalBytesArg borrowed) {
  if (!borrowed.take($input)) SWIG_fail;
  $1 = &borrowed;
}

// ------------------------------------------------------------------------------------------- the GIL released ----
%define %release_gil(FUNCTION)
%exception FUNCTION {
  Py_BEGIN_ALLOW_THREADS
  $action
  Py_END_ALLOW_THREADS
}
%enddef
%release_gil(oscar_py::cache_create)
%release_gil(oscar_cache_freeze)
%release_gil(oscar_calibration_slice)
%release_gil(oscar_calibration_default)
%release_gil(oscar_calibration_identity)
%release_gil(oscar_calibration_create)
%release_gil(oscar_calibration_load)
%release_gil(oscar_py::calibration_import_torch)
%release_gil(oscar_calibrator_finish)
%release_gil(oscar_py::calibrator_create)
%release_gil(oscar_py::calibrator_feed)
%release_gil(oscar_read)
%release_gil(oscar_scores)
%release_gil(oscar_merge)
%release_gil(oscar_py::step_begin)
%release_gil(oscar_py::append)
%release_gil(oscar_py::attend)
%release_gil(oscar_py::layer)

// ----------------------------------------------------------------------------------- what is wrapped, and how ----
// Served by the flat forms of raw/call.h, or by objects that free themselves.
%ignore oscar_cache_create;
%ignore oscar_cache_check;
%ignore oscar_cache_config::self_calibrate;
%ignore oscar_calibration_part;
%ignore oscar_seq_export;
%ignore oscar_seq_import;
%ignore oscar_export_args;
%ignore oscar_import_args;
%ignore oscar_cache_log_set;
%ignore oscar_log_args;
%ignore oscar_log_record;
%ignore oscar_step_begin;
%ignore oscar_append;
%ignore oscar_attend;
%ignore oscar_layer;
%ignore oscar_cache_destroy;
%ignore oscar_calibration_destroy;
%ignore oscar_calibrator_create;
%ignore oscar_calibrator_feed;
%ignore oscar_calibrator_destroy;
%ignore oscar_calibration_save;
%ignore oscar_last_error;
%ignore oscar_layer_config_init;
%ignore oscar_tensor;
%ignore oscar_allocator;
%ignore oscar_step_entry;
%ignore oscar_step_args;
%ignore oscar_append_args;
%ignore oscar_attend_args;
%ignore oscar_layer_args;
%ignore oscar_calibration_layer;
%ignore oscar_calibration_import_torch;
%ignore oscar_calibration_import_args;
%ignore oscar_calibrator_args;
%ignore oscar_calibrator_feed_args;
%ignore oscar_cache_config::allocator;
%ignore oscar_cache_config::device_allocator;

%nodefaultctor oscar_calibration;
%nodefaultctor oscar_calibrator;
%nodefaultctor oscar_backend_info;
%nodefaultctor oscar_calibration_info;
%nodefaultctor oscar_calibration_head_info;
%nodefaultctor oscar_cache_report;
%nodefaultctor oscar_cache_stats;
%nodefaultctor oscar_layer_stats;
%nodefaultctor oscar_cache_config;
%immutable oscar_backend_info::name;
%immutable oscar_backend_info::reason;
%immutable oscar_cache_report::reason;
%immutable oscar_calibration_info::objective;
%immutable oscar_calibration_info::model;
%immutable oscar_calibration_info::note;

%include "oscar/oscar.h"

#undef OSCAR_DEFAULT
%constant uint32_t OSCAR_DEFAULT = UINT32_MAX;
#undef OSCAR_QUERY_ONLY
%constant uint32_t OSCAR_QUERY_ONLY = UINT32_MAX;
struct oscar_calibration {};
%extend oscar_calibration {
  ~oscar_calibration() { oscar_calibration_destroy($self); }
}
struct oscar_calibrator {};
%extend oscar_calibrator {
  ~oscar_calibrator() { oscar_calibrator_destroy($self); }
}
%extend oscar_layer_config {
  // Takes every value from the cache's configuration.
  oscar_layer_config() {
    auto *layer = new oscar_layer_config;
    oscar_layer_config_init(layer, sizeof *layer);
    return layer;
  }
}
%array_class(oscar_layer_config, LayerConfigArray);

%nodefaultctor oscar_py::CacheHandle;
namespace oscar_py {
struct CacheHandle {
  ~CacheHandle();
};
%apply bool raises { bool cache_close };
bool cache_close(CacheHandle *handle);
%apply PyObject *raises { PyObject *calibration_save };
PyObject *calibration_save(const oscar_calibration *calibration);
%apply PyObject *raises { PyObject *seq_export, PyObject *seq_import };
PyObject *seq_export(const oscar_cache *cache, oscar_seq seq, uint64_t n_tokens, PyObject *write);
PyObject *seq_import(oscar_cache *cache, PyObject *read);
oscar_status cache_log_set(oscar_cache *cache, uint32_t min_level, PyObject *write);
oscar_status calibration_import_torch(const oscar_cache_config *config, const oscar_py::OptionalBytesArg *key,
                                      const oscar_py::OptionalBytesArg *value, uint32_t n, const uint32_t *indices,
                                      oscar_calibration **calibration_out);
oscar_status cache_create(const oscar_cache_config *config, uint32_t calibrates, uint32_t rope_pairing,
                          uint32_t value_basis, uint64_t n_positions, const oscar_tensor *rope_frequencies,
                          const char *model, const char *note, oscar_cache **cache_out);
oscar_status cache_check(const oscar_cache_config *config, uint32_t calibrates, uint32_t rope_pairing,
                         uint32_t value_basis, uint64_t n_positions, const oscar_tensor *rope_frequencies,
                         const char *model, const char *note, uint64_t context, oscar_cache_report *report_out);
oscar_status calibrator_create(const oscar_cache_config *config, uint32_t rope_pairing, uint32_t value_basis,
                               uint64_t n_positions, const oscar_tensor *rope_frequencies, const char *model,
                               const char *note, oscar_calibrator **calibrator_out);
oscar_status calibrator_feed(oscar_calibrator *calibrator, uint32_t layer, uint64_t first_position,
                             const oscar_tensor *q, const oscar_tensor *k, const oscar_tensor *v);
void set_error_factory(PyObject *factory);

oscar_status step_begin(oscar_cache *cache, const oscar_step_entry *entries, uint32_t n_entries,
                        uint32_t is_replay, oscar_stream on_stream, oscar_step *step_out);
oscar_status append(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_tensor *k, const oscar_tensor *v,
                    oscar_stream on_stream);
oscar_status attend(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_tensor *q,
                    const oscar_tensor *out, const oscar_tensor *lse, const oscar_tensor *mask,
                    const oscar_tensor *sink_logits, float scale, float softcap, oscar_stream on_stream);
oscar_status layer(oscar_cache *cache, oscar_step step, uint32_t layer, const oscar_tensor *k, const oscar_tensor *v,
                   const oscar_tensor *q, const oscar_tensor *out, const oscar_tensor *lse, const oscar_tensor *mask,
                   const oscar_tensor *sink_logits, float scale, float softcap, oscar_stream on_stream);
}
