// Calls of liboscar whose errors become Failures, and objects that end by themselves.
#pragma once
#include <oscar/oscar.h>

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "failure.h"

namespace oscar::cli {

// Throws Failure (library) with the library's own words.
void call(oscar_status status);

struct CacheEnd {
  void operator()(oscar_cache* cache) const { oscar_cache_destroy(cache); }
};
struct CalibrationEnd {
  void operator()(oscar_calibration* calibration) const { oscar_calibration_destroy(calibration); }
};
using Cache = std::unique_ptr<oscar_cache, CacheEnd>;
using Calibration = std::unique_ptr<oscar_calibration, CalibrationEnd>;

// A result struct with its size set.
template <class T>
T sized() {
  T value{};
  value.struct_size = sizeof value;
  return value;
}

// A dense tensor in host memory. The library writes to outputs only.
oscar_tensor host_tensor(const void* data, uint8_t dtype_code, uint8_t dtype_bits,
                         std::initializer_list<uint64_t> shape);
inline oscar_tensor host_tensor(const float* data, std::initializer_list<uint64_t> shape) {
  return host_tensor(data, OSCAR_DTYPE_FLOAT, 32, shape);
}

// The backend that a cache created now uses.
std::string selected_backend();

// A step of n tokens of one sequence.
oscar_step begin_step(oscar_cache* cache, oscar_seq seq, uint32_t n);

// What oscar_calibration_save writes.
std::vector<uint8_t> saved_bytes(const oscar_calibration* calibration);
oscar_calibration_info info_of(const oscar_calibration* calibration);

// Throws Failure (input), which names the file, where the bytes are no calibration file.
Calibration load_calibration(std::span<const uint8_t> bytes, const std::string& path);

}  // namespace oscar::cli
