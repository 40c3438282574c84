#include "cache/id.h"

#include <doctest/doctest.h>

#include <set>

using namespace oscar;

TEST_CASE("an id leads back to its slot and generation, is never 0, and does not come back after 2^32 generations") {
  for (const uint64_t n_slots : {uint64_t{1}, uint64_t{2}, uint64_t{17}, (uint64_t{1} << 20) + 1}) {
    std::set<uint64_t> seen;
    for (const uint64_t generation : {uint64_t{1}, uint64_t{2}, (uint64_t{1} << 32) - 1, uint64_t{1} << 32,
                                      (uint64_t{1} << 32) + 1, (uint64_t{1} << 43) - 1})
      for (const uint64_t slot : std::set<uint64_t>{0, n_slots / 2, n_slots - 1}) {
        const uint64_t id = SlotId{slot, generation}.join(n_slots);
        CHECK(id != 0);
        CHECK(seen.insert(id).second);
        const SlotId back = SlotId::split(id, n_slots);
        CHECK(back.slot == slot);
        CHECK(back.generation == generation);
      }
  }
}
