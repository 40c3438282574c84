// The caller's allocator as a std::pmr::memory_resource that counts what it holds.
#pragma once
#include <cstdint>
#include <memory_resource>
#include <new>

#include "cache/config.h"

namespace oscar {

class HostMemory final : public std::pmr::memory_resource {
 public:
  explicit HostMemory(const HostAllocator& allocator) : allocator_(allocator) {}
  uint64_t bytes() const { return bytes_; }

 private:
  void* do_allocate(size_t size, size_t alignment) override {
    void* memory = allocator_.allocate ? allocator_.allocate(allocator_.user, size, alignment)
                                       : ::operator new (size, std::align_val_t{alignment}, std::nothrow);
    if (!memory) throw std::bad_alloc();
    bytes_ += size;
    return memory;
  }
  void do_deallocate(void* memory, size_t size, size_t alignment) override {
    bytes_ -= size;
    if (allocator_.release) {
      allocator_.release(allocator_.user, memory, size, alignment);
    } else {
      ::operator delete (memory, std::align_val_t{alignment});
    }
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  HostAllocator allocator_;
  uint64_t bytes_ = 0;
};

}  // namespace oscar
