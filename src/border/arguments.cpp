#include "border/arguments.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace oscar::border {

namespace {

constexpr uint32_t kMaxStructSize = 1u << 16;

const char* dtype_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32: return "F32";
    case Dtype::kF16: return "F16";
    case Dtype::kBF16: return "BF16";
    case Dtype::kU8: return "UINT8";
  }
  return "?";
}

uint32_t dtype_bytes(Dtype dtype) { return dtype == Dtype::kF32 ? 4 : dtype == Dtype::kU8 ? 1 : 2; }

Dtype check_dtype(const oscar_tensor& t, const TensorRule& rule) {
  struct Known {
    uint8_t code, bits;
    Dtype dtype;
  };
  constexpr Known known[] = {{OSCAR_DTYPE_FLOAT, 32, Dtype::kF32},
                             {OSCAR_DTYPE_FLOAT, 16, Dtype::kF16},
                             {OSCAR_DTYPE_BFLOAT, 16, Dtype::kBF16},
                             {OSCAR_DTYPE_UINT, 8, Dtype::kU8}};
  for (const Known& k : known)
    if (t.dtype_code == k.code && t.dtype_bits == k.bits && t.dtype_lanes == 1 &&
        std::find(rule.dtypes.begin(), rule.dtypes.end(), k.dtype) != rule.dtypes.end())
      return k.dtype;
  char wanted[48] = "";
  size_t at = 0;
  for (Dtype d : rule.dtypes)
    at += static_cast<size_t>(std::snprintf(wanted + at, sizeof wanted - at, "%s%s", at ? ", " : "", dtype_name(d)));
  throw Error(Status::kInvalid, "%s: dtype code %u, %u bits, %u lanes; wanted: %s", rule.name, t.dtype_code,
              t.dtype_bits, t.dtype_lanes, wanted);
}

// No two elements of an output may share memory: from the smallest stride on, each must step over all that the smaller
// ones reach.
void check_no_overlap(const oscar_tensor& t, const int64_t* stride, const char* name) {
  const auto reach = [stride](int32_t i) {
    const uint64_t s = static_cast<uint64_t>(stride[i]);
    return stride[i] < 0 ? 0 - s : s;
  };
  int32_t order[4], n = 0;  // dimensions by stride
  for (int32_t i = 0; i < t.ndim; ++i) {
    if (t.shape[i] <= 1) continue;
    int32_t at = n++;
    for (; at > 0 && reach(order[at - 1]) > reach(i); --at) order[at] = order[at - 1];
    order[at] = i;
  }
  uint64_t extent = 1;  // elements from the first to the last that the dimensions so far span
  for (int32_t k = 0; k < n; ++k) {
    const int32_t i = order[k];
    if (reach(i) < extent)
      throw Error(Status::kInvalid,
                  "%s: stride[%d] is %lld, wanted at least %llu either way: elements of an output must not overlap",
                  name, i, static_cast<long long>(stride[i]), static_cast<unsigned long long>(extent));
    extent += (static_cast<uint64_t>(t.shape[i]) - 1) * reach(i);
  }
}

// No address space is larger than 2^56 bytes (x86-64, five levels); offsets within it do not overflow.
void check_reach(const oscar_tensor& t, const int64_t* stride, uint32_t element_bytes, const char* name) {
  uint64_t most = (uint64_t{1} << 56) / element_bytes;
  for (int32_t i = 0; i < t.ndim; ++i) {
    if (t.shape[i] <= 1) continue;
    const uint64_t s = static_cast<uint64_t>(stride[i]), reach = stride[i] < 0 ? 0 - s : s;
    uint64_t span;
    if (__builtin_mul_overflow(static_cast<uint64_t>(t.shape[i]) - 1, reach, &span) || span > most)
      throw Error(Status::kInvalid, "%s: stride[%d] is %lld, more than memory can hold", name, i,
                  static_cast<long long>(stride[i]));
    most -= span;
  }
}

}  // namespace

