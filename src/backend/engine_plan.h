// What an engine must know about a cache: its layers, its classes, its limits. Plain data, resolved by the cache.
#pragma once
#include <cstdint>
#include <vector>

#include "format/block.h"
#include "importance/votes.h"

namespace oscar {

// Kinds of memory unit, three per class.
enum class UnitKind : uint32_t { kBlocks = 0, kPage = 1, kScores = 2 };

// Layers with the same geometry, window and profile advance in lockstep: one table entry per 128 tokens serves them all.
// A unit holds what all of their KV heads have of one kind, head_index = layer in class * n_kv_heads + head apart.
struct LayerClass {
  uint32_t n_kv_heads = 0, key_dim = 0, value_dim = 0;
  uint32_t window = 0;  // 0: everything
  bool exact = false;   // never packs
  BlockShape shape{};

  uint32_t n_layers = 0;
  uint32_t n_sink = 0;  // 0 under a window: its first tokens leave like any others
  bool votes = false;   // 0 < h < 128: somebody has to choose
  BlockLayout layout{};
  VoteLayout vote_layout{};
  uint64_t head_page_bytes = 0;  // 16 exact rows of one KV head: keys, then values
  uint64_t unit_bytes[3] = {};   // by UnitKind; kScores 0 without votes

  bool same_geometry(const LayerClass& o) const {
    return n_kv_heads == o.n_kv_heads && key_dim == o.key_dim && value_dim == o.value_dim && window == o.window &&
           exact == o.exact && shape == o.shape;
  }
  uint64_t heads() const { return uint64_t{n_layers} * n_kv_heads; }
};

struct LayerPlan {
  uint32_t n_q_heads = 0;
  uint32_t kv_source = 0;       // whose keys and values this layer attends to
  uint32_t layer_class = 0;     // of kv_source
  uint32_t index_in_class = 0;  // of kv_source
  uint32_t last_consumer = 0;   // (of a layer with its own keys) the last layer that attends to them
  uint32_t scratch = 0;         // of kv_source: which chunk scratch it uses: 0, or its own when shared
  bool owns = true;             // has keys and values of its own
};

struct EnginePlan {
  std::vector<LayerPlan> layers;
  std::vector<LayerClass> classes;
  uint32_t n_scratch = 1;
  uint32_t n_recent = 0, max_rollback = 0;
  uint32_t max_sequences = 0, max_open_steps = 0, max_step_tokens = 0;
  uint64_t max_tokens = 0;
  uint32_t n_threads = 1;  // of the host's engine
  bool plain_writer = false;
  bool batch_invariant = false;
  // Nothing is packed yet: what ages gets a block, and the choice of its refined tokens, but keeps its exact rows. The
  // host's engine alone serves this.
  bool collecting = false;
};

// Sizes that follow from the plan.
struct EngineSizes {
  uint64_t undecided = 0;   // tokens of a sequence that are not packed, before a step, at most
  uint64_t max_blocks = 0;  // of one sequence in one class
  uint64_t max_pages = 0;
  uint64_t max_entries = 0;      // of a step, padding aside
  uint64_t max_step_blocks = 0;  // reserved by a long step
  uint64_t max_aged_blocks = 0;  // packed by one begin
  uint32_t max_kv_heads = 0, max_group = 0;
  uint64_t vote_floats = 0;       // votes of one KV head's voters
  uint64_t scratch_elements = 0;  // of one scratch area; 0 where no step is long
  uint64_t chunk_tokens = 0;      // of one line of chunk votes

  EngineSizes() = default;
  explicit EngineSizes(const EnginePlan& plan);
};

}  // namespace oscar
