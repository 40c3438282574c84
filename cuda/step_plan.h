// What one step's attention launches read beside the tensors: which blocks and pages each sequence has, and which
// thread block (CTA) takes which of them. Plain data at fixed device addresses, so that a captured launch follows the
// cache as it grows; written once a step, used by every layer of a class.
//
// An item is one block or one page of exact rows, for one KV head. The items of a step are numbered
//     sequence by sequence, KV head by KV head, blocks before pages,
// and cut into n_active ranges, one for each CTA. A (sequence, KV head) is a segment.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar::cuda {

// Rows of one KV head that one segment can have; longer steps are several segments over the same spans.
inline constexpr uint32_t kMaxQueries = 32;
// Rows of a part that the decode kernel takes, in so many segments: more are faster in the prefill kernel.
inline constexpr uint32_t kMaxDecodeRows = 2 * kMaxQueries;

// The same in a batch-invariant step (plan_step_invariant), of padding too: one size of tile, whatever the step has.
inline constexpr uint32_t kInvariantQueries = 4;
// New tokens of a sequence that a batch-invariant step gives the decode kernel, whatever else the step has. So a draft of
// up to 15 tokens is verified with the bits of plain decoding.
inline constexpr uint32_t kInvariantTokens = 16;
OSCAR_HD constexpr uint32_t invariant_segments(uint32_t n_rows) {
  return (n_rows + kInvariantQueries - 1) / kInvariantQueries;
}
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
OSCAR_HD constexpr uint32_t items_per_head(const SequenceWork& s) { return s.n_blocks + s.n_pages; }

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

// The CTAs that have items of a segment: n_blocks from `first` on have blocks, n_pages from first_page on have pages.
// Where there are no blocks, first is first_page.
struct alignas(8) SegmentCtas {
  uint16_t first, n_blocks, first_page, n_pages;
  OSCAR_HD uint32_t n() const { return (n_pages ? first_page + n_pages : first + n_blocks) - first; }
};

// Cut k of n_items into n equal ranges. n_items * n < 2^32.
OSCAR_HD constexpr uint32_t item_cut(uint32_t k, uint32_t n_items, uint32_t n) { return n_items * k / n; }

// Entries of items item .. item + kFirstSpans - 1 that lie in sequence s.
inline void copy_first_spans(const SequenceWork& s, uint32_t item, uint32_t n_kv_heads, const SpanEntry* spans,
                             SpanEntry* first, const SequenceWork* next, uint32_t n_items) {
  const SequenceWork* w = &s;
  for (uint32_t i = 0; i < kFirstSpans && item + i < n_items; ++i) {
    while (item + i - w->item_begin >= items_per_head(*w) * n_kv_heads) w = next++;
    first[i] = spans[w->span_begin + (item + i - w->item_begin) % items_per_head(*w)];
  }
}

// Sets item_begin of every sequence, and what is the same in all starts. False where there are more than max_items.
inline bool number_items(SequenceWork* sequences, uint32_t n_sequences, uint32_t n_kv_heads, uint32_t max_items,
                         CtaStart& common) {
  uint64_t n_items = 0;
  uint32_t n_busy = 0;
  for (uint32_t s = 0; s < n_sequences; ++s) {
    sequences[s].item_begin = static_cast<uint32_t>(n_items);
    const uint64_t own = uint64_t{sequences[s].n_blocks} + sequences[s].n_pages;
    n_items += own * n_kv_heads;
    if (own > 0) n_busy = s + 1;
    if (n_items > max_items) return false;
  }
  common = {};
  common.n_items = static_cast<uint32_t>(n_items);
  common.n_sequences = n_busy;
  common.n_padding = n_sequences - n_busy;
  return true;
}

// What plan_step is given unless a test wants otherwise.
struct PlanCosts {
  // A CTA gets at least so many items while there are CTAs for all segments: below that, joining the CTAs costs more.
  uint32_t items_per_cta = 3;
  // To end a segment and begin another one takes a CTA as long as so many items (H100: shares of 413 items and none of
  // another segment are faster than 400, of 825 slower than 600).
  uint32_t straddle_items = 25;
};

// Shares of a segment that take their CTAs the same time, at least one item each. In quarters of a block, measured on an
// H100: a page of exact rows takes as long as 1.5 blocks, and to have both, whose sums are kept apart, as long as 4.
class SegmentShares {
 public:
  SegmentShares(uint32_t n_blocks, uint32_t n_pages, uint32_t n)
      : n_blocks_(n_blocks), n_pages_(n_pages), n_(n), both_(n_blocks > 0 && n_pages > 0 ? kBoth : 0) {}

