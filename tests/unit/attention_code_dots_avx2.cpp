// The kernel headers again, compiled for AVX2: everything else is included before the target changes.
#include "code_dots_cases.h"

#include <doctest/doctest.h>

#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2")
#define OSCAR_ISA code_dots_test_avx2
#include "code_dots_cases.h"
#pragma GCC pop_options
#endif

TEST_CASE("dots of codes are those of the layout's codes, as compiled for AVX2") {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    CHECK(oscar::testing::count_over_shapes(oscar::OSCAR_ISA::wrong_key_dots) == 0);
    CHECK(oscar::testing::count_over_shapes(oscar::OSCAR_ISA::wrong_value_dots) == 0);
  } else {
    MESSAGE("not run: this machine has no AVX2");
  }
#endif
}
