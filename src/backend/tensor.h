// A checked view of the caller's tensor, and its rows as float.
#pragma once
#include <cstdint>

#include "format/bf16.h"

namespace oscar {

enum class Dtype : uint32_t { kF32, kF16, kBF16, kU8 };

// shape [n][heads][dim]; strides in elements, the last one 1. data null: absent.
struct TensorView {
  void* data = nullptr;
  Dtype dtype = Dtype::kF32;
  int64_t row_stride = 0, head_stride = 0;

  explicit operator bool() const { return data != nullptr; }
  int64_t offset(uint64_t row, uint64_t head) const {
    return static_cast<int64_t>(row) * row_stride + static_cast<int64_t>(head) * head_stride;
  }
};

inline void load_row(const TensorView& t, uint64_t row, uint64_t head, uint32_t dim, float* to) {
  const int64_t at = t.offset(row, head);
  if (t.dtype == Dtype::kF32) {
    const float* from = static_cast<const float*>(t.data) + at;
    for (uint32_t d = 0; d < dim; ++d) to[d] = from[d];
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(t.data) + at;
    if (t.dtype == Dtype::kBF16)
      for (uint32_t d = 0; d < dim; ++d) to[d] = bf16_to_f32(from[d]);
    else
      for (uint32_t d = 0; d < dim; ++d) to[d] = f16_to_f32(from[d]);
  }
}

inline void load_row_bf16(const TensorView& t, uint64_t row, uint64_t head, uint32_t dim, uint16_t* to) {
  const int64_t at = t.offset(row, head);
  if (t.dtype == Dtype::kBF16) {
    const uint16_t* from = static_cast<const uint16_t*>(t.data) + at;
    for (uint32_t d = 0; d < dim; ++d) to[d] = from[d];
  } else if (t.dtype == Dtype::kF32) {
    const float* from = static_cast<const float*>(t.data) + at;
    for (uint32_t d = 0; d < dim; ++d) to[d] = f32_to_bf16(from[d]);
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(t.data) + at;
    for (uint32_t d = 0; d < dim; ++d) to[d] = f32_to_bf16(f16_to_f32(from[d]));
  }
}

inline void store_row(const TensorView& t, uint64_t row, uint64_t head, uint32_t dim, const float* from) {
  const int64_t at = t.offset(row, head);
  if (t.dtype == Dtype::kF32) {
    float* to = static_cast<float*>(t.data) + at;
    for (uint32_t d = 0; d < dim; ++d) to[d] = from[d];
  } else {
    uint16_t* to = static_cast<uint16_t*>(t.data) + at;
    if (t.dtype == Dtype::kBF16)
      for (uint32_t d = 0; d < dim; ++d) to[d] = f32_to_bf16(from[d]);
    else
      for (uint32_t d = 0; d < dim; ++d) to[d] = f32_to_f16(from[d]);
  }
}

}  // namespace oscar
