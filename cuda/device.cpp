#include "device.h"

#include <new>

namespace oscar::cuda {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw Error(Status::kDevice, "%s: %s (%s)", what, cudaGetErrorName(error), cudaGetErrorString(error));
}

DeviceGuard::DeviceGuard(int device) {
  check(cudaGetDevice(&previous_), "cudaGetDevice");
  if (previous_ == device) return;
  check(cudaSetDevice(device), "cudaSetDevice");
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) cudaSetDevice(previous_);
}

void DeviceArena::allocate(const DeviceAllocator& allocator, uint64_t bytes) {
  if (bytes == 0) return;
  void* memory = nullptr;
  if (allocator.allocate) {
    memory = allocator.allocate(allocator.user, bytes, kAlignment);
    if (!memory) throw std::bad_alloc();
  } else {
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // the next call must not find it
      throw std::bad_alloc();
    }
    check(error, "cudaMalloc");
  }
  allocator_ = allocator;
  base_ = static_cast<uint8_t*>(memory);
  bytes_ = bytes;
}

void DeviceArena::release() {
  if (!base_) return;
  if (allocator_.release) {
    allocator_.release(allocator_.user, base_, bytes_, kAlignment);
  } else {
    cudaFree(base_);
  }
  base_ = nullptr;
  bytes_ = 0;
}

}  // namespace oscar::cuda
