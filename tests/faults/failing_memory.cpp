#include "faults/failing_memory.h"

#include <dlfcn.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace {

bool watching = false;
test::Failing failing = test::Failing::kNever;
uint64_t failing_nth = 0;
test::MemoryUse use;

bool fails() {
  if (!watching) return false;
  ++use.n_requests;
  const bool now = (failing == test::Failing::kOnce && use.n_requests == failing_nth) ||
                   (failing == test::Failing::kForEver && use.n_requests >= failing_nth);
  use.n_failed += now;
  return now;
}

void* taken(void* memory) {
  if (watching && memory) ++use.n_kept;
  return memory;
}

bool looking_up = false;
void* freed_meanwhile = nullptr;

// The next definition of the name after this program's: that of the sanitizer, or else the C library's. dlsym itself takes
// memory for the text of an error, and can do without; and gives back the text of the last one, which has to wait.
template <class Function>
Function next(Function& cached, const char* name) {
  if (!cached && !looking_up) {
    looking_up = true;
    void* symbol = dlsym(RTLD_NEXT, name);
    looking_up = false;
    std::memcpy(&cached, &symbol, sizeof cached);
    free(std::exchange(freed_meanwhile, nullptr));
  }
  return cached;
}

void* (*next_malloc)(size_t);
void* (*next_calloc)(size_t, size_t);
void* (*next_realloc)(void*, size_t);
void* (*next_aligned_alloc)(size_t, size_t);
int (*next_posix_memalign)(void**, size_t, size_t);
void (*next_free)(void*);

}  // namespace

namespace test {

void watch_begin(Failing how, uint64_t nth) {
  use = {};
  failing = how;
  failing_nth = nth;
  watching = true;
}

MemoryUse watch_end() {
  watching = false;
  return use;
}

}  // namespace test

extern "C" {

void* malloc(size_t size) {
  if (looking_up || fails()) return errno = ENOMEM, nullptr;
  return taken(next(next_malloc, "malloc")(size));
}

void* calloc(size_t n, size_t size) {
  if (looking_up || fails()) return errno = ENOMEM, nullptr;
  return taken(next(next_calloc, "calloc")(n, size));
}

void* realloc(void* memory, size_t size) {
  if (fails()) return errno = ENOMEM, nullptr;
  void* moved = next(next_realloc, "realloc")(memory, size);
  return memory ? moved : taken(moved);
}

void* aligned_alloc(size_t alignment, size_t size) {
  if (fails()) return errno = ENOMEM, nullptr;
  return taken(next(next_aligned_alloc, "aligned_alloc")(alignment, size));
}

int posix_memalign(void** memory, size_t alignment, size_t size) {
  if (fails()) return ENOMEM;
  const int error = next(next_posix_memalign, "posix_memalign")(memory, alignment, size);
  if (error == 0) taken(*memory);
  return error;
}

void free(void* memory) {
  if (!memory) return;
  if (looking_up) {
    freed_meanwhile = memory;
    return;
  }
  if (watching) --use.n_kept;
  next(next_free, "free")(memory);
}

}  // extern "C"

// A sanitizer has operators of its own, which would pass the malloc above by.
void* operator new(size_t size, const std::nothrow_t&) noexcept { return malloc(size ? size : 1); }
void* operator new(size_t size) {
  if (void* memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  const size_t a = static_cast<size_t>(alignment);
  return aligned_alloc(a, (size + a - 1) / a * a);
}
void* operator new(size_t size, std::align_val_t alignment) {
  if (void* memory = operator new(size, alignment, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void* operator new[](size_t size) { return operator new(size); }
void* operator new[](size_t size, const std::nothrow_t& no) noexcept { return operator new(size, no); }
void* operator new[](size_t size, std::align_val_t a) { return operator new(size, a); }
void operator delete(void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { free(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete[](void* memory, size_t) noexcept { free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { free(memory); }
