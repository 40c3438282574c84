// A head's transform as the kernels are given it: other Hadamard orders than powers of two come as matrices.
#pragma once
#include <utility>
#include <vector>

#include "transform/hadamard.h"
#include "transform/transform.h"

namespace oscar::testing {

inline MapKind device_map_kind(MapKind kind, uint32_t dim) {
  return kind == MapKind::kHadamard && (dim & (dim - 1)) != 0 ? MapKind::kDense : kind;
}

// Appends the map's matrix where the device takes one.
inline void add_device_matrix(const LinearMap& map, uint32_t dim, std::vector<float>& matrices) {
  if (device_map_kind(map.kind, dim) != MapKind::kDense) return;
  std::vector<float> m(dim * dim);
  if (map.kind == MapKind::kDense) {
    m.assign(map.matrix, map.matrix + dim * dim);
  } else {
    hadamard_matrix(dim, m.data());
    for (uint32_t i = 0; map.transposed && i < dim; ++i)
      for (uint32_t j = 0; j < i; ++j) std::swap(m[i * dim + j], m[j * dim + i]);
  }
  matrices.insert(matrices.end(), m.begin(), m.end());
}

}  // namespace oscar::testing
