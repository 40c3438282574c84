// The kernel header again, compiled for AVX2: everything else is included before the target changes.
#include "map_cases.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define OSCAR_ISA map_test_avx2
#include "transform/map_kernel.h"
#pragma GCC pop_options
#endif

TEST_CASE("a map gives the canonical bits to one row and to 128 tokens, as compiled for AVX2") {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    oscar::test::check_map_kernel(oscar::OSCAR_ISA::apply_map, oscar::OSCAR_ISA::apply_map_tokens);
  else
    MESSAGE("not run: this machine has no AVX2");
#endif
}
