// Queries, keys and values that a model computed for a text, of all layers: what calibrating and evaluating start from.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "file.h"
#include "library.h"
#include "serving.h"
#include "tensor_file.h"

namespace oscar::cli {

// A file with tensors q [n_layers, n_tokens, n_q_heads, key_dim], k and v [n_layers, n_tokens, n_kv_heads, ...], positions
// already applied, of one sequence from position 0 on; and, where it is known, rope_frequencies [n_pairs] or
// [n_layers, n_pairs].
class Dump {
 public:
  explicit Dump(const std::string& path);  // throws Failure (input)

  uint32_t n_layers = 0, n_tokens = 0, n_q_heads = 0, n_kv_heads = 0, key_dim = 0, value_dim = 0;

  // Views of tokens [first, first + n) of a layer: [n, heads, dim].
  oscar_tensor q(uint32_t layer, uint32_t first, uint32_t n) const { return rows(q_, layer, first, n); }
  oscar_tensor k(uint32_t layer, uint32_t first, uint32_t n) const { return rows(k_, layer, first, n); }
  oscar_tensor v(uint32_t layer, uint32_t first, uint32_t n) const { return rows(v_, layer, first, n); }
  // ndim 0 where the file has none.
  oscar_tensor rope_frequencies() const;

  // As many full-attention layers of this geometry; and one of them.
  Model model() const;
  Model one_layer() const;

 private:
  static oscar_tensor rows(const TensorEntry& entry, uint32_t layer, uint32_t first, uint32_t n);
  std::unique_ptr<MappedFile> file_;
  std::vector<std::vector<uint8_t>> copies_;
  TensorEntries tensors_;
  TensorEntry q_, k_, v_;
};

}  // namespace oscar::cli
