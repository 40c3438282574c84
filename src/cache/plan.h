// A configuration resolved: layers sorted into classes, what each kind of memory takes, and what is not served.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "backend/engine_plan.h"
#include "cache/config.h"

namespace oscar {

struct CachePlan : EnginePlan {
  CacheConfig config;
  std::string advice;  // nothing is wrong, but the caller may want to know

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
  bool has_window() const;
  // The one given, or the data-free one.
  std::shared_ptr<const Calibration> calibration() const;

  // The same cache once it is frozen.
  CachePlan frozen() const;

  // The first position that the layers of a class must still hold when n_tokens are accepted.
  uint64_t keep_from(const LayerClass& c, uint64_t n_tokens) const;
  // How many whole blocks have aged when a sequence has n_tokens and is packed up to packed_end.
  uint64_t aged_blocks(const LayerClass& c, uint64_t packed_end, uint64_t n_tokens) const;
};

}  // namespace oscar
