// The engine on an NVIDIA GPU: the cache's decisions as tables at fixed device addresses, its jobs as launches on the
// caller's stream. append and attend are pure launches. Nothing synchronises, but read, scores and n_non_finite.
//   engine.cpp        memory, copies      engine_step.cpp   tables of a step, append, attend
//   engine_pack.cpp   upkeep and packing  engine_read.cpp   read-back and scores
//   engine_maps.cpp   the transforms on the device
#pragma once
#include <memory_resource>
#include <vector>

#include "append.h"
#include "attend.h"
#include "backend/device_engine.h"
#include "device.h"
#include "pack.h"
#include "prefill.h"
#include "table_mirror.h"

namespace oscar::cuda {

// Positions and counts of the cache as the device has them: 32 bits, which max_tokens fits.
inline uint32_t u32(uint64_t n) { return static_cast<uint32_t>(n); }

// The shape that the decode kernel is chosen by. An exact class has no blocks.
inline BlockShape block_shape(const LayerClass& c) {
  return c.exact ? BlockShape{c.key_dim, c.value_dim, 0, 0, 0} : c.shape;
}

// Layers that share tables of the decode kernel: one class, one group size.
struct AttendVariant {
  uint32_t layer_class, group;
};

// A class as the device sees it.
struct DeviceClass {
  ClassView view{};
  const HeadTransform* transforms = nullptr;  // by class head
  uint32_t general = 0, shaped = 0;           // PackLaunch
  uint64_t max_spans = 0, page_lines = 0;
  uint64_t sequence_lines = 0;  // lines of one sequence: spans, then its page table
  uint64_t first_line = 0;      // of the sequence in slot 1
};

// Transforms of one layer for attention.
struct LayerMaps {
  MapView query{}, value_inverse{};
};

// What a step slot has for itself: steps may run on different streams.
struct StepArea {
  TableChange* staging;
  CountWork* counts;  // those before packing, then the late ones
  SideWork* sides;
  PackJob* packs;  // aged blocks; then, by scratch area, the blocks of a long step
  uint32_t* arrivals;
  uint32_t* move;      // pages and indices of an accepted path
  uint16_t* scratch;   // by scratch area
  float* chunk_votes;  // by scratch area
  float* lse;          // [row][query head]: votes need it where the caller does not
  float* mapped_queries;
  uint8_t* attend_workspace;
  uint8_t* prefill_workspace;
  uint64_t first_line;  // in the tables: parts by class, then sequences and starts by variant
};

// Which kernels attend for the layers of a variant: decode, prefill, or in a batch-invariant step both.
struct AttendChoice {
  AttendShape decode;  // max_queries 0: nothing for the decode kernel
  bool prefill;
};

// What the host remembers of an open step.
struct StepState {
  explicit StepState(std::pmr::memory_resource* memory) : choices(memory), chunk_packs(memory) {}
  std::pmr::vector<AttendChoice> choices;  // by variant
  std::pmr::vector<uint32_t> chunk_packs;  // by class: its first chunk job; one more at the end
};

// Sizes that follow from plan and device.
struct DeviceSizes {
  explicit DeviceSizes(const EnginePlan& plan, int device);

  EngineSizes engine;
  DeviceTraits traits;
  uint32_t max_entries;    // of a step, padding included
  uint32_t max_sequences;  // of the decode kernel's tables: entries, or parts of them
  uint32_t max_ctas, max_segments;
  uint32_t max_q_heads;
  uint64_t attend_workspace = 0, prefill_workspace = 0, mapped_floats = 0;
  uint64_t max_counts, max_packs, max_arrivals, max_moved;
  uint64_t step_lines, n_lines;

  // Lines of the decode kernel's tables of a variant: sequences, then starts, then segments.
  uint64_t starts_line() const { return table_lines(max_sequences, sizeof(SequenceWork)); }
  uint64_t segments_line() const { return starts_line() + table_lines(max_ctas, sizeof(CtaStart)); }
  uint64_t variant_lines() const { return segments_line() + table_lines(max_segments, sizeof(SegmentCtas)); }
};

class CudaEngine final : public Engine {
 public:
  // Host memory only; allocate takes the device's.
  CudaEngine(const EnginePlan& plan, const Calibration& calibration, const Backend& host, int device,
             std::pmr::memory_resource* memory);
  ~CudaEngine() override;
  void allocate(const DeviceAllocator& allocator, uint64_t arena_bytes);
  uint64_t fixed_device_bytes();

  void use_stream(void* stream) override { stream_ = static_cast<cudaStream_t>(stream); }
  void upkeep(uint32_t step_slot, const Upkeep& jobs) override;
  void open(const StepView& step) override;
  void append(const StepView& step, uint32_t layer, const oscar::TensorView& k, const oscar::TensorView& v) override;
  void attend(const StepView& step, const AttendRequest& r, bool votes) override;
  void pack_chunk(const StepView& step, uint32_t layer) override;
  void copy_unit(uint32_t layer_class, UnitKind kind, Unit from, Unit to) override;
  void move_accepted(uint32_t layer_class, const SequenceView& s, uint64_t base,
                     std::span<const uint32_t> indices) override;
  void read(const SequenceView& s, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
            const oscar::TensorView& k, const oscar::TensorView& v) const override;
  void scores(const SequenceView& s, uint64_t length, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
              const oscar::TensorView& out) const override;
  uint64_t n_non_finite() const override;
  uint64_t bytes() const override { return sizeof(CudaEngine) + fixed_.bytes(); }
  uint64_t host_arena_bytes() const override { return 0; }

