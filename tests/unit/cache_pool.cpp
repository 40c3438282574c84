#include "cache/pool.h"

#include <doctest/doctest.h>

#include <memory_resource>
#include <random>
#include <set>
#include <vector>

using namespace oscar;

TEST_CASE("units never overlap, come back, and empty slabs serve every kind") {
  const std::vector<uint64_t> sizes{4096, 0, 1536};
  Pool pool(sizes, 0, 16u << 20, std::pmr::new_delete_resource());
  std::mt19937 random(3);
  std::set<std::pair<uint64_t, uint64_t>> held;  // offset in the arena, bytes
  std::vector<std::pair<Unit, uint32_t>> units;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 5 < 3) {
      const uint32_t kind = random() % 2 * 2;
      const Unit unit = pool.allocate(kind);
      if (unit == kNoUnit) continue;
      const uint64_t data = unit * kUnitAlignment;
      const auto [at, fresh] = held.insert({data, sizes[kind]});
      REQUIRE(fresh);
      if (at != held.begin()) REQUIRE(std::prev(at)->first + std::prev(at)->second <= data);
      if (std::next(at) != held.end()) REQUIRE(data + sizes[kind] <= std::next(at)->first);
      units.push_back({unit, kind});
    } else if (!units.empty()) {
      std::swap(units[random() % units.size()], units.back());
      held.erase({units.back().first * kUnitAlignment, sizes[units.back().second]});
      pool.release(units.back().first);
      units.pop_back();
    }
    REQUIRE(pool.units_in_use(0) + pool.units_in_use(2) == units.size());
  }
  for (const auto& [unit, kind] : units) pool.release(unit);
  CHECK(pool.bytes_in_slabs() == 0);
  CHECK(pool.bytes_free() == pool.arena_bytes());
}

TEST_CASE("can_allocate tells exactly what allocate will do") {
  const std::vector<uint64_t> sizes{100 * 64, 77 * 64, 64};
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    Pool pool(sizes, 0, 4u << 20, std::pmr::new_delete_resource());
    std::vector<Unit> units;
    for (uint32_t i = 0; i < random() % 300; ++i) {
      const Unit unit = pool.allocate(random() % 3);
      if (unit != kNoUnit) units.push_back(unit);
    }
    for (uint32_t i = 0; i < units.size(); i += 3) pool.release(units[i]);
    const std::vector<uint64_t> wanted{random() % 600, random() % 600, random() % 3000};
    const bool promised = pool.can_allocate(wanted);
    bool done = true;
    for (uint32_t kind = 0; kind < 3; ++kind)
      for (uint64_t i = 0; i < wanted[kind]; ++i) done &= pool.allocate(kind) != kNoUnit;
    REQUIRE(done == promised);
  }
}

TEST_CASE("a shared unit lives until its last owner lets go") {
  const std::vector<uint64_t> sizes{1024};
  Pool pool(sizes, 0, 1u << 20, std::pmr::new_delete_resource());
  const Unit unit = pool.allocate(0);
  pool.share(unit);
  pool.release(unit);
  CHECK(pool.units_in_use(0) == 1);
  pool.release(unit);
  CHECK(pool.units_in_use(0) == 0);
}
