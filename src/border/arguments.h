// The border's checks of what callers hand over: structs of other versions, tensors, pointers.
#pragma once
#include <cstring>
#include <initializer_list>

#include "backend/tensor.h"
#include "format/error.h"
#include "oscar/oscar.h"

namespace oscar::border {

template <class T>
void require(const T* pointer, const char* name) {
  if (!pointer) throw Error(Status::kInvalid, "%s is NULL", name);
}

void check_struct_size(uint32_t given, size_t known, const char* name);
// An array's elements are as far apart as the first one's struct_size says: all must agree, and be aligned.
void check_same_size(const void* element, uint32_t first_size, size_t alignment, const char* name);
void check_unknown_tail(const void* given, size_t given_size, size_t known, const char* name);

// A struct of this library's size from one of the caller's: missing fields are 0, unknown ones must be.
template <class T>
T read_struct(const T* given, const char* name) {
  require(given, name);
  const uint32_t size = given->struct_size;
  check_struct_size(size, sizeof(T), name);
  check_unknown_tail(given, size, sizeof(T), name);
  T full{};
  std::memcpy(&full, given, size < sizeof(T) ? size : sizeof(T));
  full.struct_size = sizeof(T);
  return full;
}

// Writes as much as the caller has room for; what this library does not know becomes 0.
template <class T>
void write_struct(T* out, const T& full, const char* name) {
  const uint32_t size = out->struct_size;
  check_struct_size(size, sizeof(T), name);
  const size_t known = size < sizeof(T) ? size : sizeof(T);
  std::memcpy(out, &full, known);
  std::memset(reinterpret_cast<char*>(out) + known, 0, size - known);
  out->struct_size = size;
}

enum class Access { kIn, kOut };

// Checks a tensor against the wanted shape (1 to 3 dimensions, the last one dense) and allowed dtypes. An absent tensor
// is refused unless it is optional.
struct TensorRule {
  const char* name;
  std::initializer_list<int64_t> shape;
  std::initializer_list<Dtype> dtypes;
  Access access = Access::kIn;
  bool is_optional = false;
};
// Tensors lie in the memory that `place` names.
struct Place {
  int32_t device_type = OSCAR_DEVICE_CPU, device_id = 0;
};
TensorView check_tensor(const oscar_tensor& tensor, const TensorRule& rule, const Place& place = {});

inline constexpr std::initializer_list<Dtype> kFloats = {Dtype::kF32, Dtype::kF16, Dtype::kBF16};
inline constexpr std::initializer_list<Dtype> kF32Only = {Dtype::kF32};

// Only a device has streams.
void check_stream(oscar_stream stream, const Place& place = {});

}  // namespace oscar::border
