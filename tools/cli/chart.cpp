#include "chart.h"

#include <algorithm>
#include <cmath>

#include "html.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kDashes[] = {"", "7 4", "2 3", "10 3 2 3", "14 4", "1 4"};
constexpr double kLine = 16, kLetter = 6.9, kTop = 12, kBottom = 50;

struct Size {
  double width, height, labels;  // labels: the column beside the chart
  bool is_narrow;
};

// From the data to 0 .. 1, and where its ticks are.
struct Scale {
  bool is_log = false;
  double low = 0, high = 1;

  double at(double value) const {
    return is_log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  }

  std::vector<double> ticks() const {
    std::vector<double> found;
    if (is_log) {
      const double span = high / low;
      const std::vector<double> digits = span < 10     ? std::vector<double>{1, 2, 3, 4, 5, 6, 8}
                                         : span < 1000 ? std::vector<double>{1, 2, 5}
                                                       : std::vector<double>{1};
      for (double decade = std::floor(std::log10(low)); decade <= std::log10(high); ++decade)
        for (const double digit : digits) found.push_back(digit * std::pow(10, decade));
    } else {
      const double unit = std::pow(10, std::floor(std::log10((high - low) / 5)));
      double step = unit;
      for (const double factor : {2.0, 5.0, 10.0})
        if ((high - low) / step > 6) step = factor * unit;
      for (double tick = std::ceil(low / step) * step; tick <= high * 1.0001; tick += step) found.push_back(tick);
    }
    std::erase_if(found, [&](double t) { return at(t) < -1e-9 || at(t) > 1 + 1e-9; });
    return found;
  }
};

Scale scale_of(const std::vector<double>& values, bool is_log) {
  Scale scale{is_log, 0, 1};
  double least = 1e300, most = is_log ? 0 : -1e300;
  for (const double v : values) {
    if (is_log && !(v > 1e-30 && v < 1e30)) continue;
    least = std::min(least, v);
    most = std::max(most, v);
  }
  if (least > most) return is_log ? Scale{true, 1, 10} : scale;
  if (is_log) return {true, least / 1.2, most * 1.2};
  scale.low = std::min(0.0, least);
  scale.high = most > scale.low ? most * 1.04 : scale.low + 1;
  return scale;
}

class Drawing {
 public:
  Drawing(const Chart& chart, const Size& size) : chart_(chart), size_(size) {
    std::vector<double> x, y;
    for (const Series& s : chart.series)
      x.insert(x.end(), s.x.begin(), s.x.end()), y.insert(y.end(), s.y.begin(), s.y.end());
    for (const LabelledPoint& p : chart.points) x.push_back(p.x), y.push_back(p.y);
    x_ = scale_of(x, chart.x_log);
    y_ = scale_of(y, chart.y_log);
    size_t longest = 0;
    for (const double tick : y_.ticks()) longest = std::max(longest, text("%g", tick).size());
    left_ = 28 + kLetter * static_cast<double>(longest);
  }

  std::string svg() const {
    std::string result = text(
        "<svg class=\"%s\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" role=\"img\">",
        size_.is_narrow ? "narrow" : "wide", size_.width, size_.height, size_.width, size_.height);
    result += "<title>" + escaped(chart_.title) + "</title>\n" + axes();
    for (size_t i = 0; i < chart_.series.size(); ++i) result += line(chart_.series[i], i);
    return result + points() + "</svg>\n";
  }

 private:
  double right() const { return size_.width - size_.labels; }
  double bottom() const { return size_.height - kBottom; }
  double px(double x) const { return left_ + x_.at(x) * (right() - left_ - 12); }
  double py(double y) const { return bottom() - y_.at(y) * (bottom() - kTop); }
  bool shows(double x, double y) const {
    const auto within = [](const Scale& s, double v) {
      return std::isfinite(v) && (!s.is_log || (v > 1e-30 && v < 1e30));
    };
    return within(x_, x) && within(y_, y);
  }

