#define OSCAR_ISA map_test_baseline
#include "map_cases.h"
#include "transform/map_kernel.h"

TEST_CASE("a map gives the canonical bits to one row and to 128 tokens, as compiled for every machine") {
  oscar::test::check_map_kernel(oscar::OSCAR_ISA::apply_map, oscar::OSCAR_ISA::apply_map_tokens);
}
