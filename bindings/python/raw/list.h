// Python sequences of small records become C arrays.
#pragma once
#include <vector>

#include "integer.h"
#include "tensor.h"

namespace oscar_py {

// A list or tuple seen through PySequence_Fast, released at the end of the scope.
class FastSequence {
 public:
  FastSequence(PyObject* object, const char* wanted) : fast_(PySequence_Fast(object, wanted)) {}
  FastSequence(const FastSequence&) = delete;
  FastSequence& operator=(const FastSequence&) = delete;
  ~FastSequence() { Py_XDECREF(fast_); }
  explicit operator bool() const { return fast_ != nullptr; }
  Py_ssize_t size() const { return PySequence_Fast_GET_SIZE(fast_); }
  PyObject* operator[](Py_ssize_t i) const { return PySequence_Fast_GET_ITEM(fast_, i); }

 private:
  PyObject* fast_;
};

// [(sequence id, n_new, n_draft), ...]
inline bool step_entries(PyObject* object, std::vector<oscar_step_entry>* out) {
  FastSequence list(object, "entries: wanted a sequence of (sequence, n_new, n_draft)");
  if (!list) return false;
  for (Py_ssize_t i = 0; i < list.size(); ++i) {
    FastSequence entry(list[i], "entries: wanted a sequence of (sequence, n_new, n_draft)");
    if (!entry) return false;
    if (entry.size() != 3)
      return fail(OSCAR_E_INVALID, "entries[%lld] has %lld items, wanted 3", static_cast<long long>(i),
                  static_cast<long long>(entry.size()));
    oscar_step_entry raw;
    if (!as_u64(entry[0], UINT64_MAX, "sequence", &raw.seq) || !as_u32(entry[1], "n_new", &raw.n_new) ||
        !as_u32(entry[2], "n_draft", &raw.n_draft))
      return false;
    out->push_back(raw);
  }
  return true;
}

inline bool indices(PyObject* object, std::vector<uint32_t>* out) {
  FastSequence list(object, "indices: wanted a sequence of integers");
  if (!list) return false;
  for (Py_ssize_t i = 0; i < list.size(); ++i) {
    uint32_t index;
    if (!as_u32(list[i], "indices", &index)) return false;
    out->push_back(index);
  }
  return true;
}

// [(layer, first_kv_head, n_kv_heads), ...]
inline bool calibration_parts(PyObject* object, std::vector<oscar_calibration_part>* out) {
  FastSequence list(object, "parts: wanted a sequence of (layer, first_kv_head, n_kv_heads)");
  if (!list) return false;
  for (Py_ssize_t i = 0; i < list.size(); ++i) {
    FastSequence part(list[i], "parts: wanted a sequence of (layer, first_kv_head, n_kv_heads)");
    if (!part) return false;
    if (part.size() != 3)
      return fail(OSCAR_E_INVALID, "parts[%lld] has %lld items, wanted 3", static_cast<long long>(i),
                  static_cast<long long>(part.size()));
    oscar_calibration_part raw;
    if (!as_u32(part[0], "layer", &raw.layer) || !as_u32(part[1], "first_kv_head", &raw.first_kv_head) ||
        !as_u32(part[2], "n_kv_heads", &raw.n_kv_heads))
      return false;
    out->push_back(raw);
  }
  return true;
}

// Bytes of anything with the buffer protocol, borrowed for one call.
class BytesArg {
 public:
  BytesArg() = default;
  BytesArg(const BytesArg&) = delete;
  BytesArg& operator=(const BytesArg&) = delete;
  ~BytesArg() {
    if (held_) PyBuffer_Release(&buffer_);
  }
  bool take(PyObject* object) { return held_ = PyObject_GetBuffer(object, &buffer_, PyBUF_SIMPLE) == 0; }
  bool is_held() const { return held_; }
  void* data() const { return buffer_.buf; }
  uint64_t size() const { return static_cast<uint64_t>(buffer_.len); }

 private:
  Py_buffer buffer_ = {};
  bool held_ = false;
};

// The same, or None: no bytes.
class OptionalBytesArg {
 public:
  bool take(PyObject* object) { return object == Py_None || bytes_.take(object); }
  // Not NULL for no bytes at all, which are a file as well.
  const void* data() const { return bytes_.is_held() && bytes_.size() == 0 ? "" : bytes_.data(); }
  uint64_t size() const { return bytes_.size(); }

 private:
  BytesArg bytes_;
};

// Layers of a calibration, with the tensors they borrow: [(n_kv_heads, key_dim, value_dim, key_transform,
// query_moment, value_transform), ...]
class CalibrationLayers {
 public:
  bool take(PyObject* object) {
    FastSequence list(object, "layers: wanted a sequence");
    if (!list) return false;
    layers_.resize(static_cast<size_t>(list.size()));
    tensors_ = std::vector<TensorArg>(3 * layers_.size());
    for (Py_ssize_t i = 0; i < list.size(); ++i)
      if (!take_layer(list[i], static_cast<size_t>(i))) return false;
    return true;
  }
  const oscar_calibration_layer* data() const { return layers_.data(); }
  uint32_t size() const { return static_cast<uint32_t>(layers_.size()); }

 private:
  bool take_layer(PyObject* object, size_t index) {
    FastSequence fields(object, "layers: wanted a sequence of 6-tuples");
    if (!fields) return false;
    if (fields.size() != 6)
      return fail(OSCAR_E_INVALID, "layers[%zu] has %lld items, wanted 6", index,
                  static_cast<long long>(fields.size()));
    oscar_calibration_layer& layer = layers_[index];
    layer.struct_size = sizeof layer;
    if (!as_u32(fields[0], "n_kv_heads", &layer.n_kv_heads) || !as_u32(fields[1], "key_dim", &layer.key_dim) ||
        !as_u32(fields[2], "value_dim", &layer.value_dim))
      return false;
    TensorArg* tensors = &tensors_[3 * index];
    if (!tensors[0].take(fields[3], "key_transform", Access::kRead) ||
        !tensors[1].take(fields[4], "query_moment", Access::kRead) ||
        !tensors[2].take(fields[5], "value_transform", Access::kRead))
      return false;
    layer.key_transform = *tensors[0].get();
    layer.query_moment = *tensors[1].get();
    layer.value_transform = *tensors[2].get();
    return true;
  }

  std::vector<oscar_calibration_layer> layers_;
  std::vector<TensorArg> tensors_;
};

}  // namespace oscar_py
