#include "device.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace oscar::cuda {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw Error(Status::kDevice, "%s: %s (%s)", what, cudaGetErrorName(error), cudaGetErrorString(error));
}

DeviceTraits::DeviceTraits(int device) {
  const auto attribute = [device](cudaDeviceAttr name) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, name, device), "cudaDeviceGetAttribute");
    return value;
  };
  major = attribute(cudaDevAttrComputeCapabilityMajor);
  minor = attribute(cudaDevAttrComputeCapabilityMinor);
  n_multiprocessors = static_cast<uint32_t>(attribute(cudaDevAttrMultiProcessorCount));
  shared_bytes = static_cast<uint32_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  const char* kernels = std::getenv("OSCAR_CUDA_KERNELS");
  if (kernels && std::strcmp(kernels, "general") != 0 && kernels[0] != '\0')
    throw Error(Status::kUnsupported, "OSCAR_CUDA_KERNELS is \"%.40s\", allowed: general", kernels);
  is_hopper = major == 9 && minor == 0 && !(kernels && kernels[0] != '\0');
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
