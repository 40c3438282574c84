#define OSCAR_ISA unpack_under_test
#include "attention/unpack_codes.h"

#include <doctest/doctest.h>

#include <vector>

#include "../backends/random_work.h"
#include "quant/decode_block.h"

namespace oscar {
namespace {

using namespace unpack_under_test;

std::vector<uint8_t> random_block(const BlockLayout& layout, uint64_t seed) {
  testing::Random random(seed);
  std::vector<uint8_t> block(layout.bytes);
  for (uint8_t& byte : block) byte = static_cast<uint8_t>(random.bits());
  return block;
}

template <typename Check>
void for_each_shape(Check check) {
  uint64_t seed = 0;
  for (const uint32_t dim : {32, 64, 80, 96, 128, 160, 192, 256})
    for (const uint32_t h : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 24, 33, 64, 100, 127, 128})
      for (const uint32_t plane : {0, 1, 2}) check(block_layout({dim, dim, h, plane, plane}), ++seed);
}

uint32_t stored_slot(uint32_t slot) { return slot / 32 * 32 + slot % 8 / 2 * 8 + slot % 32 / 8 * 2 + slot % 2; }

TEST_CASE("unpacked key codes are those of the layout, in the order of key_place") {
  for_each_shape([](const BlockLayout& layout, uint64_t seed) {
    const std::vector<uint8_t> block = random_block(layout, seed);
    const BlockReader reader(layout, block.data());
    std::vector<int16_t> codes(kGroupSlots * layout.key_pad);
    uint64_t n_wrong = 0;
    for (uint32_t g = 0; g < 4; ++g) {
      unpack_keys(layout, block.data(), g, codes.data());
      for (uint32_t s = 0; s < kGroupSlots; ++s)
        for (uint32_t d = 0; d < layout.key_pad; ++d)
          n_wrong += codes[s * layout.key_pad + key_place(layout, d)] !=
                     static_cast<int16_t>(reader.key_code(g * kGroupSlots + s, d));
    }
    CHECK(n_wrong == 0);
  });
}

TEST_CASE("unpacked value codes are those of the layout, in the order of store_weights") {
  for_each_shape([](const BlockLayout& layout, uint64_t seed) {
    const std::vector<uint8_t> block = random_block(layout, seed);
    const BlockReader reader(layout, block.data());
    std::vector<int16_t> rows(kChunkDims * kBlockTokens);
    std::vector<uint8_t> runs(16 * kBlockTokens);
    ValueRefinement refinement;
    prepare_value_refinement(layout, refinement);
    uint64_t n_wrong = 0;
    for (uint32_t d = 0; d < layout.value_pad; ++d) {
      if (d % kChunkDims == 0) unpack_values(layout, block.data(), d, refinement, runs.data(), rows.data());
      for (uint32_t s = 0; s < kBlockTokens; ++s)
        n_wrong += rows[d % kChunkDims * kBlockTokens + stored_slot(s)] !=
                   static_cast<int16_t>(reader.value_code(s, d));
    }
    CHECK(n_wrong == 0);
  });
}

TEST_CASE("store_weights puts every slot at its place") {
  int16_t by_slot[kBlockTokens], stored[kBlockTokens];
  for (uint32_t s = 0; s < kBlockTokens; ++s) by_slot[s] = static_cast<int16_t>(s);
  store_weights(by_slot, stored);
  for (uint32_t s = 0; s < kBlockTokens; ++s) CHECK(stored[stored_slot(s)] == by_slot[s]);
}

}  // namespace
}  // namespace oscar
