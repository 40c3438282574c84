// What moves and computes the bytes of sequences. The cache decides (host truth, no numerics), an engine executes: this
// one on the host, others on a device. Units are valid for every engine; only the host's can be looked into.
#pragma once
#include <cstdint>
#include <span>

#include "cache/plan.h"
#include "cache/pool.h"
#include "cache/sequence.h"
#include "cache/step.h"
#include "cache/tensor.h"

namespace oscar {

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
  std::span<const SideJob> sides;
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual void upkeep(const Upkeep& jobs) = 0;
  // Keys and values of a layer: to pages, and to the step's scratch where they are read from there.
  virtual void append(uint32_t slot, const Step& step, uint32_t layer, const TensorView& k, const TensorView& v) = 0;
  // r.scale > 0. `votes`: this attention counts for the choice of refined tokens.
  virtual void attend(uint32_t slot, const Step& step, const AttendRequest& r, bool votes) = 0;
  // The blocks of one layer that a long step has reserved, from its scratch and the pages.
  virtual void pack_chunk(uint32_t slot, const Step& step, uint32_t layer) = 0;

  virtual void copy_unit(uint32_t layer_class, UnitKind kind, Unit from, Unit to) = 0;
  // Rows and votes of base + indices[i] move to base + i, in every layer and head of the class.
  virtual void move_accepted(uint32_t layer_class, const ClassState& s, uint64_t base,
                             std::span<const uint32_t> indices) = 0;

  virtual void read(const Sequence& seq, uint32_t layer, uint32_t head, uint64_t first, uint64_t n, const TensorView& k,
                    const TensorView& v) const = 0;
  virtual void scores(const Sequence& seq, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
                      const TensorView& out) const = 0;
  // Elements that were stored as 0 because they were not finite.
  virtual uint64_t n_non_finite() const = 0;
};

}  // namespace oscar
