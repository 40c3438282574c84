// Attention of one layer on the host, head by head, and the votes it casts.
#include <algorithm>
#include <limits>

#include "backend/host_engine.h"

namespace oscar {

// Which tokens make a task of their own. The voters of an entry stay together, for their votes are added in their order;
// they come first, being the longest tasks.
void HostEngine::list_ranges(const StepView& step, const AttendRequest& r, bool votes) {
  ranges_.clear();
  const uint32_t most = tile_tokens(r.layer);
  auto n_voters = [&](const StepEntry& e) { return votes ? std::min(e.n_sure(), kMaxVoters) + e.n_draft : 0; };
  for (uint32_t i = 0; i < step.entries.size(); ++i) {
    const StepEntry& e = step.entries[i];
    const uint32_t n = n_voters(e);
    if (!e.sees_nothing() && n > 0) ranges_.push_back({i, e.n_new - n, n, true, 0});
  }
  for (uint32_t i = 0; i < step.entries.size(); ++i) {
    const StepEntry& e = step.entries[i];
    if (e.sees_nothing()) continue;
    const uint32_t end = e.n_new - n_voters(e);
    for (uint32_t first = 0; first < end; first += most)
      ranges_.push_back({i, first, std::min(most, end - first), false, 0});
  }
}

void HostEngine::gather_blocks(const Part& p, uint32_t head, Worker& worker) const {
  const uint64_t offset = uint64_t{head_index(p.c, p.layer, head)} * p.c.layout.bytes;
  worker.blocks.clear();
  for (const BlockEntry& b : p.sequence.blocks)
    if (b.start < p.sequence.exact_from) worker.blocks.push_back({data(b.unit) + offset, b.start, b.first, b.last});
}

// Exact rows of a head, ascending: sinks, the old tail, the new tokens.
void HostEngine::gather_rows(const StepView& step, const Part& p, uint32_t head, Worker& worker) {
  const StepEntry& e = p.entry;
  const LayerClass& c = p.c;
  const uint64_t in_pages = p.step.uses_scratch ? e.base : e.end();  // tokens before this one are read from pages
  const uint64_t tail = std::max(p.sequence.kept_from, c.exact ? 0 : p.sequence.exact_from);
  worker.rows.clear();
  auto add = [&](uint64_t first, uint64_t last) {
    while (first < last) {
      const uint64_t stop = std::min(last, (first / kPageTokens + 1) * kPageTokens);
      const RowPointers row = row_at(c, p.sequence.pages[first / kPageTokens], head_index(c, p.layer, head), first);
      worker.rows.push_back({row.key, row.value, first, static_cast<uint32_t>(stop - first), c.key_dim, c.value_dim});
      first = stop;
    }
  };
  add(0, std::min<uint64_t>(c.n_sink, in_pages));
  add(std::max<uint64_t>(tail, c.n_sink), in_pages);
  if (p.step.uses_scratch) {
    const RowPointers row = scratch_row(step, p, head, e.row);
    worker.rows.push_back({row.key, row.value, e.base, e.n_new, c.n_kv_heads * c.key_dim, c.n_kv_heads * c.value_dim});
  }
}

// All of the work but its tokens and its tile.
AttendWork HostEngine::describe(const Part& p, const AttendRequest& r, uint32_t head, Worker& worker) const {
  const StepEntry& e = p.entry;
  AttendWork work{};
  work.layout = &p.c.layout;
  work.transform = transforms_[p.layer.layer_class][head_index(p.c, p.layer, head)];
  work.key_dim = p.c.key_dim;
  work.value_dim = p.c.value_dim;
  work.group = p.layer.n_q_heads / p.c.n_kv_heads;
  work.n_new = e.n_new;
  work.first_position = e.base;
  work.window = p.c.window;
  work.scale = r.scale;
  work.softcap = r.softcap;
  work.sink_logits = r.sink_logits ? worker.sinks.data() : nullptr;
  work.mask = r.mask ? static_cast<const uint8_t*>(r.mask.data) + r.mask.offset(e.row, 0) : nullptr;
  work.mask_stride = static_cast<uint64_t>(r.mask.row_stride);
  work.q = worker.q.data();
  work.out = worker.out.data();
  work.lse = worker.lse.data();
  work.votes = worker.votes.data();
  return work;
}

void HostEngine::load_tile(const Part& p, const AttendRequest& r, uint32_t head, const AttendWork& work,
                           Worker& worker) const {
  for (uint32_t i = 0; i < work.n_tile_rows; ++i) {
    const uint64_t row = work.first_row + i;
    load_row(r.q, p.entry.row + row / work.group, head * work.group + static_cast<uint32_t>(row % work.group),
             work.key_dim, worker.q.data() + uint64_t{i} * work.key_dim);
  }
}

void HostEngine::store_tile(const Part& p, const AttendRequest& r, uint32_t head, const AttendWork& work,
                            const Worker& worker) const {
  for (uint32_t i = 0; i < work.n_tile_rows; ++i) {
    const uint64_t row = work.first_row + i, token = p.entry.row + row / work.group;
    const uint32_t q_head = head * work.group + static_cast<uint32_t>(row % work.group);
    store_row(r.out, token, q_head, work.value_dim, worker.out.data() + uint64_t{i} * work.value_dim);
    if (r.lse) store_row(r.lse, token, q_head, 1, &worker.lse[i]);
  }
}

// Who votes, for which tokens, and where the votes go for now.
void HostEngine::describe_votes(const Part& p, uint32_t n_voters, Worker& worker, AttendWork& work) const {
  // In a long step every voter counts for all undecided tokens: they age before more queries come.
  const uint64_t end = p.entry.end(), first_voter = end - n_voters;
  const uint64_t horizon = first_voter > plan_.n_recent ? first_voter - plan_.n_recent : 0;
  work.vote_first = p.step.ages ? p.sequence.packed_end : std::max(p.sequence.packed_end, horizon);
  work.n_voters = work.vote_first < end ? n_voters : 0;
  work.vote_stride = end - std::min(end, work.vote_first);
  std::fill_n(worker.votes.data(), work.n_voters * work.vote_stride, 0.0f);
}

void HostEngine::attend_range(const StepView& step, const AttendRequest& r, uint32_t index, uint32_t head,
                              Worker& worker) {
  const AttendRange& range = ranges_[index];
  const Part p = part_of(step, step.entries[range.entry], r.layer);
  AttendWork work = describe(p, r, head, worker);
  gather_blocks(p, head, worker);
  gather_rows(step, p, head, worker);
  work.blocks = worker.blocks.data();
  work.n_blocks = static_cast<uint32_t>(worker.blocks.size());
  work.rows = worker.rows.data();
  work.n_rows = static_cast<uint32_t>(worker.rows.size());
  if (range.n_splits > 0) work.partials = partials_at(index, p.c.n_kv_heads, head);
  if (range.votes) describe_votes(p, range.n, worker, work);
  if (r.sink_logits)
    for (uint32_t g = 0; g < work.group; ++g) load_row(r.sink_logits, 0, head * work.group + g, 1, &worker.sinks[g]);

  const uint64_t end_row = uint64_t{range.first + range.n} * work.group;
  const uint32_t tile_rows = tile_tokens(r.layer) * work.group;
  for (work.first_row = uint64_t{range.first} * work.group; work.first_row < end_row; work.first_row += tile_rows) {
    work.n_tile_rows = static_cast<uint32_t>(std::min<uint64_t>(tile_rows, end_row - work.first_row));
    load_tile(p, r, head, work, worker);
    backend_.attend(work, worker.scratch.data);
    store_tile(p, r, head, work, worker);
  }
  if (work.n_voters > 0) add_votes(step, p, head, work);
}

// Where the votes of this step's queries go: lines that may be rolled back, the open side, the chunk's own tokens.
void HostEngine::add_votes(const StepView& step, const Part& p, uint32_t head, const AttendWork& work) {
  const StepEntry& e = p.entry;
  const VoteArea votes = votes_at(p.c, p.sequence.scores, head_index(p.c, p.layer, head));
  const uint64_t sure_end = e.base + e.n_sure();
  const uint64_t first_line = p.entry.is_big(plan_.max_rollback) ? sure_end - plan_.max_rollback : e.base;
  float* chunk = p.step.n_blocks > 0 ? chunk_votes(step, p, head) : nullptr;
  for (uint32_t i = 0; i < work.n_voters; ++i) {
    const uint64_t query = e.end() - work.n_voters + i;
    const float* given = work.votes + i * work.vote_stride;
    const uint64_t horizon = query > plan_.n_recent && !p.step.ages ? query - plan_.n_recent : 0;
    const uint64_t reach = query > votes.layout.n_line ? query - votes.layout.n_line + 1 : 0;
    for (uint64_t token = work.vote_first; token < query; ++token) {
      const float vote = round_vote(given[token - work.vote_first]);
      if (chunk && query < sure_end && token < p.step.packed_end) chunk[token - p.sequence.packed_end] += vote;
      if (query >= first_line) {
        if (token >= reach) votes.vote(query, token) = f32_to_f16(vote);
      } else if (token >= horizon && token >= p.step.packed_end) {
        votes.score(p.sequence.side ^ 1, token) += vote;
      }
    }
  }
}

void HostEngine::attend_nothing(const StepEntry& e, const AttendRequest& r) {
  const float nothing = -std::numeric_limits<float>::infinity();
  const float zeros[kMaxHeadDim] = {};
  for (uint32_t i = 0; i < e.n_new; ++i)
    for (uint32_t head = 0; head < plan_.layers[r.layer].n_q_heads; ++head) {
      store_row(r.out, e.row + i, head, class_of(r.layer).value_dim, zeros);
      if (r.lse) store_row(r.lse, e.row + i, head, 1, &nothing);
    }
}

void HostEngine::attend(const StepView& step, const AttendRequest& r, bool votes) {
  for (const StepEntry& e : step.entries)
    if (e.sees_nothing()) attend_nothing(e, r);
  list_ranges(step, r, votes);
  const uint32_t n_heads = class_of(r.layer).n_kv_heads;
  const uint32_t n_tasks = static_cast<uint32_t>(ranges_.size()) * n_heads;
  // So few tasks that threads would wait for one another: `partials_` has room for these.
  if (pool_.n_threads() > 1 && n_tasks <= kTasksPerThread * pool_.n_threads()) attend_splits(step, r);
  pool_.run(n_tasks, [&](uint32_t task, uint32_t thread) {
    attend_range(step, r, task / n_heads, task % n_heads, workers_[thread]);
  });
}

}  // namespace oscar
