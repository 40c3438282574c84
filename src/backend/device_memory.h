// Where a device's memory comes from. Both null: the device's own allocator.
#pragma once
#include <cstdint>

namespace oscar {

struct DeviceAllocator {
  void* user = nullptr;
  void* (*allocate)(void* user, uint64_t size, uint64_t alignment) = nullptr;
  void (*release)(void* user, void* memory, uint64_t size, uint64_t alignment) = nullptr;
};

}  // namespace oscar
