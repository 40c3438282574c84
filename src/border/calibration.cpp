// Calibration objects.
#include <cstring>
#include <vector>

#include "border/arguments.h"
#include "border/config.h"
#include "border/guard.h"
#include "border/handles.h"
#include "transform/calibration_build.h"

using namespace oscar;
using namespace oscar::border;

static_assert(static_cast<uint32_t>(CalibrationSource::kMatrices) == OSCAR_CALIBRATION_MATRICES &&
              static_cast<uint32_t>(CalibrationSource::kDataFree) == OSCAR_CALIBRATION_DATA_FREE &&
              static_cast<uint32_t>(CalibrationSource::kIdentity) == OSCAR_CALIBRATION_IDENTITY &&
              static_cast<uint32_t>(CalibrationSource::kImported) == OSCAR_CALIBRATION_IMPORTED &&
              static_cast<uint32_t>(CalibrationSource::kCalibrator) == OSCAR_CALIBRATION_CALIBRATOR &&
              static_cast<uint32_t>(CalibrationSource::kCache) == OSCAR_CALIBRATION_CACHE);

namespace {

std::vector<LayerGeometry> geometry_of(const oscar_cache_config* config) {
  std::vector<LayerGeometry> geometry;
  for (const LayerConfig& l : resolve_config(config).layers) geometry.push_back({l.n_kv_heads, l.key_dim, l.value_dim});
  return geometry;
}

oscar_calibration* make_handle(Calibration&& calibration) {
  return new oscar_calibration{std::make_shared<const Calibration>(std::move(calibration))};
}

std::vector<float> copy_matrices(const oscar_tensor& tensor, const char* name, uint32_t n_heads, uint32_t dim) {
  const TensorView view = check_tensor(tensor, {name, {n_heads, dim, dim}, kF32Only, Access::kIn, true});
  std::vector<float> matrices;
  if (!view) return matrices;
  matrices.resize(uint64_t{n_heads} * dim * dim);
  for (uint32_t head = 0; head < n_heads; ++head)
    for (uint32_t row = 0; row < dim; ++row)
      load_row(view, head, row, dim, &matrices[(uint64_t{head} * dim + row) * dim]);
  return matrices;
}

LayerMatrices read_layer(const oscar_calibration_layer* layers, uint32_t index) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(layers) + uint64_t{index} * layers->struct_size;
  char name[40];
  std::snprintf(name, sizeof name, "layers[%u]", index);
  check_same_size(bytes, layers->struct_size, alignof(oscar_calibration_layer), name);
  const auto l = read_struct(reinterpret_cast<const oscar_calibration_layer*>(bytes), name);
  for (uint32_t dim : {l.key_dim, l.value_dim})
    if (dim == 0 || dim > kMaxHeadDim)
      throw Error(Status::kInvalid, "%s: a head_dim is %u, allowed: 1 .. 256", name, dim);
  if (l.n_kv_heads == 0 || l.n_kv_heads > 1024)
    throw Error(Status::kInvalid, "%s: n_kv_heads is %u, allowed: 1 .. 1024", name, l.n_kv_heads);
  LayerMatrices m;
  m.geometry = {l.n_kv_heads, l.key_dim, l.value_dim};
  const std::string prefix = std::string(name) + ".";
  m.key_transform = copy_matrices(l.key_transform, (prefix + "key_transform").c_str(), l.n_kv_heads, l.key_dim);
  m.query_moment = copy_matrices(l.query_moment, (prefix + "query_moment").c_str(), l.n_kv_heads, l.key_dim);
  m.value_transform = copy_matrices(l.value_transform, (prefix + "value_transform").c_str(), l.n_kv_heads, l.value_dim);
  return m;
}

template <class Make>
oscar_status make_calibration(const char* function, oscar_calibration** calibration_out, Make&& make) {
  return guarded(function, [&] {
    require(calibration_out, "calibration_out");
    *calibration_out = nullptr;
    *calibration_out = make_handle(make());
  });
}

}  // namespace

