// The part of the DLPack ABI that a consumer needs (https://dmlc.github.io/dlpack/latest/c_api.html): the unversioned
// capsule "dltensor" and the versioned one of DLPack 1.x, "dltensor_versioned".
#pragma once
#include <cstdint>

namespace oscar_py {

struct DlTensor {
  void* data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint16_t dtype_lanes;
  int64_t* shape;
  int64_t* strides;  // in elements; null: dense
  uint64_t byte_offset;
};

struct DlManagedTensor {
  DlTensor tensor;
  void* manager_context;
  void (*deleter)(DlManagedTensor*);
};

struct DlManagedTensorVersioned {
  uint32_t version_major;
  uint32_t version_minor;
  void* manager_context;
  void (*deleter)(DlManagedTensorVersioned*);
  uint64_t flags;
  DlTensor tensor;
};

constexpr uint32_t kDlVersionMajor = 1;
constexpr uint64_t kDlFlagReadOnly = 1;
constexpr uint8_t kDlBool = 6;

}  // namespace oscar_py
