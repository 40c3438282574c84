// What oscar evaluate, calibrate, map and inspect found in a model's tensors.
#include <algorithm>
#include <array>
#include <cmath>

#include "chart.h"
#include "map_shade.h"
#include "report_sections.h"
#include "text.h"

namespace oscar::cli {

namespace {

// 1 at the smallest error, 0 at the largest, by their logarithms.
double goodness(double error, double least, double most) {
  return error > 0 && least > 0 && most > least ? 1 - std::log(error / least) / std::log(most / least) : 1;
}

}  // namespace

Section evaluate_section(const Json& document) {
  Chart chart{"Error against bits", "bits per element, all bytes", "error of attention", true, true, false, {}, {}};
  std::vector<std::string> columns;
  double least = 1e300, most = 0;
  for (const Json& p : document.at("profiles")) {
    columns.push_back(p.at("profile").get<std::string>());
    const auto error = p.at("error").get<double>();
    const std::string rank = std::to_string(columns.size());
    chart.points.push_back({text("%s %s: %.3g", rank.c_str(), columns.back().c_str(), error), rank,
                            p.at("bits_per_element").get<double>(), error, true});
    columns.back() = rank + " " + columns.back();
    for (const Json& layer : p.at("layers")) {
      if (layer.get<double>() > 0) least = std::min(least, layer.get<double>());
      most = std::max(most, layer.get<double>());
    }
  }
  std::vector<HeatRow> rows;
  for (size_t layer = 0; layer < whole<size_t>(document.at("n_layers")) && layer < 4096; ++layer) {
    HeatRow row{text("layer %zu", layer), false, {}};
    for (const Json& p : document.at("profiles")) {
      const auto error = p.at("layers").at(layer).get<double>();
      row.cells.push_back({goodness(error, least, most), text("%.3f", error)});
    }
    rows.push_back(std::move(row));
  }
  std::string words = text(
      "|out - exact| / |exact| of attention's output, root mean square over heads, measured by oscar evaluate on %llu "
      "tokens, %s; %llu first and %llu newest tokens exact.",
      static_cast<unsigned long long>(whole<uint64_t>(document.at("n_tokens"))),
      document.at("calibrated").get<bool>() ? "calibrated" : "data-free",
      static_cast<unsigned long long>(whole<uint64_t>(document.at("sink"))),
      static_cast<unsigned long long>(whole<uint64_t>(document.at("recent"))));
  const auto suggestion = document.find("suggestion");
  if (suggestion != document.end() && suggestion->is_string())
    words += " Suggested within the budget: " + suggestion->get<std::string>() + ".";
  return {"evaluate", "Error of every profile, by layer",
          paragraph(words) + chart_figure(chart) + heat_table("error", columns, rows)};
}

Section calibrate_section(const Json& document) {
  Chart chart{"Predicted error by layer", "layer", "error of attention", false, false, false, {}, {}};
  chart.series = {{"data-free", {}, {}}, {"calibrated", {}, {}}};
  for (const Json& layer : document.at("layers")) {
    for (Series& s : chart.series) s.x.push_back(static_cast<double>(s.x.size()));
    chart.series[0].y.push_back(layer.at("error_data_free").get<double>());
    chart.series[1].y.push_back(layer.at("error").get<double>());
  }
  return {"calibrate", "What a calibration is worth",
          paragraph(text("Profile 2bit on the last quarter of the text, with transforms of the first three, by oscar "
                         "calibrate: %llu tokens, fingerprint %s.",
                         static_cast<unsigned long long>(whole<uint64_t>(document.at("n_tokens"))),
                         document.at("fingerprint").get<std::string>().c_str())) +
              chart_figure(chart)};
}

Section inspect_section(const Json& document) {
  Chart chart{"Conditions by layer", "layer", "condition, largest of the layer's heads", false, true, false, {}, {}};
  chart.series = {{"key transform", {}, {}}, {"query moment", {}, {}}, {"value transform", {}, {}}};
  constexpr std::array kFields{"key_condition", "query_moment_condition", "value_condition"};
  for (const Json& head : document.at("heads")) {
    const auto layer = head.at("layer").get<double>();
    for (size_t i = 0; i < kFields.size(); ++i) {
      Series& s = chart.series[i];
      const double condition = head.value(kFields[i], 0.0);
      if (s.x.empty() || s.x.back() != layer) s.x.push_back(layer), s.y.push_back(0);
      s.y.back() = std::max(s.y.back(), condition);
    }
  }
  return {"inspect", "A calibration's conditions",
          paragraph(text("Largest singular value over smallest, by oscar inspect: %s, fingerprint %s.",
                         document.at("model").get<std::string>().c_str(),
                         document.at("fingerprint").get<std::string>().c_str())) +
              chart_figure(chart)};
}

Section map_section(const Json& document) {
  constexpr int kLevels = 13;
  constexpr double kRow = 14;
  const Json& rows = document.at("rows");
  const auto n_tokens = document.at("n_tokens").get<double>();
  if (rows.empty() || !(n_tokens >= 1)) throw Json::type_error::create(302, "there are no rows", &document);
  double most = 0;
  for (const Json& row : rows)
    for (const Json& mass : row.at("mass")) most = std::max(most, mass.get<double>());
  const size_t n_columns = rows.at(0).at("mass").size();
  // A path for each level of darkness: neighbours of one level are one rectangle.
  std::array<std::string, kLevels> paths;
  std::string labels, refined;
  for (size_t r = 0; r < rows.size(); ++r) {
    const Json& mass = rows[r].at("mass");
    const auto level = [&](size_t i) {
      return static_cast<size_t>(map_depth(mass[i].get<double>(), most) * (kLevels - 1));
    };
    const double y = kRow * static_cast<double>(r);
    for (size_t i = 0; i < mass.size();) {
      size_t end = i + 1;
      while (end < mass.size() && level(end) == level(i)) ++end;
      paths[level(i)] += text("M%zu %gh%zuv%gh-%zuz", i, y, end - i, kRow - 1, end - i);
      i = end;
    }
    for (const Json& token : rows[r].at("refined"))
      refined += text("M%.2f %gh.6v4h-.6z", token.get<double>() / n_tokens * static_cast<double>(n_columns),
                      y + kRow - 5);
    labels += text("<span>%u.%u</span>", whole<uint32_t>(rows[r].at("layer")), whole<uint32_t>(rows[r].at("kv_head")));
  }
  const double height = kRow * static_cast<double>(rows.size());
  std::string svg = text(
      "<svg viewBox=\"0 0 %zu %.0f\" style=\"height:%.0fpx\" preserveAspectRatio=\"none\" role=\"img\">"
      "<title>Attention mass by token</title>",
      n_columns, height, height);
  for (size_t i = 0; i < paths.size(); ++i)
    if (!paths[i].empty())
      svg += text("<path fill=\"%s\" d=\"%s\"/>\n", map_colour(static_cast<double>(i) / (kLevels - 1)).c_str(),
                  paths[i].c_str());
  svg += text("<path fill=\"#c8102e\" d=\"%s\"/></svg>", refined.c_str());
  return {
      "map", "Where attention goes",
      paragraph(text("Rows: layer.KV head; columns: %.0f tokens of the text. The darker, the more attention a token "
                     "gets from those after it, over four powers of ten up to %.3g. Red: what the cache keeps at "
                     "more bits. The first %llu and the newest %llu tokens are exact.",
                     n_tokens, most, static_cast<unsigned long long>(whole<uint64_t>(document.at("sink"))),
                     static_cast<unsigned long long>(whole<uint64_t>(document.at("recent"))))) +
          "<div class=\"map\"><div class=\"rows\">" + labels + "</div><div>" + svg +
          text("</div><div></div><div class=\"ends\"><span>token 0</span><span>%.0f</span></div></div>\n", n_tokens)};
}

}  // namespace oscar::cli
