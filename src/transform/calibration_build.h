// Inside of calibration.cpp and calibration_file.cpp: how a Calibration comes to be, from matrices or from bytes.
#pragma once
#include <span>

#include "format/error.h"
#include "transform/calibration.h"

namespace oscar {

inline constexpr uint32_t kMaxCalibrationLayers = 4096, kMaxCalibrationHeads = 1024, kMaxCalibrationAllHeads = 65536;

// One KV head as given. Matrices are [dim][dim]; key and value are read where their kind is kDense, moment where it is not
// null.
struct HeadSource {
  MapKind key_kind, value_kind;
  const float* key;
  const float* moment;
  const float* value;
};

struct LayerSource {
  LayerGeometry geometry;
  std::vector<HeadSource> heads;  // n_kv_heads
};

class CalibrationBuilder {
 public:
  // Throws Error(status) where a geometry or a matrix is refused.
  static Calibration build(std::span<const LayerSource> layers, Provenance provenance, Status status);
  // Throws Error(status) unless the geometries can be served.
  static void check_geometry(std::span<const LayerGeometry> layers, Status status);
  // The query moment as given; null where there is none.
  static const float* query_moment(const HeadTransform& head);
};

// What a file says of a head before the matrices.
struct HeadRecord {
  uint8_t key_kind, value_kind;  // MapKind
  uint8_t has_moment;
  uint8_t reserved;  // 0
};
static_assert(sizeof(HeadRecord) == 4);

HeadRecord record_of(const HeadTransform& head);

// Calls sink(bytes, size) with the matrices of a head that a file has, in its order.
template <class Sink>
void write_matrices(const HeadTransform& head, Sink&& sink) {
  const uint64_t key_bytes = sizeof(float) * head.key.dim * head.key.dim;
  const uint64_t value_bytes = sizeof(float) * head.value.dim * head.value.dim;
  if (head.key.kind == MapKind::kDense) sink(head.key.matrix, key_bytes);
  if (const float* moment = CalibrationBuilder::query_moment(head)) sink(moment, key_bytes);
  if (head.value.kind == MapKind::kDense) sink(head.value.matrix, value_bytes);
}

}  // namespace oscar
