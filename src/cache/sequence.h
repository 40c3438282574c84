// A sequence: per layer class a list of blocks, the pages of exact rows, and the votes of undecided tokens. What the parts
// mean is said at SequenceView (backend/engine.h).
#pragma once
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "backend/engine.h"

namespace oscar {

struct ClassState {
  explicit ClassState(std::pmr::memory_resource* memory) : blocks(memory), pages(memory) {}

  std::pmr::vector<BlockEntry> blocks;
  std::pmr::vector<Unit> pages;
  uint64_t packed_end = 0;
  uint64_t kept_from = 0;
  Unit scores = kNoUnit;
  uint32_t side = 0;
  uint64_t counted = 0;

  // exact_from: packed_end, or n_sink while the cache collects.
  SequenceView view(uint64_t exact_from) const {
    return {blocks, pages, packed_end, kept_from, scores, side, counted, exact_from};
  }
};

struct Sequence {
  explicit Sequence(std::pmr::memory_resource* memory) : classes(memory) {}

  std::pmr::vector<ClassState> classes;
  uint64_t length = 0;      // accepted tokens
  uint64_t number = 0;      // a collecting cache counts the sequences it opens; a fork has its parent's number
  uint64_t collected = 0;   // up to where the collector has the rows of a collecting cache
  uint64_t generation = 0;  // how often the slot has been opened
  bool open = false;
  bool in_step = false;
};

}  // namespace oscar
