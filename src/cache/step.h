// An open step: what begin has reserved, and how far each layer has come.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "backend/engine.h"

namespace oscar {

inline constexpr uint32_t kNoLayer = UINT32_MAX;

enum class LayerProgress : uint8_t { kWaiting, kAppended, kVoted, kPacked };

struct Step {
  explicit Step(std::pmr::memory_resource* memory)
      : entries(memory), parts(memory), blocks(memory), progress(memory), scratch_layer(memory) {}

  bool open = false;
  uint32_t slot = 0;
  uint64_t generation = 0;  // how often the slot has been begun
  uint32_t n_rows = 0, max_new = 0;
  std::pmr::vector<StepEntry> entries;
  std::pmr::vector<StepPart> parts;
  std::pmr::vector<Unit> blocks;             // reserved for the tokens that age within the step
  std::pmr::vector<LayerProgress> progress;  // by layer
  std::pmr::vector<uint32_t> scratch_layer;  // by area: whose new tokens the engine's scratch holds

  StepView view() const { return {slot, n_rows, entries, parts, blocks}; }
  // Steps that store nothing take no keys and values.
  bool stores() const {
    return std::any_of(entries.begin(), entries.end(), [](const StepEntry& e) { return e.stores(); });
  }
};

}  // namespace oscar
