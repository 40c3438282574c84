// Read-back and scores. Beside other readers: no shared workspace.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "backend/host_engine.h"

namespace oscar {

void HostEngine::read(const SequenceView& s, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
                      const TensorView& k, const TensorView& v) const {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = class_of(layer);
  const uint32_t index = head_index(c, l, head);
  auto store = [&](uint64_t token, const float* key, const float* value) {
    if (k) store_row(k, token - first, 0, c.key_dim, key);
    if (v) store_row(v, token - first, 0, c.value_dim, value);
  };

  float key[kMaxHeadDim], value[kMaxHeadDim];
  for (uint64_t token = first; token < first + n; ++token) {
    if (!c.exact && token >= c.n_sink && token < s.packed_end) continue;
    const RowPointers row = row_at(c, s.pages[token / kPageTokens], index, token);
    for (uint32_t d = 0; d < c.key_dim; ++d) key[d] = bf16_to_f32(row.key[d]);
    for (uint32_t d = 0; d < c.value_dim; ++d) value[d] = bf16_to_f32(row.value[d]);
    store(token, key, value);
  }

  std::vector<float> keys(kBlockTokens * c.key_dim), values(kBlockTokens * c.value_dim);
  constexpr size_t kAlignment = 64;
  std::vector<std::byte> scratch(backend_.scratch_bytes(c.key_dim, c.value_dim, 1) + kAlignment);
  void* aligned = scratch.data();
  size_t space = scratch.size();
  std::align(kAlignment, 1, aligned, space);
  for (const BlockEntry& b : s.blocks) {
    const uint64_t begin = std::max(first, b.start + b.first), end = std::min(first + n, b.end());
    if (begin >= end) continue;
    backend_.unpack(c.layout, *transforms_[l.layer_class][index], c.key_dim, c.value_dim, block_at(c, b.unit, index),
                    static_cast<uint32_t>(begin - b.start), static_cast<uint32_t>(end - b.start), keys.data(),
                    values.data(), aligned);
    for (uint64_t token = begin; token < end; ++token)
      store(token, keys.data() + (token - begin) * c.key_dim, values.data() + (token - begin) * c.value_dim);
  }
}

void HostEngine::scores(const SequenceView& s, uint64_t length, uint32_t layer, uint32_t head, uint64_t first,
                        uint64_t n, const TensorView& out) const {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = class_of(layer);
  const uint32_t index = head_index(c, l, head);
  const VoteArea votes = votes_at(c, s.scores, index);
  for (uint64_t token = first; token < first + n; ++token) {
    float score = 0.0f;
    if (token >= s.packed_end) {
      score = votes.score(s.side, token);
      // Votes that can still be rolled back, in query order.
      for (uint64_t query = std::max(s.counted, token + 1); query < length; ++query)
        if (query <= token + plan_.n_recent) score += f16_to_f32(votes.vote(query, token));
    }
    store_row(out, token - first, 0, 1, &score);
  }
  const float refined = std::numeric_limits<float>::infinity();
  for (const BlockEntry& b : s.blocks) {
    const uint8_t* ids = block_at(c, b.unit, index) + c.layout.ids;
    for (uint32_t slot = 0; slot < c.layout.h; ++slot) {
      const uint64_t token = b.start + ids[slot];
      if (token >= first && token < first + n && token < b.end()) store_row(out, token - first, 0, 1, &refined);
    }
  }
}

}  // namespace oscar
