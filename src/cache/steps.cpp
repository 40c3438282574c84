// Steps as transactions: begin reserves everything or changes nothing, end commits, abort forgets.
#include <algorithm>

#include "cache/cache.h"
#include "cache/id.h"
#include "format/error.h"

namespace oscar {

void Cache::check_requests(std::span<const StepRequest> requests) const {
  const CacheConfig& config = plan_.config;
  uint64_t n_rows = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const StepRequest& r = requests[i];
    if (r.n_new == 0) throw Error(Status::kInvalid, "entries[%zu].n_new is 0", i);
    n_rows += r.n_new;
    if (n_rows > config.max_step_tokens)
      throw Error(Status::kInvalid, "the step has more than max_step_tokens = %u new tokens", config.max_step_tokens);
    if (r.seq == 0) continue;
    if (r.n_draft > r.n_new || r.n_draft >= config.max_rollback)
      throw Error(Status::kInvalid,
                  "entries[%zu].n_draft is %u, allowed: at most n_new = %u and less than max_rollback = %u", i,
                  r.n_draft, r.n_new, config.max_rollback);
    const Sequence& seq = sequences_[idle_slot_of(r.seq)];
    if (r.query_only && plan_.has_window())
      throw Error(Status::kUnsupported, "entries[%zu] is query-only, and a layer of the cache has a sliding window", i);
    if (!r.query_only && seq.length + r.n_new > config.max_tokens)
      throw Error(Status::kNoSpace, "entries[%zu]: %llu tokens + %u new exceed max_tokens = %llu", i,
                  static_cast<unsigned long long>(seq.length), r.n_new,
                  static_cast<unsigned long long>(config.max_tokens));
    for (size_t j = 0; j < i; ++j)
      if (requests[j].seq == r.seq)
        throw Error(Status::kInvalid, "entries[%zu] and entries[%zu] name the same sequence", j, i);
  }
  if (n_rows == 0) throw Error(Status::kInvalid, "the step has no entries");
}

bool Cache::needs_page(const LayerClass& c, const ClassState& s, const StepEntry& e, const StepPart& part,
                       uint64_t page) const {
  if (page < s.pages.size() && s.pages[page] != kNoUnit) return false;
  const uint64_t first = std::max(page * kPageTokens, e.base), last = std::min((page + 1) * kPageTokens, e.end());
  return first < last && (first < c.n_sink || last > part.persist_from);
}

// Decides what this entry packs and stores in every class, and counts the units that takes.
void Cache::plan_entry(Step& step, const StepEntry& e, std::span<uint64_t> units) {
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    const LayerClass& c = plan_.classes[i];
    const ClassState& s = state_of(e, i);
    const uint64_t n_aged = plan_.aged_blocks(c, s.packed_end, e.base), sure_end = e.base + e.n_sure();
    StepPart part;
    part.packed_end = s.packed_end + n_aged * kBlockTokens;
    part.persist_from = e.base;
    part.first_block = static_cast<uint32_t>(step.blocks.size());
    if (e.is_long()) {
      const uint64_t keep_from = plan_.keep_from(c, sure_end),
                     n_packed = plan_.aged_blocks(c, part.packed_end, sure_end);
      // Blocks that a window has already left behind are not written at all.
      const uint64_t n_gone = keep_from > part.packed_end
                                  ? std::min((keep_from - part.packed_end) / kBlockTokens, n_packed)
                                  : 0;
      part.first_start = part.packed_end + n_gone * kBlockTokens;
      part.n_blocks = static_cast<uint32_t>(n_packed - n_gone);
      part.packed_end += n_packed * kBlockTokens;
      part.persist_from = std::max(e.base, c.exact ? keep_from : part.packed_end);
      part.ages = part.persist_from > e.base;
      if (plan_.collecting && !c.exact) part.persist_from = e.base;  // every row stays
      part.uses_scratch = part.persist_from > e.base;
      step.blocks.resize(step.blocks.size() + part.n_blocks, kNoUnit);
    }
    if (s.blocks.size() + n_aged + part.n_blocks > sizes_.max_blocks && !c.exact)
      throw Error(Status::kNoSpace, "the sequence is cut into more than %zu blocks", sizes_.max_blocks);
    units[CachePlan::kind(i, UnitKind::kBlocks)] += n_aged + part.n_blocks;
    for (uint64_t page = e.base / kPageTokens; page * kPageTokens < e.end(); ++page)
      units[CachePlan::kind(i, UnitKind::kPage)] += needs_page(c, s, e, part, page);
    step.parts.push_back(part);
  }
}

