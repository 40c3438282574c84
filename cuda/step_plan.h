// What one step's attention launches read beside the tensors: which blocks and pages each sequence has, and which
// thread block (CTA) takes which of them. Plain data at fixed device addresses, so that a captured launch follows the
// cache as it grows; written once a step, used by every layer of a class.
//
// An item is one block or one page of exact rows, for one KV head. The items of a step are numbered
//     sequence by sequence, KV head by KV head, blocks before pages,
// and cut into n_active ranges, one for each CTA: equal ones, or (batch-invariant) whole chunks. A (sequence, KV
// head) is a segment.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar::cuda {

// Rows of one KV head that one segment can have; longer steps are several segments over the same spans.
inline constexpr uint32_t kMaxQueries = 32;

// The same in a batch-invariant step (plan_step_invariant), of padding too: one size of tile, whatever the step has.
inline constexpr uint32_t kInvariantQueries = 4;
// Items of a chunk: what a batch-invariant step makes one partial result of. A longer chunk has fewer of them to join,
// a shorter one balances better.
inline constexpr uint32_t kChunkItems = 16;
OSCAR_HD constexpr uint32_t n_chunks(uint32_t n_items) { return (n_items + kChunkItems - 1) / kChunkItems; }

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
  uint32_t n_active;     // CTAs that have items; the others' entries count nothing
  uint32_t n_sequences;  // sequences with items; n_padding without follow in the table: their rows get 0
  uint32_t n_padding;
  uint32_t first_item, last_item;  // its own: [first_item, last_item)
  uint32_t first_chunk;            // batch-invariant: number of its first chunk, in the order of the items
  SpanEntry first[kFirstSpans];    // entries of its first items
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

// Sets item_begin of every sequence, and what is the same in all starts. False where there are too many items.
inline bool number_items(SequenceWork* sequences, uint32_t n_sequences, uint32_t n_kv_heads, uint32_t n_ctas,
                         CtaStart& common) {
  uint64_t n_items = 0;
  uint32_t n_busy = 0;
  for (uint32_t s = 0; s < n_sequences; ++s) {
    sequences[s].item_begin = static_cast<uint32_t>(n_items);
    const uint64_t own = uint64_t{sequences[s].n_blocks} + sequences[s].n_pages;
    n_items += own * n_kv_heads;
    if (own > 0) n_busy = s + 1;
    if (n_items * n_ctas >= uint64_t{1} << 32) return false;
  }
  common = {};
  common.n_items = static_cast<uint32_t>(n_items);
  common.n_sequences = n_busy;
  common.n_padding = n_sequences - n_busy;
  return true;
}

// Numbers the items: sets item_begin of every sequence and fills starts[0 .. n_ctas). Sequences without items come
// last. A CTA gets at least items_per_cta items while there are CTAs for all segments: below that, joining the CTAs
// costs more than it saves. False where the step has too many items (2^32 / n_ctas) for one launch.
inline bool plan_step(SequenceWork* sequences, uint32_t n_sequences, const SpanEntry* spans, uint32_t n_kv_heads,
                      uint32_t n_ctas, uint32_t items_per_cta, CtaStart* starts) {
  CtaStart common;
  if (!number_items(sequences, n_sequences, n_kv_heads, n_ctas, common)) return false;
  const uint32_t total = common.n_items;
  const uint32_t n_segments = common.n_sequences * n_kv_heads, n_shares = total / items_per_cta;
  const uint32_t wanted = n_shares > n_segments ? n_shares : n_segments, n_most = total < n_ctas ? total : n_ctas;
  common.n_active = wanted < n_most ? wanted : n_most;
  uint32_t s = 0;
  for (uint32_t c = 0; c < n_ctas; ++c) {
    CtaStart& start = starts[c];
    start = common;
    if (c >= common.n_active) continue;
    start.first_item = item_cut(c, total, common.n_active);
    start.last_item = item_cut(c + 1, total, common.n_active);
    while (s + 1 < common.n_sequences && sequences[s + 1].item_begin <= start.first_item) ++s;
    start.sequence = sequences[s];
    start.index = s;
    copy_first_spans(sequences[s], start.first_item, n_kv_heads, spans, start.first, sequences + s + 1, total);
  }
  return true;
}

// The most chunks of a step with so many items in so many segments: blocks and pages are cut apart.
constexpr uint64_t chunk_limit(uint64_t n_items, uint64_t n_segments) { return n_items / kChunkItems + 2 * n_segments; }

// Where chunk x of sequence s begins; x counts from the sequence's first.
inline uint32_t first_item_of_chunk(const SequenceWork& s, uint32_t x) {
  const uint32_t of_blocks = n_chunks(s.n_blocks), per_head = of_blocks + n_chunks(s.n_pages);
  const uint32_t head = x / per_head, k = x % per_head;
  const uint32_t in_head = k < of_blocks ? k * kChunkItems : s.n_blocks + (k - of_blocks) * kChunkItems;
  return s.item_begin + head * (s.n_blocks + s.n_pages) + in_head;
}

// The same for launches whose rows have bits that depend on nothing beside them: the items of each segment are cut into
// chunks of kChunkItems, blocks from the first block on and pages from the first page on, and a CTA takes whole chunks.
// So items may be appended to a segment, and the other chunks stay what they were; but
// which block and page come first must not depend on what else is in the step. False also where there are more than
// max_chunks, which the workspace is for.
inline bool plan_step_invariant(SequenceWork* sequences, uint32_t n_sequences, const SpanEntry* spans,
                                uint32_t n_kv_heads, uint32_t n_ctas, uint64_t max_chunks, CtaStart* starts) {
  CtaStart common;
  if (!number_items(sequences, n_sequences, n_kv_heads, n_ctas, common)) return false;
  const auto chunks_of = [&](uint32_t s) {
    return (n_chunks(sequences[s].n_blocks) + n_chunks(sequences[s].n_pages)) * n_kv_heads;
  };
  uint32_t total = 0;
  for (uint32_t s = 0; s < common.n_sequences; ++s) total += chunks_of(s);
  if (total > max_chunks) return false;
  const uint32_t n_active = common.n_active = total < n_ctas ? total : n_ctas, half = n_active / 2;
  // CTAs c and c + half are likely to share an SM: their cuts round at different places, so that not both get one more.
  const auto cut = [&](uint32_t c) {
    const uint64_t shift = c >= half && c < n_active ? half : 0;
    return static_cast<uint32_t>((uint64_t{c} * total + shift) / n_active);
  };
  uint32_t s = 0, before = 0;  // the sequence of a chunk; chunks before it
  const auto item_of = [&](uint32_t chunk) {
    if (chunk == total) return common.n_items;
    while (chunk - before >= chunks_of(s)) before += chunks_of(s++);
    return first_item_of_chunk(sequences[s], chunk - before);
  };
  for (uint32_t c = 0; c < n_ctas; ++c) {
    CtaStart& start = starts[c];
    start = common;
    if (c >= n_active) continue;
    start.first_chunk = cut(c);
    start.first_item = item_of(cut(c));
    start.sequence = sequences[s];
    start.index = s;
    copy_first_spans(sequences[s], start.first_item, n_kv_heads, spans, start.first, sequences + s + 1, common.n_items);
    start.last_item = item_of(cut(c + 1));
  }
  return true;
}

// What plan_step is given unless a test wants otherwise.
inline constexpr uint32_t kItemsPerCta = 3;

}  // namespace oscar::cuda
