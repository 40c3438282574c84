// The bytes of a fuzzer as numbers, one after the other; when they are used up, zeros.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace oscar::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  const uint8_t* rest() const { return at_; }
  size_t n_rest() const { return static_cast<size_t>(end_ - at_); }

  template <class T>
  T take() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    const size_t n = n_rest() < sizeof value ? n_rest() : sizeof value;
    if (n > 0) std::memcpy(&value, at_, n);
    at_ += n;
    return value;
  }
  uint8_t byte() { return take<uint8_t>(); }
  uint32_t below(uint32_t n) { return n <= 256 ? byte() % n : take<uint16_t>() % n; }
  template <class T, size_t N>
  T pick(const T (&choices)[N]) {
    return choices[below(N)];
  }

 private:
  const uint8_t *at_, *end_;
};

}  // namespace oscar::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// What must hold; a fuzzer keeps the input, a replay names the file.
#define FUZZ_CHECK(condition)                                                                                          \
  do {                                                                                                                 \
    if (!(condition)) __builtin_trap();                                                                                \
  } while (0)
