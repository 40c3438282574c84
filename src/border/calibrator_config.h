// From the public arguments of a calibrator to the internal ones.
#pragma once
#include "cache/config.h"
#include "oscar/oscar.h"
#include "transform/calibrator.h"

namespace oscar::border {

// `config` is resolved but for its self_calibration. Throws INVALID where the arguments are malformed or do not fit it.
CalibratorConfig calibrator_config(const CacheConfig& config, const oscar_calibrator_args* given, const char* name);

}  // namespace oscar::border
