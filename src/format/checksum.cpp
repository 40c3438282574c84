#include "format/checksum.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace oscar {

static_assert(std::endian::native == std::endian::little, "files are little endian");

namespace {

template <class T>
T read(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

}  // namespace

uint64_t Checksum::round(uint64_t lane, uint64_t input) { return std::rotl(lane + input * kPrime2, 31) * kPrime1; }

void Checksum::stripe(const uint8_t* bytes) {
  for (size_t i = 0; i < 4; ++i) lanes_[i] = round(lanes_[i], read<uint64_t>(bytes + 8 * i));
}

void Checksum::update(const void* data, size_t size) {
  auto bytes = static_cast<const uint8_t*>(data);
  const size_t held = total_bytes_ % kStripe;
  total_bytes_ += size;
  if (held > 0) {
    const size_t taken = std::min(size, kStripe - held);
    if (taken > 0) std::memcpy(tail_ + held, bytes, taken);
    if (held + taken < kStripe) return;
    stripe(tail_);
    bytes += taken;
    size -= taken;
  }
  for (; size >= kStripe; bytes += kStripe, size -= kStripe) stripe(bytes);
  if (size > 0) std::memcpy(tail_, bytes, size);
}

uint64_t Checksum::value() const {
  uint64_t hash = kPrime5;
  if (total_bytes_ >= kStripe) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
    for (const uint64_t lane : lanes_) hash = (hash ^ round(0, lane)) * kPrime1 + kPrime4;
  }
  hash += total_bytes_;
  size_t held = total_bytes_ % kStripe;
  const uint8_t* bytes = tail_;
  for (; held >= 8; bytes += 8, held -= 8)
    hash = std::rotl(hash ^ round(0, read<uint64_t>(bytes)), 27) * kPrime1 + kPrime4;
  if (held >= 4) {
    hash = std::rotl(hash ^ read<uint32_t>(bytes) * kPrime1, 23) * kPrime2 + kPrime3;
    bytes += 4;
    held -= 4;
  }
  for (; held > 0; ++bytes, --held) hash = std::rotl(hash ^ *bytes * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

}  // namespace oscar
