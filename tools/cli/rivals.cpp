#include "rivals.h"

namespace oscar::cli {

uint64_t rival_longest(const Rival& rival, const Model& model, uint64_t memory_bytes, uint64_t most) {
  uint64_t low = 0, high = most;
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (rival_bytes(rival, model, middle) <= memory_bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace oscar::cli
