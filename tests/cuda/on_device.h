// Included in front of a test of the C ABI: the same test, with its caches on a CUDA device. Tensors of the calls that
// compute travel to device memory and back; each call gets memory of its own size, so that a sanitizer sees the ends.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "oscar/oscar.h"

namespace on_device {

inline void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::abort();
}

inline int n_devices() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

// The tensors of one call on the device.
class Staged {
 public:
  ~Staged() {
    for (const Copy& c : copies_) require(cudaFree(c.device));
  }
  void in(oscar_tensor& t) { add(t, false); }
  void out(oscar_tensor& t) { add(t, true); }
  void finish() {
    require(cudaDeviceSynchronize());
    for (const Copy& c : copies_)
      if (c.is_output) require(cudaMemcpy(c.host, c.device, c.bytes, cudaMemcpyDeviceToHost));
  }

 private:
  struct Copy {
    void* host;
    void* device;
    size_t bytes;
    bool is_output;
  };
  void add(oscar_tensor& t, bool is_output) {
    if (!t.data || t.device_type != OSCAR_DEVICE_CPU) return;
    size_t last = 0, dense = 1;
    for (int i = t.ndim; i-- > 0;) {
      bool has_strides = false;
      for (int j = 0; j < t.ndim; ++j) has_strides = has_strides || t.stride[j] != 0;
      last += static_cast<size_t>(t.shape[i] - 1) * (has_strides ? static_cast<size_t>(t.stride[i]) : dense);
      dense *= static_cast<size_t>(t.shape[i]);
    }
    Copy c{t.data, nullptr, (last + 1) * t.dtype_bits / 8, is_output};
    require(cudaMalloc(&c.device, c.bytes));
    require(cudaMemcpy(c.device, c.host, c.bytes, cudaMemcpyHostToDevice));
    copies_.push_back(c);
    t.data = c.device;
    t.device_type = OSCAR_DEVICE_CUDA;
  }
  std::vector<Copy> copies_;
};

inline oscar_status cache_create(const oscar_cache_config* config, oscar_cache** cache_out) {
  oscar_cache_config c = *config;
  c.device_type = OSCAR_DEVICE_CUDA;
  return oscar_cache_create(&c, cache_out);
}

inline oscar_status cache_check(const oscar_cache_config* config, uint64_t context, oscar_cache_report* report) {
  oscar_cache_config c = *config;
  c.device_type = OSCAR_DEVICE_CUDA;
  return oscar_cache_check(&c, context, report);
}

inline oscar_status append(oscar_cache* cache, oscar_step step, const oscar_append_args* args, oscar_stream stream) {
  oscar_append_args a = *args;
  Staged staged;
  staged.in(a.k);
  staged.in(a.v);
  const oscar_status status = oscar_append(cache, step, &a, stream);
  staged.finish();
  return status;
}

template <class Args>
void stage_attention(Staged& staged, Args& a) {
  staged.in(a.q);
  staged.in(a.sink_logits);
  staged.in(a.mask);
  staged.out(a.out);
  staged.out(a.lse);
}

inline oscar_status attend(oscar_cache* cache, oscar_step step, const oscar_attend_args* args, oscar_stream stream) {
  oscar_attend_args a = *args;
  Staged staged;
  stage_attention(staged, a);
  const oscar_status status = oscar_attend(cache, step, &a, stream);
  staged.finish();
  return status;
}

inline oscar_status layer(oscar_cache* cache, oscar_step step, const oscar_layer_args* args, oscar_stream stream) {
  oscar_layer_args a = *args;
  Staged staged;
  staged.in(a.k);
  staged.in(a.v);
  stage_attention(staged, a);
  const oscar_status status = oscar_layer(cache, step, &a, stream);
  staged.finish();
  return status;
}

}  // namespace on_device

#define OSCAR_TEST_ON_DEVICE 1
#define oscar_cache_create on_device::cache_create
#define oscar_cache_check on_device::cache_check
#define oscar_append on_device::append
#define oscar_attend on_device::attend
#define oscar_layer on_device::layer
