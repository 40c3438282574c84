#include "cuda/pack.h"

#include "cuda/pack_general.cuh"
#include "cuda/pack_plain.cuh"

namespace oscar::cuda {
namespace {

using PackKernel = void (*)(PackLaunch, bool);

struct PackInstance {
  uint32_t dim;
  PackKernel plain, general;
  uint32_t plain_bytes, general_bytes;  // shared memory
};

// L lanes a token and CTAs per SM of the plain kernel: 32 .. 64 elements a thread, and what their registers allow.
// One lane with 128 elements has fewer instructions but waits for them: 123 us against 116 for 8 sequences (H100).
template <uint32_t D, uint32_t L, uint32_t MinCtas>
constexpr PackInstance instance() {
  return {D, pack_plain_kernel<D, L, MinCtas>, pack_general_kernel<D>, PlainShape<D, L>::kBytes,
          GeneralShape<D>::kBytes};
}

const PackInstance kInstances[] = {instance<64, 1, 4>(),  instance<80, 2, 5>(),  instance<96, 2, 5>(),
                                   instance<128, 2, 5>(), instance<192, 4, 4>(), instance<256, 4, 3>()};

const PackInstance* find_instance(uint32_t dim) {
  for (const PackInstance& i : kInstances)
    if (i.dim == dim) return &i;
  return nullptr;
}

cudaError_t launch_sides(const PackLaunch& p, uint32_t dim, uint32_t n_ctas, bool values_only, cudaStream_t stream) {
  const PackInstance* i = find_instance(dim);
  if (!i) return cudaErrorInvalidValue;
  const PackKernel kernel = p.general ? i->general : i->plain;
  kernel<<<n_ctas, kPackThreads, p.general ? i->general_bytes : i->plain_bytes, stream>>>(p, values_only);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_pack(const PackLaunch& p, cudaStream_t stream) {
  const uint32_t n_units = p.n_jobs * p.n_heads;
  if (n_units == 0) return cudaSuccess;
  if (p.general) {
    int device = 0, limit = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    for (const uint32_t dim : {p.key_dim, p.value_dim})
      if (const PackInstance* i = find_instance(dim); i && i->general_bytes > static_cast<uint32_t>(limit))
        return cudaErrorNotSupported;
  }
  if (p.key_dim == p.value_dim) return launch_sides(p, p.key_dim, 2 * n_units, false, stream);
  if (!find_instance(p.value_dim)) return cudaErrorInvalidValue;
  const cudaError_t error = launch_sides(p, p.key_dim, n_units, false, stream);
  return error != cudaSuccess ? error : launch_sides(p, p.value_dim, n_units, true, stream);
}

cudaError_t prepare_pack() {
  int device = 0, limit = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  const auto raise = [&](PackKernel kernel, uint32_t bytes) {
    if (error != cudaSuccess || bytes > static_cast<uint32_t>(limit)) return;
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error == cudaSuccess)
      error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                   cudaSharedmemCarveoutMaxShared);
  };
  for (const PackInstance& i : kInstances) {
    raise(i.plain, i.plain_bytes);
    raise(i.general, i.general_bytes);
  }
  return error;
}

}  // namespace oscar::cuda
