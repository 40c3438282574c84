// A sequence: per layer class a list of blocks, the pages of exact rows, and the votes of undecided tokens.
//
// Exact rows never move: page p holds tokens 16 p .. 16 p + 15, and there are pages for the sinks and for the tokens that
// are not packed. A sequence's tokens are
//     [0, n_sink) exact   |   [n_sink, packed_end) in blocks   |   [packed_end, length) exact
#pragma once
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "cache/pool.h"
#include "format/block.h"

namespace oscar {

// Tokens start + first .. start + last - 1. A cut only moves the limits: the bytes are shared and never change.
struct BlockEntry {
  uint64_t start;
  Unit unit;
  uint8_t first, last;
  uint16_t reserved = 0;
  uint64_t end() const { return start + last; }
};
static_assert(sizeof(BlockEntry) == 16);

struct ClassState {
  explicit ClassState(std::pmr::memory_resource* memory) : blocks(memory), pages(memory) {}

  std::pmr::vector<BlockEntry> blocks;
  std::pmr::vector<Unit> pages;  // by page number; kNoUnit where its tokens are packed or gone
  uint64_t packed_end = 0;       // >= n_sink of the class
  uint64_t kept_from = 0;        // a window has dropped the tokens before this one
  Unit scores = kNoUnit;
  uint32_t side = 0;     // which side of the scores is committed
  uint64_t counted = 0;  // votes of the queries before this position are in the scores
};

struct Sequence {
  explicit Sequence(std::pmr::memory_resource* memory) : classes(memory) {}

  std::pmr::vector<ClassState> classes;
  uint64_t length = 0;  // accepted tokens
  uint32_t generation = 0;
  bool open = false;
  bool in_step = false;
};

}  // namespace oscar
