#include "importance/choice.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace oscar {

void slot_order(const float* votes, uint32_t h, uint8_t order[kBlockTokens]) {
  std::array<uint8_t, kBlockTokens> ids;
  std::iota(ids.begin(), ids.end(), uint8_t{0});
  if (h > 0 && h < kBlockTokens) {
    auto more_important = [votes](uint8_t a, uint8_t b) { return votes[a] != votes[b] ? votes[a] > votes[b] : a < b; };
    std::nth_element(ids.begin(), ids.begin() + h, ids.end(), more_important);
    std::sort(ids.begin(), ids.begin() + h);
    std::sort(ids.begin() + h, ids.end());
  }
  std::copy(ids.begin(), ids.end(), order);
}

}  // namespace oscar
