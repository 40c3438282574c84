// The transforms of a calibration on the device: for the packer by class head, for attention by layer.
#include <vector>

#include "engine.h"
#include "transform/hadamard.h"

namespace oscar::cuda {

namespace {

bool is_power_of_two(uint32_t dim) { return (dim & (dim - 1)) == 0; }

// What the map is as a matrix: y = x M.
std::vector<float> dense_matrix(const LinearMap& map) {
  const uint32_t d = map.dim;
  std::vector<float> m(uint64_t{d} * d, 0.0f);
  if (map.kind == MapKind::kDense) return {map.matrix, map.matrix + uint64_t{d} * d};
  if (map.kind == MapKind::kHadamard) hadamard_matrix(d, m.data());
  for (uint32_t i = 0; i < d; ++i) {
    if (map.kind == MapKind::kIdentity) m[uint64_t{i} * d + i] = 1.0f;
    for (uint32_t j = 0; map.transposed && j < i; ++j) std::swap(m[uint64_t{i} * d + j], m[uint64_t{j} * d + i]);
  }
  return m;
}

}  // namespace

const float* CudaEngine::place_matrix(DeviceArena& arena, const float* host, uint32_t dim) {
  if (!host) return nullptr;
  const uint64_t n = uint64_t{dim} * dim;
  float* device = arena.take<float>(n);
  if (device) check(cudaMemcpy(device, host, n * sizeof(float), cudaMemcpyHostToDevice), "uploading a transform");
  return device;
}

// One kind for all heads of the layer: Hadamard or nothing where every head has it and its size is a power of two,
// else matrices.
MapView CudaEngine::place_layer_map(DeviceArena& arena, uint32_t layer, LinearMap HeadTransform::*map, uint32_t dim) {
  const uint32_t n_heads = plan_.classes[plan_.layers[layer].layer_class].n_kv_heads;
  const MapKind kind = (calibration_.head(layer, 0).*map).kind;
  bool is_one_kind = kind == MapKind::kIdentity || (kind == MapKind::kHadamard && is_power_of_two(dim));
  for (uint32_t h = 0; h < n_heads; ++h) is_one_kind = is_one_kind && (calibration_.head(layer, h).*map).kind == kind;
  if (is_one_kind) return {kind, nullptr};
  const uint64_t n = uint64_t{dim} * dim;
  float* device = arena.take<float>(n_heads * n);
  for (uint32_t h = 0; device && h < n_heads; ++h)
    check(cudaMemcpy(device + h * n, dense_matrix(calibration_.head(layer, h).*map).data(), n * sizeof(float),
                     cudaMemcpyHostToDevice),
          "uploading a transform");
  return {MapKind::kDense, device};
}

void CudaEngine::place_maps(DeviceArena& arena) {
  std::vector<std::vector<HeadTransform>> heads(classes_.size());
  for (uint32_t l = 0; l < plan_.layers.size(); ++l) {
    const LayerPlan& layer = plan_.layers[l];
    if (!layer.owns) continue;
    const LayerClass& c = plan_.classes[layer.layer_class];
    DeviceClass& d = classes_[layer.layer_class];
    if (c.exact) continue;
    const bool is_shaped = !plan_.plain_writer && calibration_.is_shaped(l);
    for (uint32_t h = 0; h < c.n_kv_heads; ++h) {
      HeadTransform t = calibration_.head(l, h);
      t.key.matrix = place_matrix(arena, t.key.matrix, c.key_dim);
      t.value.matrix = place_matrix(arena, t.value.matrix, c.value_dim);
      t.metric_root = place_matrix(arena, is_shaped ? t.metric_root : nullptr, c.key_dim);
      t.metric_ratio = place_matrix(arena, is_shaped ? t.metric_ratio : nullptr, c.key_dim);
      t.query.matrix = t.value_inverse.matrix = nullptr;  // the packer has no use for them
      d.shaped |= is_shaped;
      d.general |= is_shaped || !is_plain(t);
      heads[layer.layer_class].push_back(t);
    }
    layer_maps_[l] = {place_layer_map(arena, l, &HeadTransform::query, c.key_dim),
                      place_layer_map(arena, l, &HeadTransform::value_inverse, c.value_dim)};
  }
  for (uint32_t i = 0; i < classes_.size(); ++i) {
    HeadTransform* device = arena.take<HeadTransform>(heads[i].size());
    classes_[i].transforms = device;
    if (device)
      check(cudaMemcpy(device, heads[i].data(), heads[i].size() * sizeof(HeadTransform), cudaMemcpyHostToDevice),
            "uploading transforms");
  }
}

}  // namespace oscar::cuda
