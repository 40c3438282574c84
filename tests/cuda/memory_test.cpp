// Failing memory of a cache on a device: host's or device's, at every request. A status, nothing leaked, and the next
// cache is made.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "oscar/oscar.h"
#include "require.h"

namespace {

// Counts what it gives; the request number `fails_at`, from 0 on, gets nothing.
struct Memory {
  bool on_device = false;
  int fails_at = -1, n_requests = 0;
  long n_live = 0;

  static void* allocate(void* user, uint64_t size, uint64_t alignment) {
    Memory& self = *static_cast<Memory*>(user);
    if (self.n_requests++ == self.fails_at) return nullptr;
    void* memory = nullptr;
    if (self.on_device) {
      REQUIRE(cudaMalloc(&memory, size) == cudaSuccess);
      REQUIRE(reinterpret_cast<uintptr_t>(memory) % alignment == 0);
    } else {
      memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
      REQUIRE(memory != nullptr);
    }
    ++self.n_live;
    return memory;
  }
  static void release(void* user, void* memory, uint64_t, uint64_t) {
    Memory& self = *static_cast<Memory*>(user);
    --self.n_live;
    if (self.on_device)
      REQUIRE(cudaFree(memory) == cudaSuccess);
    else
      std::free(memory);
  }
  oscar_allocator allocator() { return {this, allocate, release}; }
};

oscar_cache_config small_config() {
  oscar_cache_config c;
  REQUIRE(oscar_cache_config_init(&c, sizeof c, "2bit") == OSCAR_OK);
  c.n_layers = 2;
  c.n_q_heads = 8;
  c.n_kv_heads = 2;
  c.key_dim = 128;
  c.max_sequences = 4;
  c.max_tokens = 4096;
  c.capacity_bytes = 16u << 20;
  c.device_type = OSCAR_DEVICE_CUDA;
  return c;
}

// Creates caches whose memory fails at request 0, 1, ... until one is made. Returns how often it failed.
int fail_everywhere(bool on_device) {
  Memory host, device;
  device.on_device = true;
  Memory& failing = on_device ? device : host;
  oscar_cache_config c = small_config();
  c.allocator = host.allocator();
  c.device_allocator = device.allocator();
  for (int n = 0;; ++n) {
    host.n_requests = device.n_requests = 0;
    failing.fails_at = n;
    auto* cache = reinterpret_cast<oscar_cache*>(16);
    const oscar_status status = oscar_cache_create(&c, &cache);
    if (status == OSCAR_OK) {
      REQUIRE(host.n_live > 0 && device.n_live > 0);
      oscar_cache_destroy(cache);
      REQUIRE(host.n_live == 0 && device.n_live == 0);
      return n;
    }
    REQUIRE(status == OSCAR_E_NO_MEMORY);
    REQUIRE(cache == nullptr);
    REQUIRE(host.n_live == 0 && device.n_live == 0);
  }
}

// More than the device has, by the library's own cudaMalloc.
void ask_for_too_much() {
  size_t free_before = 0, free_after = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&free_before, &total) == cudaSuccess);
  oscar_cache_config c = small_config();
  c.capacity_bytes = total + (uint64_t{1} << 30);
  oscar_cache* cache = nullptr;
  REQUIRE(oscar_cache_create(&c, &cache) == OSCAR_E_NO_MEMORY);
  REQUIRE(cache == nullptr);
  REQUIRE(cudaGetLastError() == cudaSuccess);
  REQUIRE(cudaMemGetInfo(&free_after, &total) == cudaSuccess);
  REQUIRE(free_after == free_before);
  c.capacity_bytes = 16u << 20;
  REQUIRE(oscar_cache_create(&c, &cache) == OSCAR_OK);
  oscar_cache_destroy(cache);
}

}  // namespace

int main() {
  int n_devices = 0;
  if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  const int n_host = fail_everywhere(false), n_device = fail_everywhere(true);
  REQUIRE(n_host > 5 && n_device >= 2);
  ask_for_too_much();
  std::printf("host memory failed at %d requests, device memory at %d; cudaMalloc failed: passed\n", n_host, n_device);
  return 0;
}
