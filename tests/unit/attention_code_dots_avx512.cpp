// The kernel headers again, compiled for AVX-512: everything else is included before the target changes.
#include "code_dots_cases.h"

#include <doctest/doctest.h>

#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")
#define OSCAR_ISA code_dots_test_avx512
#include "code_dots_cases.h"
#pragma GCC pop_options
#endif

TEST_CASE("dots of codes are those of the layout's codes, as compiled for AVX-512") {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni")) {
    CHECK(oscar::testing::count_over_shapes(oscar::OSCAR_ISA::wrong_key_dots) == 0);
    CHECK(oscar::testing::count_over_shapes(oscar::OSCAR_ISA::wrong_value_dots) == 0);
  } else {
    MESSAGE("not run: this machine has no AVX-512");
  }
#endif
}
