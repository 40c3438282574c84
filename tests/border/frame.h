// What the generated frames are made of.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "oscar/oscar.h"

namespace test {

// A pointer that an output had before the call; nobody follows it.
template <class T>
T poison() {
  return reinterpret_cast<T>(uintptr_t{0xbad0bad0});
}

// Of an array that the scene owns, and the call only reads.
template <class T>
T& element(const T* array, size_t i) {
  return const_cast<T&>(array[i]);
}

// A struct, and what a newer header might have behind it.
template <class T>
struct Padded {
  T value;
  unsigned char tail[8];

  Padded() {
    std::memset(this, 0, sizeof *this);
    if constexpr (requires { value.struct_size; }) value.struct_size = sizeof value;
  }
  // Zeros, but for struct_size.
  bool is_empty() const {
    Padded copy = *this, zeros;
    copy.value.struct_size = zeros.value.struct_size;
    return std::memcmp(&copy.value, &zeros.value, sizeof copy.value) == 0;
  }
};

}  // namespace test
