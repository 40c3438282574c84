// A configuration resolved: layers sorted into classes, the size of everything, and what is not served.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cache/config.h"
#include "format/block.h"
#include "importance/votes.h"

namespace oscar {

// Kinds of pool units, three per class.
enum class UnitKind : uint32_t { kBlocks = 0, kPage = 1, kScores = 2 };

// Layers with the same geometry, window and profile advance in lockstep: one table entry per 128 tokens serves them all.
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
  uint32_t scratch = 0;         // (of a layer with its own keys) which chunk scratch it uses: 0, or its own when shared
  bool owns = true;             // has keys and values of its own
};

struct CachePlan {
  CacheConfig config;
  std::vector<LayerPlan> layers;
  std::vector<LayerClass> classes;
  uint32_t n_scratch = 1;
  std::string advice;

  // Throws Error: INVALID for a malformed configuration, UNSUPPORTED for one that is understood and not served.
  explicit CachePlan(CacheConfig config);

  std::vector<uint64_t> pool_units() const;  // bytes by kind: class * 3 + UnitKind; 0: a kind that is never used
  uint32_t main_kind() const;                // the kind that most memory goes to: it decides the slab size
  static uint32_t kind(uint32_t layer_class, UnitKind kind) { return layer_class * 3 + static_cast<uint32_t>(kind); }

  // Units of each kind that a sequence of n_tokens holds when everything aged is packed and a step for n_new more has
  // begun.
  std::vector<uint64_t> units_for(uint64_t n_tokens, uint64_t n_new) const;
  // All bytes of such a sequence: units and table entries.
  uint64_t sequence_bytes(uint64_t n_tokens, uint64_t n_new) const;
  uint64_t elements_per_token() const;

  // The first position that the layers of a class must still hold when n_tokens are accepted.
  uint64_t keep_from(const LayerClass& c, uint64_t n_tokens) const;
  // How many whole blocks have aged when a sequence has n_tokens and is packed up to packed_end.
  uint64_t aged_blocks(const LayerClass& c, uint64_t packed_end, uint64_t n_tokens) const;
};

// Bytes of host tables per entry: a block entry and a page entry (cache/sequence.h).
inline constexpr uint64_t kBlockEntryBytes = 16, kPageEntryBytes = 4;

}  // namespace oscar