  // The end of share k, which begins at item `first`.
  uint32_t end(uint32_t k, uint32_t first) const {
    const uint32_t wanted = cut(k + 1), least = first + 1, most = n_blocks_ + n_pages_ - (n_ - 1 - k);
    return wanted < least ? least : wanted < most ? wanted : most;
  }

 private:
  static constexpr uint32_t kBlock = 4, kPage = 6, kBoth = 16;

  uint32_t cut(uint32_t k) const {
    const uint64_t blocks = uint64_t{n_blocks_} * kBlock;
    const uint64_t at = (blocks + both_ + uint64_t{n_pages_} * kPage) * k / n_;
    if (at <= blocks) return static_cast<uint32_t>(at / kBlock);
    return n_blocks_ + (at <= blocks + both_ ? 0 : static_cast<uint32_t>((at - blocks - both_) / kPage));
  }

  uint32_t n_blocks_, n_pages_, n_, both_;
};

// Fills in the CTAs of a plan one after the other.
class StartWriter {
 public:
  StartWriter(const SequenceWork* sequences, const SpanEntry* spans, uint32_t n_kv_heads, const CtaStart& common,
              CtaStart* starts)
      : sequences_(sequences), spans_(spans), n_kv_heads_(n_kv_heads), common_(common), starts_(starts) {}

  void add(uint32_t first_item, uint32_t last_item, uint32_t first_chunk = 0) {
    while (s_ + 1 < common_.n_sequences && sequences_[s_ + 1].item_begin <= first_item) ++s_;
    CtaStart& start = starts_[n_++];
    start = common_;
    start.first_item = first_item;
    start.last_item = last_item;
    start.first_chunk = first_chunk;
    start.sequence = sequences_[s_];
    start.index = s_;
    copy_first_spans(sequences_[s_], first_item, n_kv_heads_, spans_, start.first, sequences_ + s_ + 1,
                     common_.n_items);
  }

 private:
  const SequenceWork* sequences_;
  const SpanEntry* spans_;
  const uint32_t n_kv_heads_;
  const CtaStart& common_;
  CtaStart* starts_;
  uint32_t s_ = 0, n_ = 0;
};

// How many CTAs it takes if each has at most `load` items, all of one segment.
inline uint64_t ctas_of_load(const SequenceWork* sequences, uint32_t n_sequences, uint32_t n_kv_heads, uint32_t load) {
  uint64_t n = 0;
  for (uint32_t s = 0; s < n_sequences; ++s) n += (items_per_head(sequences[s]) + load - 1) / load;
  return n * n_kv_heads;
}

// The least load, at least items_per_cta, for which n_ctas suffice; 0 where there are more segments than CTAs.
inline uint32_t least_load(const SequenceWork* sequences, uint32_t n_sequences, uint32_t n_kv_heads, uint32_t n_ctas,
                           uint32_t items_per_cta) {
  uint32_t high = items_per_cta;
  for (uint32_t s = 0; s < n_sequences; ++s)
    if (high < items_per_head(sequences[s])) high = items_per_head(sequences[s]);
  if (ctas_of_load(sequences, n_sequences, n_kv_heads, high) > n_ctas) return 0;
  for (uint32_t low = items_per_cta; low < high;) {
    const uint32_t middle = low + (high - low) / 2;
    if (ctas_of_load(sequences, n_sequences, n_kv_heads, middle) <= n_ctas)
      high = middle;
    else
      low = middle + 1;
  }
  return high;
}

// Which CTAs share each segment: segments[sequence * n_kv_heads + KV head].
inline void note_ctas(const SequenceWork* sequences, uint32_t n_sequences, uint32_t n_kv_heads, const CtaStart* starts,
                      SegmentCtas* segments) {
  uint32_t c = 0;
  const auto cta_of = [&](uint32_t item) {  // items ascend
    while (starts[c].last_item <= item) ++c;
    return c;
  };
  for (uint32_t s = 0; s < n_sequences; ++s)
    for (uint32_t head = 0; head < n_kv_heads; ++head) {
      const SequenceWork& w = sequences[s];
      const uint32_t begin = w.item_begin + head * items_per_head(w), middle = begin + w.n_blocks;
      SegmentCtas& g = segments[s * n_kv_heads + head];
      g = {};
      if (items_per_head(w) == 0) continue;
      g.first = static_cast<uint16_t>(cta_of(begin));
      if (w.n_blocks > 0) g.n_blocks = static_cast<uint16_t>(cta_of(middle - 1) - g.first + 1);
      if (w.n_pages == 0) continue;
      g.first_page = static_cast<uint16_t>(cta_of(middle));
      g.n_pages = static_cast<uint16_t>(cta_of(middle + w.n_pages - 1) - g.first_page + 1);
    }
}

