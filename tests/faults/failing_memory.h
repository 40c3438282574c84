// Stands before the process's malloc and operator new (the C library's or a sanitizer's), counts what one stretch of code
// takes and gives back, and lets the n-th request of it fail. One thread only.
#pragma once
#include <cstdint>

namespace test {

enum class Failing { kNever, kOnce, kForEver };

struct MemoryUse {
  uint64_t n_requests = 0;
  uint64_t n_failed = 0;
  int64_t n_kept = 0;  // blocks taken less blocks given back
};

// From here to watch_end; the request number `nth` (from 1) fails, or it and all that follow.
void watch_begin(Failing failing = Failing::kNever, uint64_t nth = 0);
MemoryUse watch_end();

}  // namespace test
