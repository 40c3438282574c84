// XXH64, the 64-bit hash of Yann Collet's xxHash (algorithm description: xxHash/doc/xxhash_spec.md, "XXH64"), seed 0.
// It finds damage, it does not authenticate.
#pragma once
#include <cstddef>
#include <cstdint>

namespace oscar {

class Checksum {
 public:
  void update(const void* bytes, size_t size);
  uint64_t value() const;

 private:
  static constexpr uint64_t kPrime1 = 0x9e3779b185ebca87u, kPrime2 = 0xc2b2ae3d27d4eb4fu, kPrime3 = 0x165667b19e3779f9u,
                            kPrime4 = 0x85ebca77c2b2ae63u, kPrime5 = 0x27d4eb2f165667c5u;
  static constexpr size_t kStripe = 32;

  static uint64_t round(uint64_t lane, uint64_t input);
  void stripe(const uint8_t* bytes);

  uint64_t lanes_[4] = {kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1};
  uint64_t total_bytes_ = 0;
  uint8_t tail_[kStripe] = {};
};

}  // namespace oscar
