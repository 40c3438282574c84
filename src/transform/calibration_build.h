// Inside of calibration.cpp and calibration_file.cpp: how a Calibration comes to be, from matrices or from bytes.
#pragma once
#include <span>

#include "format/error.h"
#include "transform/calibration.h"

namespace oscar {

inline constexpr uint32_t kMaxCalibrationLayers = 4096, kMaxCalibrationHeads = 1024, kMaxCalibrationAllHeads = 65536;

// One layer as given. Matrices are [n_kv_heads][dim][dim]; key and value are read where their kind is kDense, moment
// where it is not null.
struct LayerSource {
  LayerGeometry geometry;
  MapKind key_kind, value_kind;
  const float* key;
  const float* moment;
  const float* value;
};

class CalibrationBuilder {
 public:
  // Throws Error(status) where a geometry or a matrix is refused.
  static Calibration build(std::span<const LayerSource> layers, Status status);
  // Throws Error(status) unless the geometries can be served.
  static void check_geometry(std::span<const LayerGeometry> layers, Status status);
  // The query moment as given; null where there is none.
  static const float* query_moment(const HeadTransform& head);
};

// Hash of what calibration_file.cpp would write.
uint64_t calibration_fingerprint(const Calibration& calibration);

}  // namespace oscar
