// The one way in for tensors: any Python object that exports its memory becomes an oscar_tensor, borrowed for one call.
//
// The buffer protocol is asked first: it serves read-only numpy arrays, which DLPack's unversioned capsule cannot
// express. What has no buffer (torch) or no buffer format for its dtype (bfloat16) goes through __dlpack__. Nothing is
// ever copied or converted: dtype, strides and device are handed on as they are, and the library refuses what it does
// not serve with its own text.
#pragma once
#include <Python.h>
#include <oscar/oscar.h>

#include "dlpack.h"
#include "error.h"

namespace oscar_py {

enum class Access { kRead, kWrite };

class TensorArg {
 public:
  TensorArg() = default;
  TensorArg(const TensorArg&) = delete;
  TensorArg& operator=(const TensorArg&) = delete;
  ~TensorArg() { release(); }

  const oscar_tensor* get() const { return &tensor_; }

  // The type of oscar.View, once the module is there.
  static inline PyTypeObject* view_type = nullptr;

  // Borrows `object` until this goes out of scope; None is the absent tensor. False: a Python error is set.
  bool take(PyObject* object, const char* name, Access access) {
    if (object == Py_None) return true;
    if (Py_TYPE(object) == view_type) return take_view(object, name, access);
    if (PyObject_CheckBuffer(object)) {
      if (PyObject_GetBuffer(object, &buffer_, PyBUF_RECORDS_RO) == 0) {
        has_buffer_ = true;
        if (dtype_from_buffer()) return take_buffer(name, access);
        release();
      }
      PyErr_Clear();  // e.g. a numpy array of bfloat16: perhaps DLPack knows better
    }
    return take_capsule(object, name, access);
  }

 private:
  bool take_view(PyObject* object, const char* name, Access access);  // view.h

  void release() {
    if (has_buffer_) PyBuffer_Release(&buffer_);
    has_buffer_ = false;
    if (capsule_ == nullptr) return;
    // The capsule was not renamed to "used_dltensor": its own destructor gives the memory back to the producer. That
    // may run Python code, which must not see the error that this call is about to raise.
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    Py_CLEAR(capsule_);
    PyErr_Restore(type, error, traceback);
  }

  void set_dtype(uint8_t code, uint8_t bits, uint16_t lanes) {
    // Booleans are bytes that hold 0 or 1, which is what a mask asks for.
    tensor_.dtype_code = code == kDlBool && bits == 8 ? uint8_t{OSCAR_DTYPE_UINT} : code;
    tensor_.dtype_bits = bits;
    tensor_.dtype_lanes = lanes;
  }

  // The struct module's format characters, native byte order. False where DLPack has no number for them.
  bool dtype_from_buffer() {
    const char* format = buffer_.format != nullptr ? buffer_.format : "B";
    constexpr char kNative = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
    if (*format == '@' || *format == '=' || *format == kNative) ++format;
    if (format[0] == '\0' || format[1] != '\0' || buffer_.itemsize > 8) return false;
    int code;
    if (std::strchr("efd", *format))
      code = OSCAR_DTYPE_FLOAT;
    else if (std::strchr("?BHILQN", *format))
      code = OSCAR_DTYPE_UINT;
    else if (std::strchr("bhilqn", *format))
      code = OSCAR_DTYPE_INT;
    else
      return false;
    set_dtype(static_cast<uint8_t>(code), static_cast<uint8_t>(8 * buffer_.itemsize), 1);
    return true;
  }

  bool take_buffer(const char* name, Access access) {
    if (access == Access::kWrite && buffer_.readonly)
      return fail(OSCAR_E_INVALID, "%s is read-only, an output must be writable", name);
    tensor_.data = buffer_.buf;
    tensor_.device_type = OSCAR_DEVICE_CPU;
    if (!set_ndim(name, buffer_.ndim)) return false;
    for (int i = 0; i < buffer_.ndim; ++i) {
      if (buffer_.strides[i] % buffer_.itemsize != 0)
        return fail(OSCAR_E_INVALID,
                    "%s: the stride of dimension %d is %lld bytes, wanted a multiple of the element's %lld", name, i,
                    static_cast<long long>(buffer_.strides[i]), static_cast<long long>(buffer_.itemsize));
      tensor_.shape[i] = buffer_.shape[i];
      tensor_.stride[i] = buffer_.strides[i] / buffer_.itemsize;
    }
    return settle_strides(name);
  }

  bool take_capsule(PyObject* object, const char* name, Access access) {
    capsule_ = export_capsule(object, name, access);
    if (capsule_ == nullptr) return false;
    const DlTensor* source = nullptr;
    if (PyCapsule_IsValid(capsule_, "dltensor")) {
      source = &static_cast<DlManagedTensor*>(PyCapsule_GetPointer(capsule_, "dltensor"))->tensor;
    } else if (PyCapsule_IsValid(capsule_, "dltensor_versioned")) {
      auto* managed = static_cast<DlManagedTensorVersioned*>(PyCapsule_GetPointer(capsule_, "dltensor_versioned"));
      if (managed->version_major != kDlVersionMajor)
        return fail(OSCAR_E_UNSUPPORTED, "%s: DLPack version is %u.%u, wanted %u.x", name, managed->version_major,
                    managed->version_minor, kDlVersionMajor);
      if (access == Access::kWrite && (managed->flags & kDlFlagReadOnly) != 0)
        return fail(OSCAR_E_INVALID, "%s is read-only, an output must be writable", name);
      source = &managed->tensor;
    } else {
      PyErr_Format(PyExc_TypeError, "%s: __dlpack__() gave a %s, wanted a capsule named dltensor", name,
                   Py_TYPE(capsule_)->tp_name);
      return false;
    }
    return copy_view(*source, name);
  }

