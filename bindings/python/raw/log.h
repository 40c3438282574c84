// A Python callable as a cache's log. It is borrowed: the package's Cache holds it for as long as the cache may call it.
#pragma once
#include "stream.h"

namespace oscar_py {

// write(level, event, layer, text); what it raises is shown as sys.unraisablehook shows things.
inline void call_log(void* user, const oscar_log_record* r) {
  const HeldGil gil;
  PyObject* write = static_cast<PyObject*>(user);
  PyObject* given = PyObject_CallFunction(write, "IIIs", r->level, r->event, r->layer, r->text);
  if (given == nullptr) PyErr_WriteUnraisable(write);
  Py_XDECREF(given);
}

// write None: nowhere.
inline oscar_status cache_log_set(oscar_cache* cache, uint32_t min_level, PyObject* write) {
  const oscar_log_args args{sizeof args, min_level, write, write == Py_None ? nullptr : call_log};
  return oscar_cache_log_set(cache, &args);
}

}  // namespace oscar_py
