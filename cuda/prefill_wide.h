// The prefill kernels of compute capability 9.0 (prefill_wide.cuh), as the launcher sees them.
#pragma once
#include "prefill_work.cuh"

namespace oscar::cuda {

struct WideInstance {
  PrefillKernel kernel;
  uint32_t n_threads, shared_bytes;
};
// all_refined: for blocks with all slots refined.
WideInstance wide_instance(bool all_refined);
// Raises their shared-memory limits on the current device.
cudaError_t wide_prepare();

}  // namespace oscar::cuda
