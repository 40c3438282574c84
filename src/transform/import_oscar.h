// Import of the rotations that the authors of OSCAR publish (Z. Zhou et al., arXiv 2605.17757).
#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "transform/calibration.h"

namespace oscar {

// Takes the place of a layer's id where the layer is to be data-free.
inline constexpr uint32_t kNoRotation = UINT32_MAX;

// A file is a torch.save zip of {"layers": {id: {"rotation": [d, d] or [n_kv_heads, d, d], ...}, ...}, ...}. Its
// rotation R, applied to rows as k R, is key_transform (or value_transform) itself: F = R.
struct OscarFiles {
  std::optional<std::span<const uint8_t>> key, value;  // absent: data-free
};

// layer_ids: for every layer its id in the files, or kNoRotation; empty: the files have as many layers as `layers`, and
// they are taken by rising id. Throws Error: CORRUPT; UNSUPPORTED; INVALID where the files do not fit the layers.
Calibration import_oscar(const OscarFiles& files, std::span<const LayerGeometry> layers,
                         std::span<const uint32_t> layer_ids);

}  // namespace oscar
