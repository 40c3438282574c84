// The kernel header again, compiled for AVX-512: everything else is included before the target changes.
#include "map_cases.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#define OSCAR_ISA map_test_avx512
#include "transform/map_kernel.h"
#pragma GCC pop_options
#endif

TEST_CASE("a map gives the canonical bits to one row and to 128 tokens, as compiled for AVX-512") {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    oscar::test::check_map_kernel(oscar::OSCAR_ISA::apply_map, oscar::OSCAR_ISA::apply_map_tokens);
  else
    MESSAGE("not run: this machine has no AVX-512");
#endif
}
