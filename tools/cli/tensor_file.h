// Tensors in .safetensors and .npz files, by name; told apart by content. They stay where they are, in the mapped file.
#pragma once
#include <oscar/oscar.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace oscar::cli {

struct TensorEntry {
  uint8_t dtype_code = 0, dtype_bits = 0;
  std::vector<uint64_t> shape;
  std::span<const uint8_t> data;  // dense, row-major, of the shape's size
};

using TensorEntries = std::map<std::string, TensorEntry>;

// Throw Failure (input), which names the file and the tensor. Nothing of the bytes is believed before it is checked.
TensorEntries read_tensors(std::span<const uint8_t> bytes, const std::string& name);
TensorEntries read_safetensors(std::span<const uint8_t> bytes, const std::string& name);
TensorEntries read_npz(std::span<const uint8_t> bytes, const std::string& name);

// Sets `data` of an entry from where it begins. Throws Failure where the shape has other bytes than `size`.
void set_data(TensorEntry& entry, std::span<const uint8_t> bytes, const std::string& where);

}  // namespace oscar::cli
