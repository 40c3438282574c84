// The bytes of a progressive block: 128 tokens of one KV head. The only place that knows the layout.
//
//   offset         bytes                       what
//   key_codes      32 * key_pad                2-bit base codes of the keys, 4 tokens to a byte
//   value_codes    32 * value_pad              2-bit base codes of the values, 4 dims to a byte
//   key_mean       key_pad (multiple of 16)    int8 block mean of the transformed keys
//   key_scales     128                         one scale byte a token (format/scale.h)
//   value_scales   128
//   header         16                          BlockHeader
//   key_refine     see key_refine_bytes        refinement codes of the first h slots
//   value_refine   see value_refine_bytes
//   ids            h rounded up to 16          token offset (0..127) of each refined slot, ascending; 0 < h < 128 only
//
// Slots: the refined tokens come first, in ascending order, then the others in ascending order. With h = 0 or h = 128
// slot = offset. A token's code is base * 2^w + refinement (w: plane width), its value is
//     scale / 2^w * (code - (4 * 2^w - 1) / 2)
// which is scale * (base - 1.5) where nothing is refined. Refinement is stored in parts of at most two bits, the upper ones
// first: widths of 0, 1 and 2 bits are one part, 6 (a whole code of 8 bits) are three.
//
// The order of codes is that of the operands of mma.m16n8k32 and of vpdpbusd: see docs/format.md.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define OSCAR_HD __host__ __device__
#else
#define OSCAR_HD __attribute__((always_inline))  // sources of every instruction set use them: no shared copy
#endif

namespace oscar {

inline constexpr uint32_t kBlockTokens = 128;
inline constexpr uint32_t kPageTokens = 16;
inline constexpr uint32_t kDimUnit = 32;  // dims are padded to the K step of the integer MMA
inline constexpr uint32_t kMaxHeadDim = 256;

struct BlockHeader {
  float mean_scale;  // of key_mean
  float key_base;    // power of two: multiplier of the key scale bytes
  float value_base;
  uint32_t n_non_finite;  // elements stored as 0 because they were NaN or infinite
};
static_assert(sizeof(BlockHeader) == 16);

// What determines a block's size: geometry and profile of a KV head.
struct BlockShape {
  uint32_t key_dim, value_dim;
  uint32_t n_refined;               // h: 0 .. 128
  uint32_t key_plane, value_plane;  // bits that refinement adds: 0, 1, 2 or 6
  bool operator==(const BlockShape&) const = default;
};

OSCAR_HD constexpr uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
OSCAR_HD constexpr uint32_t round_up(uint32_t a, uint32_t b) { return ceil_div(a, b) * b; }

// Of a refinement: the bits of a part, and how many parts there are.
OSCAR_HD constexpr uint32_t part_width(uint32_t plane) { return plane < 2 ? plane : 2; }
OSCAR_HD constexpr uint32_t part_count(uint32_t plane) { return plane < 2 ? plane : plane / 2; }

// Where one code lies: (bytes[at] >> shift) & mask of its width.
struct CodeAt {
  uint32_t at;
  uint32_t shift;
};

struct BlockLayout {
  uint32_t key_pad, value_pad;  // dims padded to kDimUnit
  uint32_t h, key_plane, value_plane;
  uint32_t key_codes, value_codes, key_mean, key_scales, value_scales, header, key_refine, value_refine, ids;
  uint32_t bytes;
  uint32_t key_part, value_part;  // bytes of a part of the refinement

  OSCAR_HD constexpr bool has_ids() const { return h > 0 && h < kBlockTokens; }

  // Base code of a key: lane = (slot % 8) * 4 + (d % 16) / 4 reads 16 bytes = 64 dims of 4 tokens; bit plane =
  // (slot % 32) / 8. A tail of 32 dims has 8 bytes a lane.
  OSCAR_HD constexpr CodeAt key_code(uint32_t slot, uint32_t d) const {
    const uint32_t chunk = d / 64, lane = slot % 8 * 4 + d % 16 / 4;
    const bool whole = chunk * 64 + 64 <= key_pad;
    const uint32_t within = whole ? lane * 16 + (d / 32 % 2 * 2 + d / 16 % 2) * 4 + d % 4
                                  : lane * 8 + d / 16 % 2 * 4 + d % 4;
    return {key_codes + slot / 32 * 8 * key_pad + chunk * 512 + within, slot % 32 / 8 * 2};
  }

