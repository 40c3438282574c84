// The cache: sequences, steps and the memory they share. Host-side truth: it decides what is packed, reserved, shared and
// freed; the engine moves and computes the bytes. Methods throw oscar::Error and then have changed nothing.
//   cache.cpp create, ids   sequences.cpp open .. accept   steps.cpp begin, end, abort
//   layers.cpp append, attend   inspect.cpp stats, capacity, read, scores   freeze.cpp collecting, freeze
//   export.cpp, import.cpp sequences as bytes   watch.cpp what is told of packing
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>

#include "backend/backend.h"
#include "backend/engine.h"
#include "cache/extent.h"
#include "cache/log.h"
#include "cache/memory.h"
#include "cache/plan.h"
#include "cache/pool.h"
#include "cache/sequence.h"
#include "cache/step.h"
#include "format/sequence_file.h"
#include "transform/calibration.h"
#include "transform/self_calibrator.h"

namespace oscar {

struct StepRequest {
  uint64_t seq;
  uint32_t n_new, n_draft;
  bool query_only = false;  // its rows attend, and append nothing; n_draft is 0
};

struct CacheStats {
  uint64_t n_sequences, n_open_steps, n_tokens, n_packed_tokens, n_blocks, n_exact_pages, n_non_finite;
  uint64_t bytes_sequences, bytes_fixed, bytes_slabs, bytes_free, bytes_calibration;
  uint64_t bytes_base, bytes_refined, bytes_exact, bytes_scores, bytes_tables, bytes_shared;
  uint64_t n_shared_blocks, n_block_references;
  uint64_t n_steps, n_blocks_packed, n_rollbacks, n_tokens_forgotten;
  bool collecting;
  double bits_per_element;
};

// What was told of a layer's packing already.
struct DriftWatch {
  SideCounts seen;
  bool drifts = false;
};
struct LayerWatch {
  DriftWatch keys, values;
  uint64_t n_non_finite = 0;
};

class Cache {
 public:
  Cache(CachePlan plan, const Backend& backend);

  const CachePlan& plan() const { return plan_; }

  uint64_t open();
  void close(uint64_t seq);
  uint64_t fork(uint64_t parent, uint64_t n_tokens);
  void truncate(uint64_t seq, uint64_t n_tokens);
  void accept(uint64_t seq, uint64_t base, std::span<const uint32_t> indices);
  uint64_t length(uint64_t seq) const { return sequences_[slot_of(seq)].length; }

  // stream: of the device; null on the host. What has none itself follows the latest begin, append or attend.
  // is_replay: append and attend are not called for this step, a captured graph does their work.
  uint64_t begin(std::span<const StepRequest> requests, bool is_replay, void* stream);
  void end(uint64_t step);
  void abort(uint64_t step);
  const Step& step(uint64_t id) const { return steps_[step_slot(id)]; }

  // The border has checked layer and shapes against plan() and step(id).
  void append(uint64_t step, uint32_t layer, const TensorView& k, const TensorView& v, void* stream);
  void attend(uint64_t step, const AttendRequest& request, void* stream);

  // n_tokens 0: all of them. Without a sink only the size, which both return.
  uint64_t export_sequence(uint64_t seq, uint64_t n_tokens, ByteSink* sink) const;
  uint64_t import_sequence(ByteSource& source);

  // Ends collecting: the calibration that its tokens lead to, with which what has aged is packed.
  std::shared_ptr<const Calibration> freeze();

  CacheStats stats() const;
  PackCounts layer_stats(uint32_t layer) const;  // UNSUPPORTED
  const Log& log() const { return log_; }
  void set_log(const Log::Target& target);
  uint64_t capacity() const;
  void read(uint64_t seq, uint32_t layer, uint32_t head, uint64_t first, uint64_t n, const TensorView& k,
            const TensorView& v) const;
  void scores(uint64_t seq, uint32_t layer, uint32_t head, uint64_t first, uint64_t n, const TensorView& out) const;

 private:
  uint32_t slot_of(uint64_t seq) const;       // NOT_FOUND
  uint32_t idle_slot_of(uint64_t seq) const;  // NOT_FOUND, STATE
  uint32_t step_slot(uint64_t step) const;    // NOT_FOUND
  const LayerClass& class_of(uint32_t layer) const { return plan_.classes[plan_.layers[layer].layer_class]; }
  ClassState& state_of(const StepEntry& e, uint32_t c) { return sequences_[e.slot].classes[c]; }
  SequenceView view_of(const ClassState& s, uint32_t c) const {
    return s.view(plan_.collecting ? plan_.classes[c].n_sink : s.packed_end);
  }
  // Where the layers of a class have exact rows, besides the sinks.
  uint64_t exact_from(const LayerClass& c, const ClassState& s) const {
    return std::max(s.kept_from, c.exact || plan_.collecting ? 0 : s.packed_end);
  }

