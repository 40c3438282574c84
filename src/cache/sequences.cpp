// Opening, closing, forking and cutting sequences.
#include <algorithm>

#include "cache/cache.h"
#include "cache/id.h"
#include "format/error.h"

namespace oscar {

namespace {

uint32_t kind_of(uint32_t c, UnitKind kind) { return CachePlan::kind(c, kind); }

}  // namespace

void Cache::refuse_room(const char* what, std::span<const uint64_t> units) const {
  throw Error(Status::kNoSpace, "the pool has no room for %s: %llu bytes short, %llu of %llu are in use%s", what,
              static_cast<unsigned long long>(pool_.bytes_short(units)),
              static_cast<unsigned long long>(pool_.bytes_in_slabs()),
              static_cast<unsigned long long>(pool_.arena_bytes()),
              plan_.collecting ? "; the cache keeps every token exact until oscar_cache_freeze" : "");
}

uint64_t Cache::open() {
  uint32_t slot = 1;
  while (slot < sequences_.size() && sequences_[slot].open) ++slot;
  if (slot == sequences_.size())
    throw Error(Status::kNoSpace, "all %zu sequences are open (max_sequences)", sequences_.size() - 1);
  std::fill(units_.begin(), units_.end(), 0);
  for (uint32_t c = 0; c < plan_.classes.size(); ++c) units_[kind_of(c, UnitKind::kScores)] = plan_.classes[c].votes;
  if (!pool_.can_allocate(units_)) refuse_room("a sequence's scores", units_);
  Sequence& seq = sequences_[slot];
  for (uint32_t c = 0; c < plan_.classes.size(); ++c) {
    ClassState& s = seq.classes[c];
    s.packed_end = plan_.classes[c].n_sink;
    s.kept_from = s.counted = 0;
    s.side = 0;
    s.scores = plan_.classes[c].votes ? pool_.allocate(kind_of(c, UnitKind::kScores)) : kNoUnit;
  }
  seq.length = 0;
  seq.number = n_opened_++;
  seq.collected = block_grid(0);
  seq.open = true;
  return SlotId{slot, ++seq.generation}.join(sequences_.size());
}

void Cache::release_all(Sequence& seq) {
  for (ClassState& s : seq.classes) {
    for (const BlockEntry& b : s.blocks) pool_.release(b.unit);
    for (Unit page : s.pages)
      if (page != kNoUnit) pool_.release(page);
    if (s.scores != kNoUnit) pool_.release(s.scores);
    s.blocks.clear();
    s.pages.clear();
    s.scores = kNoUnit;
  }
}

void Cache::close(uint64_t id) {
  Sequence& seq = sequences_[idle_slot_of(id)];
  if (collector_) collect_rest(seq);
  release_all(seq);
  seq.open = false;
}

// Exact tokens: sinks, and what is neither packed nor dropped by a window.
bool Cache::page_holds(const LayerClass& c, const ClassState& s, uint64_t length, uint64_t page) const {
  const uint64_t begin = page * kPageTokens, end = std::min(begin + kPageTokens, length);
  const uint64_t tail = exact_from(c, s);
  return begin < std::min<uint64_t>(c.n_sink, length) || (tail < end && begin < end);
}

void Cache::release_pages(const LayerClass& c, ClassState& s, uint64_t length, uint64_t first, uint64_t last) {
  for (uint64_t page = first; page < std::min<uint64_t>(last, s.pages.size()); ++page) {
    if (s.pages[page] == kNoUnit || page_holds(c, s, length, page)) continue;
    pool_.release(s.pages[page]);
    s.pages[page] = kNoUnit;
  }
  while (!s.pages.empty() && s.pages.back() == kNoUnit) s.pages.pop_back();
}

// The next query, at n_tokens, sees the tokens from n_tokens + 1 - window on.
void Cache::check_cut(const Sequence& seq, uint64_t n_tokens) const {
  if (n_tokens > seq.length)
    throw Error(Status::kInvalid, "n_tokens is %llu, the sequence has %llu", static_cast<unsigned long long>(n_tokens),
                static_cast<unsigned long long>(seq.length));
  if (n_tokens == 0) return;
  for (size_t c = 0; c < plan_.classes.size(); ++c) {
    const uint64_t window = plan_.classes[c].window, kept = seq.classes[c].kept_from;
    const uint64_t needed = n_tokens + 1 > window ? n_tokens + 1 - window : 0;
    if (window > 0 && kept > needed)
      throw Error(Status::kState,
                  "a sliding window of %llu has dropped the tokens before %llu; cut at 0 or at %llu or later",
                  static_cast<unsigned long long>(window), static_cast<unsigned long long>(kept),
                  static_cast<unsigned long long>(kept + window - 1));
  }
}

void Cache::cut(Sequence& seq, uint64_t n_tokens) {
  seq.length = n_tokens;
  seq.collected = std::min(seq.collected, block_grid(n_tokens));
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    const LayerClass& c = plan_.classes[i];
    ClassState& s = seq.classes[i];
    if (n_tokens == 0) s.kept_from = 0;
    while (!s.blocks.empty() && s.blocks.back().start + s.blocks.back().first >= n_tokens) {
      pool_.release(s.blocks.back().unit);
      s.blocks.pop_back();
    }
    if (!s.blocks.empty() && s.blocks.back().end() > n_tokens)
      s.blocks.back().last = static_cast<uint8_t>(n_tokens - s.blocks.back().start);
    s.packed_end = std::max<uint64_t>(c.n_sink, std::min(s.packed_end, n_tokens));
    s.counted = std::min(s.counted, n_tokens);
    release_pages(c, s, n_tokens, n_tokens / kPageTokens, s.pages.size());
  }
}

