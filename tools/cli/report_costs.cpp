// Memory and speed: what oscar plan, oscar bench and bench/cpu.py hold.
#include <algorithm>
#include <map>

#include "chart.h"
#include "report_sections.h"
#include "text.h"

namespace oscar::cli {

namespace {

bool is_ours(const std::string& name) { return name.rfind("liboscar", 0) == 0; }

std::string context_name(uint64_t tokens) {
  return tokens % 1024 == 0 ? text("%lluK", static_cast<unsigned long long>(tokens / 1024)) : grouped(tokens);
}

}  // namespace

Section memory_section(const Json& document) {
  const bool fits = document.contains("memory_bytes");
  std::vector<Bar> all;
  std::vector<HtmlRow> rows;
  for (const Json& format : document.at("formats")) {
    const auto name = format.at("format").get<std::string>();
    if (!format.at("served").get<bool>()) {
      rows.push_back({{name, "not served", "", "", ""}, is_ours(name)});
      continue;
    }
    const auto bytes = whole<uint64_t>(format.at("bytes"));
    const auto bits = format.at("bits_per_element").get<double>();
    all.push_back(
        {name, text("%s, %.2f bits", bytes_text(bytes).c_str(), bits), static_cast<double>(bytes), is_ours(name)});
    rows.push_back(
        {{name, grouped(bytes), text("%.3f", bits), fits ? grouped(whole<uint64_t>(format.at("longest_sequence"))) : "",
          fits ? grouped(whole<uint64_t>(format.at("largest_batch"))) : ""},
         is_ours(name)});
  }
  std::vector<std::string> head{"format", "bytes", "bits per element", "longest sequence", "largest batch"};
  if (!fits) {
    head.resize(3);
    for (HtmlRow& row : rows) row.cells.resize(3);
  }
  std::string words = text(
      "Bytes of the cache of %s, %llu layers, at %s tokens and a batch of %llu, counted by oscar plan.",
      document.at("model_type").get<std::string>().c_str(),
      static_cast<unsigned long long>(whole<uint64_t>(document.at("n_layers"))),
      grouped(whole<uint64_t>(document.at("context"))).c_str(),
      static_cast<unsigned long long>(whole<uint64_t>(document.at("batch"))));
  if (fits)
    words += " Longest sequence and largest batch: in " + bytes_text(whole<uint64_t>(document.at("memory_bytes"))) +
             ".";
  return {"memory", "Memory", paragraph(words) + bars(all) + html_table(head, rows)};
}

Section bench_section(const Json& document) {
  std::map<std::string, Series> lines;
  std::vector<HtmlRow> rows;
  for (const Json& r : document.at("results")) {
    const auto profile = r.at("profile").get<std::string>();
    const auto context = whole<uint64_t>(r.at("context"));
    const auto us = r.at("us").get<double>();
    Series& line = lines[profile];
    line.name = profile == "exact" ? "exact (BF16)" : profile;
    line.x.push_back(static_cast<double>(context));
    line.y.push_back(us);
    rows.push_back(
        {{line.name, grouped(context), text("%.2f", r.at("bits_per_element").get<double>()), text("%.1f", us),
          text("%.1f", r.at("tokens_per_s").get<double>()), text("%.2f", r.at("gb_per_s").get<double>()),
          text("%.0f%%", 100 * r.at("of_read").get<double>()), text("%.2f", r.at("times_bf16").get<double>())},
         profile != "exact"});
  }
  Chart chart{"Time of one layer's attention", "tokens in the cache", "time of a layer, us", true, true, true, {}, {}};
  for (auto& [profile, line] : lines)
    if (chart.series.size() < 6) chart.series.push_back(std::move(line));
  std::string words = text("Attention of one new token, measured by oscar bench: liboscar %s, %s, %u thread(s), %u/%u "
                           "heads of %u. Medians; all profiles, and reading memory, in turns.",
                           document.at("version").get<std::string>().c_str(),
                           document.at("backend").get<std::string>().c_str(), whole<uint32_t>(document.at("threads")),
                           whole<uint32_t>(document.at("n_q_heads")), whole<uint32_t>(document.at("n_kv_heads")),
                           whole<uint32_t>(document.at("key_dim")));
  return {"speed", "Speed beside BF16",
          paragraph(words) + chart_figure(chart) +
              html_table({"profile", "context", "bits", "us", "tokens/s", "GB/s", "of read", "x BF16"}, rows)};
}

Section cpu_section(const Json& document) {
  // [shape, threads][name][context]
  std::map<std::pair<std::string, uint32_t>, std::map<std::string, std::map<uint64_t, double>>> all;
  for (const Json& r : document.at("results"))
    all[{r.at("shape").get<std::string>(), whole<uint32_t>(r.at("threads"))}][r.at("name").get<std::string>()]
       [whole<uint64_t>(r.at("context"))] = r.at("ms").get<double>();
  std::string body = paragraph(
      text("Attention of one new token in one layer, made by bench/cpu.py on %s, commit %s: %s. "
           "All in turns; medians.",
           document.at("date").get<std::string>().c_str(), document.at("commit").get<std::string>().c_str(),
           document.at("machine").get<std::string>().c_str()));
  for (const auto& [kind, names] : all) {
    uint64_t longest = 0;
    for (const auto& [name, times] : names) longest = std::max(longest, times.rbegin()->first);
    std::vector<Bar> some;
    std::vector<std::string> head{"ms at context"};
    std::vector<HtmlRow> rows;
    for (const auto& [context, ms] : names.begin()->second) head.push_back(context_name(context));
    for (const auto& [name, times] : names) {
      rows.push_back({{name}, is_ours(name)});
      for (const auto& [context, ms] : names.begin()->second)
        rows.back().cells.push_back(times.count(context) ? text("%.2f", times.at(context)) : "-");
      if (times.count(longest))
        some.push_back({name, text("%.2f ms", times.at(longest)), times.at(longest), is_ours(name)});
    }
    std::sort(some.begin(), some.end(), [](const Bar& a, const Bar& b) { return a.length < b.length; });
    body += heading(3, text("%s heads, %u thread(s), over %s tokens: milliseconds, less is better", kind.first.c_str(),
                            kind.second, context_name(longest).c_str())) +
            bars(some) + html_table(head, rows);
  }
  return {"cpu", "Speed on a CPU beside other engines", body};
}

}  // namespace oscar::cli
