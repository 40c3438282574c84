// The device that an engine computes on: errors as exceptions, the current device as it was, memory with an owner.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/device_memory.h"
#include "format/error.h"

namespace oscar::cuda {

// Throws DEVICE.
void check(cudaError_t error, const char* what);

// What the kernels ask of a device. Decode attention, the wide prefill kernel and dependent launches are for compute
// capability 9.0 (Hopper); all else runs from 8.0 on. The environment variable OSCAR_CUDA_KERNELS=general does without the
// former, for comparison.
struct DeviceTraits {
  explicit DeviceTraits(int device);
  int major = 0, minor = 0;
  uint32_t n_multiprocessors = 0;
  uint32_t shared_bytes = 0;  // that a CTA may ask for
  bool is_hopper = false;
};

// Makes a device current while it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

// One piece of device memory, by the caller's allocator or cudaMalloc. Parts are handed out from its start, 256-byte
// aligned; with no memory behind it, it only counts.
class DeviceArena {
 public:
  static constexpr uint64_t kAlignment = 256;

  DeviceArena() = default;
  ~DeviceArena() { release(); }
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;

  void allocate(const DeviceAllocator& allocator, uint64_t bytes);
  void release();
  template <class T>
  T* take(uint64_t n) {
    uint8_t* part = base_ ? base_ + used_ : nullptr;
    used_ += (n * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return n ? reinterpret_cast<T*>(part) : nullptr;
  }
  uint8_t* base() const { return base_; }
  uint64_t used() const { return used_; }
  uint64_t bytes() const { return bytes_; }

 private:
  DeviceAllocator allocator_;
  uint8_t* base_ = nullptr;
  uint64_t bytes_ = 0, used_ = 0;
};

}  // namespace oscar::cuda