extern "C" {

oscar_status oscar_calibration_default(const oscar_cache_config* config, oscar_calibration** calibration_out) {
  return make_calibration("oscar_calibration_default", calibration_out,
                          [&] { return Calibration::data_free(geometry_of(config)); });
}

oscar_status oscar_calibration_identity(const oscar_cache_config* config, oscar_calibration** calibration_out) {
  return make_calibration("oscar_calibration_identity", calibration_out,
                          [&] { return Calibration::identity(geometry_of(config)); });
}

oscar_status oscar_calibration_create(const oscar_calibration_layer* layers, uint32_t n_layers,
                                      oscar_calibration** calibration_out) {
  return make_calibration("oscar_calibration_create", calibration_out, [&] {
    require(layers, "layers");
    if (n_layers == 0 || n_layers > 4096) throw Error(Status::kInvalid, "n_layers is %u, allowed: 1 .. 4096", n_layers);
    std::vector<LayerMatrices> matrices;
    for (uint32_t i = 0; i < n_layers; ++i) matrices.push_back(read_layer(layers, i));
    return Calibration::from_matrices(matrices);
  });
}

oscar_status oscar_calibration_save(const oscar_calibration* calibration, void* bytes, uint64_t capacity,
                                    uint64_t* size_out) {
  return guarded("oscar_calibration_save", [&] {
    require(size_out, "size_out");
    *size_out = 0;
    require(calibration, "calibration");
    const std::vector<uint8_t> data = calibration->calibration->serialize();
    if (bytes && capacity < data.size())
      throw Error(Status::kInvalid, "capacity is %llu, the file takes %zu bytes",
                  static_cast<unsigned long long>(capacity), data.size());
    if (bytes) std::memcpy(bytes, data.data(), data.size());
    *size_out = data.size();
  });
}

oscar_status oscar_calibration_load(const void* bytes, uint64_t size, oscar_calibration** calibration_out) {
  return make_calibration("oscar_calibration_load", calibration_out, [&] {
    require(bytes, "bytes");
    return Calibration::deserialize({static_cast<const uint8_t*>(bytes), size});
  });
}

oscar_status oscar_calibration_info_get(const oscar_calibration* calibration, oscar_calibration_info* info_out) {
  return guarded("oscar_calibration_info_get", [&] {
    require(info_out, "info_out");
    write_struct(info_out, oscar_calibration_info{}, "info_out");
    require(calibration, "calibration");
    const Calibration& c = *calibration->calibration;
    oscar_calibration_info info{};
    info.n_layers = static_cast<uint32_t>(c.layers().size());
    info.bytes = c.bytes();
    info.fingerprint = c.fingerprint();
    info.is_data_free = c.is_data_free();
    info.is_shaped = 1;
    for (uint32_t l = 0; l < info.n_layers; ++l)
      for (uint32_t h = 0; h < c.layers()[l].n_kv_heads; ++h) {
        ++info.n_heads;
        info.n_data_free_heads += c.is_data_free(l, h);
        info.is_shaped &= c.is_shaped(l, h);
      }
    const Provenance& p = c.provenance();
    info.source = static_cast<uint32_t>(p.source);
    info.knows_rope = p.knows_rope;
    info.n_tokens = p.n_tokens;
    info.n_positions = p.n_positions;
    info.end_position = p.end_position;
    info.n_refined = p.n_refined;
    info.refined_key_bits = p.refined_key_bits;
    info.refined_value_bits = p.refined_value_bits;
    std::snprintf(info.objective, sizeof info.objective, "%s", p.objective.c_str());
    std::snprintf(info.model, sizeof info.model, "%s", p.model.c_str());
    std::snprintf(info.note, sizeof info.note, "%s", p.note.c_str());
    write_struct(info_out, info, "info_out");
  });
}

oscar_status oscar_calibration_head_get(const oscar_calibration* calibration, uint32_t layer, uint32_t kv_head,
                                        oscar_calibration_head_info* info_out) {
  return guarded("oscar_calibration_head_get", [&] {
    require(info_out, "info_out");
    write_struct(info_out, oscar_calibration_head_info{}, "info_out");
    require(calibration, "calibration");
    const Calibration& c = *calibration->calibration;
    if (layer >= c.layers().size())
      throw Error(Status::kInvalid, "layer is %u, the calibration has %zu", layer, c.layers().size());
    if (kv_head >= c.layers()[layer].n_kv_heads)
      throw Error(Status::kInvalid, "kv_head is %u, layer %u has %u", kv_head, layer, c.layers()[layer].n_kv_heads);
    oscar_calibration_head_info info{};
    info.is_data_free = c.is_data_free(layer, kv_head);
    info.is_shaped = c.is_shaped(layer, kv_head);
    info.has_own_values = c.head(layer, kv_head).value.kind == MapKind::kDense;
    info.fingerprint = c.fingerprint(layer, kv_head);
    write_struct(info_out, info, "info_out");
  });
}

oscar_status oscar_calibration_slice(const oscar_calibration* calibration, const oscar_calibration_part* parts,
                                     uint32_t n_parts, oscar_calibration** calibration_out) {
  return make_calibration("oscar_calibration_slice", calibration_out, [&] {
    require(calibration, "calibration");
    if (n_parts == 0 || n_parts > kMaxCalibrationLayers)
      throw Error(Status::kInvalid, "n_parts is %u, allowed: 1 .. %u", n_parts, kMaxCalibrationLayers);
    require(parts, "parts");
    std::vector<CalibrationPart> list;
    for (uint32_t i = 0; i < n_parts; ++i)
      list.push_back({parts[i].layer, parts[i].first_kv_head, parts[i].n_kv_heads});
    return calibration->calibration->slice(list);
  });
}

void oscar_calibration_destroy(oscar_calibration* calibration) { delete calibration; }

}  // extern "C"
