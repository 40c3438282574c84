#include "table_mirror.h"

namespace oscar::cuda {

namespace {
constexpr uint32_t kScatterThreads = 256;

__global__ void scatter_kernel(TableLine* table, const TableChange* changes, uint32_t n) {
  const uint32_t i = blockIdx.x * kScatterThreads + threadIdx.x;
  if (i < n) table[changes[i].line] = changes[i].value;
}
}  // namespace

cudaError_t scatter_launch(TableLine* table, const TableChange* changes, uint32_t n, cudaStream_t stream) {
  scatter_kernel<<<(n + kScatterThreads - 1) / kScatterThreads, kScatterThreads, 0, stream>>>(table, changes, n);
  return cudaGetLastError();
}

}  // namespace oscar::cuda
