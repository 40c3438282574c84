// Packing 128 tokens of 36 layers x 8 KV heads, head_dim 128: time of a launch over rotating buffers (more than the L2
// cache holds), after its bytes have been checked against the CPU packer. One JSON line a case:
//   us, bytes read and written over time, and their share of what a read-only stream kernel reaches in the same run.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "cuda/pack.h"
#include "pack_scene.h"

using namespace oscar;
using namespace oscar::test;

namespace {

constexpr uint32_t kLayers = 36, kHeads = 8, kBuffers = 8, kLaunches = 64, kRepeats = 7;

__global__ void __launch_bounds__(512) read_stream(const uint4* data, uint64_t n, uint32_t* sink) {
  uint32_t x = 0;
  const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i + 7 * stride < n; i += 8 * stride) {
    uint4 v[8];
#pragma unroll
    for (uint32_t k = 0; k < 8; ++k) v[k] = __ldcs(data + i + k * stride);
#pragma unroll
    for (uint32_t k = 0; k < 8; ++k) x |= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  if (x == 0x12345678u) *sink = x;
}

// Median time in us of one of `n` runs.
template <typename Run>
double time_us(uint32_t n, Run run) {
  cudaEvent_t begin, end;
  check_cuda(cudaEventCreate(&begin), "event");
  check_cuda(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (uint32_t r = 0; r < kRepeats; ++r) {
    check_cuda(cudaEventRecord(begin), "event");
    for (uint32_t i = 0; i < n; ++i) run(i);
    check_cuda(cudaEventRecord(end), "event");
    check_cuda(cudaEventSynchronize(end), "timing");
    float ms;
    check_cuda(cudaEventElapsedTime(&ms, begin, end), "timing");
    times.push_back(ms * 1000.0f / static_cast<float>(n));
  }
  std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return times[kRepeats / 2];
}

double read_rate() {
  const size_t bytes = size_t{2} << 30;
  DeviceBuffer<uint8_t> data(bytes);
  data.fill(0);
  DeviceBuffer<uint32_t> sink(1);
  int n_sms = 0;
  cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, 0);
  const double us = time_us(4, [&](uint32_t) {
    read_stream<<<4 * n_sms, 512>>>(reinterpret_cast<const uint4*>(data.get()), bytes / 16, sink.get());
  });
  return static_cast<double>(bytes) / us * 1e-3;
}

struct Case {
  const char* name;
  BlockShape shape;
  Transforms transforms;
};

bool run_case(const Case& c, double stream) {
  std::mt19937_64 random(7);
  SceneShape s;
  s.shape = c.shape;
  s.n_heads = kLayers * kHeads;
  s.n_jobs = kBuffers;
  s.transforms = c.transforms;
  const PackScene scene(s, random);
  DeviceScene device(scene);
  const bool general = scene.needs_general();
  const std::vector<uint8_t> got = device.pack(general);
  std::vector<uint8_t> want(scene.job_bytes());
  for (const uint32_t job : {0u, kBuffers - 1}) {
    scene.pack_on_cpu(job, want.data());
    if (!std::equal(want.begin(), want.end(), got.begin() + static_cast<std::ptrdiff_t>(job * want.size()))) {
      std::printf("{\"case\": \"%s\", \"error\": \"bytes differ from the CPU packer's\"}\n", c.name);
      return false;
    }
  }
  cuda::PackLaunch all = device.launch(general), one = all;
  one.n_jobs = 1;
  const auto pack_one = [&](uint32_t i) {
    one.jobs = all.jobs + i % kBuffers;
    one.arrivals = all.arrivals + i % kBuffers * s.n_heads;
    check_cuda(cuda::launch_pack(one, nullptr), "launch");
  };
  for (const bool batch : {false, true}) {
    const uint32_t n_sequences = batch ? kBuffers : 1;
    const double us = batch ? time_us(4, [&](uint32_t) { check_cuda(cuda::launch_pack(all, nullptr), "launch"); })
                            : time_us(kLaunches, pack_one);
    const double read = 2.0 * kBlockTokens * (c.shape.key_dim + c.shape.value_dim), written = scene.layout.bytes;
    const double rate = n_sequences * s.n_heads * (read + written) / us * 1e-3;
    std::printf(
        "{\"case\": \"%s\", \"sequences\": %u, \"layers\": %u, \"heads\": %u, \"head_dim\": %u, \"refined\": %u, "
        "\"us\": %.2f, \"gb_per_s\": %.0f, \"read_stream_gb_per_s\": %.0f, \"share\": %.3f}\n",
        c.name, n_sequences, kLayers, kHeads, c.shape.key_dim, scene.layout.h, us, rate, stream, rate / stream);
    std::fflush(stdout);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string only = argc > 1 ? argv[1] : "";
  if (prepare_device() != cudaSuccess) {
    std::printf("no usable CUDA device\n");
    return 77;
  }
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, 0), "device");
  const double stream = read_rate();
  std::printf("{\"device\": \"%s\", \"read_stream_gb_per_s\": %.0f}\n", properties.name, stream);
  const Case cases[] = {{"2bit plain", {128, 128, 4, 2, 2}, Transforms::kHadamard},
                        {"2bit plain, nothing refined", {128, 128, 0, 0, 0}, Transforms::kHadamard},
                        {"2bit shaped, dense transforms", {128, 128, 4, 2, 2}, Transforms::kShaped},
                        {"2bit plain, dense transforms", {128, 128, 4, 2, 2}, Transforms::kDense},
                        {"3bit plain", {128, 128, 128, 1, 1}, Transforms::kHadamard},
                        {"4bit plain", {128, 128, 128, 2, 2}, Transforms::kHadamard},
                        {"k3v2 plain", {128, 128, 128, 1, 0}, Transforms::kHadamard},
                        {"2bit plain, head_dim 64", {64, 64, 4, 2, 2}, Transforms::kHadamard},
                        {"2bit plain, head_dim 256", {256, 256, 4, 2, 2}, Transforms::kHadamard}};
  bool good = true;
  for (const Case& c : cases)
    if (std::string(c.name).find(only) != std::string::npos) good = run_case(c, stream) && good;
  return good ? 0 : 1;
}