void Cache::count_rollback(const Sequence& seq, uint64_t n_kept) {
  n_rollbacks_ += n_kept < seq.length;
  n_tokens_forgotten_ += seq.length - n_kept;
}

void Cache::truncate(uint64_t id, uint64_t n_tokens) {
  Sequence& seq = sequences_[idle_slot_of(id)];
  check_cut(seq, n_tokens);
  count_rollback(seq, n_tokens);
  cut(seq, n_tokens);
}

uint64_t Cache::fork(uint64_t parent_id, uint64_t n_tokens) {
  const Sequence& parent = sequences_[idle_slot_of(parent_id)];
  check_cut(parent, n_tokens);

  // What the child copies, before anything is taken; open() adds its scores.
  std::fill(units_.begin(), units_.end(), 0);
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    const LayerClass& c = plan_.classes[i];
    ClassState cut_view(&memory_);  // the parent's limits after the cut; holds no memory
    cut_view.kept_from = n_tokens ? parent.classes[i].kept_from : 0;
    cut_view.packed_end = std::max<uint64_t>(c.n_sink, std::min(parent.classes[i].packed_end, n_tokens));
    for (uint64_t page = 0; page < parent.classes[i].pages.size(); ++page)
      if (parent.classes[i].pages[page] != kNoUnit && page_holds(c, cut_view, n_tokens, page))
        ++units_[kind_of(i, UnitKind::kPage)];
    units_[kind_of(i, UnitKind::kScores)] = c.votes;
  }
  if (!pool_.can_allocate(units_)) refuse_room("a copy of the exact rows", units_);
  const uint64_t id = open();
  Sequence& child = sequences_[slot_of(id)];
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    const LayerClass& c = plan_.classes[i];
    const ClassState& from = parent.classes[i];
    ClassState& to = child.classes[i];
    to.blocks.assign(from.blocks.begin(), from.blocks.end());
    for (const BlockEntry& b : to.blocks) pool_.share(b.unit);
    to.packed_end = from.packed_end;
    to.kept_from = from.kept_from;
    to.side = from.side;
    to.counted = from.counted;
    if (c.votes) engine_->copy_unit(i, UnitKind::kScores, from.scores, to.scores);
  }
  child.number = parent.number;
  child.collected = block_grid(n_tokens);  // the parent's tokens count once
  cut(child, n_tokens);
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    const LayerClass& c = plan_.classes[i];
    const ClassState& from = parent.classes[i];
    ClassState& to = child.classes[i];
    to.pages.assign(from.pages.size(), kNoUnit);
    for (uint64_t page = 0; page < from.pages.size(); ++page) {
      if (from.pages[page] == kNoUnit || !page_holds(c, to, n_tokens, page)) continue;
      to.pages[page] = pool_.allocate(kind_of(i, UnitKind::kPage));
      engine_->copy_unit(i, UnitKind::kPage, from.pages[page], to.pages[page]);
    }
    release_pages(c, to, n_tokens, 0, to.pages.size());
  }
  return id;
}

void Cache::accept(uint64_t id, uint64_t base, std::span<const uint32_t> indices) {
  Sequence& seq = sequences_[idle_slot_of(id)];
  const uint64_t n_kept = base + indices.size();
  if (base > seq.length || indices.size() > seq.length - base)
    throw Error(Status::kInvalid, "base %llu + %zu indices exceed the sequence's %llu tokens",
                static_cast<unsigned long long>(base), indices.size(), static_cast<unsigned long long>(seq.length));
  for (size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= seq.length - base || (i > 0 && indices[i] <= indices[i - 1]))
      throw Error(Status::kInvalid, "indices[%zu] is %u, wanted: ascending, below %llu", i, indices[i],
                  static_cast<unsigned long long>(seq.length - base));
  }
  check_cut(seq, n_kept);
  for (size_t c = 0; c < plan_.classes.size(); ++c) {
    const ClassState& s = seq.classes[c];
    const bool packed = !s.blocks.empty() && s.blocks.back().end() > base;
    if (packed || base < s.kept_from || (plan_.classes[c].votes && base < s.counted))
      throw Error(Status::kState,
                  "tokens from %llu on are no drafts: they are packed, dropped, or their votes are counted",
                  static_cast<unsigned long long>(base));
  }
  for (uint32_t c = 0; c < plan_.classes.size(); ++c)
    engine_->move_accepted(c, view_of(seq.classes[c], c), base, indices);
  count_rollback(seq, n_kept);
  cut(seq, n_kept);
}

void Cache::drop_outside_window(uint32_t i, ClassState& s, uint64_t length) {
  const LayerClass& c = plan_.classes[i];
  const uint64_t keep_from = plan_.keep_from(c, length);
  if (keep_from <= s.kept_from) return;
  const uint64_t old_page = s.kept_from / kPageTokens;
  s.kept_from = keep_from;
  size_t gone = 0;
  while (gone < s.blocks.size() && s.blocks[gone].end() <= keep_from) pool_.release(s.blocks[gone++].unit);
  s.blocks.erase(s.blocks.begin(), s.blocks.begin() + static_cast<std::ptrdiff_t>(gone));
  release_pages(c, s, length, old_page, keep_from / kPageTokens + 1);
}

}  // namespace oscar
