// Stands for cuda/ where it is not built.
#include "backend/device_engine.h"
#include "format/error.h"

namespace oscar {

namespace {
[[noreturn]] void refuse() { throw Error(Status::kUnsupported, "CUDA is not built in (CMake: OSCAR_CUDA=ON)"); }
}  // namespace

void cuda_check_device(int32_t) { refuse(); }

void cuda_check_plan(const EnginePlan&, int32_t) { refuse(); }

uint64_t cuda_engine_bytes(const EnginePlan&, const Calibration&, const Backend&, int32_t) { refuse(); }

std::unique_ptr<Engine> cuda_engine(const EnginePlan&, const Calibration&, const Backend&, int32_t,
                                    const DeviceAllocator&, uint64_t, std::pmr::memory_resource*) {
  refuse();
}

}  // namespace oscar
