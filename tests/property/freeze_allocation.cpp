// Freezing when memory runs out: at any allocation, it fails as a whole. Replaces operator new of the whole program; the
// shared library calls it too.
#include <cstdlib>
#include <new>

#include "property/self_calibration.h"

namespace {

// Of the thread that counts; other tests of the program have more than one.
// Allocations from now on that succeed before one fails; negative: all do.
thread_local int64_t n_before_failure = -1;
thread_local int64_t n_allocations = 0;

void* allocate(size_t size) {
  ++n_allocations;
  if (n_before_failure == 0) return nullptr;
  if (n_before_failure > 0) --n_before_failure;
  return std::malloc(size > 0 ? size : 1);
}

}  // namespace

void* operator new(size_t size) {
  if (void* memory = allocate(size)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

using namespace test;

TEST_CASE("freezing fails as a whole wherever memory runs out, and then succeeds with the same result") {
  const Geometry g{1, 2, 1, 64, 64};
  const Rope rope;
  const oscar_cache_config config = collecting_config(g, rope);
  const auto filled = [&](Cache& cache) {
    const oscar_seq seq = cache.open();
    for (const auto& step : block_steps(4, 400)) feed(cache, g, seq, step);
    return seq;
  };
  Cache undisturbed(config), cache(config);
  const oscar_seq at_ease = filled(undisturbed), seq = filled(cache);
  n_allocations = 0;
  Calibration wanted;
  OSCAR_OK_(oscar_cache_freeze(undisturbed, &wanted.handle));
  const int64_t n_needed = n_allocations;
  REQUIRE(n_needed > 20);

  const std::vector<float> before = read_all(cache, g, seq);
  const oscar_cache_stats stats = cache.stats();
  // Each of the first and of the last ones, and some between.
  const int64_t stride = std::max<int64_t>(1, n_needed / 60);
  for (int64_t n = 0; n < n_needed; n += n < 20 || n >= n_needed - 40 ? 1 : std::min(stride, n_needed - 40 - n)) {
    INFO("allocation " << n << " of " << n_needed);
    Calibration none;
    n_before_failure = n;
    const oscar_status status = oscar_cache_freeze(cache, &none.handle);
    n_before_failure = -1;
    REQUIRE(status == OSCAR_E_NO_MEMORY);
    REQUIRE(none.handle == nullptr);
    REQUIRE(cache.stats().state == OSCAR_CACHE_COLLECTING);
    REQUIRE(cache.stats().bytes_sequences == stats.bytes_sequences);
    REQUIRE(cache.stats().bytes_fixed == stats.bytes_fixed);
  }
  CHECK(same_bits(read_all(cache, g, seq), before));
  Calibration made;
  OSCAR_OK_(oscar_cache_freeze(cache, &made.handle));
  CHECK(made.save() == wanted.save());
  CHECK(same_bits(read_all(cache, g, seq), read_all(undisturbed, g, at_ease)));
}
