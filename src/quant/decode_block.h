// Reads single codes and values of a block, plainly: for the oracle, for read-back and for tests. Values are in the
// transformed basis (keys k F, values v F_v).
#pragma once
#include <cstdint>
#include <cstring>

#include "format/block.h"
#include "format/scale.h"

namespace oscar {

// Methods are always inlined: sources of every instruction set use them (cmake/cpu_kernels.cmake).
#define OSCAR_READER_INLINE __attribute__((always_inline)) inline

struct BlockReader {
  const BlockLayout& layout;
  const uint8_t* bytes;
  BlockHeader header;

  OSCAR_READER_INLINE BlockReader(const BlockLayout& l, const uint8_t* block) : layout(l), bytes(block) {
    std::memcpy(&header, block + l.header, sizeof header);
  }

  // Planes that the code of this slot has beyond the two base bits.
  OSCAR_READER_INLINE uint32_t key_plane(uint32_t slot) const { return slot < layout.h ? layout.key_plane : 0; }
  OSCAR_READER_INLINE uint32_t value_plane(uint32_t slot) const { return slot < layout.h ? layout.value_plane : 0; }

  // The whole code, refinement included: 0 .. 4 * 2^plane - 1.
  OSCAR_READER_INLINE uint32_t key_code(uint32_t slot, uint32_t d) const {
    const uint32_t plane = key_plane(slot), width = part_width(plane);
    uint32_t code = bits(layout.key_code(slot, d), 2);
    for (uint32_t part = 0; part < part_count(plane); ++part)
      code = code << width | bits(layout.key_refinement(slot, d, part), width);
    return code;
  }
  OSCAR_READER_INLINE uint32_t value_code(uint32_t slot, uint32_t d) const {
    const uint32_t plane = value_plane(slot), width = part_width(plane);
    uint32_t code = bits(layout.value_code(slot, d), 2);
    for (uint32_t part = 0; part < part_count(plane); ++part)
      code = code << width | bits(layout.value_refinement(slot, d, part), width);
    return code;
  }

  // The stored scale: a step of the 2-bit base code.
  OSCAR_READER_INLINE double key_scale(uint32_t slot) const {
    return static_cast<double>(decode_scale(bytes[layout.key_scales + slot], header.key_base));
  }
  OSCAR_READER_INLINE double value_scale(uint32_t slot) const {
    return static_cast<double>(decode_scale(bytes[layout.value_scales + slot], header.value_base));
  }

  OSCAR_READER_INLINE double key_mean(uint32_t d) const {
    return static_cast<double>(header.mean_scale) * static_cast<int8_t>(bytes[layout.key_mean + d]);
  }

  // Element d of the token in this slot, the block mean included for keys.
  OSCAR_READER_INLINE double key(uint32_t slot, uint32_t d) const {
    return key_mean(d) + level(key_scale(slot), key_code(slot, d), key_plane(slot));
  }
  OSCAR_READER_INLINE double value(uint32_t slot, uint32_t d) const {
    return level(value_scale(slot), value_code(slot, d), value_plane(slot));
  }

  // Which of the 128 tokens lies in this slot: ids of the refined tokens first, then the others in ascending order.
  OSCAR_READER_INLINE uint32_t token_offset(uint32_t slot) const {
    if (!layout.has_ids()) return slot;
    if (slot < layout.h) return bytes[layout.ids + slot];
    uint32_t offset = slot - layout.h;  // rank among the tokens that are not refined
    for (uint32_t i = 0; i < layout.h; ++i)
      if (bytes[layout.ids + i] <= offset) ++offset;
    return offset;
  }

 private:
  OSCAR_READER_INLINE uint32_t bits(CodeAt at, uint32_t width) const {
    return bytes[at.at] >> at.shift & ((1u << width) - 1);
  }
  // scale / 2^w * (code - (4 * 2^w - 1) / 2)
  OSCAR_READER_INLINE static double level(double scale, uint32_t code, uint32_t plane) {
    const double refined = static_cast<double>(1u << plane);
    return scale / refined * (code - (4.0 * refined - 1.0) / 2.0);
  }
};

#undef OSCAR_READER_INLINE

}  // namespace oscar
