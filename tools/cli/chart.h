// Lines and points in a coordinate system, as SVG whose colours come from the page around it.
#pragma once
#include <string>
#include <vector>

namespace oscar::cli {

struct Series {
  std::string name;
  std::vector<double> x, y;  // pairs that a logarithmic axis cannot show are left out
};

// A point with its words, which stand in a column beside the chart.
struct LabelledPoint {
  std::string words, number;  // where there is room, and where there is not
  double x = 0, y = 0;
  bool ours = false;
};

struct Chart {
  std::string title, x_label, y_label;
  bool x_log = false, y_log = false, x_tokens = false;
  std::vector<Series> series;  // at most 6
  std::vector<LabelledPoint> points;
};

// A figure that holds the chart twice, for narrow pages and for wide ones, and a legend of its series.
std::string chart_figure(const Chart& chart);

}  // namespace oscar::cli
