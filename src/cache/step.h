// An open step: what begin has reserved, and how far each layer has come.
#pragma once
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "cache/pool.h"

namespace oscar {

inline constexpr uint32_t kPaddingSlot = UINT32_MAX;
inline constexpr uint32_t kNoLayer = UINT32_MAX;

// One sequence of the step.
struct StepEntry {
  uint32_t slot;  // of the sequence; kPaddingSlot: rows that are not stored
  uint32_t n_new, n_draft;
  uint32_t row;      // of its first new token in the step's tensors
  uint32_t classes;  // first of its EntryClass records
  uint64_t base;     // the sequence's length at begin

  uint64_t end() const { return base + n_new; }
  uint32_t n_sure() const { return n_new - n_draft; }
};

// One sequence in one layer class. A long step packs the tokens that age within it: they never reach the pages.
struct EntryClass {
  uint64_t persist_from = 0;               // new tokens from here on (and sinks) go to pages
  uint64_t old_packed_end = 0;             // of the sequence before begin's packing
  uint64_t packed_end = 0;                 // of the sequence once the step is committed
  uint64_t first_start = 0;                // start of the first block that the step packs
  uint32_t first_block = 0, n_blocks = 0;  // in Step::blocks
  bool uses_scratch = false;               // the new tokens are read from the step's scratch
  uint64_t vote_offset = 0;                // in a line of chunk votes, of the token at the sequence's packed_end
};

enum class LayerProgress : uint8_t { kWaiting, kAppended, kVoted, kPacked };

struct Step {
  explicit Step(std::pmr::memory_resource* memory)
      : entries(memory), entry_classes(memory), blocks(memory), progress(memory), scratch_layer(memory) {}

  bool open = false;
  uint32_t generation = 0;
  uint32_t n_rows = 0, max_new = 0;
  std::pmr::vector<StepEntry> entries;
  std::pmr::vector<EntryClass> entry_classes;
  std::pmr::vector<Unit> blocks;             // reserved for the tokens that age within the step
  std::pmr::vector<LayerProgress> progress;  // by layer
  std::pmr::vector<uint32_t> scratch_layer;  // by area: whose new tokens the engine's scratch holds
};

}  // namespace oscar
