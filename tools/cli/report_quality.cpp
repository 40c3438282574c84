// Quality against bytes: what bench/quality/run.py --json holds.
#include <algorithm>

#include "chart.h"
#include "report_sections.h"
#include "text.h"

namespace oscar::cli {

namespace {

struct Arm {
  std::string name, label;
  bool ours = false;
  double code_bits = 0;
};

// Arms of a level, most bits first.
std::vector<Arm> arms_of(const Json& document, const Json& level) {
  std::vector<Arm> arms;
  for (const auto& [name, found] : level.items()) {
    const Json& about = document.at("arms").at(name);
    arms.push_back(
        {name, about.at("label").get<std::string>(), about.at("kind") == "ours", about.at("code_bits").get<double>()});
  }
  std::stable_sort(arms.begin(), arms.end(), [](const Arm& a, const Arm& b) { return a.code_bits > b.code_bits; });
  return arms;
}

std::string number(const Json& object, const char* field, const char* format) {
  const auto found = object.find(field);
  if (found == object.end() || found->is_null()) return "-";
  const double value = found->get<double>();
  std::string words(64, '\0');
  const int size = std::snprintf(words.data(), words.size(), format, value);
  words.resize(std::min<size_t>(static_cast<size_t>(std::max(size, 0)), words.size() - 1));
  return words;
}

std::string percent(const Json& object, const char* field) {
  const auto found = object.find(field);
  return found == object.end() || found->is_null() ? "-" : text("%.0f%%", 100 * found->get<double>());
}

std::string model_level(const Json& document, const Json& level, const std::string& windows) {
  Chart chart{"Divergence from exact attention against bits",
              "bits per element of packed tokens",
              "mean KL divergence, nats",
              true,
              true,
              false,
              {},
              {}};
  std::vector<HtmlRow> rows;
  for (const Arm& arm : arms_of(document, level)) {
    const Json& got = level.at(arm.name).at("all");
    const std::string rank = std::to_string(rows.size() + 1);
    const auto kl = got.at("kl_mean").get<double>();
    chart.points.push_back(
        {text("%s %s: %.2g", rank.c_str(), arm.label.c_str(), kl), rank, arm.code_bits, kl, arm.ours});
    const Json& interval = got.at("kl_interval");
    rows.push_back({{rank + " " + arm.label, text("%.2f", arm.code_bits),
                     number(document.at("arms").at(arm.name).at("total_bits"), windows.c_str(), "%.2f"),
                     text("%.4f", kl), text("%.4f to %.4f", interval.at(0).get<double>(), interval.at(1).get<double>()),
                     number(got, "kl_median", "%.4f"), number(got, "kl_p99", "%.3f"), number(got, "top1", "%.3f"),
                     number(got, "delta_nll", "%+.4f"), number(got, "kl_ratio", "%.3f")},
                    arm.ours});
  }
  if (rows.empty()) return "";
  return heading(4, "How far predictions move") +
         paragraph("Every token attends to the compressed past of its own method. Lower is better, further left is "
                   "smaller. Circles: liboscar; diamonds: rivals. Numbers are those of the table.") +
         chart_figure(chart) +
         html_table({"method", "bits", "all bits", "mean KL", "95%", "median", "P99", "same top-1", "delta NLL",
                     "of OSCAR's KL"},
                    rows);
}

std::string tensor_level(const Json& document, const Json& level) {
  std::vector<HtmlRow> rows;
  for (const Arm& arm : arms_of(document, level)) {
    const Json& got = level.at(arm.name);
    const Json& error = got.at("error");
    const auto kl = got.find("kl");
    rows.push_back(
        {{arm.label, text("%.2f", arm.code_bits), number(error, "median", "%.3f"), number(error, "p95", "%.3f"),
          number(error, "max", "%.3f"), number(got, "db", "%.1f"), kl == got.end() ? "-" : number(*kl, "mean", "%.4f")},
         arm.ours});
  }
  return heading(4, "How wrong attention itself is") +
         paragraph("Relative error of attention's output over layers and KV heads, on captured queries, keys and "
                   "values.") +
         html_table({"method", "bits", "median", "P95", "max", "dB", "KL of attention"}, rows);
}

std::string recall_level(const Json& document, const Json& level) {
  std::vector<HeatRow> needles;
  std::vector<HtmlRow> rows;
  std::vector<std::string> depths;
  uint64_t n_kept = 0;
  for (const Arm& arm : arms_of(document, level)) {
    const Json& got = level.at(arm.name);
    HeatRow row{arm.label, arm.ours, {}};
    for (const auto& [depth, part] : got.at("needle").at("groups").items()) {
      if (needles.empty()) {
        depths.push_back(text("%.0f%%", 100 * std::atof(depth.c_str())));
        n_kept += whole<uint64_t>(part.at("n_kept"));
      }
      const Json& right = part.at("right_of_kept");
      HeatCell cell{std::nullopt, "-"};
      if (!right.is_null()) cell = {right.get<double>(), text("%.0f", 100 * right.get<double>())};
      row.cells.push_back(cell);
    }
    needles.push_back(std::move(row));
    rows.push_back({{arm.label, text("%.2f", arm.code_bits), percent(got.at("copy"), "right_of_kept"),
                     percent(got.at("needle"), "right_of_kept"), percent(got.at("pair"), "right_of_kept")},
                    arm.ours});
  }
  return heading(4, "Needles found, in percent, by depth in the document") +
         paragraph(text("Of the %llu needles that exact keys and values find; -: none of them lies at this depth.",
                        static_cast<unsigned long long>(n_kept))) +
         heat_table("method", depths, needles) + heading(4, "What is found again far back") +
         paragraph("Of what exact keys and values answer, how much is right.") +
         html_table({"method", "bits", "copies", "needles", "pairs"}, rows);
}

std::string free_level(const Json& document, const Json& level) {
  std::vector<HtmlRow> rows;
  for (const Arm& arm : arms_of(document, level)) {
    const Json& got = level.at(arm.name);
    rows.push_back({{arm.label, text("%.2f", arm.code_bits), number(got, "first_divergence_mean", "%.1f"),
                     percent(got, "identical"), percent(got, "repetition"), number(got, "kl_mean", "%.4f")},
                    arm.ours});
  }
  return heading(4, "Where a greedy answer turns") +
         paragraph("Tokens until the first difference from the exact answer, and the divergence along the way.") +
         html_table({"method", "bits", "first difference", "same to the end", "repetition", "KL along"}, rows);
}

std::string promises(const Json& gates) {
  std::vector<HtmlRow> rows;
  for (const Json& g : gates)
    rows.push_back({{g.at("promise").get<std::string>(), g.at("arm").get<std::string>(),
                     g.at("windows").get<std::string>(), g.at("text").get<std::string>(),
                     text("%s %g", g.at("at_least").get<bool>() ? "at least" : "at most", g.at("limit").get<double>()),
                     text("%.4g", g.at("got").get<double>()), g.at("met").get<bool>() ? "yes" : "NO"},
                    false});
  if (rows.empty()) return "";
  return heading(3, "Limits that every run is held to") +
         html_table({"promise", "arm", "windows", "text", "limit", "got", "met"}, rows);
}

std::string made(const Json& d) {
  const Json& s = d.at("settings");
  std::string words = text(
      "Made by bench/quality/run.py on %s, commit %s: liboscar %s (%s), %s. Model: %s; %llu window(s) of %llu tokens "
      "of each text. Tokens that wait for their block are exact in every method, and all have the same exact tokens at "
      "every position. The full protocol wants 6 windows of 4,096 tokens. ",
      d.at("date").get<std::string>().c_str(), d.at("commit").get<std::string>().c_str(),
      d.at("version").get<std::string>().c_str(), d.at("backend").get<std::string>().c_str(),
      d.at("processor").get<std::string>().c_str(), d.at("model").get<std::string>().c_str(),
      static_cast<unsigned long long>((s.contains("windows") ? whole<uint64_t>(s.at("windows")) : 1)),
      static_cast<unsigned long long>(whole<uint64_t>(s.at("tokens"))));
  return paragraph(words + d.value("note", ""));
}

}  // namespace

Section quality_section(const Json& document) {
  std::string body = made(document);
  // The windows in which most methods were measured come first.
  std::vector<std::pair<std::string, Json>> found;
  for (const auto& [windows, levels] : document.at("results").items()) found.emplace_back(windows, levels);
  const auto n_methods = [](const auto& item) {
    return item.second.contains("model") ? item.second.at("model").size() : 0;
  };
  std::stable_sort(found.begin(), found.end(),
                   [&](const auto& a, const auto& b) { return n_methods(a) > n_methods(b); });
  for (const auto& [windows, levels] : found) {
    const Json& w = document.at("exact_windows").at(windows);
    body += heading(3, text("%s windows: %u first and %u newest tokens exact", windows.c_str(),
                            whole<uint32_t>(w.at("n_sink")), whole<uint32_t>(w.at("n_recent"))));
    if (levels.contains("model")) body += model_level(document, levels.at("model"), windows);
    if (levels.contains("recall")) body += recall_level(document, levels.at("recall"));
    if (levels.contains("tensor")) body += tensor_level(document, levels.at("tensor"));
    if (levels.contains("free")) body += free_level(document, levels.at("free"));
  }
  return {"quality", "Quality", body + promises(document.at("gates"))};
}

}  // namespace oscar::cli
