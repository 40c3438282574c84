// The caller's allocator as a std::pmr::memory_resource that counts what it holds.
#pragma once
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>
#include <memory_resource>
#include <new>

#include "cache/config.h"

namespace oscar {

// An arena of many megabytes is read block by block all over: with pages of 4 KiB nearly every block would miss the
// processor's table of addresses. Advice only; a system without such pages goes on without.
inline void prefer_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t size) {
#if defined(__linux__)
  constexpr uintptr_t kPage = 4096;
  constexpr size_t kWorthwhile = 8u << 20;
  if (size < kWorthwhile) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage,
                  end = (reinterpret_cast<uintptr_t>(memory) + size) / kPage * kPage;
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

class HostMemory final : public std::pmr::memory_resource {
 public:
  explicit HostMemory(const HostAllocator& allocator) : allocator_(allocator) {}
  uint64_t bytes() const { return bytes_; }

 private:
  void* do_allocate(size_t size, size_t alignment) override {
    void* memory = allocator_.allocate ? allocator_.allocate(allocator_.user, size, alignment)
                                       : ::operator new (size, std::align_val_t{alignment}, std::nothrow);
    if (!memory) throw std::bad_alloc();
    if (!allocator_.allocate) prefer_huge_pages(memory, size);
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
