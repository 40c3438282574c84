// Writes GGUF headers, right ones and wrong ones.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace oscar::cli::test {

class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3) {
    put(std::string_view("GGUF")), put(version), put(uint64_t{0}), put(uint64_t{0});
  }

  GgufWriter& word(std::string_view key, std::string_view value) {
    begin(key, 8), text(value);
    return *this;
  }
  GgufWriter& u32(std::string_view key, uint32_t value) {
    begin(key, 4), put(value);
    return *this;
  }
  GgufWriter& f32(std::string_view key, float value) {
    begin(key, 6), put(value);
    return *this;
  }
  GgufWriter& words(std::string_view key, const std::vector<std::string>& values) {
    begin(key, 9), put(uint32_t{8}), put(uint64_t{values.size()});
    for (const std::string& value : values) text(value);
    return *this;
  }
  GgufWriter& u32s(std::string_view key, const std::vector<uint32_t>& values) {
    begin(key, 9), put(uint32_t{4}), put(uint64_t{values.size()});
    for (const uint32_t value : values) put(value);
    return *this;
  }
  template <class T>
  GgufWriter& raw(std::string_view key, uint32_t type, T value) {
    begin(key, type), put(value);
    return *this;
  }
  template <class T>
  void put(T value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }

  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> all = bytes_;
    std::memcpy(all.data() + 16, &n_keys_, sizeof n_keys_);
    return all;
  }

 private:
  void put(std::string_view value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + value.size());
    if (!value.empty()) std::memcpy(bytes_.data() + at, value.data(), value.size());
  }
  void text(std::string_view value) { put(uint64_t{value.size()}), put(value); }
  void begin(std::string_view key, uint32_t type) {
    ++n_keys_;
    text(key), put(type);
  }
  std::vector<uint8_t> bytes_;
  uint64_t n_keys_ = 0;
};

// The keys of SmolLM2-135M-Instruct.Q4_1.gguf, as far as they matter, with a short vocabulary in place of its own.
inline std::vector<uint8_t> smollm2_header() {
  return GgufWriter()
      .word("general.architecture", "llama")
      .word("general.name", "Smollm2 135M 8k Lc100K Mix1 Ep2")
      .words("general.languages", {"en"})
      .u32("llama.block_count", 30)
      .u32("llama.context_length", 8192)
      .u32("llama.embedding_length", 576)
      .u32("llama.feed_forward_length", 1536)
      .u32("llama.attention.head_count", 9)
      .u32("llama.attention.head_count_kv", 3)
      .f32("llama.rope.freq_base", 100000.0f)
      .u32("llama.vocab_size", 49152)
      .u32("llama.rope.dimension_count", 64)
      .words("tokenizer.ggml.tokens", {"<|endoftext|>", "<|im_start|>", "<|im_end|>"})
      .bytes();
}

}  // namespace oscar::cli::test
