// Attention of one layer on the host, head by head, and the votes it casts.
#include <algorithm>
#include <limits>

#include "backend/host_engine.h"

namespace oscar {

// Exact rows of head 0, ascending: sinks, the old tail, the new tokens. Other heads are a constant further on, except
// that scratch rows have their own distance. Returns how many spans are in pages.
uint32_t HostEngine::gather_rows(const StepView& step, const Part& p) {
  const StepEntry& e = p.entry;
  const LayerClass& c = p.c;
  const uint64_t in_pages = p.step.uses_scratch ? e.base : e.end();  // tokens before this one are read from pages
  const uint64_t tail = std::max(p.sequence.kept_from, c.exact ? 0 : p.sequence.exact_from);
  row_spans_.clear();
  auto add = [&](uint64_t first, uint64_t last) {
    while (first < last) {
      const uint64_t stop = std::min(last, (first / kPageTokens + 1) * kPageTokens);
      const RowPointers row = row_at(c, p.sequence.pages[first / kPageTokens], head_index(c, p.layer, 0), first);
      row_spans_.push_back({row.key, row.value, first, static_cast<uint32_t>(stop - first), c.key_dim, c.value_dim});
      first = stop;
    }
  };
  add(0, std::min<uint64_t>(c.n_sink, in_pages));
  add(std::max<uint64_t>(tail, c.n_sink), in_pages);
  const uint32_t n_in_pages = static_cast<uint32_t>(row_spans_.size());
  if (p.step.uses_scratch) {
    const RowPointers row = scratch_row(step, p, 0, e.row);
    row_spans_.push_back({row.key, row.value, e.base, e.n_new, c.n_kv_heads * c.key_dim, c.n_kv_heads * c.value_dim});
  }
  return n_in_pages;
}

// All of the work but its pointers to heads.
AttendWork HostEngine::describe(const Part& p, const AttendRequest& r, bool votes) {
  const StepEntry& e = p.entry;
  const uint32_t n_voters = std::min(e.n_sure(), kMaxVoters) + e.n_draft;
  const uint64_t first_voter = e.end() - n_voters;
  const uint64_t horizon = first_voter > plan_.n_recent ? first_voter - plan_.n_recent : 0;
  AttendWork work{};
  work.layout = &p.c.layout;
  work.key_dim = p.c.key_dim;
  work.value_dim = p.c.value_dim;
  work.group = p.layer.n_q_heads / p.c.n_kv_heads;
  work.n_new = e.n_new;
  work.first_position = e.base;
  work.window = p.c.window;
  work.scale = r.scale;
  work.softcap = r.softcap;
  work.sink_logits = r.sink_logits ? sinks_.data() : nullptr;
  work.mask = r.mask ? static_cast<const uint8_t*>(r.mask.data) + r.mask.offset(e.row, 0) : nullptr;
  work.mask_stride = static_cast<uint64_t>(r.mask.row_stride);
  work.q = q_.data();
  work.out = out_.data();
  work.lse = lse_.data();
  // In a long step every voter counts for all undecided tokens: they age before more queries come.
  work.vote_first = p.step.ages ? p.sequence.packed_end : std::max(p.sequence.packed_end, horizon);
  work.n_voters = votes && work.vote_first < e.end() ? n_voters : 0;
  work.votes = votes_.data();
  work.vote_stride = e.end() - std::min(e.end(), work.vote_first);
  return work;
}

void HostEngine::attend_part(const StepView& step, const Part& p, const AttendRequest& r, bool votes) {
  const StepEntry& e = p.entry;
  const LayerClass& c = p.c;
  AttendWork work = describe(p, r, votes);
  const uint64_t class_head = head_index(c, p.layer, 0), head_elements = c.head_page_bytes / sizeof(uint16_t);
  block_spans_.clear();
  for (const BlockEntry& b : p.sequence.blocks)
    if (b.start < p.sequence.exact_from)
      block_spans_.push_back({data(b.unit) + class_head * c.layout.bytes, b.start, b.first, b.last});
  const uint32_t n_in_pages = gather_rows(step, p);
  work.blocks = block_spans_.data();
  work.n_blocks = static_cast<uint32_t>(block_spans_.size());
  work.rows = row_spans_.data();
  work.n_rows = static_cast<uint32_t>(row_spans_.size());

  for (uint32_t head = 0; head < c.n_kv_heads; ++head) {
    const uint32_t first_q = head * work.group;
    work.transform = transforms_[p.layer.layer_class][class_head + head];
    for (uint32_t i = 0; i < e.n_new; ++i)
      for (uint32_t g = 0; g < work.group; ++g)
        load_row(r.q, e.row + i, first_q + g, c.key_dim, q_.data() + (uint64_t{i} * work.group + g) * c.key_dim);
    if (r.sink_logits)
      for (uint32_t g = 0; g < work.group; ++g) load_row(r.sink_logits, 0, first_q + g, 1, &sinks_[g]);
    backend_.attend(work, backend_scratch_.data);
    for (uint32_t i = 0; i < e.n_new; ++i)
      for (uint32_t g = 0; g < work.group; ++g) {
        const uint64_t row = uint64_t{i} * work.group + g;
        store_row(r.out, e.row + i, first_q + g, c.value_dim, out_.data() + row * c.value_dim);
        if (r.lse) store_row(r.lse, e.row + i, first_q + g, 1, &lse_[row]);
      }
    if (work.n_voters > 0) add_votes(step, p, head, work);
    for (BlockSpan& b : block_spans_) b.bytes += c.layout.bytes;
    for (uint32_t i = 0; i < row_spans_.size(); ++i) {
      row_spans_[i].key += i < n_in_pages ? head_elements : c.key_dim;
      row_spans_[i].value += i < n_in_pages ? head_elements : c.value_dim;
    }
  }
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

void HostEngine::attend_padding(const StepEntry& e, const AttendRequest& r) {
  const float nothing = -std::numeric_limits<float>::infinity();
  const float zeros[kMaxHeadDim] = {};
  for (uint32_t i = 0; i < e.n_new; ++i)
    for (uint32_t head = 0; head < plan_.layers[r.layer].n_q_heads; ++head) {
      store_row(r.out, e.row + i, head, class_of(r.layer).value_dim, zeros);
      if (r.lse) store_row(r.lse, e.row + i, head, 1, &nothing);
    }
}

void HostEngine::attend(const StepView& step, const AttendRequest& r, bool votes) {
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot) {
      attend_padding(e, r);
    } else {
      attend_part(step, part_of(step, e, r.layer), r, votes);
    }
  }
}

}  // namespace oscar
