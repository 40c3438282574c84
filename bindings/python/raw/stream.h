// Sequences as bytes: Python callables as the ends of a stream. The GIL is held within them only; an exception that one of
// them raises ends the call, and is what the call raises.
#pragma once
#include "error.h"

namespace oscar_py {

class HeldGil {
 public:
  HeldGil() : state_(PyGILState_Ensure()) {}
  HeldGil(const HeldGil&) = delete;
  HeldGil& operator=(const HeldGil&) = delete;
  ~HeldGil() { PyGILState_Release(state_); }

 private:
  PyGILState_STATE state_;
};

// write(bytes)
inline oscar_status call_write(void* user, const void* bytes, uint64_t size) {
  const HeldGil gil;
  PyObject* piece = PyBytes_FromStringAndSize(static_cast<const char*>(bytes), static_cast<Py_ssize_t>(size));
  if (piece == nullptr) return OSCAR_E_STATE;
  PyObject* given = PyObject_CallOneArg(static_cast<PyObject*>(user), piece);
  Py_DECREF(piece);
  Py_XDECREF(given);
  return given == nullptr ? OSCAR_E_STATE : OSCAR_OK;
}

// read(size) gives that many bytes; fewer: there are no more
inline oscar_status call_read(void* user, void* bytes, uint64_t size) {
  const HeldGil gil;
  PyObject* wanted = PyLong_FromUnsignedLongLong(size);
  if (wanted == nullptr) return OSCAR_E_STATE;
  PyObject* given = PyObject_CallOneArg(static_cast<PyObject*>(user), wanted);
  Py_DECREF(wanted);
  if (given == nullptr) return OSCAR_E_STATE;
  char* data = nullptr;
  Py_ssize_t n = 0;
  const bool is_bytes = PyBytes_AsStringAndSize(given, &data, &n) == 0;
  const bool is_whole = is_bytes && static_cast<uint64_t>(n) == size;
  if (is_whole) std::memcpy(bytes, data, size);
  Py_DECREF(given);
  return !is_bytes ? OSCAR_E_STATE : is_whole ? OSCAR_OK : OSCAR_E_CORRUPT;
}

// Its size; what callables raised stays raised.
inline PyObject* number_of(oscar_status status, uint64_t number) {
  if (status == OSCAR_OK) return PyLong_FromUnsignedLongLong(number);
  if (PyErr_Occurred() == nullptr) raise_last(status);
  return nullptr;
}

// write None: only the size.
inline PyObject* seq_export(const oscar_cache* cache, oscar_seq seq, uint64_t n_tokens, PyObject* write) {
  const oscar_export_args args{sizeof args, 0, n_tokens, write, write == Py_None ? nullptr : call_write};
  uint64_t size = 0;
  oscar_status status;
  Py_BEGIN_ALLOW_THREADS status = oscar_seq_export(cache, seq, &args, &size);
  Py_END_ALLOW_THREADS return number_of(status, size);
}

inline PyObject* seq_import(oscar_cache* cache, PyObject* read) {
  const oscar_import_args args{sizeof args, 0, read, call_read};
  oscar_seq seq = 0;
  oscar_status status;
  Py_BEGIN_ALLOW_THREADS status = oscar_seq_import(cache, &args, &seq);
  Py_END_ALLOW_THREADS return number_of(status, seq);
}

}  // namespace oscar_py
