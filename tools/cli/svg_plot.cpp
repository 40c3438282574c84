#include "svg_plot.h"

#include <algorithm>
#include <cmath>

#include "html.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr double kWidth = 720, kHeight = 420, kLeft = 70, kRight = 20, kTop = 40, kBottom = 50;

struct Range {
  int low = 0, high = 1;  // decades
  size_t n = 2;
};

Range range_of(const Plot& plot) {
  double least = 1e300, most = 0;
  Range range;
  for (const PlotLine& line : plot.lines) {
    range.n = std::max(range.n, line.y.size());
    for (const double y : line.y) {
      if (!(y > 0)) continue;
      least = std::min(least, y);
      most = std::max(most, y);
    }
  }
  if (most == 0) return range;
  range.low = static_cast<int>(std::floor(std::log10(least)));
  range.high = std::max(range.low + 1, static_cast<int>(std::ceil(std::log10(most))));
  return range;
}

double x_at(const Range& r, double x) {
  return kLeft + (x - 1) / static_cast<double>(r.n - 1) * (kWidth - kLeft - kRight);
}
double y_at(const Range& r, double y) {
  return kHeight - kBottom - (std::log10(y) - r.low) / (r.high - r.low) * (kHeight - kTop - kBottom);
}

std::string words_at(double x, double y, const char* anchor, const std::string& words, const char* more = "") {
  return text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor, more,
              escaped(words).c_str());
}

std::string axes(const Plot& plot, const Range& r) {
  std::string svg;
  for (int decade = r.low; decade <= r.high; ++decade) {
    const double y = y_at(r, std::pow(10.0, decade));
    svg += text("<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", kLeft, kWidth - kRight, y,
                y);
    svg += words_at(kLeft - 8, y + 4, "end", text("1e%d", decade));
  }
  for (int quarter = 0; quarter <= 4; ++quarter) {
    const double x = 1 + std::floor(static_cast<double>(r.n - 1) * quarter / 4);
    svg += words_at(x_at(r, x), kHeight - kBottom + 20, "middle", text("%.0f", x));
  }
  svg += words_at(kWidth / 2, 22, "middle", plot.title, " class=\"title\"");
  svg += words_at((kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", plot.x_label);
  return svg + words_at(0, 0, "middle", plot.y_label,
                        text(" transform=\"translate(16 %.1f) rotate(-90)\"", (kTop + kHeight - kBottom) / 2).c_str());
}

}  // namespace

std::string to_svg(const Plot& plot) {
  const Range r = range_of(plot);
  std::string svg =
      text("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" "
           "font-size=\"13\">\n<style>svg{background:#fff;fill:#222}.title{font-weight:bold}.grid{stroke:#ddd}"
           "polyline{fill:none;stroke-width:1.2;stroke-opacity:.7}</style>\n",
           kWidth, kHeight) +
      axes(plot, r);
  for (const PlotLine& line : plot.lines) {
    std::string points;
    for (size_t i = 0; i < line.y.size(); ++i)
      if (line.y[i] > 0) points += text("%.1f,%.1f ", x_at(r, static_cast<double>(i) + 1), y_at(r, line.y[i]));
    svg += text("<polyline stroke=\"hsl(%.0f 70%% 42%%)\" points=\"%s\"/>\n", 250 - 220 * line.shade, points.c_str());
  }
  return svg + "</svg>\n";
}

}  // namespace oscar::cli
