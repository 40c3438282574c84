// Dot products on columns (attention/code_dots.h) against the codes that the layout names, one by one. Included once per
// instruction set, after the headers below and with OSCAR_ISA defined.
#if !defined(OSCAR_CODE_DOTS_CASES)
#define OSCAR_CODE_DOTS_CASES
#include <cstdint>
#include <vector>

#include "../backends/random_work.h"
#include "format/block.h"
#include "quant/decode_block.h"

namespace oscar::testing {

constexpr uint32_t kOperands = 7;

inline std::vector<uint8_t> random_block(const BlockLayout& layout, testing::Random& random) {
  std::vector<uint8_t> block(layout.bytes);
  for (uint8_t& byte : block) byte = static_cast<uint8_t>(random.bits());
  return block;
}

// Numbers over the whole range of queries and weights, its ends among them.
inline std::vector<int16_t> random_numbers(uint32_t n, testing::Random& random) {
  std::vector<int16_t> numbers(n);
  for (int16_t& x : numbers)
    x = random.chance(0.1) ? static_cast<int16_t>(random.chance(0.5) ? 32639 : -32639)
                           : static_cast<int16_t>(static_cast<int32_t>(random.below(65279)) - 32639);
  return numbers;
}

inline uint32_t base_of(uint32_t code, uint32_t slot, const BlockLayout& layout, uint32_t plane) {
  return slot < layout.h ? code >> plane : code;
}

// Two bits of the refinement, or its only one, from the top.
inline uint32_t part_of(uint32_t code, uint32_t part, uint32_t plane) {
  return plane == 1 ? code & 1 : code >> (plane - 2 * (part + 1)) & 3;
}

// The sum of wrong dots over all shapes.
template <typename Count>
uint64_t count_over_shapes(Count count) {
  Random random(7);
  uint64_t n_wrong = 0;
  for (const uint32_t dim : {32, 64, 80, 96, 128, 160, 192, 256})
    for (const uint32_t h : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 24, 33, 64, 100, 127, 128})
      for (const uint32_t plane : {0, 1, 2, 6}) n_wrong += count(block_layout({dim, dim, h, plane, plane}), random);
  return n_wrong;
}

}  // namespace oscar::testing
#endif

#if defined(OSCAR_ISA)
#include "attention/code_dots.h"