  // An output asks for DLPack 1.x first, since only that can say that memory must not be written.
  static PyObject* export_capsule(PyObject* object, const char* name, Access access) {
    PyObject* method = PyObject_GetAttrString(object, "__dlpack__");
    if (method == nullptr) {
      PyErr_Clear();
      PyErr_Format(PyExc_TypeError,
                   "%s is a %s, wanted an array with __dlpack__, or with the buffer protocol and elements of float32, "
                   "float16 or uint8",
                   name, Py_TYPE(object)->tp_name);
      return nullptr;
    }
    const bool on_device = is_on_device(object);
    PyObject* capsule = access == Access::kWrite ? call(method, true, on_device) : nullptr;
    // A producer from before DLPack 1.0 does not know the keyword.
    if (capsule == nullptr && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_TypeError)) PyErr_Clear();
    if (capsule == nullptr && !PyErr_Occurred()) capsule = call(method, false, on_device);
    Py_DECREF(method);
    if (capsule == nullptr && PyErr_ExceptionMatches(PyExc_BufferError)) refuse_with_reason(name);
    return capsule;
  }

  // Whether the producer says so; one that says nothing is taken to be on the CPU.
  static bool is_on_device(PyObject* object) {
    PyObject* device = PyObject_CallMethod(object, "__dlpack_device__", nullptr);
    PyObject* type = device != nullptr ? PySequence_GetItem(device, 0) : nullptr;
    const long number = type != nullptr ? PyLong_AsLong(type) : OSCAR_DEVICE_CPU;
    Py_XDECREF(type);
    Py_XDECREF(device);
    const bool is_known = PyErr_Occurred() == nullptr;
    PyErr_Clear();
    return is_known && number != OSCAR_DEVICE_CPU;
  }

  // Stream -1: the producer must not synchronise anything, the caller's stream is the order.
  static PyObject* call(PyObject* method, bool is_versioned, bool on_device) {
    PyObject* no_arguments = PyTuple_New(0);
    PyObject* keywords = is_versioned ? Py_BuildValue("{s:(ii)}", "max_version", static_cast<int>(kDlVersionMajor), 0)
                                      : PyDict_New();
    PyObject* no_stream = PyLong_FromLong(-1);
    PyObject* capsule = nullptr;
    if (no_arguments != nullptr && keywords != nullptr && no_stream != nullptr &&
        (!on_device || PyDict_SetItemString(keywords, "stream", no_stream) == 0))
      capsule = PyObject_Call(method, no_arguments, keywords);
    Py_XDECREF(no_arguments);
    Py_XDECREF(keywords);
    Py_XDECREF(no_stream);
    return capsule;
  }

  // The producer's own words (e.g. a tensor that requires its gradient), with the name of the argument.
  static void refuse_with_reason(const char* name) {
    PyObject *type, *reason, *traceback;
    PyErr_Fetch(&type, &reason, &traceback);
    PyObject* text = PyObject_Str(reason != nullptr ? reason : type);
    const char* words = text != nullptr ? PyUnicode_AsUTF8(text) : nullptr;
    if (words != nullptr) fail(OSCAR_E_INVALID, "%s cannot be borrowed: %s", name, words);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(reason);
    Py_XDECREF(traceback);
  }

  bool copy_view(const DlTensor& source, const char* name) {
    tensor_.data = static_cast<char*>(source.data) + source.byte_offset;
    tensor_.device_type = source.device_type;
    tensor_.device_id = source.device_id;
    set_dtype(source.dtype_code, source.dtype_bits, source.dtype_lanes);
    if (!set_ndim(name, source.ndim)) return false;
    for (int i = 0; i < source.ndim; ++i) {
      tensor_.shape[i] = source.shape[i];
      tensor_.stride[i] = source.strides != nullptr ? source.strides[i] : 0;
    }
    return source.strides == nullptr || settle_strides(name);
  }

  bool set_ndim(const char* name, int ndim) {
    if (ndim < 1 || ndim > 4) return fail(OSCAR_E_INVALID, "%s has %d dimensions, wanted 1 to 4", name, ndim);
    tensor_.ndim = ndim;
    return true;
  }

  // In an oscar_tensor all strides zero means dense, in Python it means that one element is shown everywhere. A
  // dimension of one element may have any stride, and gets 1 where it is the last one.
  bool settle_strides(const char* name) {
    int64_t elements = 1;
    bool all_zero = true;
    const int last = tensor_.ndim - 1;
    if (tensor_.shape[last] == 1) tensor_.stride[last] = 1;
    for (int i = 0; i <= last; ++i) {
      elements *= tensor_.shape[i];
      all_zero = all_zero && tensor_.stride[i] == 0;
    }
    if (all_zero && elements > 1)
      return fail(OSCAR_E_INVALID, "%s repeats one element (all strides are 0), wanted a dense last dimension", name);
    return true;
  }

  oscar_tensor tensor_ = {};
  Py_buffer buffer_ = {};
  bool has_buffer_ = false;
  PyObject* capsule_ = nullptr;
};

}  // namespace oscar_py
