#include "tensor_file.h"

#include <cstring>

#include "failure.h"
#include "text.h"

namespace oscar::cli {

void set_data(TensorEntry& entry, std::span<const uint8_t> bytes, const std::string& where) {
  uint64_t size = entry.dtype_bits / 8;
  for (const uint64_t extent : entry.shape)
    if (__builtin_mul_overflow(size, extent, &size)) bad_input(where + ": the shape is larger than memory");
  if (size != bytes.size())
    bad_input(
        text("%s: %zu bytes, its shape has %llu", where.c_str(), bytes.size(), static_cast<unsigned long long>(size)));
  entry.data = bytes;
}

TensorEntries read_tensors(std::span<const uint8_t> bytes, const std::string& name) {
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "PK\x03\x04", 4) == 0) return read_npz(bytes, name);
  return read_safetensors(bytes, name);
}

}  // namespace oscar::cli
