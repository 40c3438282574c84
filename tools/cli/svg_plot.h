// Lines in a coordinate system, as a self-contained SVG.
#pragma once
#include <string>
#include <vector>

namespace oscar::cli {

struct PlotLine {
  std::vector<double> y;  // at x = 1, 2, ...
  double shade = 0;       // 0 .. 1: dark to light
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<PlotLine> lines;  // y is drawn on a logarithmic scale; values of 0 and less are left out
};

std::string to_svg(const Plot& plot);

}  // namespace oscar::cli
