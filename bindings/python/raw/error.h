// Statuses of the C ABI become Python exceptions here, with the text copied in the call that failed.
#pragma once
#include <Python.h>
#include <oscar/oscar.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace oscar_py {

// oscar.errors registers the function that makes an exception from (status, text).
inline PyObject* error_factory = nullptr;

inline void set_error_factory(PyObject* factory) {
  Py_INCREF(factory);
  Py_XSETREF(error_factory, factory);
}

inline void raise(oscar_status status, const char* text) {
  // A fixed buffer may have cut a character in two: replace what does not decode rather than lose the message.
  PyObject* message = PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(std::strlen(text)), "replace");
  if (message == nullptr) return;
  if (error_factory == nullptr) {
    PyErr_SetObject(PyExc_RuntimeError, message);
  } else if (PyObject* error = PyObject_CallFunction(error_factory, "iO", static_cast<int>(status), message)) {
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
    Py_DECREF(error);
  }
  Py_DECREF(message);
}

// The failure that liboscar has just reported on this thread.
inline void raise_last(oscar_status status) { raise(status, oscar_last_error()); }

// A failure that the binding found itself. Always false, so that callers can return it.
[[gnu::format(printf, 2, 3)]] inline bool fail(oscar_status status, const char* format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  raise(status, text);
  return false;
}

}  // namespace oscar_py
