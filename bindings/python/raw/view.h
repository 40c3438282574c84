// oscar.View: a tensor that is borrowed once and used in many calls. What it costs to ask an array for its memory, more
// than a call itself for arrays that have only DLPack, is then paid once.
#pragma once
#include <new>

#include "tensor.h"

namespace oscar_py {

struct ViewObject {
  PyObject_HEAD TensorArg tensor;
  bool is_writable;
};

inline bool TensorArg::take_view(PyObject* object, const char* name, Access access) {
  const auto* view = reinterpret_cast<const ViewObject*>(object);
  if (access == Access::kWrite && !view->is_writable)
    return fail(OSCAR_E_INVALID, "%s is a view for reading, an output wants View(array, writable=True)", name);
  tensor_ = view->tensor.tensor_;  // whoever makes the call holds the view, and the view the memory
  return true;
}

inline PyObject* view_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
  static const char* names[] = {"array", "writable", nullptr};
  PyObject* array;
  int writable = 0;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|$p:View", const_cast<char**>(names), &array, &writable))
    return nullptr;
  if (array == Py_None || Py_TYPE(array) == type) {
    PyErr_Format(PyExc_TypeError, "array is a %s, wanted an array", Py_TYPE(array)->tp_name);
    return nullptr;
  }
  auto* self = reinterpret_cast<ViewObject*>(type->tp_alloc(type, 0));
  if (self == nullptr) return nullptr;
  new (&self->tensor) TensorArg;
  self->is_writable = writable != 0;
  if (self->tensor.take(array, "array", self->is_writable ? Access::kWrite : Access::kRead))
    return reinterpret_cast<PyObject*>(self);
  Py_DECREF(self);
  return nullptr;
}

inline void view_dealloc(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  reinterpret_cast<ViewObject*>(object)->tensor.~TensorArg();
  type->tp_free(object);
  Py_DECREF(type);
}

inline PyObject* view_repr(PyObject* object) {
  const auto* view = reinterpret_cast<const ViewObject*>(object);
  const oscar_tensor& tensor = *view->tensor.get();
  PyObject* shape = PyTuple_New(tensor.ndim);
  for (int i = 0; shape != nullptr && i < tensor.ndim; ++i)
    PyTuple_SET_ITEM(shape, i, PyLong_FromLongLong(tensor.shape[i]));
  if (shape == nullptr || PyErr_Occurred()) {
    Py_XDECREF(shape);
    return nullptr;
  }
  PyObject* text = PyUnicode_FromFormat("<oscar.View %R%s>", shape, view->is_writable ? ", writable" : "");
  Py_DECREF(shape);
  return text;
}

// Where it fails, a Python error is set.
inline void add_view_type(PyObject* module) {
  static const char* doc =
      "View(array, *, writable=False)\n--\n\n"
      "An array whose memory is borrowed once, for many calls: it stands wherever a call takes a tensor.\n\n"
      "It keeps the array's memory, not the object's later state: an array that is replaced or moved needs a new "
      "view.\n\n"
      "Args:\n"
      "    array: a tensor: anything with ``__dlpack__`` or the buffer protocol.\n"
      "    writable: True where calls write to it: ``out`` and ``lse``.\n\n"
      "Raises:\n"
      "    InvalidError: it cannot be borrowed, or is read-only and ``writable`` is asked for.\n"
      "    TypeError: it is no array.\n";
  static PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(view_new)},
      {Py_tp_dealloc, reinterpret_cast<void*>(view_dealloc)},
      {Py_tp_repr, reinterpret_cast<void*>(view_repr)},
      {Py_tp_doc, const_cast<char*>(doc)},
      {0, nullptr},
  };
  static PyType_Spec spec = {"oscar.View", sizeof(ViewObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, slots};
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr) return;
  TensorArg::view_type = reinterpret_cast<PyTypeObject*>(type);  // its reference lives as long as the process
  PyModule_AddObjectRef(module, "View", type);
}

}  // namespace oscar_py
