// What packing promises about its bytes: the same from every instruction set, whatever the input and the memory.
#include <doctest/doctest.h>

#include <cstring>

#include "pack_canonical.h"
#include "pack_case.h"
#include "support/scale.h"

using namespace oscar;
using namespace oscar::test;
using Transforms = PackCase::Transforms;

namespace {

constexpr uint32_t kDims[] = {64, 80, 96, 128, 192, 256};
constexpr uint32_t kRefined[] = {0, 1, 3, 4, 5, 8, 12, 31, 64, 127, 128};
constexpr uint32_t kPlanes[] = {0, 1, 2, 6};

BlockHeader header_of(const PackCase& c, const std::vector<uint8_t>& block) {
  return BlockReader(c.layout, block.data()).header;
}

// NaN, infinities, zeros, denormals and huge elements, whole rows of them too.
void spoil(std::vector<uint16_t>& rows, uint32_t dim, std::mt19937_64& random) {
  constexpr uint16_t kOdd[] = {0x7fc0, 0xffc1, 0x7f80, 0xff80, 0x0000, 0x8000, 0x0001, 0x807f, 0x7f7f, 0xff7f, 0x0080};
  const auto odd = [&] { return kOdd[random() % std::size(kOdd)]; };
  for (int i = 0; i < 40; ++i) rows[random() % rows.size()] = odd();
  for (int r = 0; r < 4; ++r) {
    const uint16_t x = odd();
    std::fill_n(rows.begin() + static_cast<std::ptrdiff_t>(random() % kBlockTokens * dim), dim, x);
  }
}

// Multiplies BF16 numbers by 2^shift by moving their exponents.
void shift_exponents(std::vector<uint16_t>& rows, int shift) {
  for (uint16_t& x : rows)
    if (x & 0x7f80) x = static_cast<uint16_t>(x + shift * 128);
}

}  // namespace

TEST_CASE("every instruction set writes the canonical bytes, for ordinary and for odd input") {
  const std::vector<IsaVariant> variants = runnable_isa_variants();
  std::mt19937_64 random(oscar_test::seeded(101));
  for (uint64_t round = 0; round < oscar_test::scaled(36); ++round) {
    const uint32_t key_dim = kDims[round % 6], value_dim = kDims[random() % 6];
    const BlockShape shape{key_dim, value_dim, kRefined[random() % std::size(kRefined)], kPlanes[random() % 4],
                           kPlanes[random() % 4]};
    PackCase c(shape,
               round % 4 == 0   ? Transforms::kDataFree
               : round % 4 == 1 ? Transforms::kMatrices
                                : Transforms::kShaped,
               random);
    if (round % 3) {
      spoil(c.keys, key_dim, random);
      spoil(c.values, value_dim, random);
    }
    CAPTURE(key_dim);
    CAPTURE(value_dim);
    CAPTURE(round);
    const std::vector<uint8_t> expected = CanonicalPacker(c).pack();
    for (const IsaVariant& isa : variants) {
      CAPTURE(isa.name);
      CHECK(c.pack(isa, static_cast<uint8_t>(random())) == expected);
    }
  }
}

TEST_CASE("non-finite elements are packed as zeros and counted") {
  std::mt19937_64 random(102);
  const IsaVariant isa = runnable_isa_variants().back();
  PackCase c({128, 64, 4, 2, 2}, Transforms::kMatrices, random), zeros = c.with_same_transforms();
  const uint16_t odd[] = {0x7fc0, 0x7f80, 0xff80, 0xff81};
  uint32_t n = 0;
  for (size_t i = 5; i < c.keys.size(); i += 997, ++n) c.keys[i] = odd[n % 4], zeros.keys[i] = 0;
  for (size_t i = 3; i < c.values.size(); i += 1499, ++n) c.values[i] = odd[n % 4], zeros.values[i] = 0;
  std::vector<uint8_t> with_odd = c.pack(isa);
  const std::vector<uint8_t> with_zeros = zeros.pack(isa);
  CHECK(header_of(c, with_odd).n_non_finite == n);
  CHECK(header_of(c, with_zeros).n_non_finite == 0);
  std::memset(with_odd.data() + c.layout.header + offsetof(BlockHeader, n_non_finite), 0, sizeof(uint32_t));
  CHECK(with_odd == with_zeros);
}

TEST_CASE("slots hold the tokens of the order, and ids say which") {
  std::mt19937_64 random(103);
  const IsaVariant isa = runnable_isa_variants().back();
  for (const uint32_t h : kRefined) {
    PackCase c({64, 64, h, 1, 2}, Transforms::kDataFree, random);
    PackCase in_order = c.with_same_transforms();
    const std::vector<uint8_t> block = c.pack(isa);
    const BlockReader reader(c.layout, block.data());
    for (uint32_t s = 0; s < kBlockTokens; ++s) REQUIRE(reader.token_offset(s) == c.order[s]);
    // Tokens that no profile refines have the codes of a plain block, in their own slots.
    in_order.shape.n_refined = 0;
    in_order.layout = block_layout(in_order.shape);
    for (uint32_t s = 0; s < kBlockTokens; ++s) in_order.order[s] = static_cast<uint8_t>(s);
    const std::vector<uint8_t> plain_block = in_order.pack(isa);
    const BlockReader plain(in_order.layout, plain_block.data());
    for (uint32_t s = c.layout.h; s < kBlockTokens; ++s)
      for (uint32_t d = 0; d < 64; ++d) {
        REQUIRE(reader.key_code(s, d) == plain.key_code(c.order[s], d));
        REQUIRE(reader.value_code(s, d) == plain.value_code(c.order[s], d));
      }
  }
}

