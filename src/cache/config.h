// What a cache is asked to be, with every default filled in. The border translates the public struct into this one.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "backend/device_memory.h"
#include "format/block.h"
#include "transform/calibrator.h"

namespace oscar {

enum class Device : uint32_t { kCpu = 1, kCuda = 2 };  // numbers of DLPack

enum class Writer : uint32_t { kAuto = 0, kPlain = 1, kShaped = 2 };

struct HostAllocator {
  void* user = nullptr;
  void* (*allocate)(void* user, uint64_t size, uint64_t alignment) = nullptr;
  void (*release)(void* user, void* memory, uint64_t size, uint64_t alignment) = nullptr;
};

struct LayerConfig {
  uint32_t n_q_heads = 0, n_kv_heads = 0, key_dim = 0, value_dim = 0;
  uint32_t window = 0;
  bool exact = false;
  uint32_t n_refined = 0, refined_key_bits = 2, refined_value_bits = 2;
  uint32_t kv_source = 0;  // the layer's own index, or an earlier layer's
};

struct CacheConfig {
  std::vector<LayerConfig> layers;
  Writer writer = Writer::kAuto;
  uint32_t n_sink = 0, n_recent = 0, max_rollback = 0;
  uint32_t max_sequences = 0, max_open_steps = 0, max_step_tokens = 0;
  uint64_t max_tokens = 0, capacity_bytes = 0;
  std::shared_ptr<const Calibration> calibration;    // null: data-free
  std::optional<CalibratorConfig> self_calibration;  // there: the cache collects until it is frozen
  HostAllocator allocator;
  Device device = Device::kCpu;
  int32_t device_id = 0;
  DeviceAllocator device_allocator;
  bool batch_invariant = false;
  uint32_t n_threads = 1;
};

}  // namespace oscar
