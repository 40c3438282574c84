// How long random tests run and where they start: OSCAR_TEST_SCALE multiplies the number of rounds (1: what CI runs),
// OSCAR_TEST_SEED moves the seeds (0: the fixed ones).
#pragma once
#include <cstdint>
#include <cstdlib>

namespace oscar_test {

inline uint64_t environment_number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

inline uint64_t scaled(uint64_t rounds) { return rounds * environment_number("OSCAR_TEST_SCALE", 1); }

inline uint64_t seeded(uint64_t seed) { return seed + environment_number("OSCAR_TEST_SEED", 0) * 0x9e3779b97f4a7c15u; }

}  // namespace oscar_test