 private:
  // ---- engine.cpp
  void place(DeviceArena& arena);
  // Runs `call` with the device current. A device error is remembered: every later call fails with it.
  template <class Call>
  void on_device(Call&& call) const;

  // ---- engine_maps.cpp
  void place_maps(DeviceArena& arena);
  const float* place_matrix(DeviceArena& arena, const float* host, uint32_t dim);
  MapView place_layer_map(DeviceArena& arena, uint32_t layer, LinearMap HeadTransform::*map, uint32_t dim);

  // ---- engine_step.cpp
  uint64_t sequence_line(uint32_t layer_class, uint32_t slot) const {
    return classes_[layer_class].first_line + (slot - 1) * classes_[layer_class].sequence_lines;
  }
  uint64_t part_line(uint32_t step_slot, uint32_t layer_class) const;
  uint64_t variant_line(uint32_t step_slot, uint32_t variant) const;
  void write_sequence(const StepView& step, uint32_t layer_class, const StepEntry& e, PartWork& part);
  void write_pages(const StepView& step, uint32_t layer_class, uint64_t first_line, const SequenceView& s,
                   uint64_t end);
  void write_parts(const StepView& step, uint32_t layer_class);
  bool is_decoded(const PartWork& part, uint32_t layer_class) const;
  uint32_t add_sequences(uint32_t group, bool seeing);
  bool plan(const StepView& step, uint32_t variant, const AttendShape& shape);
  void write_plan(const StepView& step, uint32_t variant);
  void write(const StepView& step, uint64_t line, const void* data, uint64_t bytes);
  const PartWork* parts_of(uint32_t step_slot, uint32_t layer_class) const;
  ScratchView scratch_of(const StepView& step, uint32_t layer) const;
  template <class Args>
  void describe(Args& args, const StepView& step, const AttendRequest& r, float* lse, int64_t lse_row_stride) const;
  void attend_decode(const StepView& step, const AttendRequest& r, float* lse, int64_t lse_row_stride);
  void attend_any(const StepView& step, const AttendRequest& r, float* lse, int64_t lse_row_stride);
  void cast_votes(const StepView& step, const AttendRequest& r, const float* lse, int64_t lse_row_stride);

  // ---- engine_pack.cpp
  void count(CountWork* device, std::span<const CountJob> jobs);
  void copy_sides(SideWork* device, std::span<const SideJob> jobs);
  void pack(const StepArea& area, std::span<const oscar::PackJob> jobs);
  void pack_blocks(uint32_t layer_class, const PackJob* jobs, uint32_t n_jobs, uint32_t first_head, uint32_t n_heads,
                   uint32_t* arrivals);
  PackJob aged_job(const oscar::PackJob& job) const;
  PackJob chunk_job(const StepView& step, const StepEntry& e, uint32_t layer_class, uint32_t block,
                    uint32_t scratch_area) const;
  void send_chunk_packs(const StepView& step);

  const EnginePlan& plan_;
  const Calibration& calibration_;
  const Backend& host_;
  const int device_;
  DeviceSizes sizes_;
  DeviceArena fixed_, pool_;
  cudaStream_t stream_ = nullptr;
  mutable bool failed_ = false;
  mutable char failure_[200] = "";

  std::pmr::vector<DeviceClass> classes_;
  std::pmr::vector<AttendVariant> variants_;
  std::pmr::vector<uint32_t> layer_variants_;
  std::pmr::vector<LayerMaps> layer_maps_;  // by layer that owns keys and values
  std::pmr::vector<StepArea> areas_;        // by step slot
  std::pmr::vector<StepState> states_;
  TableMirror tables_;
  unsigned long long* n_non_finite_ = nullptr;
  TableLine* table_ = nullptr;

  // What a call collects before it is sent.
  std::pmr::vector<SpanEntry> spans_;
  std::pmr::vector<PartWork> parts_;
  std::pmr::vector<SequenceWork> sequences_;
  std::pmr::vector<CtaStart> starts_;
  std::pmr::vector<SegmentCtas> segments_;
  std::pmr::vector<CountWork> counts_;
  std::pmr::vector<SideWork> sides_;
  std::pmr::vector<PackJob> packs_;
  std::pmr::vector<uint32_t> move_;
};

template <class Call>
void CudaEngine::on_device(Call&& call) const {
  if (failed_) throw Error(Status::kDevice, "the device failed before, the cache can only be destroyed: %s", failure_);
  try {
    const DeviceGuard guard(device_);
    call();
  } catch (const Error& e) {
    if (e.status() == Status::kDevice) {
      failed_ = true;
      snprintf(failure_, sizeof failure_, "%s", e.what());
    }
    throw;
  }
}

}  // namespace oscar::cuda
