// The cache: sequences, steps and the memory they share. Host-side truth; numerics are the backend's.
// Methods throw oscar::Error and then have changed nothing; sources are split by topic:
//   cache.cpp create, ids   sequences.cpp open .. accept   steps.cpp begin, end, abort
//   packing.cpp blocks      layers.cpp append, attend      inspect.cpp stats, capacity, read, scores
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "attention/work.h"
#include "backend/backend.h"
#include "cache/footprint.h"
#include "cache/memory.h"
#include "cache/plan.h"
#include "cache/pool.h"
#include "cache/sequence.h"
#include "cache/step.h"
#include "cache/tensor.h"
#include "transform/calibration.h"

namespace oscar {

struct StepRequest {
  uint64_t seq;
  uint32_t n_new, n_draft;
};

struct AttendRequest {
  uint32_t layer;
  TensorView q, out, lse, sink_logits, mask;
  float scale, softcap;
};

struct CacheStats {
  uint64_t n_sequences, n_open_steps, n_tokens, n_packed_tokens, n_blocks, n_exact_pages, n_non_finite;
  uint64_t bytes_sequences, bytes_fixed, bytes_slabs, bytes_free;
  double bits_per_element;
};

class Cache {
 public:
  Cache(CachePlan plan, const Backend& backend);
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  const CachePlan& plan() const { return plan_; }

  uint64_t open();
  void close(uint64_t seq);
  uint64_t fork(uint64_t parent, uint64_t n_tokens);
  void truncate(uint64_t seq, uint64_t n_tokens);
  void accept(uint64_t seq, uint64_t base, std::span<const uint32_t> indices);
  uint64_t length(uint64_t seq) const { return sequences_[slot_of(seq)].length; }

  uint64_t begin(std::span<const StepRequest> requests);
  void end(uint64_t step);
  void abort(uint64_t step);
  const Step& step(uint64_t id) const { return steps_[step_slot(id)]; }

  // The border has checked layer and shapes against plan() and step(id).
  void append(uint64_t step, uint32_t layer, const TensorView& k, const TensorView& v);
  void attend(uint64_t step, const AttendRequest& request);

  CacheStats stats() const;
  uint64_t capacity() const;
  void read(uint64_t seq, uint32_t layer, uint32_t head, uint64_t first, uint64_t n, const TensorView& k,
            const TensorView& v) const;
  void scores(uint64_t seq, uint32_t layer, uint32_t head, uint64_t first, uint64_t n, const TensorView& out) const;

 private:
  struct RowPointers {
    uint16_t* key;
    uint16_t* value;
  };

  uint32_t slot_of(uint64_t seq) const;       // NOT_FOUND
  uint32_t idle_slot_of(uint64_t seq) const;  // NOT_FOUND, STATE
  uint32_t step_slot(uint64_t step) const;    // NOT_FOUND
  const LayerClass& class_of(uint32_t layer) const { return plan_.classes[plan_.layers[layer].layer_class]; }
  ClassState& state_of(const StepEntry& e, uint32_t c) { return sequences_[e.slot].classes[c]; }

  // ---- where things lie
  RowPointers row_at(const LayerClass& c, Unit page, uint32_t head_index, uint64_t token) const;
  uint8_t* block_at(const LayerClass& c, Unit unit, uint32_t head_index) const {
    return pool_.data(unit) + uint64_t{head_index} * c.layout.bytes;
  }
  VoteArea votes_at(const LayerClass& c, const ClassState& s, uint32_t head_index) const {
    return {pool_.data(s.scores) + head_index * c.vote_layout.bytes(), c.vote_layout};
  }
  static uint32_t head_index(const LayerClass& c, const LayerPlan& l, uint32_t head) {
    return l.index_in_class * c.n_kv_heads + head;
  }
  uint16_t* scratch_keys(Step& step, uint32_t area) { return step.scratch.data() + area * sizes_.scratch_elements; }
  float* chunk_votes(Step& step, uint32_t area, uint32_t head, const EntryClass& ec) {
    return step.chunk_votes.data() + (uint64_t{area} * sizes_.max_kv_heads + head) * sizes_.chunk_tokens +
           ec.vote_offset;
  }

  // ---- sequences.cpp
  bool page_holds(const LayerClass& c, const ClassState& s, uint64_t length, uint64_t page) const;
  void release_pages(const LayerClass& c, ClassState& s, uint64_t length, uint64_t first, uint64_t last);
  void release_all(Sequence& seq);
  void check_cut(const Sequence& seq, uint64_t n_tokens) const;
  void cut(Sequence& seq, uint64_t n_tokens);
  void move_accepted(const LayerClass& c, ClassState& s, uint64_t base, std::span<const uint32_t> indices);
  void move_votes(const VoteArea& votes, const ClassState& s, uint64_t base, std::span<const uint32_t> indices);
  void drop_outside_window(uint32_t c, ClassState& s, uint64_t length);

  // ---- steps.cpp
  void check_requests(std::span<const StepRequest> requests) const;
  void plan_entry(Step& step, const StepEntry& e, std::span<uint64_t> units);
  void reserve_entry(Step& step, const StepEntry& e);
  bool needs_page(const LayerClass& c, const ClassState& s, const StepEntry& e, const EntryClass& ec,
                  uint64_t page) const;
  void close_step(Step& step);

  // ---- packing.cpp
  void count_votes(const LayerClass& c, ClassState& s, uint64_t until);
  void open_vote_side(const LayerClass& c, ClassState& s, uint64_t length);
  void pack_aged(uint32_t c, ClassState& s, uint64_t n_blocks, uint64_t length);
  void pack_block(uint32_t c, const ClassState& s, uint32_t head_index, uint64_t start, const float* votes,
                  uint8_t* block, const Step* step, const StepEntry* e);
  void pack_chunk(Step& step, uint32_t layer);
  void finish_area(Step& step, uint32_t area);
  bool shaped(uint32_t layer) const;

  // ---- layers.cpp
  void check_append(uint64_t step, uint32_t layer) const;
  void check_attend(uint64_t step, uint32_t layer) const;
  void append_entry(Step& step, const StepEntry& e, uint32_t layer, const TensorView& k, const TensorView& v);
  void clear_votes(Step& step, const StepEntry& e, uint32_t layer);
  void attend_entry(Step& step, const StepEntry& e, const AttendRequest& r);
  void attend_padding(const StepEntry& e, const AttendRequest& r);
  void add_votes(Step& step, const StepEntry& e, uint32_t layer, uint32_t head, const AttendWork& work);
  uint32_t gather_blocks(const ClassState& s);
  uint32_t gather_rows(Step& step, const StepEntry& e, uint32_t layer);

  CachePlan plan_;
  const Backend& backend_;
  HostMemory memory_;
  std::shared_ptr<const Calibration> calibration_;
  Pool pool_;
  std::pmr::vector<Sequence> sequences_;  // slot 0 is never used: sequence 0 is padding
  std::pmr::vector<Step> steps_;
  // By class: the transforms of head_index, and the layer it belongs to.
  std::pmr::vector<std::pmr::vector<const HeadTransform*>> transforms_;
  std::pmr::vector<std::pmr::vector<uint32_t>> class_layers_;

  Footprint sizes_;

  // Workspace of the calls that need the cache to themselves.
  std::pmr::vector<BlockSpan> block_spans_;
  std::pmr::vector<RowSpan> row_spans_;
  std::pmr::vector<float> q_, out_, lse_, sinks_, votes_;
  std::pmr::vector<uint64_t> units_;
  void* backend_scratch_ = nullptr;
  uint64_t n_non_finite_ = 0;
};

}  // namespace oscar
