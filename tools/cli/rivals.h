// Formats that a cache's bytes are compared with: every element at the same width, and nothing else counted.
#pragma once
#include <array>
#include <cstdint>

#include "model.h"

namespace oscar::cli {

struct Rival {
  const char* name;
  const char* what;
  uint32_t half_bits;  // per element, in halves of a bit
};

inline constexpr std::array kRivals{Rival{"BF16", "16 bits", 32}, Rival{"FP8", "8 bits, no scales counted", 16},
                                    Rival{"INT4", "4 bits, a 16-bit scale for 32 (q4_0)", 9}};

inline uint64_t rival_bytes(const Rival& rival, const Model& model, uint64_t n_tokens) {
  return (kept_elements(model, n_tokens) * rival.half_bits + 15) / 16;
}

// The longest sequence in this memory, at most `most`; and the most sequences of n_tokens.
uint64_t rival_longest(const Rival& rival, const Model& model, uint64_t memory_bytes, uint64_t most);
inline uint64_t rival_batch(const Rival& rival, const Model& model, uint64_t n_tokens, uint64_t memory_bytes) {
  return memory_bytes / rival_bytes(rival, model, n_tokens);
}

}  // namespace oscar::cli
