// A call under test, as the fault tests run it: again and again on one world, each time with another fault, and at last
// without one. Then its result has to be that of a world which no fault has touched.
#pragma once
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "oscar/oscar.h"

namespace test {

using Bytes = std::vector<uint8_t>;

template <class T>
void put(Bytes& to, const T* values, size_t n) {
  const size_t at = to.size();
  to.resize(at + n * sizeof(T));
  if (n > 0) std::memcpy(to.data() + at, values, n * sizeof(T));
}
template <class T>
void put(Bytes& to, const T& value) {
  put(to, &value, 1);
}

struct Call {
  std::function<oscar_status()> make;
  // After a failure: whether the outputs are NULL or 0.
  std::function<bool()> outputs_are_empty = [] { return true; };
  // What const calls say of the world: a failed call does not change it.
  std::function<Bytes()> look = [] { return Bytes(); };
  // After success: what came of it, and of going on from there.
  std::function<Bytes()> result = [] { return Bytes(); };
};

struct CallKind {
  std::string function, name;  // name: of the case, where a function has several
  std::function<Call()> prepare;
  bool takes_no_memory = false;  // the header says so
};

std::vector<CallKind> calibration_calls();
std::vector<CallKind> cache_calls();
std::vector<CallKind> step_calls();

}  // namespace test
