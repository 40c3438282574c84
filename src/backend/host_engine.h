// The engine on the host: walks layers and heads, and asks a backend for the numerics of each.
//   host_engine.cpp  memory, append, copies      host_attend.cpp  attention and its votes
//   host_pack.cpp    upkeep and packing          host_splits.cpp  the same for few sequences on many threads
//   host_read.cpp    read-back and scores
#pragma once
#include <atomic>
#include <memory>
#include <memory_resource>
#include <utility>
#include <vector>

#include "attention/work.h"
#include "backend/backend.h"
#include "backend/engine.h"
#include "backend/worker_pool.h"
#include "transform/calibration.h"

namespace oscar {

class HostEngine final : public Engine {
 public:
  // All of these outlive the engine.
  HostEngine(const EnginePlan& plan, const Calibration& calibration, const Backend& backend, uint64_t arena_bytes,
             std::pmr::memory_resource* memory);
  // The object and its host memory, the arena aside.
  static uint64_t footprint(const EnginePlan& plan, const Backend& backend);

  void use_stream(void*) override {}
  void upkeep(uint32_t step_slot, const Upkeep& jobs) override;
  void open(const StepView&) override {}
  void append(const StepView& step, uint32_t layer, const TensorView& k, const TensorView& v) override;
  void attend(const StepView& step, const AttendRequest& r, bool votes) override;
  void pack_chunk(const StepView& step, uint32_t layer) override;
  void freeze(const Calibration& calibration, std::span<const FreezeJob> jobs) override;
  void copy_unit(uint32_t layer_class, UnitKind kind, Unit from, Unit to) override;
  void move_accepted(uint32_t layer_class, const SequenceView& s, uint64_t base,
                     std::span<const uint32_t> indices) override;
  void read(const SequenceView& s, uint32_t layer, uint32_t head, uint64_t first, uint64_t n, const TensorView& k,
            const TensorView& v) const override;
  void scores(const SequenceView& s, uint64_t length, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
              const TensorView& out) const override;
  void read_unit(Unit unit, uint64_t n, uint8_t* to) const override;
  void write_unit(Unit unit, uint64_t n, const uint8_t* from) override;
  uint64_t n_non_finite() const override;
  PackCounts packed(uint32_t layer) const override { return counts_of(layer); }
  uint64_t bytes() const override { return sizeof(HostEngine); }
  uint64_t host_arena_bytes() const override { return arena_.size; }

 private:
  // More tasks than this times the number of threads keep all threads busy without a split of the blocks.
  static constexpr uint32_t kTasksPerThread = 4;

  struct RowPointers {
    uint16_t* key;
    uint16_t* value;
  };
  // Memory with an owner: not touched before it is used.
  struct Memory {
    Memory(std::pmr::memory_resource* from, size_t bytes, size_t aligned)
        : resource(from), size(bytes), alignment(aligned), data(static_cast<uint8_t*>(from->allocate(bytes, aligned))) {
    }
    Memory(Memory&& other) noexcept
        : resource(other.resource), size(other.size), alignment(other.alignment),
          data(std::exchange(other.data, nullptr)) {}
    ~Memory() {
      if (data) resource->deallocate(data, size, alignment);
    }
    std::pmr::memory_resource* resource;
    size_t size, alignment;
    uint8_t* data;
  };
  // The new tokens of one layer of a long step, BF16, and the votes of its undecided tokens.
  struct Scratch {
    explicit Scratch(std::pmr::memory_resource* memory) : rows(memory), votes(memory) {}
    std::pmr::vector<uint16_t> rows;  // by area: keys [row][head][dim], then values
    std::pmr::vector<float> votes;    // by area: [head][chunk_tokens]
  };
  // What one thread needs to work on a head.
  struct Worker {
    Worker(const EnginePlan& plan, const EngineSizes& sizes, size_t scratch_bytes, std::pmr::memory_resource* memory);
    Memory scratch;  // of the backend
    std::pmr::vector<BlockSpan> blocks;
    std::pmr::vector<RowSpan> rows;
    std::pmr::vector<float> q, out, lse, sinks, votes;
  };
  // New tokens of an entry that one task attends for, per KV head: rows for one tile, or all voters of the entry.
  struct AttendRange {
    uint32_t entry, first, n;
    bool votes;
    uint32_t n_splits;  // of the blocks, where they are computed beforehand
  };
  // One sequence of a step in the class of one layer.
  struct Part {
    const StepEntry& entry;
    const StepPart& step;
    const SequenceView& sequence;
    const LayerPlan& layer;
    const LayerClass& c;
  };