  // ---- sequences.cpp
  [[noreturn]] void refuse_room(const char* what, std::span<const uint64_t> units) const;
  bool page_holds(const LayerClass& c, const ClassState& s, uint64_t length, uint64_t page) const;
  void release_pages(const LayerClass& c, ClassState& s, uint64_t length, uint64_t first, uint64_t last);
  void release_all(Sequence& seq);
  void check_cut(const Sequence& seq, uint64_t n_tokens) const;
  void cut(Sequence& seq, uint64_t n_tokens);
  void count_rollback(const Sequence& seq, uint64_t n_kept);
  void drop_outside_window(uint32_t c, ClassState& s, uint64_t length);

  // ---- steps.cpp
  void check_requests(std::span<const StepRequest> requests) const;
  void check_replay(std::span<const StepRequest> requests) const;
  void plan_entry(Step& step, const StepEntry& e, std::span<uint64_t> units);
  void reserve_entry(Step& step, const StepEntry& e);
  void note_counting(std::pmr::vector<CountJob>& jobs, uint32_t c, ClassState& s, uint64_t until);
  void note_packing(uint32_t c, ClassState& s, uint64_t n_blocks);
  void place_chunk_votes(Step& step);
  bool needs_page(const LayerClass& c, const ClassState& s, const StepEntry& e, const StepPart& part,
                  uint64_t page) const;
  void commit_entry(const Step& step, const StepEntry& e);
  void close_step(Step& step);

  // ---- layers.cpp
  void check_append(const Step& step, uint32_t layer) const;
  void check_attend(const Step& step, uint32_t layer) const;
  void pack_chunk(Step& step, uint32_t layer);
  void finish_area(Step& step, uint32_t area);

  // ---- inspect.cpp
  void count_class(CacheStats& stats, uint32_t layer_class) const;

  // ---- freeze.cpp
  uint64_t block_grid(uint64_t n_tokens) const;
  void collect_queries(const Step& step, const AttendRequest& r);
  void rows_of(const Sequence& seq, uint32_t layer, uint64_t first, uint32_t n, CollectedRows& rows) const;
  void collect_rows(const Sequence& seq, uint64_t first, uint32_t n, CollectScratch& scratch);
  void collect_blocks(Sequence& seq, uint64_t until, CollectScratch& scratch);
  void collect_rest(Sequence& seq);
  void collect_step(const Step& step);
  std::vector<FreezeJob> freeze_jobs() const;

  // ---- watch.cpp
  void watch_side(uint32_t layer, const char* side, const SideCounts& now, DriftWatch& watch);
  void report_packing();
  void report_freeze(const std::vector<Fallbacks>& fallbacks) const;

  // ---- export.cpp
  void check_moves() const;  // STATE, UNSUPPORTED
  std::vector<SequenceLayerRecord> layer_records() const;
  Extent extent_of(const Sequence& seq, uint32_t layer_class, uint64_t n_tokens) const;
  SequenceFileHeader file_header(const std::vector<SequenceClassRecord>& classes, uint64_t n_tokens) const;
  void export_blocks(const ClassState& s, const Extent& e, const SequenceClassRecord& r, CheckedSink& to,
                     std::vector<uint8_t>& piece) const;
  void export_pages(const LayerClass& c, const ClassState& s, const Extent& e, const SequenceClassRecord& r,
                    CheckedSink& to, std::vector<uint8_t>& piece) const;
  void export_votes(const LayerClass& c, const ClassState& s, const Extent& e, const SequenceClassRecord& r,
                    CheckedSink& to, std::vector<uint8_t>& piece) const;

  // ---- import.cpp
  void check_import(const SequenceFileHeader& h, const std::vector<SequenceLayerRecord>& layers,
                    const std::vector<SequenceClassRecord>& classes) const;
  std::vector<Extent> extents_of(const SequenceFileHeader& h, const std::vector<SequenceClassRecord>& classes) const;
  void import_blocks(uint32_t layer_class, const Extent& e, ClassState& s, CheckedSource& from,
                     std::vector<uint8_t>& piece);
  void import_pages(uint32_t layer_class, const Extent& e, ClassState& s, CheckedSource& from,
                    std::vector<uint8_t>& piece);
  void import_votes(uint32_t layer_class, const Extent& e, const ClassState& s, CheckedSource& from,
                    std::vector<uint8_t>& piece);

  CachePlan plan_;
  EngineSizes sizes_;
  HostMemory memory_;
  std::shared_ptr<const Calibration> calibration_;
  Pool pool_;
  const Backend& backend_;
  std::pmr::vector<Sequence> sequences_;  // slot 0 is never used: sequence 0 is padding
  std::pmr::vector<Step> steps_;
  // What a begin collects.
  std::pmr::vector<uint64_t> units_;
  std::pmr::vector<CountJob> counts_, late_counts_;
  std::pmr::vector<PackJob> packs_;
  std::pmr::vector<SideJob> sides_;
  std::pmr::vector<LayerWatch> watches_;
  Log log_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<SelfCalibrator> collector_;  // while plan_.collecting
  uint64_t n_opened_ = 0;
  uint64_t n_steps_ = 0, n_blocks_packed_ = 0, n_rollbacks_ = 0, n_tokens_forgotten_ = 0;  // since it was created
};

}  // namespace oscar
