// All memory besides the pool's arena, predicted: what oscar_cache_check says of it.
#pragma once
#include <cstdint>

#include "backend/backend.h"
#include "cache/plan.h"
#include "transform/calibration.h"

namespace oscar {

uint64_t fixed_bytes(const CachePlan& plan, const Backend& backend, const Calibration& calibration);
// The most that a cache of this plan keeps once it is frozen; the same where it does not collect.
uint64_t frozen_fixed_bytes(const CachePlan& plan, const Backend& backend, const Calibration& calibration);

}  // namespace oscar