  const LayerClass& class_of(uint32_t layer) const { return plan_.classes[plan_.layers[layer].layer_class]; }
  // New tokens whose rows fill a tile.
  uint32_t tile_tokens(uint32_t layer) const {
    return kTileRows / (plan_.layers[layer].n_q_heads / class_of(layer).n_kv_heads);
  }
  Part part_of(const StepView& step, const StepEntry& e, uint32_t layer) const;
  RowPointers row_at(const LayerClass& c, Unit page, uint32_t head_index, uint64_t token) const;
  RowPointers scratch_row(const StepView& step, const Part& p, uint32_t head, uint64_t row);
  float* chunk_votes(const StepView& step, const Part& p, uint32_t head);
  uint8_t* data(Unit unit) const { return arena_.data + unit * kUnitAlignment; }
  uint8_t* block_at(const LayerClass& c, Unit unit, uint32_t head_index) const {
    return data(unit) + uint64_t{head_index} * c.layout.bytes;
  }
  VoteArea votes_at(const LayerClass& c, Unit scores, uint32_t head_index) const {
    return {data(scores) + head_index * c.vote_layout.bytes(), c.vote_layout};
  }
  static uint32_t head_index(const LayerClass& c, const LayerPlan& l, uint32_t head) {
    return l.index_in_class * c.n_kv_heads + head;
  }

  void append_part(const StepView& step, const Part& p, const TensorView& k, const TensorView& v);
  void clear_votes(const StepView& step, const Part& p);
  void move_votes(const VoteArea& votes, const SequenceView& s, uint64_t base, std::span<const uint32_t> indices);

  void list_ranges(const StepView& step, const AttendRequest& r, bool votes);
  AttendWork describe(const Part& p, const AttendRequest& r, uint32_t head, Worker& worker) const;
  void describe_votes(const Part& p, uint32_t n_voters, Worker& worker, AttendWork& work) const;
  void gather_blocks(const Part& p, uint32_t head, Worker& worker) const;
  void gather_rows(const StepView& step, const Part& p, uint32_t head, Worker& worker);
  void load_tile(const Part& p, const AttendRequest& r, uint32_t head, const AttendWork& work, Worker& worker) const;
  void store_tile(const Part& p, const AttendRequest& r, uint32_t head, const AttendWork& work,
                  const Worker& worker) const;
  uint32_t plan_splits(const StepView& step, uint32_t layer, uint32_t n_heads);
  void attend_splits(const StepView& step, const AttendRequest& r);
  void attend_some_splits(const StepView& step, const AttendRequest& r, uint32_t range, uint32_t head, uint32_t first,
                          uint32_t n, Worker& worker);
  void attend_range(const StepView& step, const AttendRequest& r, uint32_t range, uint32_t head, Worker& worker);
  void attend_nothing(const StepEntry& e, const AttendRequest& r);
  void add_votes(const StepView& step, const Part& p, uint32_t head, const AttendWork& work);
  float* partials_at(uint32_t range, uint32_t n_kv_heads, uint32_t head) {
    return partials_.data() + (uint64_t{range} * n_kv_heads + head) * max_splits_ * partial_stride_;
  }

  const PackCounts& counts_of(uint32_t layer) const {
    return counts_[plan_.layers[layer].layer_class][plan_.layers[layer].index_in_class];
  }
  void use_transforms();
  void add_counts(uint32_t layer_class, uint32_t head_index, const PackCounts& counts);
  void pack(uint32_t layer_class, uint32_t head_index, PackWork& work, uint8_t* block, uint32_t worker);
  void pack_or_note(uint32_t layer_class, uint32_t head_index, const float* votes, PackWork& work, uint8_t* block,
                    uint32_t worker);
  void pack_new(const StepView& step, const Part& p, uint32_t block, uint32_t head, uint32_t worker);
  void pack_aged(const PackJob& job, uint32_t head, uint32_t worker);
  void pack_frozen(const FreezeJob& job, const uint32_t* source, uint32_t head, uint32_t worker);
  void count(std::span<const CountJob> jobs);

  const EnginePlan& plan_;
  const EngineSizes sizes_;
  const Calibration* calibration_;
  const Backend& backend_;
  const Memory arena_;

  std::pmr::vector<std::pmr::vector<const HeadTransform*>> transforms_;  // by class, by head index
  std::pmr::vector<std::pmr::vector<PackCounts>> counts_;                // by class, by index in class
  std::pmr::vector<Scratch> scratch_;                                    // by step slot
  std::pmr::vector<Worker> workers_;                                     // by thread
  std::pmr::vector<AttendRange> ranges_;
  uint64_t max_splits_ = 0, partial_stride_ = 0;
  std::pmr::vector<float> partials_;  // by range and head: [max_splits_][partial_stride_]
  WorkerPool pool_;                   // last: its threads end first
};

}  // namespace oscar
