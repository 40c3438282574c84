#include "backend/read_back.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

namespace oscar {

namespace {

void read_row(const uint16_t* row, uint32_t dim, float* to) {
  for (uint32_t d = 0; d < dim; ++d) to[d] = bf16_to_f32(row[d]);
}

}  // namespace

void read_back(const SequenceView& s, const HeadView& head, const Backend& backend, uint64_t first, uint64_t n,
               const TensorView& k, const TensorView& v, UnitReader& reader) {
  const LayerClass& c = head.c;
  auto store = [&](uint64_t token, const float* key, const float* value) {
    if (k) store_row(k, token - first, 0, c.key_dim, key);
    if (v) store_row(v, token - first, 0, c.value_dim, value);
  };

  float key[kMaxHeadDim], value[kMaxHeadDim];
  for (uint64_t token = first; token < first + n; ++token) {
    if (!c.exact && token >= c.n_sink && token < s.exact_from) continue;
    const uint8_t* page = reader.bytes(s.pages[token / kPageTokens], head.head_index * c.head_page_bytes,
                                       c.head_page_bytes);
    const uint16_t* keys = reinterpret_cast<const uint16_t*>(page);
    const uint64_t row = token % kPageTokens;
    read_row(keys + row * c.key_dim, c.key_dim, key);
    read_row(keys + kPageTokens * c.key_dim + row * c.value_dim, c.value_dim, value);
    store(token, key, value);
  }

  // Exact rows alone take no memory: a cache that collects counts on it.
  const auto is_wanted = [&s, first, n](const BlockEntry& b) {
    return b.start < s.exact_from && b.start + b.first < first + n && b.end() > first;
  };
  if (std::none_of(s.blocks.begin(), s.blocks.end(), is_wanted)) return;
  std::vector<float> keys(kBlockTokens * c.key_dim), values(kBlockTokens * c.value_dim);
  constexpr size_t kAlignment = 64;
  std::vector<std::byte> scratch(backend.scratch_bytes(c.key_dim, c.value_dim) + kAlignment);
  void* aligned = scratch.data();
  size_t space = scratch.size();
  std::align(kAlignment, 1, aligned, space);
  for (const BlockEntry& b : s.blocks) {
    if (b.start >= s.exact_from) break;  // not packed yet
    const uint64_t begin = std::max(first, b.start + b.first), end = std::min(first + n, b.end());
    if (begin >= end) continue;
    const uint8_t* block = reader.bytes(b.unit, uint64_t{head.head_index} * c.layout.bytes, c.layout.bytes);
    backend.unpack(c.layout, head.transform, c.key_dim, c.value_dim, block, static_cast<uint32_t>(begin - b.start),
                   static_cast<uint32_t>(end - b.start), keys.data(), values.data(), aligned);
    for (uint64_t token = begin; token < end; ++token)
      store(token, keys.data() + (token - begin) * c.key_dim, values.data() + (token - begin) * c.value_dim);
  }
}

void read_scores(const SequenceView& s, const HeadView& head, uint32_t n_recent, uint64_t length, uint64_t first,
                 uint64_t n, const TensorView& out, UnitReader& reader) {
  const LayerClass& c = head.c;
  const uint64_t area_bytes = c.vote_layout.bytes();
  // VoteArea is also for writing; nothing here writes.
  const VoteArea votes{const_cast<uint8_t*>(reader.bytes(s.scores, head.head_index * area_bytes, area_bytes)),
                       c.vote_layout};
  for (uint64_t token = first; token < first + n; ++token) {
    float score = 0.0f;
    if (token >= s.packed_end) {
      score = votes.score(s.side, token);
      // Votes that can still be rolled back, in query order.
      for (uint64_t query = std::max(s.counted, token + 1); query < length; ++query)
        if (query <= token + n_recent) score += f16_to_f32(votes.vote(query, token));
    }
    store_row(out, token - first, 0, 1, &score);
  }
  const float refined = std::numeric_limits<float>::infinity();
  for (const BlockEntry& b : s.blocks) {
    if (b.end() <= first || b.start >= first + n || c.layout.h == 0) continue;
    const uint8_t* ids = reader.bytes(b.unit, uint64_t{head.head_index} * c.layout.bytes + c.layout.ids, c.layout.h);
    for (uint32_t slot = 0; slot < c.layout.h; ++slot) {
      const uint64_t token = b.start + ids[slot];
      if (token >= first && token < first + n && token < b.end()) store_row(out, token - first, 0, 1, &refined);
    }
  }
}

}  // namespace oscar