void check_struct_size(uint32_t given, size_t known, const char* name) {
  if (given < 8 || given > kMaxStructSize)
    throw Error(Status::kInvalid, "%s: struct_size is %u, this library's is %zu", name, given, known);
}

void check_same_size(const void* element, uint32_t first_size, size_t alignment, const char* name) {
  if (first_size % alignment != 0)
    throw Error(Status::kInvalid, "%s: struct_size is %u, wanted: a multiple of %zu", name, first_size, alignment);
  uint32_t size;
  std::memcpy(&size, element, sizeof size);
  if (size != first_size)
    throw Error(Status::kInvalid, "%s: struct_size is %u, the first element's is %u", name, size, first_size);
}

void check_unknown_tail(const void* given, size_t given_size, size_t known, const char* name) {
  const unsigned char* bytes = static_cast<const unsigned char*>(given);
  for (size_t i = known; i < given_size; ++i)
    if (bytes[i] != 0)
      throw Error(Status::kInvalid, "%s: struct_size is %zu, this library knows %zu bytes and byte %zu is not 0", name,
                  given_size, known, i);
}

TensorView check_tensor(const oscar_tensor& t, const TensorRule& rule, const Place& place) {
  const char* name = rule.name;
  if (!t.data) {
    if (rule.is_optional && t.ndim == 0) return {};
    throw Error(Status::kInvalid, "%s: data is NULL%s", name, rule.is_optional ? " and ndim is not 0" : "");
  }
  const bool is_there = t.device_type == place.device_type &&
                        (t.device_type == OSCAR_DEVICE_CPU || t.device_id == place.device_id);
  if (!is_there)
    throw Error(Status::kInvalid, "%s: device is {type %d, id %d}, wanted {%d, %d} (type 1: CPU, 2: CUDA)", name,
                t.device_type, t.device_id, place.device_type, place.device_id);
  const int32_t ndim = static_cast<int32_t>(rule.shape.size());
  if (t.ndim != ndim) throw Error(Status::kInvalid, "%s: ndim is %d, wanted %d", name, t.ndim, ndim);
  for (int32_t i = 0; i < ndim; ++i)
    if (t.shape[i] != rule.shape.begin()[i])
      throw Error(Status::kInvalid, "%s: shape[%d] is %lld, wanted %lld", name, i, static_cast<long long>(t.shape[i]),
                  static_cast<long long>(rule.shape.begin()[i]));
  TensorView view;
  view.data = t.data;
  view.dtype = check_dtype(t, rule);
  if (reinterpret_cast<uintptr_t>(t.data) % dtype_bytes(view.dtype) != 0)
    throw Error(Status::kInvalid, "%s: data is not aligned to its %u-byte elements", name, dtype_bytes(view.dtype));

  int64_t stride[4] = {};
  const bool dense = std::all_of(t.stride, t.stride + ndim, [](int64_t s) { return s == 0; });
  int64_t step = 1;
  for (int32_t i = ndim - 1; i >= 0; --i) {
    stride[i] = dense ? step : t.stride[i];
    if (__builtin_mul_overflow(step, t.shape[i], &step))
      throw Error(Status::kInvalid, "%s: the shape's product exceeds 2^63", name);
    const bool is_last = i == ndim - 1;
    if (is_last && t.shape[i] > 1 && stride[i] != 1)
      throw Error(Status::kInvalid, "%s: stride[%d] is %lld, the last dimension must be dense (1)", name, i,
                  static_cast<long long>(stride[i]));
  }
  check_reach(t, stride, dtype_bytes(view.dtype), name);
  if (rule.access == Access::kOut) check_no_overlap(t, stride, name);
  // One dimension is indexed by row or by head, whichever the tensor is about.
  view.row_stride = stride[0];
  view.head_stride = ndim == 1 ? stride[0] : stride[1];
  return view;
}

void check_stream(oscar_stream stream, const Place& place) {
  if (stream && place.device_type == OSCAR_DEVICE_CPU)
    throw Error(Status::kInvalid, "stream is not NULL, and the CPU has no streams");
}

}  // namespace oscar::border