namespace oscar::OSCAR_ISA {

using testing::base_of;
using testing::kOperands;
using testing::part_of;
using testing::random_block;
using testing::random_numbers;

// What is dotted with the codes, in the places that `place` gives to 0 .. n - 1.
template <typename Place>
std::vector<uint8_t> operands_of(const std::vector<int16_t>& numbers, uint32_t n, uint32_t n_places, Place place) {
  std::vector<uint8_t> operands(kOperands * 2 * n_places);
  for (uint32_t r = 0; r < kOperands; ++r) {
    std::vector<int16_t> placed(n_places, 0);
    for (uint32_t i = 0; i < n; ++i) placed[place(i)] = numbers[r * n + i];
    split_numbers(placed.data(), n_places, operands.data() + r * 2 * n_places);
  }
  return operands;
}

inline uint64_t wrong_key_dots(const BlockLayout& layout, testing::Random& random) {
  const std::vector<uint8_t> block = random_block(layout, random);
  const BlockReader reader(layout, block.data());
  const uint32_t pad = layout.key_pad;
  const std::vector<int16_t> numbers = random_numbers(kOperands * pad, random);
  const std::vector<uint8_t> stored = operands_of(numbers, pad, pad, [&](uint32_t d) { return key_place(layout, d); });
  const std::vector<uint8_t> by_dim = operands_of(numbers, pad, pad, [](uint32_t d) { return d; });
  std::vector<U64> columns(kRuns * kMaxColumns);
  std::vector<int32_t> base(kOperands * kBlockTokens, -1), fine(kOperands * kBlockTokens, -1);
  for (uint32_t g = 0; g < 4; ++g) {
    key_columns(layout, block.data(), g, columns.data());
    dot_planes<2>(columns.data(), pad / 8, stored.data(), kOperands, pad, base.data() + g * kGroupSlots, kBlockTokens);
  }
  uint64_t n_wrong = 0;
  for (uint32_t r = 0; r < kOperands; ++r)
    for (uint32_t s = 0; s < kBlockTokens; ++s) {
      int64_t want = 0;
      for (uint32_t d = 0; d < pad; ++d)
        want += int64_t{base_of(reader.key_code(s, d), s, layout, layout.key_plane)} * numbers[r * pad + d];
      n_wrong += base[r * kBlockTokens + s] != want;
    }
  for (uint32_t part = 0; layout.h > 0 && part < part_count(layout.key_plane); ++part) {
    dot_key_refinement(layout, block.data(), part, by_dim.data(), kOperands, fine.data(), kBlockTokens);
    for (uint32_t r = 0; r < kOperands; ++r)
      for (uint32_t s = 0; s < layout.h; ++s) {
        int64_t want = 0;
        for (uint32_t d = 0; d < pad; ++d)
          want += int64_t{part_of(reader.key_code(s, d), part, layout.key_plane)} * numbers[r * pad + d];
        n_wrong += fine[r * kBlockTokens + s] != want;
      }
  }
  return n_wrong;
}

inline uint64_t wrong_value_dots(const BlockLayout& layout, testing::Random& random) {
  const std::vector<uint8_t> block = random_block(layout, random);
  const BlockReader reader(layout, block.data());
  const std::vector<int16_t> numbers = random_numbers(kOperands * kBlockTokens, random);
  const std::vector<uint8_t> stored = operands_of(numbers, kBlockTokens, kBlockTokens, value_place);
  const uint32_t n_fine = fine_columns(layout) * 8;
  std::vector<int16_t> of_refined(kOperands * layout.h);
  for (uint32_t i = 0; i < kOperands * layout.h; ++i)
    of_refined[i] = numbers[i / layout.h * kBlockTokens + i % layout.h];
  const std::vector<uint8_t> fine_operands = operands_of(of_refined, layout.h, n_fine,
                                                         [&](uint32_t s) { return fine_place(layout, s); });
  std::vector<U64> columns(2 * kRuns * 16), fine_values(kRuns * 16);
  std::vector<int32_t> dots(kOperands * kGroupDims);
  const auto n_wrong_dots = [&](uint32_t d0, uint32_t n_slots, auto code_of) {
    uint64_t n_wrong = 0;
    for (uint32_t r = 0; r < kOperands; ++r)
      for (uint32_t d = 0; d < kGroupDims; ++d) {
        int64_t want = 0;
        for (uint32_t s = 0; s < n_slots; ++s)
          want += int64_t{code_of(s, reader.value_code(s, d0 + d))} * numbers[r * kBlockTokens + s];
        n_wrong += dots[r * kGroupDims + d] != want;
      }
    return n_wrong;
  };
  uint64_t n_wrong = 0;
  for (uint32_t d0 = 0; d0 < layout.value_pad; d0 += kGroupDims) {
    if (d0 % 64 == 0) value_columns(layout, block.data(), d0, columns.data());
    dot_planes<2>(columns.data() + d0 / kGroupDims % 2 * kRuns * 16, 16, stored.data(), kOperands, kBlockTokens,
                  dots.data(), kGroupDims);
    n_wrong += n_wrong_dots(d0, kBlockTokens,
                            [&](uint32_t s, uint32_t code) { return base_of(code, s, layout, layout.value_plane); });
    for (uint32_t part = 0; layout.h > 0 && part < part_count(layout.value_plane); ++part) {
      if (layout.value_plane > 1) {
        fine_value_columns(layout, block.data(), part, d0 / 32, fine_values.data());
        dot_planes<2>(fine_values.data(), n_fine / 8, fine_operands.data(), kOperands, n_fine, dots.data(), kGroupDims);
      } else if (d0 % 64 == 0) {
        fine_value_columns(layout, block.data(), part, d0 / 64, fine_values.data());
        dot_planes<1>(fine_values.data(), n_fine / 8, fine_operands.data(), kOperands, n_fine, dots.data(), kGroupDims);
      } else {
        dot_planes<1, 4>(fine_values.data(), n_fine / 8, fine_operands.data(), kOperands, n_fine, dots.data(),
                         kGroupDims);
      }
      n_wrong += n_wrong_dots(d0, layout.h,
                              [&](uint32_t, uint32_t code) { return part_of(code, part, layout.value_plane); });
    }
  }
  return n_wrong;
}

}  // namespace oscar::OSCAR_ISA
#endif
