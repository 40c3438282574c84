// Which tokens of a block are refined, and in which slots they lie.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar {

// The h tokens with the highest votes (ties: the earlier token), placed first in ascending order; then the others in
// ascending order. With h = 0 or 128 the order is 0, 1, 2, ... votes: [128], ignored there.
void slot_order(const float* votes, uint32_t h, uint8_t order[kBlockTokens]);

}  // namespace oscar
