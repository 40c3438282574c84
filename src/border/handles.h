// What the opaque pointers of the public header point to.
#pragma once
#include <memory>

#include "cache/cache.h"
#include "oscar/oscar.h"
#include "transform/calibration.h"
#include "transform/calibrator.h"

struct oscar_calibration {
  std::shared_ptr<const oscar::Calibration> calibration;
};

struct oscar_calibrator {
  oscar::Calibrator calibrator;
};

struct oscar_cache {
  oscar_cache(oscar::CachePlan plan, const oscar::Backend& backend) : cache(std::move(plan), backend) {}
  oscar::Cache cache;
};
