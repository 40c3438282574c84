// What one step's attention launches read beside the tensors: which blocks and pages each sequence has, and which
// thread block (CTA) takes which of them. Plain data at fixed device addresses, so that a captured launch follows the
// cache as it grows; written once a step, used by every layer of a class.
//
// An item is one block or one page of exact rows, for one KV head. The items of a step are numbered
//     sequence by sequence, KV head by KV head, blocks before pages,
// and cut into n_active equal ranges, one for each CTA. A (sequence, KV head) is a segment.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar::cuda {

// Rows of one KV head that one segment can have; longer steps are several segments over the same spans.
inline constexpr uint32_t kMaxQueries = 32;

// Tokens start + first .. start + last - 1, of a block or of a page. `unit`: where the class's unit lies in the pool,
// in steps of 64 bytes; the KV heads' blocks (pages) follow each other inside.
struct alignas(16) SpanEntry {
  uint32_t unit;
  uint32_t start;
  uint16_t first, last;
  uint32_t reserved;
};

struct alignas(16) SequenceWork {
  uint32_t item_begin;  // number of its first item
  uint32_t span_begin;  // spans[span_begin ..]: n_blocks blocks, then n_pages pages, both ascending
  uint32_t n_blocks, n_pages;
  uint32_t first_row;       // of the step's tensors: its new token 0
  uint32_t first_position;  // of that token
  uint32_t query_begin;     // its rows are query_begin + r, r < n_queries: query head (row % group) of new token
  uint32_t n_queries;       // (row / group); at most kMaxQueries
};
static_assert(sizeof(SequenceWork) == 32);

// What a CTA must know before it can ask for its first bytes, without a second load.
inline constexpr uint32_t kFirstSpans = 4;
struct alignas(64) CtaStart {
  SequenceWork sequence;  // that its first item belongs to
  uint32_t index;         // of that sequence
  uint32_t n_items;
  uint32_t n_active;     // CTAs that have items: min(CTAs launched, n_items)
  uint32_t n_sequences;  // sequences with items; n_padding without follow in the table: their rows get 0
  uint32_t n_padding;
  uint32_t reserved[3];
  SpanEntry first[kFirstSpans];  // entries of its first items
};
static_assert(sizeof(CtaStart) == 128);

// Items of CTA c are [item_cut(c), item_cut(c + 1)). n_items * n_active < 2^32: plan_step checks.
OSCAR_HD constexpr uint32_t item_cut(uint32_t cta, uint32_t n_items, uint32_t n_active) {
  return n_items * cta / n_active;
}

// The CTA whose range holds the item.
OSCAR_HD constexpr uint32_t cta_of_item(uint32_t item, uint32_t n_items, uint32_t n_active) {
  return ((item + 1) * n_active - 1) / n_items;
}

// Entries of items item .. item + kFirstSpans - 1 that lie in sequence s.
inline void copy_first_spans(const SequenceWork& s, uint32_t item, uint32_t n_kv_heads, const SpanEntry* spans,
                             SpanEntry* first, const SequenceWork* next, uint32_t n_items) {
  const SequenceWork* w = &s;
  for (uint32_t i = 0; i < kFirstSpans && item + i < n_items; ++i) {
    while (item + i - w->item_begin >= (w->n_blocks + w->n_pages) * n_kv_heads) w = next++;
    first[i] = spans[w->span_begin + (item + i - w->item_begin) % (w->n_blocks + w->n_pages)];
  }
}

// Numbers the items: sets item_begin of every sequence and fills starts[0 .. n_ctas). Sequences without items come
// last. A CTA gets at least items_per_cta items while there are CTAs for all segments: below that, joining the CTAs
// costs more than it saves. False where the step has too many items (2^32 / n_ctas) for one launch.
inline bool plan_step(SequenceWork* sequences, uint32_t n_sequences, const SpanEntry* spans, uint32_t n_kv_heads,
                      uint32_t n_ctas, uint32_t items_per_cta, CtaStart* starts) {
  uint64_t n_items = 0;
  uint32_t n_busy = 0;
  for (uint32_t s = 0; s < n_sequences; ++s) {
    sequences[s].item_begin = static_cast<uint32_t>(n_items);
    const uint64_t own = uint64_t{sequences[s].n_blocks} + sequences[s].n_pages;
    n_items += own * n_kv_heads;
    if (own > 0) n_busy = s + 1;
    if (n_items * n_ctas >= uint64_t{1} << 32) return false;
  }
  const uint32_t total = static_cast<uint32_t>(n_items);
  const uint32_t n_segments = n_busy * n_kv_heads, n_shares = total / items_per_cta;
  const uint32_t wanted = n_shares > n_segments ? n_shares : n_segments, n_most = total < n_ctas ? total : n_ctas;
  const uint32_t n_active = wanted < n_most ? wanted : n_most;
  uint32_t s = 0;
  for (uint32_t c = 0; c < n_ctas; ++c) {
    CtaStart& start = starts[c];
    start = {};
    start.n_items = total;
    start.n_active = n_active;
    start.n_sequences = n_busy;
    start.n_padding = n_sequences - n_busy;
    if (c >= n_active) continue;
    const uint32_t first = item_cut(c, total, n_active);
    while (s + 1 < n_busy && sequences[s + 1].item_begin <= first) ++s;
    start.sequence = sequences[s];
    start.index = s;
    copy_first_spans(sequences[s], first, n_kv_heads, spans, start.first, sequences + s + 1, total);
  }
  return true;
}

// What plan_step is given unless a test wants otherwise.
inline constexpr uint32_t kItemsPerCta = 3;

}  // namespace oscar::cuda
