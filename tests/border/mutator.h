// Makes one argument of a call wrong, or merely strange: the n-th of all that a frame shows it.
#pragma once
#include <cmath>
#include <initializer_list>
#include <limits>
#include <set>
#include <string>

#include "border/frame.h"

namespace test {

enum class Expected { kRefused, kServed, kEither };

class Mutator {
 public:
  Mutator(std::string function, uint64_t target) : function_(std::move(function)), target_(target) {}

  bool has_applied() const { return applied_; }
  const std::string& what() const { return what_; }
  Expected expected() const { return expected_; }
  // The call cannot see the output any more, or not how long it is.
  bool hides_output() const { return hides_output_; }
  const unsigned char* tail_to_be_zero() const { return tail_; }

  template <class T>
  void pointer(const char* name, T*& pointer) {
    if (pointer)
      choose(name, "is NULL", is_optional(name) ? Expected::kEither : Expected::kRefused, [&] {
        pointer = nullptr;
        hides_output_ = true;
      });
  }
  // Functions of an allocator, which no scene has, go together.
  template <class R, class... A>
  void pointer(const char* name, R (*&function)(A...)) {
    if (function)
      choose(name, "is NULL", is_optional(name) ? Expected::kEither : Expected::kRefused, [&] { function = nullptr; });
    else
      choose(name, "is there alone", Expected::kRefused, [&] { function = poison<R (*)(A...)>(); });
  }
  void pointer(const char*, void*& user) { (void)user; }

  void stream(const char* name, oscar_stream& stream) {
    choose(name, "is not NULL", Expected::kRefused, [&] { stream = poison<oscar_stream>(); });
  }

  template <class T>
  void sized(const char* name, Padded<T>& store) {
    size(name, store, 0, 0, Expected::kRefused);
    size(name, store, 4, 0, Expected::kRefused);
    size(name, store, sizeof(T) - 1, 0, Expected::kEither);
    size(name, store, sizeof(T) + 8, 0, Expected::kServed);
    size(name, store, sizeof(T) + 8, 1, Expected::kRefused);
    size(name, store, UINT32_MAX, 0, Expected::kRefused);
  }
  template <class T>
  void sized_output(const char* name, Padded<T>& store) {
    for (uint32_t bytes : {0u, 4u, UINT32_MAX}) size(name, store, bytes, 0, Expected::kRefused, true);
    size(name, store, sizeof(T) - 1, 0xcc, Expected::kServed);
    size(name, store, sizeof(T) + 8, 0, Expected::kServed);
    size(name, store, sizeof(T) + 8, 0xcc, Expected::kServed);
    if (applied_ && expected_ == Expected::kServed && store.value.struct_size == sizeof(T) + 8) tail_ = store.tail;
  }

  // Of an element of an array, of which all have the same size.
  void element_size(const char* name, uint32_t& size) { nested_size(name, size, Expected::kRefused); }
  // Of a struct that a pointer within another one leads to.
  void pointed_size(const char* name, uint32_t& size) { nested_size(name, size, Expected::kEither); }

  template <class T>
  void enumeration(const char* name, T& field, const std::set<int64_t>& values) {
    std::set<int64_t> around;
    for (int64_t v : values) around.insert({v - 1, v + 1});
    for (int64_t v : around) {
      if (values.contains(v)) continue;
      // OSCAR_DEFAULT, the device of a program that knows none, and all levels of a log.
      const std::string where = name;
      const bool may_mean_something = v == -1 ||
                                      (v == 0 && (where == "config.device_type" || where == "args.min_level"));
      choose(name, "is " + std::to_string(v), may_mean_something ? Expected::kEither : Expected::kRefused,
             [&] { field = static_cast<T>(v); });
    }
    for (int64_t v : values)
      choose(name, "is " + std::to_string(v), Expected::kEither, [&] { field = static_cast<T>(v); });
  }

  template <class T>
  void integer(const char* name, T& field) {
    constexpr T most = std::numeric_limits<T>::max(), least = std::numeric_limits<T>::min();
    const bool is_count = counts_memory_of_the_caller(name);
    for (T v : {T(0), T(1), T(field - 1), T(field + 1), T(most / 2), T(most - 1), most, least}) {
      if (v == field || (is_count && v > field)) continue;
      choose(name, "is " + std::to_string(v), Expected::kEither, [&] { field = v; });
    }
  }

