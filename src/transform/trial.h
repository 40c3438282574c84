// How far a transform moves keys and values that it has not seen: a block of held-out rows, packed and unpacked.
#pragma once
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "format/block.h"
#include "transform/rope.h"
#include "transform/transform.h"

namespace oscar {

struct PackingErrors {
  double keys;    // mean over the rows of E[(q (k' - k))^2]
  double values;  // sum over the rows of |v' - v|^2
};

class Trial {
 public:
  Trial(const Backend& backend, const BlockLayout& layout, uint32_t key_dim, uint32_t value_dim);

  // Rows of one head, BF16 [n][dim], 1 <= n <= 128. Keys are also tried at each of the distances `turns` further on.
  // query_moment [key_dim][key_dim]: E[q^T q] of the queries that will look.
  PackingErrors errors(const HeadTransform& transform, bool shaped, const uint16_t* keys, const uint16_t* values,
                       uint32_t n, const Rope& rope, const std::vector<double>& turns,
                       const std::vector<double>& query_moment);

 private:
  void pack(const HeadTransform& transform, bool shaped, const uint16_t* keys, const uint16_t* values, uint32_t n);

  const Backend& backend_;
  const BlockLayout& layout_;
  const uint32_t key_dim_, value_dim_;
  std::vector<uint8_t> memory_;  // of the block and of the backend's scratch, aligned within
  uint8_t *block_, *scratch_;
  std::vector<float> keys_, values_;
};

}  // namespace oscar
