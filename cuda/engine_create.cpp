// What the cache asks for (backend/device_engine.h): is this device usable, what will an engine take, make one.
#include "backend/device_engine.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "engine.h"

namespace oscar {

namespace {

// Compute capabilities from here on have the instructions of the general kernels.
constexpr int kLeastMajor = 8;

bool takes_unverified() {
  const char* value = std::getenv("OSCAR_CUDA_UNVERIFIED");
  return value && std::strcmp(value, "1") == 0;
}

class CountingMemory final : public std::pmr::memory_resource {
 public:
  uint64_t bytes() const { return bytes_; }

 private:
  void* do_allocate(size_t size, size_t alignment) override {
    bytes_ += size;
    return ::operator new (size, std::align_val_t{alignment});
  }
  void do_deallocate(void* memory, size_t size, size_t alignment) override {
    bytes_ -= size;
    ::operator delete (memory, std::align_val_t{alignment});
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
  uint64_t bytes_ = 0;
};

}  // namespace

void cuda_check_device(int32_t device) {
  int n_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&n_devices);
  if (error != cudaSuccess) {
    cudaGetLastError();
    throw Error(Status::kUnsupported, "no CUDA device can be used: %s", cudaGetErrorString(error));
  }
  if (device >= n_devices)
    throw Error(Status::kUnsupported, "device_id is %d, this machine has %d CUDA devices", device, n_devices);
  const cuda::DeviceTraits traits(device);
  if (traits.major < kLeastMajor)
    throw Error(Status::kUnsupported, "CUDA device %d has compute capability %d.%d, the kernels need 8.0", device,
                traits.major, traits.minor);
  if ((traits.major != 9 || traits.minor != 0) && !takes_unverified())
    throw Error(
        Status::kUnsupported,
        "CUDA device %d has compute capability %d.%d: the kernels are compiled for it and were never run on it; "
        "OSCAR_CUDA_UNVERIFIED=1 takes them",
        device, traits.major, traits.minor);
}

void cuda_check_plan(const EnginePlan& plan, int32_t device) {
  cuda_check_device(device);
  const cuda::DeviceTraits traits(device);
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    const LayerPlan& l = plan.layers[i];
    const LayerClass& c = plan.classes[l.layer_class];
    if (!cuda::prefill_serves({c.key_dim, c.value_dim, l.n_q_heads, c.n_kv_heads, plan.max_step_tokens},
                              traits.shared_bytes))
      throw Error(Status::kUnsupported,
                  "layer %u: CUDA does not serve key_dim %u, value_dim %u, %u query heads and %u "
                  "KV heads in steps of %u tokens",
                  i, c.key_dim, c.value_dim, l.n_q_heads, c.n_kv_heads, plan.max_step_tokens);
  }
}

uint64_t cuda_engine_bytes(const EnginePlan& plan, const Calibration& calibration, const Backend& host,
                           int32_t device) {
  CountingMemory memory;
  cuda::CudaEngine engine(plan, calibration, host, device, &memory);
  return sizeof engine + memory.bytes() + engine.fixed_device_bytes();
}

std::unique_ptr<Engine> cuda_engine(const EnginePlan& plan, const Calibration& calibration, const Backend& host,
                                    int32_t device, const DeviceAllocator& allocator, uint64_t arena_bytes,
                                    std::pmr::memory_resource* memory) {
  auto engine = std::make_unique<cuda::CudaEngine>(plan, calibration, host, device, memory);
  engine->allocate(allocator, arena_bytes);
  return engine;
}

}  // namespace oscar
