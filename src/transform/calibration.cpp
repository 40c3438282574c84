#include "transform/calibration.h"

#include <algorithm>
#include <utility>

#include "transform/calibration_build.h"
#include "transform/derive.h"
#include "transform/hadamard.h"

namespace oscar {
namespace {

// A head's matrices in the buffer, those that exist, in this order: F, F^-T, query moment, R, ratio, F_v, F_v^-1.
uint64_t floats_of_head(const LayerSource& layer) {
  const uint64_t key = uint64_t{layer.geometry.key_dim} * layer.geometry.key_dim;
  const uint64_t value = uint64_t{layer.geometry.value_dim} * layer.geometry.value_dim;
  return (layer.key_kind == MapKind::kDense ? 2 * key : 0) + (layer.moment ? 3 * key : 0) +
         (layer.value_kind == MapKind::kDense ? 2 * value : 0);
}

// F^-T as a matrix, whatever the kind of F. Hadamard and identity are orthogonal: F^-T = F.
std::vector<float> inverse_transposed_of(const LinearMap& key, const LinearMap& query) {
  const uint64_t dim = key.dim;
  std::vector<float> matrix(dim * dim, 0.0f);
  if (key.kind == MapKind::kDense) std::copy_n(query.matrix, dim * dim, matrix.begin());
  if (key.kind == MapKind::kHadamard) hadamard_matrix(key.dim, matrix.data());
  if (key.kind == MapKind::kIdentity)
    for (uint64_t i = 0; i < dim; ++i) matrix[i * dim + i] = 1.0f;
  return matrix;
}

LinearMap map_of(MapKind kind, uint32_t dim, bool transposed, const float* matrix) {
  return {kind, dim, kind == MapKind::kHadamard && transposed ? 1u : 0u, 0, kind == MapKind::kDense ? matrix : nullptr};
}

// Fills one head; `at` walks through the buffer.
HeadTransform build_head(const LayerSource& layer, const MatrixOwner& owner, float*& at) {
  const uint32_t key_dim = layer.geometry.key_dim, value_dim = layer.geometry.value_dim;
  const uint64_t key_size = uint64_t{key_dim} * key_dim, value_size = uint64_t{value_dim} * value_dim;
  const auto take = [&at](uint64_t size) { return std::exchange(at, at + size); };
  HeadTransform head;
  float *forward = nullptr, *inverse = nullptr;
  if (layer.key_kind == MapKind::kDense) {
    forward = std::copy_n(layer.key + owner.head * key_size, key_size, take(key_size)) - key_size;
    inverse = take(key_size);
    derive_inverse(forward, key_dim, true, "key_transform", owner, inverse);
  }
  head.key = map_of(layer.key_kind, key_dim, false, forward);
  head.query = map_of(layer.key_kind, key_dim, false, inverse);
  if (layer.moment) {
    const float* moment = std::copy_n(layer.moment + owner.head * key_size, key_size, take(key_size)) - key_size;
    float *root = take(key_size), *ratio = take(key_size);
    derive_metric(moment, inverse_transposed_of(head.key, head.query).data(), key_dim, owner, root, ratio);
    head.metric_root = root;
    head.metric_ratio = ratio;
  }
  if (layer.value_kind == MapKind::kDense) {
    forward = std::copy_n(layer.value + owner.head * value_size, value_size, take(value_size)) - value_size;
    inverse = take(value_size);
    derive_inverse(forward, value_dim, false, "value_transform", owner, inverse);
  }
  head.value = map_of(layer.value_kind, value_dim, false, forward);
  head.value_inverse = map_of(layer.value_kind, value_dim, true, inverse);
  return head;
}

Calibration without_matrices(std::span<const LayerGeometry> layers, MapKind kind) {
  std::vector<LayerSource> sources;
  sources.reserve(layers.size());
  for (const LayerGeometry& g : layers) sources.push_back({g, kind, kind, nullptr, nullptr, nullptr});
  return CalibrationBuilder::build(sources, Status::kInvalid);
}

void check_size(const std::vector<float>& matrices, const LayerGeometry& g, uint64_t dim, uint32_t layer,
                const char* name) {
  const uint64_t wanted = g.n_kv_heads * dim * dim;
  if (!matrices.empty() && matrices.size() != wanted)
    throw Error(Status::kInvalid, "calibration: layer %u: %s has %llu elements, wanted %llu", layer, name,
                static_cast<unsigned long long>(matrices.size()), static_cast<unsigned long long>(wanted));
}

}  // namespace

void CalibrationBuilder::check_geometry(std::span<const LayerGeometry> layers, Status status) {
  if (layers.empty() || layers.size() > kMaxCalibrationLayers)
    throw Error(status, "calibration: there are %llu layers, wanted 1 to %u",
                static_cast<unsigned long long>(layers.size()), kMaxCalibrationLayers);
  uint64_t n_heads = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    const LayerGeometry& g = layers[l];
    const auto layer = static_cast<uint32_t>(l);
    if (g.n_kv_heads == 0 || g.n_kv_heads > kMaxCalibrationHeads)
      throw Error(status, "calibration: layer %u: n_kv_heads is %u, wanted 1 to %u", layer, g.n_kv_heads,
                  kMaxCalibrationHeads);
    if (!hadamard_is_served(g.key_dim))
      throw Error(status, "calibration: layer %u: key_dim is %u, wanted 64, 80, 96, 128, 192 or 256", layer, g.key_dim);
    if (!hadamard_is_served(g.value_dim))
      throw Error(status, "calibration: layer %u: value_dim is %u, wanted 64, 80, 96, 128, 192 or 256", layer,
                  g.value_dim);
    n_heads += g.n_kv_heads;
  }
  if (n_heads > kMaxCalibrationAllHeads)
    throw Error(status, "calibration: all layers together have %llu KV heads, wanted at most %u",
                static_cast<unsigned long long>(n_heads), kMaxCalibrationAllHeads);
}

