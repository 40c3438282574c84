// The plan of a decode launch is arithmetic of the host: every item once, and what the CTAs are told about each other.
#include "../cuda/step_plan.h"

#include <doctest/doctest.h>

#include <vector>

using namespace oscar;
using namespace oscar::cuda;

namespace {

struct Plan {
  std::vector<SequenceWork> sequences;
  std::vector<SpanEntry> spans;
  std::vector<CtaStart> starts;
  std::vector<SegmentCtas> segments;
  uint32_t n_kv_heads, n_active;
};

uint32_t next(uint32_t& state, uint32_t below) {
  state = state * 1664525u + 1013904223u;
  return (state >> 8) % below;
}

Plan random_plan(uint32_t seed, const PlanCosts& costs) {
  uint32_t state = seed;
  Plan p{};
  p.n_kv_heads = 1 + next(state, 8);
  const uint32_t n_sequences = 1 + next(state, 6), n_padding = next(state, 3), n_ctas = 1 + next(state, 150);
  const uint32_t longest = 1 + next(state, 200);
  for (uint32_t s = 0; s < n_sequences + n_padding; ++s) {
    SequenceWork w{};
    w.span_begin = static_cast<uint32_t>(p.spans.size());
    if (s < n_sequences) {
      w.n_blocks = next(state, longest);
      w.n_pages = next(state, 30) + (w.n_blocks == 0);
    }
    for (uint32_t k = 0; k < w.n_blocks + w.n_pages; ++k) p.spans.push_back({s, k, 0, 1, 0});
    p.sequences.push_back(w);
  }
  p.starts.resize(n_ctas);
  p.segments.resize(p.sequences.size() * p.n_kv_heads);
  REQUIRE(plan_step(p.sequences.data(), static_cast<uint32_t>(p.sequences.size()), p.spans.data(), p.n_kv_heads, n_ctas,
                    costs, p.starts.data(), p.segments.data()));
  p.n_active = p.starts[0].n_active;
  return p;
}

// Which CTA has the item, by looking at all of them.
uint32_t cta_of(const Plan& p, uint32_t item) {
  for (uint32_t c = 0; c < p.n_active; ++c)
    if (item >= p.starts[c].first_item && item < p.starts[c].last_item) return c;
  return ~0u;
}

void check_items(const Plan& p) {
  uint32_t item = 0;
  for (uint32_t c = 0; c < p.n_active; ++c) {
    const CtaStart& start = p.starts[c];
    REQUIRE(start.first_item == item);
    REQUIRE(start.last_item > item);
    const SequenceWork& w = p.sequences[start.index];
    REQUIRE(w.item_begin <= item);
    REQUIRE(item - w.item_begin < items_per_head(w) * p.n_kv_heads);
    REQUIRE(start.sequence.span_begin == w.span_begin);
    REQUIRE(start.first[0].unit == start.index);
    REQUIRE(start.first[0].start == (item - w.item_begin) % items_per_head(w));
    item = start.last_item;
  }
  REQUIRE(item == p.starts[0].n_items);
}

void check_segments(const Plan& p) {
  for (uint32_t s = 0; s < p.sequences.size(); ++s)
    for (uint32_t head = 0; head < p.n_kv_heads; ++head) {
      const SequenceWork& w = p.sequences[s];
      const SegmentCtas& g = p.segments[s * p.n_kv_heads + head];
      if (items_per_head(w) == 0) continue;
      const uint32_t begin = w.item_begin + head * items_per_head(w), middle = begin + w.n_blocks,
                     end = middle + w.n_pages;
      REQUIRE(g.first == cta_of(p, begin));
      REQUIRE(g.n() == cta_of(p, end - 1) - g.first + 1);
      REQUIRE(g.n_blocks == (w.n_blocks ? cta_of(p, middle - 1) - g.first + 1 : 0));
      REQUIRE(g.n_pages == (w.n_pages ? cta_of(p, end - 1) - cta_of(p, middle) + 1 : 0));
      if (w.n_pages) REQUIRE(g.first_page == cta_of(p, middle));
    }
}

// CTAs that have items of more than one segment.
uint32_t n_straddling(const Plan& p) {
  uint32_t n = 0;
  for (uint32_t c = 0; c < p.n_active; ++c) {
    uint32_t own = 0;
    for (const SegmentCtas& g : p.segments) own += g.n_blocks + g.n_pages > 0 && c >= g.first && c < g.first + g.n();
    n += own > 1;
  }
  return n;
}

}  // namespace

TEST_CASE("a plan has every item once and knows which CTAs share a segment") {
  uint32_t n_straddled = 0, n_whole = 0;
  for (uint32_t seed = 0; seed < 600; ++seed) {
    const Plan p = random_plan(seed, {1 + seed % 4, seed % 3 == 0 ? 0u : seed % 3 == 1 ? 8u : 100000u});
    check_items(p);
    check_segments(p);
    const uint32_t n_busy = p.starts[0].n_sequences * p.n_kv_heads;
    const bool straddles = n_straddling(p) > 0;
    if (seed % 3 == 2 && n_busy <= p.starts.size()) REQUIRE(!straddles);
    (straddles ? n_straddled : n_whole) += 1;
  }
  CHECK(n_straddled > 100);
  CHECK(n_whole > 100);
}

TEST_CASE("equal shares of a segment: pages of exact rows count for more than blocks") {
  // 100K tokens, 8 KV heads, 132 CTAs: 16 CTAs a segment.
  SequenceWork w{};
  w.n_blocks = 797;
  w.n_pages = 20;
  std::vector<SpanEntry> spans(w.n_blocks + w.n_pages);
  std::vector<CtaStart> starts(132);
  std::vector<SegmentCtas> segments(8);
  REQUIRE(plan_step(&w, 1, spans.data(), 8, 132, {}, starts.data(), segments.data()));
  CHECK(starts[0].n_active == 128);
  for (uint32_t c = 0; c < 128; ++c) {
    const uint32_t begin = starts[c].first_item % 817, end = (starts[c].last_item - 1) % 817 + 1;
    const uint32_t n_pages = end > 797 ? end - (begin > 797 ? begin : 797) : 0, n_blocks = end - begin - n_pages;
    const double cost = n_blocks + 1.5 * n_pages + (n_blocks && n_pages ? 4 : 0);
    CHECK(cost > 50.0);
    CHECK(cost < 54.0);
  }
}
