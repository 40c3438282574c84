// All memory besides the pool's arena, predicted: what oscar_cache_check says of it.
#pragma once
#include <cstdint>

#include "backend/backend.h"
#include "cache/plan.h"
#include "transform/calibration.h"

namespace oscar {

uint64_t fixed_bytes(const CachePlan& plan, const Backend& backend, const Calibration& calibration);

}  // namespace oscar
