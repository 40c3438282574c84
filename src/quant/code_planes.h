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

// The lower `plane` bits of a code go into the parts of its refinement; the base bits stay. at(part): where its byte is.
template <typename At>
inline void split_code(uint8_t& code, uint32_t plane, uint32_t shift, uint8_t* block, At at) {
  const uint32_t width = part_width(plane), mask = (1u << width) - 1;
  for (uint32_t part = 0; part < part_count(plane); ++part) {
    uint8_t& out = block[at(part)];
    out = static_cast<uint8_t>(out | (code >> (plane - (part + 1) * width) & mask) << shift);
  }
  code = static_cast<uint8_t>(code >> plane);
}

inline void split_key_refinement(const BlockLayout& layout, uint32_t dim, uint8_t* codes, uint8_t* block) {
  if (layout.key_plane == 0) return;
  for (uint32_t d = 0; d < dim; ++d)
    for (uint32_t tile = 0; tile < layout.h; tile += 8) {
      const uint32_t n_slots = layout.h - tile < 8 ? layout.h - tile : 8;
      const CodeAt first = layout.key_refinement(tile, d);
      const uint32_t step = n_slots > 1 ? layout.key_refinement(tile + 1, d).at - first.at : 0;
      uint8_t* row = codes + d * kBlockTokens + tile;
      for (uint32_t n = 0; n < n_slots; ++n)
        split_code(row[n], layout.key_plane, first.shift, block,
                   [&](uint32_t part) { return first.at + n * step + part * layout.key_part; });
    }
}

inline void split_value_refinement(const BlockLayout& layout, uint32_t dim, uint8_t* codes, uint8_t* block) {
  if (layout.value_plane == 0) return;
  for (uint32_t d = 0; d < dim; ++d)
    for (uint32_t tile = 0; tile < layout.h; tile += 8) {
      const uint32_t n_slots = layout.h - tile < 8 ? layout.h - tile : 8;
      const CodeAt first = layout.value_refinement(tile, d);
      const uint32_t pair_step = n_slots > 2 ? layout.value_refinement(tile + 2, d).at - first.at : 0;
      uint8_t* row = codes + d * kBlockTokens + tile;
      for (uint32_t n = 0; n < n_slots; ++n)
        split_code(row[n], layout.value_plane, first.shift, block,
                   [&](uint32_t part) { return first.at + n / 2 * pair_step + n % 2 + part * layout.value_part; });
    }
}

}  // namespace oscar::OSCAR_ISA
