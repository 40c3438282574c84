// The header of a GGUF file (versions 2 and 3, little endian): its keys and values, without the tensors.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace oscar::cli {

// A list of texts, or of lists, is passed over; one of numbers is kept where it is short enough to be one per layer.
using GgufList = std::vector<int64_t>;
using GgufValue = std::variant<std::monostate, uint64_t, int64_t, double, bool, std::string, GgufList>;

class Gguf {
 public:
  // Throws Failure (input), which names the file and the place. Nothing of the bytes is believed before it is checked.
  Gguf(std::span<const uint8_t> bytes, const std::string& name);

  const std::string& name() const { return name_; }
  const GgufValue* find(const std::string& key) const;
  std::string word(const std::string& key) const;  // empty where absent
  std::optional<double> real(const std::string& key) const;
  std::optional<uint64_t> number(const std::string& key, uint64_t least, uint64_t most) const;
  uint64_t needed(const std::string& key, uint64_t least, uint64_t most) const;
  // One number for all layers, or one for each.
  std::optional<std::vector<uint64_t>> per_layer(const std::string& key, size_t n_layers, uint64_t most) const;

  [[noreturn]] void refuse(const std::string& key, const std::string& problem) const;

 private:
  std::string name_;
  std::map<std::string, GgufValue> values_;
};

}  // namespace oscar::cli