  // Base code of a value: lane = (d % 8) * 4 + (y % 8) / 2 with y = slot % 32; its bytes are tokens, its bit planes dims
  // d, d + 8, d + 16, d + 24.
  OSCAR_HD constexpr CodeAt value_code(uint32_t slot, uint32_t d) const {
    const uint32_t y = slot % 32, lane = d % 8 * 4 + y % 8 / 2, byte = y / 8 % 2 * 2 + y % 2, chunk = d / 64;
    const bool whole = chunk * 64 + 64 <= value_pad;
    const uint32_t within = whole ? lane * 16 + (d / 32 % 2 * 2 + y / 16) * 4 + byte : lane * 8 + y / 16 * 4 + byte;
    return {value_codes + slot / 32 * 8 * value_pad + chunk * 512 + within, d / 8 % 4 * 2};
  }

  // Refinement code of a key (slot < h), or a part of it: units of 16 dims are the bit planes; rows are slot % 8.
  OSCAR_HD constexpr CodeAt key_refinement(uint32_t slot, uint32_t d, uint32_t part = 0) const {
    const uint32_t width = part_width(key_plane), planes = 8 / width, rows = h < 8 ? h : 8;
    const uint32_t unit = slot / 8 * (key_pad / 16) + d / 16;
    const uint32_t at = ((unit / planes * rows + slot % 8) * 4 + d % 16 / 4) * 4 + d % 4;
    return {key_refine + part * key_part + at, unit % planes * width};
  }

  // Refinement code of a value (slot < h), or a part of it: units of 8 dims are the bit planes; a lane's word holds the
  // pairs of two 8-token tiles.
  OSCAR_HD constexpr CodeAt value_refinement(uint32_t slot, uint32_t d, uint32_t part = 0) const {
    const uint32_t width = part_width(value_plane), planes = 8 / width, tiles = ceil_div(h, 8),
                   words = ceil_div(tiles, 2);
    const uint32_t lanes = h < 8 ? ceil_div(h, 2) : 4, unit_bytes = tiles < 2 ? 2 : 4, tile = slot / 8;
    const uint32_t at = (((d / 8 / planes * words + tile / 2) * 8 + d % 8) * lanes + slot % 8 / 2) * unit_bytes;
    return {value_refine + part * value_part + at + tile % 2 * 2 + slot % 2, d / 8 % planes * width};
  }
};

// Of a refinement of `width` bits in one part.
OSCAR_HD constexpr uint32_t key_refine_bytes(uint32_t pad, uint32_t h, uint32_t width) {
  if (h == 0 || width == 0) return 0;
  return (h < 8 ? h : 8) * 16 * ceil_div(ceil_div(h, 8) * (pad / 16), 8 / width);
}

OSCAR_HD constexpr uint32_t value_refine_bytes(uint32_t pad, uint32_t h, uint32_t width) {
  if (h == 0 || width == 0) return 0;
  const uint32_t tiles = ceil_div(h, 8), lanes = h < 8 ? ceil_div(h, 2) : 4;
  return ceil_div(pad / 8, 8 / width) * ceil_div(tiles, 2) * 8 * lanes * (tiles < 2 ? 2 : 4);
}

OSCAR_HD constexpr BlockLayout block_layout(const BlockShape& s) {
  BlockLayout l{};
  l.key_pad = round_up(s.key_dim, kDimUnit);
  l.value_pad = round_up(s.value_dim, kDimUnit);
  l.key_plane = s.n_refined ? s.key_plane : 0;
  l.value_plane = s.n_refined ? s.value_plane : 0;
  l.h = l.key_plane || l.value_plane ? s.n_refined : 0;
  l.key_codes = 0;
  l.value_codes = 32 * l.key_pad;
  l.key_mean = l.value_codes + 32 * l.value_pad;
  l.key_scales = l.key_mean + l.key_pad;
  l.value_scales = l.key_scales + kBlockTokens;
  l.header = l.value_scales + kBlockTokens;
  l.key_part = round_up(key_refine_bytes(l.key_pad, l.h, part_width(l.key_plane)), 16);
  l.value_part = round_up(value_refine_bytes(l.value_pad, l.h, part_width(l.value_plane)), 16);
  l.key_refine = l.header + sizeof(BlockHeader);
  l.value_refine = l.key_refine + part_count(l.key_plane) * l.key_part;
  l.ids = l.value_refine + part_count(l.value_plane) * l.value_part;
  l.bytes = l.ids + (l.has_ids() ? round_up(l.h, 16) : 0);
  return l;
}

// The sizes that docs/format.md states.
static_assert(block_layout({128, 128, 4, 2, 2}).bytes == 8864);
static_assert(block_layout({128, 128, 0, 0, 0}).bytes == 8592);

}  // namespace oscar
