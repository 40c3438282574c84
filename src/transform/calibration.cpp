#include "transform/calibration.h"

#include <algorithm>
#include <utility>

#include "format/checksum.h"
#include "transform/calibration_build.h"
#include "transform/derive.h"
#include "transform/hadamard.h"

namespace oscar {
namespace {

// A head's matrices in the buffer, those that exist, in this order: F, F^-T, query moment, R, ratio, F_v, F_v^-1.
uint64_t floats_of_head(const LayerGeometry& g, const HeadSource& head) {
  const uint64_t key = uint64_t{g.key_dim} * g.key_dim, value = uint64_t{g.value_dim} * g.value_dim;
  return (head.key_kind == MapKind::kDense ? 2 * key : 0) + (head.moment ? 3 * key : 0) +
         (head.value_kind == MapKind::kDense ? 2 * value : 0);
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

double squared_sum(const float* x, uint64_t n, uint64_t stride = 1) {
  double sum = 0.0;
  for (uint64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i * stride]) * static_cast<double>(x[i * stride]);
  return sum;
}

double trace(const float* matrix, uint64_t dim) {
  double sum = 0.0;
  for (uint64_t i = 0; i < dim; ++i) sum += static_cast<double>(matrix[i * (dim + 1)]);
  return sum;
}

// Of dense maps: tr(R R^T) or, shaped, sum R_ii^2, over tr E[q^T q]; without moments tr(F^-1 F^-T) / d.
void set_costs(HeadTransform& head, const float* moment) {
  const uint64_t k = head.key.dim, v = head.value.dim;
  if (head.key.kind == MapKind::kDense && moment) {
    const double free = trace(moment, k);
    head.key_cost = static_cast<float>(squared_sum(head.metric_root, k * k) / free);
    head.key_cost_shaped = static_cast<float>(squared_sum(head.metric_root, k, k + 1) / free);
  } else if (head.key.kind == MapKind::kDense) {
    head.key_cost = static_cast<float>(squared_sum(head.query.matrix, k * k) / static_cast<double>(k));
  }
  if (head.value.kind == MapKind::kDense)
    head.value_cost = static_cast<float>(squared_sum(head.value_inverse.matrix, v * v) / static_cast<double>(v));
}

// Fills one head; `at` walks through the buffer.
HeadTransform build_head(const LayerGeometry& g, const HeadSource& source, const MatrixOwner& owner, float*& at) {
  const uint64_t key_size = uint64_t{g.key_dim} * g.key_dim, value_size = uint64_t{g.value_dim} * g.value_dim;
  const auto take = [&at](uint64_t size) { return std::exchange(at, at + size); };
  HeadTransform head;
  float *forward = nullptr, *inverse = nullptr;
  if (source.key_kind == MapKind::kDense) {
    forward = std::copy_n(source.key, key_size, take(key_size)) - key_size;
    inverse = take(key_size);
    derive_inverse(forward, g.key_dim, true, "key_transform", owner, inverse);
  }
  head.key = map_of(source.key_kind, g.key_dim, false, forward);
  head.query = map_of(source.key_kind, g.key_dim, false, inverse);
  if (source.moment) {
    const float* moment = std::copy_n(source.moment, key_size, take(key_size)) - key_size;
    float *root = take(key_size), *ratio = take(key_size);
    derive_metric(moment, inverse_transposed_of(head.key, head.query).data(), g.key_dim, owner, root, ratio);
    head.metric_root = root;
    head.metric_ratio = ratio;
  }
  if (source.value_kind == MapKind::kDense) {
    forward = std::copy_n(source.value, value_size, take(value_size)) - value_size;
    inverse = take(value_size);
    derive_inverse(forward, g.value_dim, false, "value_transform", owner, inverse);
  }
  head.value = map_of(source.value_kind, g.value_dim, false, forward);
  head.value_inverse = map_of(source.value_kind, g.value_dim, true, inverse);
  set_costs(head, CalibrationBuilder::query_moment(head));
  return head;
}

uint64_t fingerprint_of(const HeadTransform& head) {
  Checksum checksum;
  const uint32_t dims[] = {head.key.dim, head.value.dim};
  const HeadRecord record = record_of(head);
  checksum.update(dims, sizeof dims);
  checksum.update(&record, sizeof record);
  write_matrices(head, [&](const void* matrix, size_t size) { checksum.update(matrix, size); });
  return checksum.value();
}

Calibration without_matrices(std::span<const LayerGeometry> layers, MapKind kind) {
  CalibrationBuilder::check_geometry(layers, Status::kInvalid);  // before there is memory for every head
  std::vector<LayerSource> sources;
  for (const LayerGeometry& g : layers)
    sources.push_back({g, std::vector<HeadSource>(g.n_kv_heads, {kind, kind, nullptr, nullptr, nullptr})});
  Provenance provenance;
  provenance.source = kind == MapKind::kHadamard ? CalibrationSource::kDataFree : CalibrationSource::kIdentity;
  return CalibrationBuilder::build(sources, provenance, Status::kInvalid);
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

Calibration CalibrationBuilder::build(std::span<const LayerSource> layers, Provenance provenance, Status status) {
  Calibration c;
  uint64_t n_heads = 0, n_floats = 0;
  c.layers_.reserve(layers.size());
  for (const LayerSource& layer : layers) {
    c.layers_.push_back(layer.geometry);
    n_heads += layer.geometry.n_kv_heads;
  }
  check_geometry(c.layers_, status);
  for (const LayerSource& layer : layers)
    for (const HeadSource& head : layer.heads) n_floats += floats_of_head(layer.geometry, head);
  c.first_head_.reserve(layers.size());
  c.heads_.reserve(n_heads);
  c.head_fingerprints_.reserve(n_heads);
  c.matrices_.resize(n_floats);
  float* at = c.matrices_.data();
  Checksum checksum;
  for (size_t l = 0; l < layers.size(); ++l) {
    c.first_head_.push_back(static_cast<uint32_t>(c.heads_.size()));
    const uint32_t n = layers[l].geometry.n_kv_heads;
    checksum.update(&n, sizeof n);
    for (uint32_t h = 0; h < n; ++h) {
      c.heads_.push_back(build_head(layers[l].geometry, layers[l].heads[h], {static_cast<uint32_t>(l), h, status}, at));
      c.head_fingerprints_.push_back(fingerprint_of(c.heads_.back()));
      checksum.update(&c.head_fingerprints_.back(), sizeof(uint64_t));
    }
  }
  c.fingerprint_ = checksum.value();
  c.provenance_ = std::move(provenance);
  return c;
}

HeadRecord record_of(const HeadTransform& head) {
  return {static_cast<uint8_t>(head.key.kind), static_cast<uint8_t>(head.value.kind),
          static_cast<uint8_t>(head.metric_root != nullptr), 0};
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

Calibration Calibration::from_matrices(std::span<const LayerMatrices> layers, Provenance provenance) {
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
    const auto at = [](const std::vector<float>& m, uint64_t head, uint64_t dim) {
      return m.empty() ? nullptr : m.data() + head * dim * dim;
    };
    LayerSource& source = sources.emplace_back(LayerSource{g, {}});
    for (uint32_t h = 0; h < g.n_kv_heads; ++h)
      source.heads.push_back({kind(layer.key_transform), kind(layer.value_transform),
                              at(layer.key_transform, h, g.key_dim), at(layer.query_moment, h, g.key_dim),
                              at(layer.value_transform, h, g.value_dim)});
  }
  return CalibrationBuilder::build(sources, std::move(provenance), Status::kInvalid);
}

Calibration Calibration::slice(std::span<const CalibrationPart> parts) const {
  std::vector<LayerSource> sources;
  for (size_t i = 0; i < parts.size(); ++i) {
    const CalibrationPart& part = parts[i];
    if (part.layer >= layers_.size())
      throw Error(Status::kInvalid, "parts[%zu].layer is %u, the calibration has %zu", i, part.layer, layers_.size());
    LayerGeometry g = layers_[part.layer];
    if (part.n_heads == 0 || part.first_head >= g.n_kv_heads || part.n_heads > g.n_kv_heads - part.first_head)
      throw Error(Status::kInvalid, "parts[%zu]: KV heads [%u, %u + %u) of layer %u, which has %u", i, part.first_head,
                  part.first_head, part.n_heads, part.layer, g.n_kv_heads);
    g.n_kv_heads = part.n_heads;
    LayerSource& source = sources.emplace_back(LayerSource{g, {}});
    for (uint32_t h = part.first_head; h < part.first_head + part.n_heads; ++h) {
      const HeadTransform& t = head(part.layer, h);
      source.heads.push_back(
          {t.key.kind, t.value.kind, t.key.matrix, CalibrationBuilder::query_moment(t), t.value.matrix});
    }
  }
  return CalibrationBuilder::build(sources, provenance_, Status::kInvalid);
}

bool Calibration::is_data_free(uint32_t layer, uint32_t kv_head) const {
  const HeadTransform& t = head(layer, kv_head);
  return t.key.kind == MapKind::kHadamard && t.value.kind == MapKind::kHadamard && !t.metric_root;
}

bool Calibration::is_data_free() const {
  for (uint32_t l = 0; l < layers_.size(); ++l)
    for (uint32_t h = 0; h < layers_[l].n_kv_heads; ++h)
      if (!is_data_free(l, h)) return false;
  return true;
}

bool Calibration::is_shaped(uint32_t layer) const {
  for (uint32_t h = 0; h < layers_[layer].n_kv_heads; ++h)
    if (is_shaped(layer, h)) return true;
  return false;
}

uint64_t Calibration::bytes() const {
  return sizeof *this + layers_.size() * (sizeof(LayerGeometry) + sizeof(uint32_t)) +
         heads_.size() * (sizeof(HeadTransform) + sizeof(uint64_t)) + matrices_.size() * sizeof(float) +
         provenance_.objective.size() + provenance_.model.size() + provenance_.note.size();
}

uint64_t Calibration::most_bytes(std::span<const LayerGeometry> layers) {
  const float some = 0.0f;
  const HeadSource full{MapKind::kDense, MapKind::kDense, &some, &some, &some};
  uint64_t bytes = sizeof(Calibration) + 2 * kMaxNameLength + kMaxNoteLength;
  for (const LayerGeometry& g : layers)
    bytes += sizeof(LayerGeometry) + sizeof(uint32_t) +
             g.n_kv_heads * (sizeof(HeadTransform) + sizeof(uint64_t) + floats_of_head(g, full) * sizeof(float));
  return bytes;
}

}  // namespace oscar
