// For programs of the C ABI without a test framework: what does not hold ends them with status 1.
#pragma once
#include <cstdio>
#include <cstdlib>

#include "oscar/oscar.h"

#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      std::printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, oscar_last_error());                              \
      std::exit(1);                                                                                                    \
    }                                                                                                                  \
  } while (0)
