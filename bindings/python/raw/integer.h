// Python integers become uint32_t and uint64_t, with an error text that names the argument or the field.
#pragma once
#include "error.h"

namespace oscar_py {

// Anything with __index__: int, bool, enum.IntEnum, numpy's integers. False: a Python error is set.
inline bool as_u64(PyObject* object, uint64_t maximum, const char* name, uint64_t* out) {
  PyObject* number = PyNumber_Index(object);
  if (number == nullptr) {
    if (PyErr_ExceptionMatches(PyExc_TypeError))
      PyErr_Format(PyExc_TypeError, "%s is a %s, wanted an integer", name, Py_TYPE(object)->tp_name);
    return false;
  }
  const uint64_t value = PyLong_AsUnsignedLongLong(number);
  const bool overflow = PyErr_Occurred() != nullptr;
  if (overflow) PyErr_Clear();
  PyObject* repr = overflow || value > maximum ? PyObject_Repr(number) : nullptr;
  Py_DECREF(number);
  if (!overflow && value <= maximum) {
    *out = value;
    return true;
  }
  if (const char* text = repr != nullptr ? PyUnicode_AsUTF8(repr) : nullptr)
    fail(OSCAR_E_INVALID, "%s is %.40s, wanted an integer from 0 to %llu", name, text,
         static_cast<unsigned long long>(maximum));
  Py_XDECREF(repr);
  return false;
}

inline bool as_u32(PyObject* object, const char* name, uint32_t* out) {
  uint64_t value;
  if (!as_u64(object, UINT32_MAX, name, &value)) return false;
  *out = static_cast<uint32_t>(value);
  return true;
}

}  // namespace oscar_py
