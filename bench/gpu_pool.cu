#include "gpu_pool.h"

#include <cuda_runtime.h>

#include "device_buffer.h"

namespace oscar::bench {
namespace {

using testing::check_cuda;

__device__ uint32_t hash(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>((x ^ x >> 31) >> 16);
}

// About normal: the sum of four uniform numbers, unit variance.
__device__ float normal(uint64_t x) {
  const uint32_t a = hash(2 * x), b = hash(2 * x + 1);
  const float sum = static_cast<float>((a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16)) / 65536.0f;
  return (sum - 2.0f) * 1.7320508f;
}

// One CTA per block of the cache.
__global__ void fill_block_kernel(uint8_t* pool, uint64_t unit_bytes, uint32_t heads, BlockLayout l) {
  const uint64_t index = blockIdx.x;
  uint8_t* block = pool + index / heads * unit_bytes + index % heads * l.bytes;
  const uint64_t seed = index * 65536;
  for (uint32_t i = threadIdx.x; i < l.bytes; i += blockDim.x) block[i] = static_cast<uint8_t>(hash(seed + i));
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < 2 * kBlockTokens; i += blockDim.x)  // scales 0.5 .. 1.9
    block[l.key_scales + i] = static_cast<uint8_t>(224 + hash(seed + 40000 + i) % 32);
  if (threadIdx.x == 0) {
    auto* header = reinterpret_cast<BlockHeader*>(block + l.header);
    *header = {0.004f, 1.0f, 0.5f, 0};
  }
  if (l.has_ids() && threadIdx.x < l.h)
    block[l.ids + threadIdx.x] = static_cast<uint8_t>(threadIdx.x * (kBlockTokens / l.h) + 3);
}

__global__ void fill_bf16_kernel(uint16_t* values, uint64_t n, uint64_t seed) {
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < n; i += uint64_t{gridDim.x} * blockDim.x)
    values[i] = static_cast<uint16_t>(__float_as_uint(normal(seed + i)) >> 16);
}

// Eight 16-byte loads in flight a thread, 2,048 threads an SM.
__global__ void __launch_bounds__(1024, 2) read_kernel(const uint4* data, uint64_t n, uint32_t* sink) {
  constexpr int kUnroll = 8;
  uint32_t x = 0;
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x;
  for (; i + (kUnroll - 1) * step < n; i += kUnroll * step) {
    uint4 v[kUnroll];
#pragma unroll
    for (int k = 0; k < kUnroll; ++k) v[k] = __ldcs(data + i + k * step);
#pragma unroll
    for (int k = 0; k < kUnroll; ++k) x ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  for (; i < n; i += step) x ^= data[i].x ^ data[i].w;
  if (x == 0x12345678u) *sink = x;  // never, and the compiler does not know
}

}  // namespace

void fill_blocks(uint8_t* pool, uint64_t n_units, uint64_t unit_bytes, uint32_t heads, const BlockLayout& layout) {
  fill_block_kernel<<<static_cast<unsigned>(n_units * heads), 256>>>(pool, unit_bytes, heads, layout);
  check_cuda(cudaDeviceSynchronize(), "fill_blocks");
}

void fill_bf16(uint16_t* values, uint64_t n_values) {
  fill_bf16_kernel<<<1024, 256>>>(values, n_values, uint64_t{1} << 40);
  check_cuda(cudaDeviceSynchronize(), "fill_bf16");
}

void fill_bf16_queries(uint16_t* values, uint64_t n_values, uint32_t seed) {
  fill_bf16_kernel<<<64, 256>>>(values, n_values, (uint64_t{2} << 40) + seed * 1000003ull);
  check_cuda(cudaDeviceSynchronize(), "fill_bf16_queries");
}

double read_rate(const uint8_t* data, uint64_t bytes) {
  int n_sm = 0;
  check_cuda(cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
  testing::DeviceBuffer<uint32_t> sink(1);
  cudaEvent_t begin, end;
  check_cuda(cudaEventCreate(&begin), "event");
  check_cuda(cudaEventCreate(&end), "event");
  float best = 1e30f;
  for (int k = 0; k < 6; ++k) {
    check_cuda(cudaEventRecord(begin), "record");
    read_kernel<<<n_sm * 2, 1024>>>(reinterpret_cast<const uint4*>(data), bytes / 16, sink.get());
    check_cuda(cudaEventRecord(end), "record");
    check_cuda(cudaEventSynchronize(end), "read_kernel");
    float ms = 0.0f;
    check_cuda(cudaEventElapsedTime(&ms, begin, end), "elapsed");
    if (k > 0 && ms < best) best = ms;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return static_cast<double>(bytes) / best * 1e-6;
}

}  // namespace oscar::bench
