// Puts codes [dim][128] (column = slot) into the bit planes of a block. Positions come from BlockLayout; what is used
// beside it is that its positions are sums of one term of the slot and one of the dimension, so a run of slots has the
// same steps everywhere.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar::OSCAR_ISA {

// Slots n, n + 8, n + 16, n + 24 of a group of 32 share a byte.
inline void write_key_codes(const BlockLayout& layout, const uint8_t* codes, uint32_t dim, uint8_t* block) {
  for (uint32_t d = 0; d < dim; ++d) {
    const uint32_t step = layout.key_code(1, d).at - layout.key_code(0, d).at;
    for (uint32_t group = 0; group < kBlockTokens; group += 32) {
      const uint8_t* row = codes + d * kBlockTokens + group;
      uint8_t* out = block + layout.key_code(group, d).at;
      for (uint32_t n = 0; n < 8; ++n)
        out[n * step] = static_cast<uint8_t>(row[n] | row[n + 8] << 2 | row[n + 16] << 4 | row[n + 24] << 6);
    }
  }
}

// Dimensions d, d + 8, d + 16, d + 24 share a byte; slots 2i, 2i + 1 are neighbours.
inline void write_value_codes(const BlockLayout& layout, const uint8_t* codes, uint32_t dim, uint8_t* block) {
  for (uint32_t first = 0; first < dim; first += 32) {
    uint32_t step[32];  // the slot's term: the same in every group of 32 slots and for these dimensions
    for (uint32_t y = 0; y < 32; ++y) step[y] = layout.value_code(y, first).at - layout.value_code(0, first).at;
    for (uint32_t n = 0; n < 8; ++n) {
      const uint32_t d = first + n;
      for (uint32_t group = 0; group < kBlockTokens; group += 32) {
        const uint8_t* row = codes + d * kBlockTokens + group;
        uint8_t bytes[32];
        for (uint32_t y = 0; y < 32; ++y) bytes[y] = row[y];
        for (uint32_t plane = 1; plane < 4 && d + 8 * plane < dim; ++plane)
          for (uint32_t y = 0; y < 32; ++y)
            bytes[y] = static_cast<uint8_t>(bytes[y] | row[plane * 8 * kBlockTokens + y] << 2 * plane);
        uint8_t* out = block + layout.value_code(group, d).at;
        for (uint32_t y = 0; y < 32; ++y) out[step[y]] = bytes[y];
      }
    }
  }
}

// Refinement planes: the lower bits of the first h slots' codes go out, the base bits stay in `codes`.
inline void split_key_refinement(const BlockLayout& layout, uint32_t dim, uint8_t* codes, uint8_t* block) {
  if (layout.key_plane == 0) return;
  const uint32_t mask = (1u << layout.key_plane) - 1;
  for (uint32_t d = 0; d < dim; ++d)
    for (uint32_t tile = 0; tile < layout.h; tile += 8) {
      const uint32_t n_slots = layout.h - tile < 8 ? layout.h - tile : 8;
      const CodeAt first = layout.key_refinement(tile, d);
      const uint32_t step = n_slots > 1 ? layout.key_refinement(tile + 1, d).at - first.at : 0;
      uint8_t* row = codes + d * kBlockTokens + tile;
      for (uint32_t n = 0; n < n_slots; ++n) {
        uint8_t& out = block[first.at + n * step];
        out = static_cast<uint8_t>(out | (row[n] & mask) << first.shift);
        row[n] = static_cast<uint8_t>(row[n] >> layout.key_plane);
      }
    }
}

inline void split_value_refinement(const BlockLayout& layout, uint32_t dim, uint8_t* codes, uint8_t* block) {
  if (layout.value_plane == 0) return;
  const uint32_t mask = (1u << layout.value_plane) - 1;
  for (uint32_t d = 0; d < dim; ++d)
    for (uint32_t tile = 0; tile < layout.h; tile += 8) {
      const uint32_t n_slots = layout.h - tile < 8 ? layout.h - tile : 8;
      const CodeAt first = layout.value_refinement(tile, d);
      const uint32_t pair_step = n_slots > 2 ? layout.value_refinement(tile + 2, d).at - first.at : 0;
      uint8_t* row = codes + d * kBlockTokens + tile;
      for (uint32_t n = 0; n < n_slots; ++n) {
        uint8_t& out = block[first.at + n / 2 * pair_step + n % 2];
        out = static_cast<uint8_t>(out | (row[n] & mask) << first.shift);
        row[n] = static_cast<uint8_t>(row[n] >> layout.value_plane);
      }
    }
}

}  // namespace oscar::OSCAR_ISA
