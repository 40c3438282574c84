// One layer of a step: storing its keys and values, attending, collecting votes.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cache/cache.h"
#include "format/error.h"

namespace oscar {

void Cache::check_append(uint64_t id, uint32_t layer) const {
  const Step& s = step(id);
  if (!plan_.layers[layer].owns)
    throw Error(Status::kInvalid, "layer %u attends to the keys of layer %u and takes none", layer,
                plan_.layers[layer].kv_source);
  if (s.progress[layer] >= LayerProgress::kVoted)
    throw Error(Status::kState, "layer %u has been attended to, or packed, in this step already", layer);
}

void Cache::check_attend(uint64_t id, uint32_t layer) const {
  const Step& s = step(id);
  const LayerPlan& l = plan_.layers[layer];
  if (s.progress[l.kv_source] == LayerProgress::kWaiting)
    throw Error(Status::kState, "layer %u has not been given its keys and values in this step", l.kv_source);
  const uint32_t area = plan_.layers[l.kv_source].scratch;
  for (const StepEntry& e : s.entries) {
    if (e.slot == kPaddingSlot || !s.entry_classes[e.classes + l.layer_class].uses_scratch) continue;
    if (s.scratch_layer[area] != l.kv_source)
      throw Error(Status::kState,
                  "the new tokens of layer %u are packed already: attend to a layer before the next append",
                  l.kv_source);
  }
}

void Cache::clear_votes(Step& step, const StepEntry& e, uint32_t layer) {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = class_of(layer);
  const EntryClass& ec = step.entry_classes[e.classes + l.layer_class];
  const ClassState& s = state_of(e, l.layer_class);
  const bool is_big = e.n_sure() > plan_.config.max_rollback;
  for (uint32_t head = 0; head < c.n_kv_heads; ++head) {
    const VoteArea votes = votes_at(c, s, head_index(c, l, head));
    // On the side that end commits; the other one may still hold an old token in the same place of the ring.
    for (uint64_t token = std::max({ec.persist_from, ec.packed_end, e.base}); token < e.end(); ++token)
      votes.score(is_big ? s.side ^ 1 : s.side, token) = 0.0f;
    const uint64_t first_line = is_big ? e.base + e.n_sure() - plan_.config.max_rollback : e.base;
    for (uint64_t query = first_line; query < e.end(); ++query)
      std::fill_n(votes.line(query), votes.layout.n_line, uint16_t{0});
    if (ec.n_blocks == 0) continue;
    float* chunk = chunk_votes(step, l.scratch, head, ec);
    for (uint64_t token = s.packed_end; token < e.end(); ++token)
      chunk[token - s.packed_end] = token < e.base ? votes.score(s.side, token) : 0.0f;
  }
}

void Cache::append_entry(Step& step, const StepEntry& e, uint32_t layer, const TensorView& k, const TensorView& v) {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = class_of(layer);
  const EntryClass& ec = step.entry_classes[e.classes + l.layer_class];
  const ClassState& s = state_of(e, l.layer_class);
  for (uint32_t i = 0; i < e.n_new; ++i) {
    const uint64_t token = e.base + i, row = e.row + i;
    const bool persists = token >= ec.persist_from || token < c.n_sink;
    for (uint32_t head = 0; head < c.n_kv_heads; ++head) {
      if (ec.uses_scratch) {
        uint16_t* keys = scratch_keys(step, l.scratch);
        uint16_t* values = keys + uint64_t{step.n_rows} * c.n_kv_heads * c.key_dim;
        load_row_bf16(k, row, head, c.key_dim, keys + (row * c.n_kv_heads + head) * c.key_dim);
        load_row_bf16(v, row, head, c.value_dim, values + (row * c.n_kv_heads + head) * c.value_dim);
      }
      if (!persists) continue;
      const RowPointers to = row_at(c, s.pages[token / kPageTokens], head_index(c, l, head), token);
      load_row_bf16(k, row, head, c.key_dim, to.key);
      load_row_bf16(v, row, head, c.value_dim, to.value);
    }
  }
  if (c.votes) clear_votes(step, e, layer);
}

void Cache::append(uint64_t id, uint32_t layer, const TensorView& k, const TensorView& v) {
  check_append(id, layer);
  Step& step = steps_[step_slot(id)];
  const uint32_t area = plan_.layers[layer].scratch;
  if (step.scratch_layer[area] != layer) finish_area(step, area);
  step.scratch_layer[area] = layer;
  for (const StepEntry& e : step.entries)
    if (e.slot != kPaddingSlot) append_entry(step, e, layer, k, v);
  step.progress[layer] = LayerProgress::kAppended;
}

uint32_t Cache::gather_blocks(const ClassState& s) {
  block_spans_.clear();
  for (const BlockEntry& b : s.blocks) block_spans_.push_back({pool_.data(b.unit), b.start, b.first, b.last});
  return static_cast<uint32_t>(block_spans_.size());
}

// Exact rows of head 0, ascending: sinks, the old tail, the new tokens. Other heads are a constant further on, except
// that scratch rows have their own distance.
uint32_t Cache::gather_rows(Step& step, const StepEntry& e, uint32_t layer) {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = class_of(layer);
  const EntryClass& ec = step.entry_classes[e.classes + l.layer_class];
  const ClassState& s = state_of(e, l.layer_class);
  const uint64_t in_pages = ec.uses_scratch ? e.base : e.end();  // tokens before this one are read from pages
  const uint64_t tail = std::max(s.kept_from, c.exact ? 0 : s.packed_end);
  row_spans_.clear();
  auto add = [&](uint64_t first, uint64_t last) {
    while (first < last) {
      const uint64_t stop = std::min(last, (first / kPageTokens + 1) * kPageTokens);
      const RowPointers row = row_at(c, s.pages[first / kPageTokens], head_index(c, l, 0), first);
      row_spans_.push_back({row.key, row.value, first, static_cast<uint32_t>(stop - first), c.key_dim, c.value_dim});
      first = stop;
    }
  };
  add(0, std::min<uint64_t>(c.n_sink, in_pages));
  add(std::max<uint64_t>(tail, c.n_sink), in_pages);
  const uint32_t n_in_pages = static_cast<uint32_t>(row_spans_.size());
  if (ec.uses_scratch) {
    const uint16_t* keys = scratch_keys(step, plan_.layers[l.kv_source].scratch);
    const uint16_t* values = keys + uint64_t{step.n_rows} * c.n_kv_heads * c.key_dim;
    row_spans_.push_back({keys + uint64_t{e.row} * c.n_kv_heads * c.key_dim,
                          values + uint64_t{e.row} * c.n_kv_heads * c.value_dim, e.base, e.n_new,
                          c.n_kv_heads * c.key_dim, c.n_kv_heads * c.value_dim});
  }
  return n_in_pages;
}

void Cache::attend_entry(Step& step, const StepEntry& e, const AttendRequest& r) {
  const LayerPlan& l = plan_.layers[r.layer];
  const LayerClass& c = class_of(r.layer);
  const EntryClass& ec = step.entry_classes[e.classes + l.layer_class];
  const ClassState& s = state_of(e, l.layer_class);
  const uint32_t group = l.n_q_heads / c.n_kv_heads;
  const uint32_t n_voters = std::min(e.n_sure(), kMaxVoters) + e.n_draft;
  const uint64_t first_voter = e.end() - n_voters;
  const uint64_t horizon = first_voter > plan_.config.n_recent ? first_voter - plan_.config.n_recent : 0;

  AttendWork work{};
  work.layout = &c.layout;
  work.key_dim = c.key_dim;
  work.value_dim = c.value_dim;
  work.group = group;
  work.n_new = e.n_new;
  work.first_position = e.base;
  work.window = c.window;
  work.scale = r.scale;
  work.softcap = r.softcap;
  work.sink_logits = r.sink_logits ? sinks_.data() : nullptr;
  work.mask = r.mask ? static_cast<const uint8_t*>(r.mask.data) + r.mask.offset(e.row, 0) : nullptr;
  work.mask_stride = static_cast<uint64_t>(r.mask.row_stride);
  work.q = q_.data();
  work.out = out_.data();
  work.lse = lse_.data();
  work.vote_first = ec.uses_scratch ? s.packed_end : std::max(s.packed_end, horizon);
  const bool votes = c.votes && l.owns && step.progress[r.layer] == LayerProgress::kAppended;
  work.n_voters = votes && work.vote_first < e.end() ? n_voters : 0;
  work.votes = votes_.data();
  work.vote_stride = e.end() - std::min(e.end(), work.vote_first);

  work.n_blocks = gather_blocks(s);
  const uint32_t n_in_pages = gather_rows(step, e, r.layer);
  work.blocks = block_spans_.data();
  work.rows = row_spans_.data();
  work.n_rows = static_cast<uint32_t>(row_spans_.size());
  const uint64_t class_head = head_index(c, l, 0), head_elements = c.head_page_bytes / sizeof(uint16_t);
  for (BlockSpan& b : block_spans_) b.bytes += class_head * c.layout.bytes;
  for (uint32_t head = 0; head < c.n_kv_heads; ++head) {
    work.transform = transforms_[l.layer_class][class_head + head];
    for (uint32_t i = 0; i < e.n_new; ++i)
      for (uint32_t g = 0; g < group; ++g)
        load_row(r.q, e.row + i, head * group + g, c.key_dim, q_.data() + (uint64_t{i} * group + g) * c.key_dim);
    if (r.sink_logits)
      for (uint32_t g = 0; g < group; ++g) load_row(r.sink_logits, 0, head * group + g, 1, &sinks_[g]);
    backend_.attend(work, backend_scratch_);
    for (uint32_t i = 0; i < e.n_new; ++i)
      for (uint32_t g = 0; g < group; ++g) {
        const uint64_t row = uint64_t{i} * group + g;
        store_row(r.out, e.row + i, head * group + g, c.value_dim, out_.data() + row * c.value_dim);
        if (r.lse) store_row(r.lse, e.row + i, head * group + g, 1, &lse_[row]);
      }
    if (work.n_voters > 0) add_votes(step, e, r.layer, head, work);
    for (BlockSpan& b : block_spans_) b.bytes += c.layout.bytes;
    for (uint32_t i = 0; i < n_in_pages; ++i) {
      row_spans_[i].key += head_elements;
      row_spans_[i].value += head_elements;
    }
    for (uint32_t i = n_in_pages; i < row_spans_.size(); ++i) {
      row_spans_[i].key += c.key_dim;
      row_spans_[i].value += c.value_dim;
    }
  }
}

// Where the votes of this step's queries go: lines that may be rolled back, the open side, the chunk's own tokens.
void Cache::add_votes(Step& step, const StepEntry& e, uint32_t layer, uint32_t head, const AttendWork& work) {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = class_of(layer);
  const EntryClass& ec = step.entry_classes[e.classes + l.layer_class];
  const ClassState& s = state_of(e, l.layer_class);
  const VoteArea votes = votes_at(c, s, head_index(c, l, head));
  const bool is_big = e.n_sure() > plan_.config.max_rollback;
  const uint64_t first_line = is_big ? e.base + e.n_sure() - plan_.config.max_rollback : e.base;
  float* chunk = ec.n_blocks > 0 ? chunk_votes(step, l.scratch, head, ec) : nullptr;
  for (uint32_t i = 0; i < work.n_voters; ++i) {
    const uint64_t query = e.end() - work.n_voters + i;
    const float* given = work.votes + i * work.vote_stride;
    // In a long step every voter counts for all undecided tokens: they age before more queries come.
    const uint64_t horizon = query > plan_.config.n_recent && !ec.uses_scratch ? query - plan_.config.n_recent : 0;
    const uint64_t reach = query > votes.layout.n_line ? query - votes.layout.n_line + 1 : 0;
    for (uint64_t token = work.vote_first; token < query; ++token) {
      const float vote = round_vote(given[token - work.vote_first]);
      const bool is_sure = query < e.base + e.n_sure();
      if (chunk && is_sure && token < ec.packed_end) chunk[token - s.packed_end] += vote;
      if (query >= first_line) {
        if (token >= reach) votes.vote(query, token) = f32_to_f16(vote);
      } else if (token >= horizon && token >= ec.packed_end) {
        votes.score(s.side ^ 1, token) += vote;
      }
    }
  }
}

void Cache::attend_padding(const StepEntry& e, const AttendRequest& r) {
  const uint32_t value_dim = class_of(r.layer).value_dim;
  const float nothing = -std::numeric_limits<float>::infinity();
  const float zeros[kMaxHeadDim] = {};
  for (uint32_t i = 0; i < e.n_new; ++i)
    for (uint32_t head = 0; head < plan_.layers[r.layer].n_q_heads; ++head) {
      store_row(r.out, e.row + i, head, value_dim, zeros);
      if (r.lse) store_row(r.lse, e.row + i, head, 1, &nothing);
    }
}

void Cache::attend(uint64_t id, const AttendRequest& request) {
  check_attend(id, request.layer);
  Step& step = steps_[step_slot(id)];
  AttendRequest r = request;
  if (r.scale == 0.0f) r.scale = 1.0f / std::sqrt(static_cast<float>(class_of(r.layer).key_dim));
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot) {
      attend_padding(e, r);
    } else {
      attend_entry(step, e, r);
    }
  }
  const uint32_t source = plan_.layers[r.layer].kv_source;
  LayerProgress& progress = step.progress[source];
  if (progress == LayerProgress::kAppended && source == r.layer) progress = LayerProgress::kVoted;
  const bool is_last = plan_.layers[source].last_consumer == r.layer;
  if (is_last && !step.blocks.empty() && progress != LayerProgress::kPacked) pack_chunk(step, source);
}

}  // namespace oscar