  void reserved(const char* name, uint32_t& field) {
    for (uint32_t v : {1u, UINT32_MAX}) choose(name, "is " + std::to_string(v), Expected::kRefused, [&] { field = v; });
  }

  void real(const char* name, float& field) {
    for (float v : {NAN, INFINITY, -INFINITY, -1.0f})
      choose(name, "is " + std::to_string(v), Expected::kRefused, [&] { field = v; });
    for (float v : {1e-40f, 3e38f}) choose(name, "is " + std::to_string(v), Expected::kEither, [&] { field = v; });
  }

  void tensor(const char* name, oscar_tensor& t) {
    if (!t.data) return;
    const oscar_tensor was = t;
    tensor_type(name, t, was);
    tensor_shape(name, t, was);
    tensor_strides(name, t, was);
    tensor_contents(name, t, was);
  }

 private:
  template <class Apply>
  void choose(const char* name, const std::string& how, Expected expected, Apply&& apply) {
    if (at_++ != target_) return;
    what_ = function_ + ": " + name + " " + how;
    expected_ = expected;
    applied_ = true;
    apply();
  }

  template <class T>
  void size(const char* name, Padded<T>& store, size_t bytes, unsigned char tail, Expected expected,
            bool hides = false) {
    choose(name, "has struct_size " + std::to_string(bytes) + " and a tail of " + std::to_string(tail), expected, [&] {
      store.value.struct_size = static_cast<uint32_t>(bytes);
      std::memset(store.tail, 0, sizeof store.tail);
      store.tail[sizeof store.tail - 1] = tail;
      hides_output_ = hides;
    });
  }

  // Not longer than it is: what lies behind it is not known.
  void nested_size(const char* name, uint32_t& struct_size, Expected shorter) {
    const uint32_t size = struct_size;
    for (uint32_t bytes : {0u, 4u, UINT32_MAX, size - 1, size - 8})
      choose(name, "has struct_size " + std::to_string(bytes),
             bytes + 8 < size || bytes > size ? Expected::kRefused : shorter, [&] { struct_size = bytes; });
  }

  template <class T>
  void field(const char* name, const char* part, T& field, std::initializer_list<int64_t> values, Expected expected) {
    for (int64_t v : values)
      if (static_cast<T>(v) != field)
        choose(name, std::string("has ") + part + " " + std::to_string(v), expected,
               [&] { field = static_cast<T>(v); });
  }

  void tensor_type(const char* name, oscar_tensor& t, const oscar_tensor& was) {
    choose(name, "has no data", Expected::kRefused, [&] { t.data = nullptr; });
    choose(name, "is not aligned", was.dtype_bits == 8 ? Expected::kEither : Expected::kRefused,
           [&] { t.data = static_cast<char*>(t.data) + 1; });
    field(name, "device_type", t.device_type, {-1, 0, 2, 3, 99}, Expected::kRefused);
    field(name, "device_id", t.device_id, {-1, 1}, Expected::kEither);
    field(name, "dtype_code", t.dtype_code, {0, 3, 4, 5, 255}, Expected::kRefused);
    field(name, "dtype_bits", t.dtype_bits, {0, 7, 33, 64, 255}, Expected::kRefused);
    field(name, "dtype_lanes", t.dtype_lanes, {0, 2, 65535}, Expected::kRefused);
    field(name, "ndim", t.ndim, {-1, 0, was.ndim - 1, was.ndim + 1, 5, INT32_MIN, INT32_MAX}, Expected::kRefused);
  }

  void tensor_shape(const char* name, oscar_tensor& t, const oscar_tensor& was) {
    for (int32_t i = 0; i < was.ndim; ++i) {
      const bool is_free = (function_ == "oscar_calibrator_feed" && i == 0) ||
                           std::string(name).ends_with(".rope_frequencies");
      field(name, "an extent", t.shape[i], {0, -1, INT64_MIN, INT64_MAX, INT64_MAX / 2}, Expected::kRefused);
      field(name, "an extent", t.shape[i], {was.shape[i] - 1}, is_free ? Expected::kEither : Expected::kRefused);
    }
  }

