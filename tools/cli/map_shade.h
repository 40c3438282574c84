// How dark a place of the attention map is.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>

#include "text.h"

namespace oscar::cli {

// 0 to 1, over four decades below the largest mass.
inline double map_depth(double mass, double most) {
  return mass > 0 && most > 0 ? std::clamp(1 + std::log10(mass / most) / 4, 0.0, 1.0) : 0;
}

// From white to dark blue.
inline std::string map_colour(double depth) { return text("hsl(215 70%% %.0f%%)", 97 - 77 * depth); }

}  // namespace oscar::cli
