// What a sequence cut to `length` tokens holds in one class of layers: limits alone, as in SequenceView.
#pragma once
#include <algorithm>
#include <cstdint>

#include "backend/engine_plan.h"
#include "format/sequence_file.h"
#include "importance/vote_record.h"

namespace oscar {

struct Extent {
  uint64_t length = 0, packed_end = 0, kept_from = 0, counted = 0;
  uint64_t n_blocks = 0;

  // Of a cache that does not collect.
  bool is_exact(const LayerClass& c, uint64_t token) const {
    return token < length && (token < c.n_sink || token >= tail(c));
  }
  uint64_t tail(const LayerClass& c) const { return std::max(kept_from, c.exact ? 0 : packed_end); }
  // Pages that hold exact tokens: [0, sink_pages) and [first_page, last_page).
  uint64_t sink_pages(const LayerClass& c) const {
    return (std::min<uint64_t>(c.n_sink, length) + kPageTokens - 1) / kPageTokens;
  }
  uint64_t last_page() const { return (length + kPageTokens - 1) / kPageTokens; }
  uint64_t first_page(const LayerClass& c) const {
    return tail(c) < length ? std::max(tail(c) / kPageTokens, sink_pages(c)) : last_page();
  }
  template <class Visit>
  void for_each_page(const LayerClass& c, Visit&& visit) const {
    for (uint64_t page = 0; page < sink_pages(c); ++page) visit(page);
    for (uint64_t page = std::max(first_page(c), sink_pages(c)); page < last_page(); ++page) visit(page);
  }
  uint64_t n_pages(const LayerClass& c) const {
    uint64_t n = 0;
    for_each_page(c, [&n](uint64_t) { ++n; });
    return n;
  }

  VoteRecord votes(uint32_t n_recent) const { return {packed_end, length, counted, n_recent}; }
};

// The numbers of the export's record.
inline SequenceClassRecord record_of(const LayerClass& c, const Extent& e, uint32_t n_recent) {
  SequenceClassRecord r{};
  r.packed_end = e.packed_end;
  r.kept_from = e.kept_from;
  r.counted = e.counted;
  r.n_blocks = e.n_blocks;
  r.n_pages = e.n_pages(c);
  r.block_bytes = c.exact ? 0 : c.heads() * c.layout.bytes;
  r.page_bytes = c.heads() * c.head_page_bytes;
  r.vote_bytes = c.votes ? c.heads() * e.votes(n_recent).bytes() : 0;
  return r;
}

inline uint64_t content_bytes(const SequenceClassRecord& r) {
  return r.n_blocks * (sizeof(SequenceBlockRecord) + r.block_bytes) + r.n_pages * r.page_bytes + r.vote_bytes;
}

}  // namespace oscar
