// The linear maps of one KV head, as row-vector maps: keys z = k F, queries q' = q F^-T, values z = v F_v, outputs
// o = z F_v^-1. Plain pointers, so that backends need no other header.
#pragma once
#include <cstdint>

namespace oscar {

enum class MapKind : uint32_t { kIdentity, kHadamard, kDense };

// y = x M for row vectors of `dim`. kHadamard: M is the orthonormal matrix of transform/hadamard.h, transposed where
// `transposed` is set. kDense: row-major matrix[dim][dim].
struct LinearMap {
  MapKind kind = MapKind::kIdentity;
  uint32_t dim = 0;
  uint32_t transposed = 0;
  uint32_t reserved = 0;
  const float* matrix = nullptr;
};

struct HeadTransform {
  LinearMap key;            // F
  LinearMap query;          // F^-T
  LinearMap value;          // F_v
  LinearMap value_inverse;  // F_v^-1
  // Rounding metric M = F^-1 E[q q^T] F^-T = R R^T, R upper triangular; null: no shaped rounding.
  const float* metric_root = nullptr;   // [dim][dim] row-major: R
  const float* metric_ratio = nullptr;  // [dim][dim] row-major: ratio[i][j] = R[j][i] / R[i][i] for j < i
  // What an error of norm 1 in z costs on average, in units of one in the model's basis (docs/numerics.md): of keys in the
  // queries' metric, rounded plainly and shaped; of values. 0 for maps that change no norm.
  float key_cost = 0.0f, key_cost_shaped = 0.0f, value_cost = 0.0f;
};

}  // namespace oscar