Calibration CalibrationBuilder::build(std::span<const LayerSource> layers, Status status) {
  Calibration c;
  uint64_t n_heads = 0, n_floats = 0;
  for (const LayerSource& layer : layers) {
    c.layers_.push_back(layer.geometry);
    n_heads += layer.geometry.n_kv_heads;
  }
  check_geometry(c.layers_, status);
  for (const LayerSource& layer : layers) n_floats += layer.geometry.n_kv_heads * floats_of_head(layer);
  c.heads_.reserve(n_heads);
  c.matrices_.resize(n_floats);
  float* at = c.matrices_.data();
  for (size_t l = 0; l < layers.size(); ++l) {
    c.first_head_.push_back(static_cast<uint32_t>(c.heads_.size()));
    for (uint32_t h = 0; h < layers[l].geometry.n_kv_heads; ++h)
      c.heads_.push_back(build_head(layers[l], {static_cast<uint32_t>(l), h, status}, at));
  }
  c.fingerprint_ = calibration_fingerprint(c);
  return c;
}

const float* CalibrationBuilder::query_moment(const HeadTransform& head) {
  return head.metric_root ? head.metric_root - uint64_t{head.key.dim} * head.key.dim : nullptr;
}

Calibration Calibration::data_free(std::span<const LayerGeometry> layers) {
  return without_matrices(layers, MapKind::kHadamard);
}

Calibration Calibration::identity(std::span<const LayerGeometry> layers) {
  return without_matrices(layers, MapKind::kIdentity);
}

Calibration Calibration::from_matrices(std::span<const LayerMatrices> layers) {
  std::vector<LayerGeometry> geometry;
  std::vector<LayerSource> sources;
  for (const LayerMatrices& layer : layers) geometry.push_back(layer.geometry);
  CalibrationBuilder::check_geometry(geometry, Status::kInvalid);
  for (size_t l = 0; l < layers.size(); ++l) {
    const LayerMatrices& layer = layers[l];
    const LayerGeometry& g = layer.geometry;
    check_size(layer.key_transform, g, g.key_dim, static_cast<uint32_t>(l), "key_transform");
    check_size(layer.query_moment, g, g.key_dim, static_cast<uint32_t>(l), "query_moment");
    check_size(layer.value_transform, g, g.value_dim, static_cast<uint32_t>(l), "value_transform");
    const auto kind = [](const std::vector<float>& m) { return m.empty() ? MapKind::kHadamard : MapKind::kDense; };
    sources.push_back({g, kind(layer.key_transform), kind(layer.value_transform), layer.key_transform.data(),
                       layer.query_moment.empty() ? nullptr : layer.query_moment.data(), layer.value_transform.data()});
  }
  return CalibrationBuilder::build(sources, Status::kInvalid);
}

bool Calibration::is_data_free() const {
  return std::all_of(heads_.begin(), heads_.end(), [](const HeadTransform& h) {
    return h.key.kind == MapKind::kHadamard && h.value.kind == MapKind::kHadamard && !h.metric_root;
  });
}

bool Calibration::is_shaped(uint32_t layer) const { return head(layer, 0).metric_root != nullptr; }

uint64_t Calibration::bytes() const {
  return sizeof *this + layers_.capacity() * sizeof(LayerGeometry) + first_head_.capacity() * sizeof(uint32_t) +
         heads_.capacity() * sizeof(HeadTransform) + matrices_.capacity() * sizeof(float);
}

}  // namespace oscar
