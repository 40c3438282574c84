// What moves and computes the bytes of sequences. The cache decides (host truth, no numerics) and describes; an engine
// executes: backend/host_engine.h on the host, others on a device. The interface is plain data, so that an engine can copy
// it to where it computes.
#pragma once
#include <cstdint>
#include <span>

#include "attention/work.h"
#include "backend/engine_plan.h"
#include "backend/tensor.h"

namespace oscar {

class Calibration;

// Where a unit lies in the arena, in steps of kUnitAlignment bytes.
using Unit = uint32_t;
inline constexpr Unit kNoUnit = UINT32_MAX;
inline constexpr uint64_t kUnitAlignment = 64;

// Tokens start + first .. start + last - 1. A cut only moves the limits: the bytes are shared and never change.
struct BlockEntry {
  uint64_t start;
  Unit unit;
  uint8_t first, last;
  uint16_t reserved = 0;
  uint64_t end() const { return start + last; }
};
static_assert(sizeof(BlockEntry) == 16);

// A sequence in one class. Its tokens are
//     [0, n_sink) exact   |   [n_sink, packed_end) in blocks   |   [packed_end, length) exact
// Exact rows never move: page p holds tokens 16 p .. 16 p + 15. In a collecting cache (EnginePlan::collecting) every token
// is still exact, exact_from is n_sink, and nobody attends to blocks: they are reserved, and hold their refined ids only.
struct SequenceView {
  std::span<const BlockEntry> blocks;
  std::span<const Unit> pages;  // by page number; kNoUnit where its tokens are packed or gone
  uint64_t packed_end;          // >= n_sink of the class
  uint64_t kept_from;           // a window has dropped the tokens before this one
  Unit scores;
  uint32_t side;     // which side of the scores is committed
  uint64_t counted;  // votes of the queries before this position are in the scores
  // Tokens from here on, and the sinks, are read from pages: packed_end, but in a collecting cache.
  uint64_t exact_from;
};

inline constexpr uint32_t kPaddingSlot = UINT32_MAX;

// One sequence of a step.
struct StepEntry {
  uint32_t slot;  // of the sequence; kPaddingSlot: rows that are not stored
  uint32_t n_new, n_draft;
  uint32_t row;      // of its first new token in the step's tensors
  uint32_t classes;  // first of its StepPart records
  uint64_t base;     // the sequence's length at begin
  bool query_only;   // its n_new rows attend to the sequence and append nothing; n_draft is 0

  uint64_t end() const { return query_only ? base : base + n_new; }
  uint32_t n_sure() const { return query_only ? 0 : n_new - n_draft; }
  bool stores() const { return slot != kPaddingSlot && !query_only; }
  bool sees_nothing() const { return slot == kPaddingSlot || (query_only && base == 0); }
  // Long: packs the tokens that age within it; shorter steps leave that to the next begin.
  bool is_long() const { return n_sure() > kBlockTokens; }
  // Big: its older queries can no longer be rolled back, so their votes go to the open side of the scores.
  bool is_big(uint32_t max_rollback) const { return n_sure() > max_rollback; }
};

// One sequence of a step in one class. A long step packs the tokens that age within it: they never reach the pages.
struct StepPart {
  SequenceView sequence{};                 // as begin left it
  uint64_t persist_from = 0;               // new tokens from here on (and sinks) go to pages
  uint64_t old_packed_end = 0;             // before begin's packing
  uint64_t packed_end = 0;                 // once the step is committed
  uint64_t first_start = 0;                // start of the first block that the step packs
  uint32_t first_block = 0, n_blocks = 0;  // in StepView::blocks
  bool ages = false;                       // tokens of the step age within it
  bool uses_scratch = false;               // the new tokens are read from the step's scratch
  uint64_t vote_offset = 0;                // in a line of chunk votes, of the token at the sequence's packed_end