// Notes that the next n_blocks blocks of the class are to be packed. Their pages are given back once that is done.
void Cache::note_packing(uint32_t i, ClassState& s, uint64_t n_blocks) {
  for (uint64_t b = 0; b < n_blocks; ++b) {
    PackJob job{};
    job.layer_class = i;
    job.block = pool_.allocate(CachePlan::kind(i, UnitKind::kBlocks));
    job.start = s.packed_end;
    for (uint32_t p = 0; p < std::size(job.pages); ++p) {
      const uint64_t page = job.start / kPageTokens + p;
      job.pages[p] = page < s.pages.size() ? s.pages[page] : kNoUnit;
    }
    job.scores = s.scores;
    job.side = s.side;
    packs_.push_back(job);
    s.blocks.push_back({job.start, job.block, 0, kBlockTokens});
    s.packed_end += kBlockTokens;
  }
}

void Cache::note_counting(std::pmr::vector<CountJob>& jobs, uint32_t i, ClassState& s, uint64_t until) {
  if (s.counted >= until) return;
  jobs.push_back({i, s.scores, s.side, s.counted, until, s.packed_end});
  s.counted = until;
}

// Takes what plan_entry counted. The pool has been asked: nothing fails here.
void Cache::reserve_entry(Step& step, const StepEntry& e) {
  const uint32_t max_rollback = plan_.config.max_rollback;
  const bool is_big = e.is_big(max_rollback);
  // Packing sees the same votes whatever step triggers it: those that were settled at this length.
  const uint64_t settled = e.base > max_rollback ? e.base - max_rollback : 0;
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    const LayerClass& c = plan_.classes[i];
    ClassState& s = state_of(e, i);
    StepPart& part = step.parts[e.classes + i];
    if (c.votes) note_counting(counts_, i, s, settled);
    for (uint64_t page = e.base / kPageTokens; page * kPageTokens < e.end(); ++page) {
      if (!needs_page(c, s, e, part, page)) continue;
      if (s.pages.size() <= page) s.pages.resize(page + 1, kNoUnit);
      s.pages[page] = pool_.allocate(CachePlan::kind(i, UnitKind::kPage));
    }
    for (uint32_t b = 0; b < part.n_blocks; ++b)
      step.blocks[part.first_block + b] = pool_.allocate(CachePlan::kind(i, UnitKind::kBlocks));
    part.old_packed_end = s.packed_end;
    note_packing(i, s, plan_.aged_blocks(c, s.packed_end, e.base));
    if (c.votes && is_big) note_counting(late_counts_, i, s, e.base);
    if (c.votes && is_big) sides_.push_back({i, s.scores, s.side, s.packed_end, std::max(s.packed_end, e.base)});
  }
}

// Where in a line of chunk votes each long entry has its tokens.
void Cache::place_chunk_votes(Step& step) {
  uint64_t offset = 0;
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot || !e.is_long()) continue;
    uint64_t widest = 0;
    for (uint32_t c = 0; c < plan_.classes.size(); ++c) {
      step.parts[e.classes + c].vote_offset = offset;
      if (plan_.classes[c].votes) widest = std::max(widest, e.end() - std::min(e.end(), state_of(e, c).packed_end));
    }
    offset += widest;
  }
}

// A long step packs what depends on where its sequences stand: it is not the same launches every time.
void Cache::check_replay(std::span<const StepRequest> requests) const {
  if (plan_.collecting)
    throw Error(Status::kState, "is_replay is 1, and the cache is collecting: oscar_cache_freeze comes first");
  if (plan_.config.device == Device::kCpu) throw Error(Status::kInvalid, "is_replay is 1, and the CPU has no graphs");
  for (size_t i = 0; i < requests.size(); ++i)
    if (requests[i].n_new - requests[i].n_draft > kBlockTokens)
      throw Error(Status::kUnsupported, "entries[%zu]: %u new tokens; a replayed step may have 128 of a sequence", i,
                  requests[i].n_new - requests[i].n_draft);
}

