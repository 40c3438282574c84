// An immutable set of transforms: one HeadTransform per (layer, KV head), with its serialized form.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transform/provenance.h"
#include "transform/transform.h"

namespace oscar {

struct LayerGeometry {
  uint32_t n_kv_heads, key_dim, value_dim;
  bool operator==(const LayerGeometry&) const = default;
};

// Explicit matrices of one layer, row-major [n_kv_heads][dim][dim]; empty: data-free (or, for the moment, unshaped).
struct LayerMatrices {
  LayerGeometry geometry;
  std::vector<float> key_transform, query_moment, value_transform;
};

// Some consecutive KV heads of one layer: what a slice has as a layer.
struct CalibrationPart {
  uint32_t layer, first_head, n_heads;
};

class CalibrationBuilder;

class Calibration {
 public:
  Calibration(Calibration&&) = default;  // not copyable: heads_ point into matrices_
  Calibration& operator=(Calibration&&) = default;

  static Calibration data_free(std::span<const LayerGeometry> layers);
  static Calibration identity(std::span<const LayerGeometry> layers);
  // Throws oscar::Error (INVALID) naming layer and head where a matrix is not finite, singular or too ill-conditioned,
  // or a moment is not symmetric positive definite.
  static Calibration from_matrices(std::span<const LayerMatrices> layers, Provenance provenance = {});
  // Throws oscar::Error (CORRUPT).
  static Calibration deserialize(std::span<const uint8_t> bytes);
  std::vector<uint8_t> serialize() const;
  // Layer i of the slice is parts[i]. Throws oscar::Error (INVALID) where a part is not there.
  Calibration slice(std::span<const CalibrationPart> parts) const;

  std::span<const LayerGeometry> layers() const { return layers_; }
  const HeadTransform& head(uint32_t layer, uint32_t kv_head) const { return heads_[first_head_[layer] + kv_head]; }
  bool is_data_free() const;
  bool is_data_free(uint32_t layer, uint32_t kv_head) const;
  // Some head of the layer has query moments; is_shaped(layer, head): this one.
  bool is_shaped(uint32_t layer) const;
  bool is_shaped(uint32_t layer, uint32_t kv_head) const { return head(layer, kv_head).metric_root != nullptr; }
  // Of the transforms: equal ones, equal fingerprints, whatever the provenance and, for a head, wherever it stands.
  uint64_t fingerprint() const { return fingerprint_; }
  uint64_t fingerprint(uint32_t layer, uint32_t kv_head) const {
    return head_fingerprints_[first_head_[layer] + kv_head];
  }
  const Provenance& provenance() const { return provenance_; }
  // Memory of the object, and the most that one of these geometries can take.
  uint64_t bytes() const;
  static uint64_t most_bytes(std::span<const LayerGeometry> layers);

 private:
  friend class CalibrationBuilder;
  Calibration() = default;

  std::vector<LayerGeometry> layers_;
  std::vector<uint32_t> first_head_;  // [layer] into heads_
  std::vector<HeadTransform> heads_;  // pointers into matrices_
  std::vector<float> matrices_;       // never resized once heads_ point into it (moves keep the buffer)
  std::vector<uint64_t> head_fingerprints_;
  uint64_t fingerprint_ = 0;
  Provenance provenance_;
};

}  // namespace oscar