  // The engine holds something of the part for one layer at a time: new tokens, or votes for the blocks to be packed.
  bool needs_scratch() const { return uses_scratch || n_blocks > 0; }
};

struct StepView {
  uint32_t slot;  // of the step: its scratch
  uint32_t n_rows;
  std::span<const StepEntry> entries;
  std::span<const StepPart> parts;  // entry by entry, class by class
  std::span<const Unit> blocks;     // reserved for the tokens that age within the step
};

struct AttendRequest {
  uint32_t layer;
  TensorView q, out, lse, sink_logits, mask;
  float scale, softcap;
};

// Votes of the queries [from, until) that can no longer be rolled back are added to the scores of tokens from `first` on.
struct CountJob {
  uint32_t layer_class;
  Unit scores;
  uint32_t side;
  uint64_t from, until, first;
};

// The 128 tokens from `start` on, all layers and heads of the class, from exact rows into a block unit. pages[i] holds the
// tokens of page start / 16 + i. scores is kNoUnit where nothing is to be chosen.
struct PackJob {
  uint32_t layer_class;
  Unit block;
  uint64_t start;
  Unit pages[kBlockTokens / kPageTokens + 1];
  Unit scores;
  uint32_t side;
};

// A block that a collecting cache has reserved, to be packed: pages[t] has the row of its token t, kNoUnit where a cut or a
// window has taken the row away. At least one is there.
struct FreezeJob {
  uint32_t layer_class;
  Unit block;
  uint64_t start;
  Unit pages[kBlockTokens];
};

// Scores of the tokens [first, last) are copied from the committed side to the other.
struct SideJob {
  uint32_t layer_class;
  Unit scores;
  uint32_t side;
  uint64_t first, last;
};

// What begin has to have done, in this order.
struct Upkeep {
  std::span<const CountJob> counts;
  std::span<const PackJob> packs;
  std::span<const CountJob> late_counts;  // votes that the packing must not see
  std::span<const SideJob> sides;
};

class Engine {
 public:
  virtual ~Engine() = default;

  // Where the following calls put their work: a device's stream; null on the host.
  virtual void use_stream(void* stream) = 0;
  // For the step that is about to begin in this slot.
  virtual void upkeep(uint32_t step_slot, const Upkeep& jobs) = 0;
  // The step has begun: its view stays as it is until it ends.
  virtual void open(const StepView& step) = 0;
  // Keys and values of a layer: to pages, and to the step's scratch where they are read from there.
  virtual void append(const StepView& step, uint32_t layer, const TensorView& k, const TensorView& v) = 0;
  // r.scale > 0. `votes`: this attention counts for the choice of refined tokens.
  virtual void attend(const StepView& step, const AttendRequest& r, bool votes) = 0;
  // The blocks of one layer that a long step has reserved, from its scratch and the pages.
  virtual void pack_chunk(const StepView& step, uint32_t layer) = 0;

  // Of a collecting cache, which stops being one: the blocks it has reserved are packed with these transforms, which
  // outlive the engine. Does not throw, and is not called where the plan does not collect.
  virtual void freeze(const Calibration&, std::span<const FreezeJob>) {}

  virtual void copy_unit(uint32_t layer_class, UnitKind kind, Unit from, Unit to) = 0;
  // Rows and votes of base + indices[i] move to base + i, in every layer and head of the class.
  virtual void move_accepted(uint32_t layer_class, const SequenceView& s, uint64_t base,
                             std::span<const uint32_t> indices) = 0;

  virtual void read(const SequenceView& s, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
                    const TensorView& k, const TensorView& v) const = 0;
  virtual void scores(const SequenceView& s, uint64_t length, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
                      const TensorView& out) const = 0;
  // The first n bytes of a unit, out of the arena and into it. The host's engine alone serves this.
  virtual void read_unit(Unit, uint64_t n, uint8_t* to) const { (void)n, (void)to; }
  virtual void write_unit(Unit, uint64_t n, const uint8_t* from) { (void)n, (void)from; }
  // Elements that were stored as 0 because they were not finite.
  virtual uint64_t n_non_finite() const = 0;
  // What was packed of a layer with keys of its own. The host's engine alone counts.
  virtual PackCounts packed(uint32_t layer) const { return (void)layer, PackCounts{}; }
  // Of what it has taken beside its host memory resource, the arena aside.
  virtual uint64_t bytes() const = 0;
  // Part of the host memory resource that is the arena.
  virtual uint64_t host_arena_bytes() const = 0;
};

}  // namespace oscar
