// Engines that compute on a device. Where CUDA is not built in (no_cuda.cpp), every call refuses with the reason.
#pragma once
#include <cstdint>
#include <memory>
#include <memory_resource>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "backend/engine.h"
#include "transform/calibration.h"

namespace oscar {

// Throws UNSUPPORTED where the device cannot be used at all.
void cuda_check_device(int32_t device);
// The same, and where its kernels do not serve the plan.
void cuda_check_plan(const EnginePlan& plan, int32_t device);

// All that cuda_engine will take from the host and from the device, the arena aside.
uint64_t cuda_engine_bytes(const EnginePlan& plan, const Calibration& calibration, const Backend& host, int32_t device);

// `host` unpacks what is read back. All arguments by reference or pointer outlive the engine.
std::unique_ptr<Engine> cuda_engine(const EnginePlan& plan, const Calibration& calibration, const Backend& host,
                                    int32_t device, const DeviceAllocator& allocator, uint64_t arena_bytes,
                                    std::pmr::memory_resource* memory);

}  // namespace oscar
