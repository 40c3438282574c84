#include "format/checksum.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using oscar::Checksum;

namespace {
std::vector<uint8_t> pattern(size_t n) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + 3);
  return bytes;
}
}  // namespace

TEST_CASE("the checksum is XXH64: values of the reference implementation") {
  const struct {
    size_t n;
    uint64_t hash;
  } known[] = {{0, 0xef46db3751d8e999},   {1, 0x1f25c8d0bc1f4bb6},   {3, 0x31d2363f52e564c9},
               {4, 0x9bb64b7d66ee9fda},   {8, 0xdab99d95c6f90092},   {31, 0xa2aa5f33cc4a6119},
               {32, 0x23c3c17ef790fd97},  {33, 0x50a7cfc7ba588784},  {64, 0x0eb64b3ef6eeb01f},
               {100, 0xa61f8d4c170fe531}, {255, 0x39ae55a29989206f}, {300, 0x240004dbee0ba6dc}};
  for (const auto& k : known) {
    Checksum checksum;
    checksum.update(pattern(k.n).data(), k.n);
    CHECK(checksum.value() == k.hash);
  }
}

TEST_CASE("the checksum does not depend on how the bytes are cut") {
  const std::vector<uint8_t> bytes = pattern(300);
  Checksum whole;
  whole.update(bytes.data(), bytes.size());
  for (size_t piece = 1; piece < 80; ++piece) {
    Checksum pieces;
    for (size_t at = 0; at < bytes.size(); at += piece)
      pieces.update(bytes.data() + at, std::min(piece, bytes.size() - at));
    CHECK(pieces.value() == whole.value());
  }
}