uint64_t Cache::begin(std::span<const StepRequest> requests, bool is_replay, void* stream) {
  check_requests(requests);
  if (is_replay) check_replay(requests);
  uint32_t slot = 0;
  while (slot < steps_.size() && steps_[slot].open) ++slot;
  if (slot == steps_.size()) throw Error(Status::kState, "all %zu steps are open (max_open_steps)", steps_.size());

  Step& step = steps_[slot];
  step.entries.clear();
  step.parts.clear();
  step.blocks.clear();
  step.n_rows = step.max_new = 0;
  std::fill(units_.begin(), units_.end(), 0);
  for (const StepRequest& r : requests) {
    StepEntry e{kPaddingSlot, r.n_new, r.n_draft, step.n_rows, static_cast<uint32_t>(step.parts.size()), 0,
                r.query_only};
    if (r.seq != 0) {
      e.slot = slot_of(r.seq);
      e.base = sequences_[e.slot].length;
      plan_entry(step, e, units_);
    }
    step.n_rows += r.n_new;
    step.max_new = std::max(step.max_new, r.n_new);
    step.entries.push_back(e);
  }
  if (!pool_.can_allocate(units_)) refuse_room("this step", units_);

  std::fill(step.progress.begin(), step.progress.end(), is_replay ? LayerProgress::kVoted : LayerProgress::kWaiting);
  std::fill(step.scratch_layer.begin(), step.scratch_layer.end(), kNoLayer);
  counts_.clear();
  late_counts_.clear();
  packs_.clear();
  sides_.clear();
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot) continue;
    sequences_[e.slot].in_step = true;
    reserve_entry(step, e);
  }
  if (!plan_.collecting) n_blocks_packed_ += packs_.size();
  engine_->use_stream(stream);
  engine_->upkeep(slot, {counts_, packs_, late_counts_, sides_});
  for (const StepEntry& e : step.entries) {
    for (uint32_t i = 0; e.slot != kPaddingSlot && i < plan_.classes.size(); ++i) {
      ClassState& s = state_of(e, i);
      StepPart& part = step.parts[e.classes + i];
      const uint64_t old_page = part.old_packed_end / kPageTokens;
      if (s.packed_end != part.old_packed_end)
        release_pages(plan_.classes[i], s, e.base, old_page, s.packed_end / kPageTokens + 1);
      part.sequence = view_of(s, i);
    }
  }
  place_chunk_votes(step);
  engine_->open(step.view());
  step.open = true;
  if (!packs_.empty()) report_packing();
  return SlotId{slot, ++step.generation}.join(steps_.size());
}

void Cache::close_step(Step& step) {
  for (const StepEntry& e : step.entries)
    if (e.slot != kPaddingSlot) sequences_[e.slot].in_step = false;
  step.open = false;
}

void Cache::commit_entry(const Step& step, const StepEntry& e) {
  Sequence& seq = sequences_[e.slot];
  seq.length = e.end();
  const uint64_t sure_end = e.base + e.n_sure();
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    const LayerClass& c = plan_.classes[i];
    const StepPart& part = step.parts[e.classes + i];
    ClassState& s = seq.classes[i];
    const uint64_t old_page = s.packed_end / kPageTokens;
    if (!plan_.collecting) n_blocks_packed_ += part.n_blocks;
    for (uint32_t b = 0; b < part.n_blocks; ++b)
      s.blocks.push_back(
          {part.first_start + uint64_t{b} * kBlockTokens, step.blocks[part.first_block + b], 0, kBlockTokens});
    s.packed_end = part.packed_end;
    release_pages(c, s, seq.length, old_page, s.packed_end / kPageTokens + 1);
    if (c.votes && e.is_big(plan_.config.max_rollback)) {
      s.side ^= 1;
      s.counted = sure_end - plan_.config.max_rollback;
    }
    drop_outside_window(i, s, sure_end);
  }
}

void Cache::end(uint64_t id) {
  Step& step = steps_[step_slot(id)];
  for (uint32_t l = 0; step.stores() && l < plan_.layers.size(); ++l)
    if (plan_.layers[l].owns && step.progress[l] == LayerProgress::kWaiting)
      throw Error(Status::kState, "layer %u has not been given its keys and values in this step", l);
  if (collector_) collect_step(step);
  for (uint32_t area = 0; area < plan_.n_scratch; ++area) finish_area(step, area);
  for (const StepEntry& e : step.entries)
    if (e.slot != kPaddingSlot) commit_entry(step, e);
  close_step(step);
  ++n_steps_;
  if (!step.blocks.empty()) report_packing();
}

void Cache::abort(uint64_t id) {
  Step& step = steps_[step_slot(id)];
  for (Unit unit : step.blocks) pool_.release(unit);
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot) continue;
    Sequence& seq = sequences_[e.slot];
    for (uint32_t i = 0; i < plan_.classes.size(); ++i)
      release_pages(plan_.classes[i], seq.classes[i], seq.length, seq.length / kPageTokens,
                    seq.classes[i].pages.size());
  }
  close_step(step);
}

}  // namespace oscar
