// Lists of numbers as text: "3-17,20" is 3, 4, ... 17, 20.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace test {

inline std::vector<uint64_t> number_list(const char* text) {
  std::vector<uint64_t> numbers;
  for (const char* at = text; *at;) {
    char* end = nullptr;
    const uint64_t first = std::strtoull(at, &end, 10);
    uint64_t last = first;
    if (end != at && *end == '-') last = std::strtoull(at = end + 1, &end, 10);
    if (end == at || (*end && *end != ',') || last < first)
      throw std::invalid_argument(std::string("not a list of numbers such as 3-17,20: ") + text);
    for (uint64_t i = first; i <= last; ++i) numbers.push_back(i);
    at = *end ? end + 1 : end;
  }
  return numbers;
}

}  // namespace test