TEST_CASE("the block mean does not depend on which tokens are refined") {
  std::mt19937_64 random(104);
  const IsaVariant isa = runnable_isa_variants().back();
  PackCase c({96, 96, 12, 2, 2}, Transforms::kMatrices, random);
  const std::vector<uint8_t> first = c.pack(isa);
  c.refine_random(random);
  const std::vector<uint8_t> second = c.pack(isa);
  REQUIRE(first != second);
  CHECK(std::equal(first.begin() + c.layout.key_mean, first.begin() + c.layout.key_scales,
                   second.begin() + c.layout.key_mean));
  CHECK(header_of(c, first).mean_scale == header_of(c, second).mean_scale);
}

TEST_CASE("a power of two in the input changes bases and mean scale by that power, and nothing else") {
  std::mt19937_64 random(105);
  const IsaVariant isa = runnable_isa_variants().back();
  for (const int shift : {-90, -20, -1, 1, 33, 90}) {
    CAPTURE(shift);
    PackCase c({80, 128, 5, 2, 1}, Transforms::kShaped, random), shifted = c.with_same_transforms();
    shift_exponents(shifted.keys, shift);
    shift_exponents(shifted.values, shift);
    std::vector<uint8_t> a = c.pack(isa), b = shifted.pack(isa);
    const BlockHeader before = header_of(c, a), after = header_of(c, b);
    CHECK(after.mean_scale == std::ldexp(before.mean_scale, shift));
    CHECK(after.key_base == std::ldexp(before.key_base, shift));
    CHECK(after.value_base == std::ldexp(before.value_base, shift));
    std::memset(a.data() + c.layout.header, 0, sizeof(BlockHeader));
    std::memset(b.data() + c.layout.header, 0, sizeof(BlockHeader));
    CHECK(a == b);
  }
}

TEST_CASE("the largest and the smallest numbers of BF16 are packed like any others") {
  std::mt19937_64 random(108);
  const IsaVariant isa = runnable_isa_variants().back();
  // Elements of 2^-3 .. 2^4 are moved to the ends of the range: 2^127, and 2^-123 where the base is at its least.
  for (const int shift : {122, -120, -123}) {
    CAPTURE(shift);
    PackCase c({64, 64, 4, 2, 2}, Transforms::kMatrices, random);
    for (std::vector<uint16_t>* rows : {&c.keys, &c.values})
      for (uint16_t& x : *rows) x = f32_to_bf16(std::clamp(bf16_to_f32(x), -16.0f, 16.0f));
    PackCase shifted = c.with_same_transforms();
    for (std::vector<uint16_t>* rows : {&shifted.keys, &shifted.values})
      for (uint16_t& x : *rows) x = f32_to_bf16(std::ldexp(bf16_to_f32(x), shift));
    const std::vector<uint8_t> a = c.pack(isa), b = shifted.pack(isa);
    CHECK(b == CanonicalPacker(shifted).pack());
    const BlockReader middle(c.layout, a.data()), end(c.layout, b.data());
    CHECK(end.header.key_base >= 0x1p-110f);
    CHECK(end.header.key_base <= 0x1p126f);
    uint32_t n_off = 0;
    for (uint32_t s = 0; s < kBlockTokens; ++s)
      for (uint32_t d = 0; d < 64; ++d) {
        n_off += std::abs(std::ldexp(end.key(s, d), -shift) - middle.key(s, d)) > 1e-2;
        n_off += std::abs(std::ldexp(end.value(s, d), -shift) - middle.value(s, d)) > 1e-2;
      }
    // Near 2^-126 BF16 has few bits left: what it rounds differently may fall to another level.
    CHECK(n_off <= (shift > 0 ? 0 : 2 * kBlockTokens * 64 / 100));
  }
}

TEST_CASE("a block of zeros reads back as next to nothing") {
  std::mt19937_64 random(106);
  const IsaVariant isa = runnable_isa_variants().back();
  PackCase c({64, 64, 4, 2, 2}, Transforms::kDataFree, random);
  std::fill(c.keys.begin(), c.keys.end(), uint16_t{0});
  std::fill(c.values.begin(), c.values.end(), uint16_t{0x8000});
  const std::vector<uint8_t> block = c.pack(isa);
  const BlockReader reader(c.layout, block.data());
  CHECK(reader.header.mean_scale == 0.0f);
  CHECK(reader.header.key_base == 1.0f);
  for (uint32_t s = 0; s < kBlockTokens; ++s) {
    CHECK(block[c.layout.key_scales + s] == 0);
    CHECK(block[c.layout.value_scales + s] == 0);
    CHECK(std::abs(reader.key(s, 9)) <= 0x1p-15);
    CHECK(std::abs(reader.value(s, 9)) <= 0x1p-15);
  }
}

TEST_CASE("a row of zeros beside ordinary rows takes the smallest scale") {
  std::mt19937_64 random(107);
  const IsaVariant isa = runnable_isa_variants().back();
  PackCase c({64, 64, 4, 2, 2}, Transforms::kMatrices, random);
  std::fill_n(c.values.begin() + 64 * c.order[0], 64, uint16_t{0});
  std::fill_n(c.values.begin() + 64 * c.order[100], 64, uint16_t{0});
  const std::vector<uint8_t> block = c.pack(isa);
  for (uint32_t s = 0; s < kBlockTokens; ++s) CHECK((block[c.layout.value_scales + s] == 0) == (s == 0 || s == 100));
}
