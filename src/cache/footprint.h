// How large everything besides the pool is. The cache allocates by it and oscar_cache_check predicts by it.
#pragma once
#include <cstdint>

#include "backend/backend.h"
#include "cache/plan.h"

namespace oscar {

struct Footprint {
  uint64_t max_blocks = 0;  // of one sequence in one class
  uint64_t max_pages = 0;
  uint64_t max_entries = 0;      // of a step, padding aside
  uint64_t max_step_blocks = 0;  // reserved by a long step
  uint64_t max_aged_blocks = 0;  // packed by one begin
  uint32_t max_kv_heads = 0, max_group = 0;
  uint64_t row_floats = 0;  // query or output rows of one KV head, for a whole step
  uint64_t group_rows = 0;  // max_group * max_step_tokens
  uint64_t vote_floats = 0;
  uint64_t scratch_elements = 0;  // of one scratch area; 0 where no step is long
  uint64_t chunk_tokens = 0;      // of one line of Step::chunk_votes
  uint64_t backend_scratch_bytes = 0;

  Footprint() = default;
  Footprint(const CachePlan& plan, const Backend& backend);

  // All memory besides the pool's arena, calibration included.
  uint64_t fixed_bytes(const CachePlan& plan, uint64_t calibration_bytes) const;
};

}  // namespace oscar
