#include "prefill_wide.h"

#include "prefill_wide.cuh"

namespace oscar::cuda {

WideInstance wide_instance(bool all_refined) {
  return {all_refined ? wide_prefill_kernel<true> : wide_prefill_kernel<false>, kWideThreads, kWideBytes};
}

cudaError_t wide_prepare() {
  for (const bool all_refined : {false, true}) {
    const WideInstance wide = wide_instance(all_refined);
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(wide.kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(wide.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace oscar::cuda