  // Strides of which no memory could be as long: larger ones that could are the caller's own affair.
  void tensor_strides(const char* name, oscar_tensor& t, const oscar_tensor& was) {
    int64_t dense[4] = {}, step = 1;
    for (int32_t i = was.ndim - 1; i >= 0; step *= was.shape[i--]) dense[i] = step;
    for (int32_t i = 0; i < was.ndim; ++i) {
      if (was.shape[i] == 1) continue;
      for (int64_t s : {INT64_MAX, INT64_MIN, INT64_MAX / 4, INT64_MIN / 4})
        choose(name, "has stride " + std::to_string(s), Expected::kRefused, [&] {
          std::memcpy(t.stride, dense, sizeof dense);
          t.stride[i] = s;
        });
    }
    choose(name, "has the stride 2 in its last dimension",
           was.shape[was.ndim - 1] == 1 ? Expected::kEither : Expected::kRefused, [&] {
             std::memcpy(t.stride, dense, sizeof dense);
             t.stride[was.ndim - 1] = 2;
           });
  }

  void tensor_contents(const char* name, oscar_tensor& t, const oscar_tensor& was) {
    if (first_tensor_ && was.data != first_tensor_)
      choose(name, "lies where the first tensor lies", Expected::kEither, [&] { t.data = first_tensor_; });
    if (!first_tensor_) first_tensor_ = was.data;
    if (was.dtype_code != OSCAR_DTYPE_FLOAT || was.dtype_bits != 32) return;
    for (float v : {NAN, INFINITY, -INFINITY, 3e38f, 1e-40f})
      choose(name, "has elements that are " + std::to_string(v), Expected::kEither, [&] {
        for (int i : {0, 1, 17}) static_cast<float*>(was.data)[i % was.shape[was.ndim - 1]] = v;
      });
  }

  // NULL means something.
  bool is_optional(const std::string& name) const {
    static const std::set<std::string> optional = {
        "oscar_cache_config_init.profile",
        "oscar_cache_freeze.calibration_out",
        "oscar_read.k_out",
        "oscar_read.v_out",
        "oscar_merge.lse",
        "oscar_calibration_save.bytes",
        "oscar_seq_export.args.write",
        "oscar_cache_log_set.args.write",
    };
    if (optional.contains(function_ + "." + name)) return true;
    for (const char* end : {"config.calibration", "config.self_calibrate", ".model", ".note"})
      if (name.ends_with(end)) return true;
    return false;
  }

  // More than there is would be a lie about memory, which the library cannot see.
  bool counts_memory_of_the_caller(const std::string& name) const {
    static const std::set<std::string> counts = {
        "oscar_calibration_create.n_layers",
        "oscar_calibration_slice.n_parts",
        "oscar_calibration_load.size",
        "oscar_calibration_save.capacity",
        "oscar_calibration_import_torch.args.key_size",
        "oscar_calibration_import_torch.args.value_size",
        "oscar_step_begin.args.n_entries",
        "oscar_seq_accept.n",
        "oscar_cache_config_init.size",
        "oscar_layer_config_init.size",
    };
    return counts.contains(function_ + "." + name) || name == "config.n_layer_configs" || name == "config.n_layers";
  }

  std::string function_, what_;
  uint64_t target_, at_ = 0;
  Expected expected_ = Expected::kEither;
  bool applied_ = false, hides_output_ = false;
  const unsigned char* tail_ = nullptr;
  void* first_tensor_ = nullptr;
};

// Fills outputs with what no call leaves there.
struct OutputPoison {
  template <class T>
  void sized_output(const char*, Padded<T>& store) {
    const uint32_t size = store.value.struct_size;
    std::memset(static_cast<void*>(&store), 0xa5, sizeof store);
    store.value.struct_size = size;
  }
  template <class... T>
  void pointer(T&&...) {}
  template <class... T>
  void stream(T&&...) {}
  template <class... T>
  void sized(T&&...) {}
  template <class... T>
  void element_size(T&&...) {}
  template <class... T>
  void pointed_size(T&&...) {}
  template <class... T>
  void enumeration(T&&...) {}
  void enumeration(const char*, auto&, std::initializer_list<int64_t>) {}
  template <class... T>
  void integer(T&&...) {}
  template <class... T>
  void reserved(T&&...) {}
  template <class... T>
  void real(T&&...) {}
  template <class... T>
  void tensor(T&&...) {}
};

}  // namespace test
