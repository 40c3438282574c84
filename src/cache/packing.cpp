// From exact rows to blocks: at begin for the tokens that have aged, within a long step for those that age there.
#include <algorithm>
#include <cstring>

#include "cache/cache.h"
#include "importance/choice.h"

namespace oscar {

void Cache::count_votes(const LayerClass& c, ClassState& s, uint64_t until) {
  for (; s.counted < until; ++s.counted)
    for (uint32_t head = 0; head < c.heads(); ++head)
      votes_at(c, s, head).count(s.side, s.counted, s.packed_end, plan_.config.n_recent);
}

// The side that a big step adds to starts as a copy of the committed one.
void Cache::open_vote_side(const LayerClass& c, ClassState& s, uint64_t length) {
  for (uint32_t head = 0; head < c.heads(); ++head) {
    const VoteArea votes = votes_at(c, s, head);
    for (uint64_t token = s.packed_end; token < length; ++token)
      votes.score(s.side ^ 1, token) = votes.score(s.side, token);
  }
}

bool Cache::shaped(uint32_t layer) const {
  return plan_.config.writer != Writer::kPlain && calibration_->is_shaped(layer);
}

// One head's block of the 128 tokens from `start` on. Tokens of the step itself (step not null) are in its scratch.
void Cache::pack_block(uint32_t i, const ClassState& s, uint32_t head_index, uint64_t start, const float* votes,
                       uint8_t* block, const Step* step, const StepEntry* e) {
  const LayerClass& c = plan_.classes[i];
  const uint32_t layer = class_layers_[i][head_index / c.n_kv_heads], head = head_index % c.n_kv_heads;
  PackWork work;
  work.layout = &c.layout;
  work.transform = transforms_[i][head_index];
  work.key_dim = c.key_dim;
  work.value_dim = c.value_dim;
  work.shaped = shaped(layer);
  work.block = block;
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    const uint64_t token = start + t;
    if (step && token >= e->base) {
      const uint64_t row = e->row + (token - e->base);
      const uint16_t* keys = step->scratch.data() + plan_.layers[layer].scratch * sizes_.scratch_elements;
      const uint16_t* values = keys + uint64_t{step->n_rows} * c.n_kv_heads * c.key_dim;
      work.key[t] = keys + (row * c.n_kv_heads + head) * c.key_dim;
      work.value[t] = values + (row * c.n_kv_heads + head) * c.value_dim;
    } else {
      const RowPointers row = row_at(c, s.pages[token / kPageTokens], head_index, token);
      work.key[t] = row.key;
      work.value[t] = row.value;
    }
  }
  slot_order(votes, c.layout.h, work.order);
  backend_.pack(work, backend_scratch_);
  BlockHeader header;
  std::memcpy(&header, block + c.layout.header, sizeof header);
  n_non_finite_ += header.n_non_finite;
}

void Cache::pack_aged(uint32_t i, ClassState& s, uint64_t n_blocks, uint64_t length) {
  const LayerClass& c = plan_.classes[i];
  for (uint64_t b = 0; b < n_blocks; ++b) {
    const Unit unit = pool_.allocate(CachePlan::kind(i, UnitKind::kBlocks));
    for (uint32_t head = 0; head < c.heads(); ++head) {
      float votes[kBlockTokens] = {};
      if (c.votes)
        for (uint32_t t = 0; t < kBlockTokens; ++t) votes[t] = votes_at(c, s, head).score(s.side, s.packed_end + t);
      pack_block(i, s, head, s.packed_end, votes, block_at(c, unit, head), nullptr, nullptr);
    }
    s.blocks.push_back({s.packed_end, unit, 0, kBlockTokens});
    s.packed_end += kBlockTokens;
    release_pages(c, s, length, (s.packed_end - kBlockTokens) / kPageTokens, s.packed_end / kPageTokens + 1);
  }
}

// The blocks of one layer that a long step has reserved. Old pages stay as they are until end.
void Cache::pack_chunk(Step& step, uint32_t layer) {
  const LayerPlan& l = plan_.layers[layer];
  const LayerClass& c = class_of(layer);
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot) continue;
    const EntryClass& ec = step.entry_classes[e.classes + l.layer_class];
    const ClassState& s = state_of(e, l.layer_class);
    for (uint32_t b = 0; b < ec.n_blocks; ++b) {
      const uint64_t start = ec.first_start + uint64_t{b} * kBlockTokens;
      for (uint32_t head = 0; head < c.n_kv_heads; ++head) {
        const float* votes = c.votes ? chunk_votes(step, l.scratch, head, ec) + (start - s.packed_end) : nullptr;
        const uint32_t index = head_index(c, l, head);
        pack_block(l.layer_class, s, index, start, votes, block_at(c, step.blocks[ec.first_block + b], index), &step,
                   &e);
      }
    }
  }
  step.progress[layer] = LayerProgress::kPacked;
}

void Cache::finish_area(Step& step, uint32_t area) {
  const uint32_t layer = step.scratch_layer[area];
  if (layer != kNoLayer && step.progress[layer] != LayerProgress::kPacked) pack_chunk(step, layer);
}

}  // namespace oscar