// Numbers the items: sets item_begin of every sequence, fills starts[0 .. n_ctas) and segments[0 .. n_sequences *
// n_kv_heads). Sequences without items come last. n_ctas: at most 65535. Either the items are cut evenly, and a CTA
// may have the end of one segment and the beginning of another; or each CTA has items of one segment only: what is
// likely to take the busiest CTA less time. False where the step has too many items (2^32 / n_ctas) for one launch.
inline bool plan_step(SequenceWork* sequences, uint32_t n_sequences, const SpanEntry* spans, uint32_t n_kv_heads,
                      uint32_t n_ctas, const PlanCosts& costs, CtaStart* starts, SegmentCtas* segments) {
  CtaStart common;
  if (!number_items(sequences, n_sequences, n_kv_heads, UINT32_MAX / n_ctas, common)) return false;
  const uint32_t total = common.n_items;
  const uint32_t n_segments = common.n_sequences * n_kv_heads, n_shares = total / costs.items_per_cta;
  const uint32_t wanted = n_shares > n_segments ? n_shares : n_segments, n_most = total < n_ctas ? total : n_ctas;
  const uint32_t n_even = wanted < n_most ? wanted : n_most;
  const uint32_t load = least_load(sequences, common.n_sequences, n_kv_heads, n_ctas, costs.items_per_cta);
  const bool evenly = load == 0 || (n_even > 0 && load > (total + n_even - 1) / n_even + costs.straddle_items);
  common.n_active = evenly ? n_even
                           : static_cast<uint32_t>(ctas_of_load(sequences, common.n_sequences, n_kv_heads, load));
  StartWriter writer(sequences, spans, n_kv_heads, common, starts);
  if (evenly) {
    for (uint32_t c = 0; c < n_even; ++c) writer.add(item_cut(c, total, n_even), item_cut(c + 1, total, n_even));
  } else {
    for (uint32_t s = 0; s < common.n_sequences; ++s) {
      const SequenceWork& w = sequences[s];
      const uint32_t n_items = items_per_head(w), n = (n_items + load - 1) / load;
      const SegmentShares shares(w.n_blocks, w.n_pages, n);
      for (uint32_t head = 0; head < n_kv_heads; ++head) {
        const uint32_t begin = w.item_begin + head * n_items;
        for (uint32_t k = 0, first = 0; k < n; ++k) {
          const uint32_t last = shares.end(k, first);
          writer.add(begin + first, begin + last);
          first = last;
        }
      }
    }
  }
  for (uint32_t c = common.n_active; c < n_ctas; ++c) starts[c] = common;
  note_ctas(sequences, n_sequences, n_kv_heads, starts, segments);
  return true;
}

// The most chunks of a step with so many items in so many segments: blocks and pages are cut apart.
constexpr uint64_t chunk_limit(uint64_t n_items, uint64_t n_segments) { return n_items / kChunkItems + 2 * n_segments; }

// Where chunk x of sequence s begins; x counts from the sequence's first.
inline uint32_t first_item_of_chunk(const SequenceWork& s, uint32_t x) {
  const uint32_t of_blocks = n_chunks(s.n_blocks), per_head = of_blocks + n_chunks(s.n_pages);
  const uint32_t head = x / per_head, k = x % per_head;
  const uint32_t in_head = k < of_blocks ? k * kChunkItems : s.n_blocks + (k - of_blocks) * kChunkItems;
  return s.item_begin + head * items_per_head(s) + in_head;
}

// The same for launches whose rows have bits that depend on nothing beside them: the items of each segment are cut into
// chunks of kChunkItems, blocks from the first block on and pages from the first page on, and a CTA takes whole chunks.
// So items may be appended to a segment, and the other chunks stay what they were; but which block and page come first
// must not depend on what else is in the step. False also where there are more than max_chunks, which the workspace is
// for.
inline bool plan_step_invariant(SequenceWork* sequences, uint32_t n_sequences, const SpanEntry* spans,
                                uint32_t n_kv_heads, uint32_t n_ctas, uint64_t max_chunks, CtaStart* starts) {
  CtaStart common;
  if (!number_items(sequences, n_sequences, n_kv_heads, UINT32_MAX, common)) return false;
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
  StartWriter writer(sequences, spans, n_kv_heads, common, starts);
  for (uint32_t c = 0, first = 0; c < n_active; ++c) {
    const uint32_t last = item_of(cut(c + 1));
    writer.add(first, last, cut(c));
    first = last;
  }
  for (uint32_t c = n_active; c < n_ctas; ++c) starts[c] = common;
  return true;
}

}  // namespace oscar::cuda
