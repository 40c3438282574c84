#include "format/block.h"

#include <doctest/doctest.h>

#include <bitset>
#include <vector>

using namespace oscar;

namespace {

// Claims bits of a block; a bit that is claimed twice, or outside its section, is a fault.
struct BitMap {
  std::vector<bool> taken;
  uint32_t n_faults = 0;

  explicit BitMap(uint32_t bytes) : taken(size_t{bytes} * 8) {}
  void claim(uint32_t at, uint32_t shift, uint32_t width, uint32_t begin, uint32_t end) {
    if (at < begin || at >= end || shift + width > 8) {
      ++n_faults;
      return;
    }
    for (uint32_t b = 0; b < width; ++b) {
      n_faults += taken[at * 8 + shift + b];
      taken[at * 8 + shift + b] = true;
    }
  }
  void claim_bytes(uint32_t begin, uint32_t n, uint32_t end) {
    for (uint32_t i = 0; i < n; ++i) claim(begin + i, 0, 8, begin, end);
  }
};

void check_layout(const BlockShape& shape) {
  const BlockLayout l = block_layout(shape);
  BitMap bits(l.bytes);
  for (uint32_t s = 0; s < kBlockTokens; ++s) {
    for (uint32_t d = 0; d < l.key_pad; ++d) {
      const CodeAt base = l.key_code(s, d);
      bits.claim(base.at, base.shift, 2, l.key_codes, l.value_codes);
      if (s >= l.h || l.key_plane == 0) continue;
      uint32_t n_bits = 0;
      for (uint32_t part = 0; part < part_count(l.key_plane); ++part, n_bits += part_width(l.key_plane)) {
        const CodeAt refined = l.key_refinement(s, d, part);
        bits.claim(refined.at, refined.shift, part_width(l.key_plane), l.key_refine, l.value_refine);
      }
      bits.n_faults += n_bits != l.key_plane;
    }
    for (uint32_t d = 0; d < l.value_pad; ++d) {
      const CodeAt base = l.value_code(s, d);
      bits.claim(base.at, base.shift, 2, l.value_codes, l.key_mean);
      if (s >= l.h || l.value_plane == 0) continue;
      uint32_t n_bits = 0;
      for (uint32_t part = 0; part < part_count(l.value_plane); ++part, n_bits += part_width(l.value_plane)) {
        const CodeAt refined = l.value_refinement(s, d, part);
        bits.claim(refined.at, refined.shift, part_width(l.value_plane), l.value_refine, l.ids);
      }
      bits.n_faults += n_bits != l.value_plane;
    }
  }
  bits.claim_bytes(l.key_mean, l.key_pad, l.key_scales);
  bits.claim_bytes(l.key_scales, kBlockTokens, l.value_scales);
  bits.claim_bytes(l.value_scales, kBlockTokens, l.header);
  bits.claim_bytes(l.header, sizeof(BlockHeader), l.key_refine);
  if (l.has_ids()) bits.claim_bytes(l.ids, l.h, l.bytes);
  CAPTURE(shape.key_dim);
  CAPTURE(shape.value_dim);
  CAPTURE(shape.n_refined);
  CAPTURE(shape.key_plane);
  CAPTURE(shape.value_plane);
  CHECK(bits.n_faults == 0);
  for (const uint32_t at : {l.value_codes, l.key_mean, l.key_scales, l.value_scales, l.header, l.key_refine,
                            l.value_refine, l.ids, l.bytes})
    CHECK(at % 16 == 0);
}

}  // namespace

TEST_CASE("every code of a block has its own bits, inside its own section") {
  const BlockShape dims[] = {{64, 64, 0, 0, 0},   {80, 80, 0, 0, 0},   {96, 96, 0, 0, 0},   {128, 128, 0, 0, 0},
                             {192, 192, 0, 0, 0}, {256, 256, 0, 0, 0}, {192, 128, 0, 0, 0}, {64, 80, 0, 0, 0}};
  for (BlockShape shape : dims)
    for (const uint32_t h : {0u, 1u, 3u, 4u, 5u, 8u, 12u, 31u, 64u, 127u, 128u})
      for (const uint32_t key_plane : {0u, 1u, 2u, 6u})
        for (const uint32_t value_plane : {0u, 1u, 2u, 6u}) {
          shape.n_refined = h;
          shape.key_plane = key_plane;
          shape.value_plane = value_plane;
          check_layout(shape);
        }
}

TEST_CASE("a profile without planes or without refined tokens has neither ids nor planes") {
  CHECK(block_layout({128, 128, 4, 0, 0}).bytes == block_layout({128, 128, 0, 2, 2}).bytes);
  CHECK_FALSE(block_layout({128, 128, 4, 0, 0}).has_ids());
  CHECK_FALSE(block_layout({128, 128, 128, 1, 1}).has_ids());
  CHECK(block_layout({128, 128, 127, 1, 0}).has_ids());
}

TEST_CASE("a whole refinement plane costs exactly its bits") {
  for (const uint32_t d : {64u, 128u, 256u}) {
    const uint32_t plain = block_layout({d, d, 0, 0, 0}).bytes;
    CHECK(block_layout({d, d, 128, 1, 1}).bytes == plain + 2 * 16 * d);
    CHECK(block_layout({d, d, 128, 2, 2}).bytes == plain + 2 * 32 * d);
    CHECK(block_layout({d, d, 128, 6, 6}).bytes == plain + 2 * 96 * d);
    CHECK(block_layout({d, d, 128, 1, 0}).bytes == plain + 16 * d);
    CHECK(block_layout({d, d, 128, 0, 2}).bytes == plain + 32 * d);
  }
}
