// From exact rows to blocks on the host: at begin for the tokens that have aged, within a long step for those that age
// there.
#include <cstring>

#include "backend/host_engine.h"
#include "importance/choice.h"

namespace oscar {

// work.key, work.value and work.order are set.
void HostEngine::pack(uint32_t layer_class, uint32_t head_index, PackWork& work, uint8_t* block, uint32_t worker) {
  const LayerClass& c = plan_.classes[layer_class];
  work.layout = &c.layout;
  work.transform = transforms_[layer_class][head_index];
  work.key_dim = c.key_dim;
  work.value_dim = c.value_dim;
  work.shaped = !plan_.plain_writer && work.transform->metric_root;
  work.block = block;
  PackCounts counts;
  work.counts = &counts;
  backend_.pack(work, workers_[worker].scratch.data);
  add_counts(layer_class, head_index, counts);
}

uint64_t HostEngine::n_non_finite() const {
  uint64_t n = 0;
  for (const auto& of_class : counts_)
    for (const PackCounts& counts : of_class) n += counts.n_non_finite;
  return n;
}

void HostEngine::add_counts(uint32_t layer_class, uint32_t head_index, const PackCounts& more) {
  const auto add = [](uint64_t& to, uint64_t n) {
    if (n > 0) std::atomic_ref(to).fetch_add(n, std::memory_order_relaxed);
  };
  PackCounts& counts = counts_[layer_class][head_index / plan_.classes[layer_class].n_kv_heads];
  for (const auto side : {&PackCounts::keys, &PackCounts::values}) {
    add((counts.*side).n_elements, (more.*side).n_elements);
    add((counts.*side).n_clipped, (more.*side).n_clipped);
    add((counts.*side).n_blocks, (more.*side).n_blocks);
    add((counts.*side).n_worse, (more.*side).n_worse);
  }
  add(counts.n_non_finite, more.n_non_finite);
}

// A collecting cache remembers which tokens the votes have chosen; their rows stay where they are.
void HostEngine::pack_or_note(uint32_t layer_class, uint32_t head_index, const float* votes, PackWork& work,
                              uint8_t* block, uint32_t worker) {
  const BlockLayout& layout = plan_.classes[layer_class].layout;
  slot_order(votes, layout.h, work.order);
  if (!plan_.collecting)
    pack(layer_class, head_index, work, block, worker);
  else if (layout.has_ids())
    std::memcpy(block + layout.ids, work.order, layout.h);
}

void HostEngine::pack_frozen(const FreezeJob& job, const uint32_t* source, uint32_t head, uint32_t worker) {
  const LayerClass& c = plan_.classes[job.layer_class];
  uint8_t* block = block_at(c, job.block, head);
  PackWork work;
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    const RowPointers row = row_at(c, job.pages[source[t]], head, job.start + source[t]);
    work.key[t] = row.key;
    work.value[t] = row.value;
  }
  float votes[kBlockTokens] = {};
  if (c.layout.has_ids())
    for (uint32_t slot = 0; slot < c.layout.h; ++slot) votes[block[c.layout.ids + slot]] = 1.0f;
  slot_order(votes, c.layout.h, work.order);
  pack(job.layer_class, head, work, block, worker);
}

void HostEngine::freeze(const Calibration& calibration, std::span<const FreezeJob> jobs) {
  calibration_ = &calibration;
  use_transforms();
  for (const FreezeJob& job : jobs) {
    // A row that is gone is that of the last one before it, or else of the first: nobody will attend to it.
    uint32_t source[kBlockTokens], last = 0;
    while (job.pages[last] == kNoUnit) ++last;
    for (uint32_t t = 0; t < kBlockTokens; ++t) source[t] = last = job.pages[t] == kNoUnit ? last : t;
    pool_.run(static_cast<uint32_t>(plan_.classes[job.layer_class].heads()),
              [&](uint32_t head, uint32_t worker) { pack_frozen(job, source, head, worker); });
  }
}

void HostEngine::count(std::span<const CountJob> jobs) {
  for (const CountJob& job : jobs) {
    const LayerClass& c = plan_.classes[job.layer_class];
    for (uint32_t head = 0; head < c.heads(); ++head)
      for (uint64_t query = job.from; query < job.until; ++query)
        votes_at(c, job.scores, head).count(job.side, query, job.first, plan_.n_recent);
  }
}

void HostEngine::pack_aged(const PackJob& job, uint32_t head, uint32_t worker) {
  const LayerClass& c = plan_.classes[job.layer_class];
  PackWork work;
  float votes[kBlockTokens] = {};
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    const uint64_t token = job.start + t;
    const RowPointers row = row_at(c, job.pages[token / kPageTokens - job.start / kPageTokens], head, token);
    work.key[t] = row.key;
    work.value[t] = row.value;
    if (c.votes) votes[t] = votes_at(c, job.scores, head).score(job.side, token);
  }
  pack_or_note(job.layer_class, head, votes, work, block_at(c, job.block, head), worker);
}

void HostEngine::upkeep(uint32_t, const Upkeep& jobs) {
  count(jobs.counts);
  for (const PackJob& job : jobs.packs)
    pool_.run(static_cast<uint32_t>(plan_.classes[job.layer_class].heads()),
              [&](uint32_t head, uint32_t worker) { pack_aged(job, head, worker); });
  count(jobs.late_counts);
  for (const SideJob& job : jobs.sides) {
    const LayerClass& c = plan_.classes[job.layer_class];
    for (uint32_t head = 0; head < c.heads(); ++head) {
      const VoteArea votes = votes_at(c, job.scores, head);
      for (uint64_t token = job.first; token < job.last; ++token)
        votes.score(job.side ^ 1, token) = votes.score(job.side, token);
    }
  }
}

// Block `b` of those that a long step packs, of one head.
void HostEngine::pack_new(const StepView& step, const Part& p, uint32_t b, uint32_t head, uint32_t worker) {
  const StepEntry& e = p.entry;
  const uint64_t start = p.step.first_start + uint64_t{b} * kBlockTokens;
  const uint32_t index = head_index(p.c, p.layer, head);
  PackWork work;
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    const uint64_t token = start + t;
    const RowPointers row = token >= e.base ? scratch_row(step, p, head, e.row + (token - e.base))
                                            : row_at(p.c, p.sequence.pages[token / kPageTokens], index, token);
    work.key[t] = row.key;
    work.value[t] = row.value;
  }
  const float* votes = p.c.votes ? chunk_votes(step, p, head) + (start - p.sequence.packed_end) : nullptr;
  pack_or_note(p.layer.layer_class, index, votes, work, block_at(p.c, step.blocks[p.step.first_block + b], index),
               worker);
}

// Old pages stay as they are until end.
void HostEngine::pack_chunk(const StepView& step, uint32_t layer) {
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot) continue;
    const Part p = part_of(step, e, layer);
    pool_.run(p.step.n_blocks * p.c.n_kv_heads, [&](uint32_t task, uint32_t worker) {
      pack_new(step, p, task / p.c.n_kv_heads, task % p.c.n_kv_heads, worker);
    });
  }
}

}  // namespace oscar
