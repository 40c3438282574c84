// Files of rotations for 64 dimensions, and what becomes of them when they are imported.
#pragma once
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "format/error.h"
#include "torch_file.h"
#include "transform/import_oscar.h"

namespace oscar::test {

inline constexpr uint32_t kDim = 64;
inline constexpr LayerGeometry kLayer{2, kDim, kDim};

inline const std::vector<double>& rotation(size_t index) {
  static const std::vector<std::vector<double>> all = [] {
    std::mt19937_64 random(701);
    std::vector<std::vector<double>> rotations;
    for (int i = 0; i < 4; ++i) rotations.push_back(random_rotation(kDim, random));
    return rotations;
  }();
  return all[index];
}

inline Bytes storage(size_t index) { return storage_of(rotation(index)); }

// Layers with these ids, rotation(i) in layer i of them.
inline ZipImage file_of(const std::vector<int64_t>& ids) {
  std::vector<LayerNote> layers;
  std::vector<Bytes> storages;
  for (size_t i = 0; i < ids.size(); ++i) {
    layers.push_back({ids[i], square_note(static_cast<uint32_t>(i), kDim)});
    storages.push_back(storage(i));
  }
  return torch_file(pickle_of(layers), storages);
}

inline Calibration import_keys(const ZipImage& file, std::vector<LayerGeometry> layers,
                               std::vector<uint32_t> ids = {}) {
  return import_oscar({std::span<const uint8_t>(file.bytes), {}}, layers, ids);
}

inline std::pair<Status, std::string> refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.status(), error.what()};
  }
  return {Status{}, "served"};
}

}  // namespace oscar::test