  static std::string words(double x, double y, const char* anchor, const std::string& what, const char* kind = "") {
    return text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor, kind,
                escaped(what).c_str());
  }

  std::string axes() const {
    std::string result;
    for (const double tick : y_.ticks()) {
      result += text("<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", left_, right() - 12,
                     py(tick), py(tick));
      result += words(left_ - 6, py(tick) + 4, "end", text("%g", tick), " class=\"soft\"");
    }
    double last = -100;
    for (const double tick : x_ticks()) {
      const std::string name = chart_.x_tokens && tick >= 1024 ? text("%gK", tick / 1024) : text("%g", tick);
      const double half = static_cast<double>(name.size()) * kLetter / 2;
      if (px(tick) - half < last + 8) continue;
      last = px(tick) + half;
      result += text("<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", px(tick), px(tick),
                     bottom(), bottom() + 5);
      result += words(px(tick), bottom() + 20, "middle", name, " class=\"soft\"");
    }
    result += words((left_ + right()) / 2, bottom() + 42, "middle", chart_.x_label);
    return result + words(0, 0, "middle", chart_.y_label,
                          text(" transform=\"translate(13 %.1f) rotate(-90)\"", (kTop + bottom()) / 2).c_str());
  }

  // Contexts are marked where they were measured.
  std::vector<double> x_ticks() const {
    if (!chart_.x_tokens) return x_.ticks();
    std::vector<double> all;
    for (const Series& s : chart_.series) all.insert(all.end(), s.x.begin(), s.x.end());
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

  std::string line(const Series& s, size_t style) const {
    std::string path;
    for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i)
      if (shows(s.x[i], s.y[i])) path += text("%.1f,%.1f ", px(s.x[i]), py(s.y[i]));
    return text("<polyline class=\"line s%zu\" stroke-dasharray=\"%s\" points=\"%s\"/>\n", style % 6,
                kDashes[style % 6], path.c_str());
  }

  // Labels as near to their points as a line apart allows, in the order of the points' heights.
  std::vector<double> label_heights(const std::vector<const LabelledPoint*>& shown) const {
    std::vector<double> heights;
    double y = kTop - kLine;
    for (const LabelledPoint* p : shown) heights.push_back(y = std::max(py(p->y), y + kLine));
    y = size_.height - 8 + kLine;
    for (size_t i = heights.size(); i-- > 0;) y = heights[i] = std::min(heights[i], y - kLine);
    return heights;
  }

  std::string points() const {
    std::vector<const LabelledPoint*> shown;
    for (const LabelledPoint& p : chart_.points)
      if (shows(p.x, p.y)) shown.push_back(&p);
    std::stable_sort(shown.begin(), shown.end(), [](auto* a, auto* b) { return a->y > b->y; });
    const std::vector<double> heights = label_heights(shown);
    std::string result;
    for (size_t i = 0; i < shown.size(); ++i) {
      const LabelledPoint& p = *shown[i];
      const double x = px(p.x), y = py(p.y);
      const int kind = p.ours ? 0 : 1;
      result += text("<path class=\"lead s%d\" d=\"M%.1f %.1fL%.1f %.1fh6\"/>", kind, x, y, right(), heights[i]);
      result += p.ours ? text("<circle class=\"f0\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>", x, y)
                       : text("<path class=\"f1\" d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\"/>", x, y - 5);
      result += words(right() + 9, heights[i] + 4, "start", size_.is_narrow ? p.number : p.words,
                      text(" class=\"f%d\"", kind).c_str());
    }
    return result;
  }

  const Chart& chart_;
  Size size_;
  Scale x_, y_;
  double left_ = 0;
};

std::string legend(const std::vector<Series>& series) {
  std::string html = "<div class=\"legend\">";
  for (size_t i = 0; i < series.size(); ++i)
    html += text("<span><svg width=\"34\" height=\"10\"><path class=\"line s%zu\" stroke-dasharray=\"%s\" "
                 "d=\"M1 5h32\"/></svg> %s</span>",
                 i % 6, kDashes[i % 6], escaped(series[i].name).c_str());
  return html + "</div>\n";
}

}  // namespace

std::string chart_figure(const Chart& chart) {
  size_t longest = 0;
  for (const LabelledPoint& p : chart.points) longest = std::max(longest, p.words.size());
  const bool labelled = !chart.points.empty();
  const double tall = kTop + kBottom + kLine * static_cast<double>(chart.points.size());
  const Size narrow{356, std::max(320.0, tall), labelled ? 34.0 : 0, true};
  const Size wide{900, std::max(420.0, tall), labelled ? 14 + kLetter * static_cast<double>(longest) : 0, false};
  return "<figure>\n" + (chart.series.size() > 1 ? legend(chart.series) : "") + Drawing(chart, narrow).svg() +
         Drawing(chart, wide).svg() + "</figure>\n";
}

}  // namespace oscar::cli
