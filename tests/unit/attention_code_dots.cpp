#define OSCAR_ISA code_dots_test
#include "code_dots_cases.h"

#include <doctest/doctest.h>

TEST_CASE("dots of key codes, base and refinement, are those of the layout's codes") {
  CHECK(oscar::testing::count_over_shapes(oscar::OSCAR_ISA::wrong_key_dots) == 0);
}

TEST_CASE("dots of value codes, base and refinement, are those of the layout's codes") {
  CHECK(oscar::testing::count_over_shapes(oscar::OSCAR_ISA::wrong_value_dots) == 0);
}
