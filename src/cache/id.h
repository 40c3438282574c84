// Ids of sequences and steps: a slot and how often it has been taken, so that an id never comes back to life. The
// generation starts at 1: no id is 0. It has at least 43 bits: taken a million times a second, a slot lasts 100 days; with
// 1,000 slots, 500 years.
#pragma once
#include <cstdint>

namespace oscar {

struct SlotId {
  uint64_t slot, generation;

  uint64_t join(uint64_t n_slots) const { return generation * n_slots + slot; }
  static SlotId split(uint64_t id, uint64_t n_slots) { return {id % n_slots, id / n_slots}; }
};

}  // namespace oscar
