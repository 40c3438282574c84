#include "html.h"

#include <algorithm>

#include "text.h"

namespace oscar::cli {

namespace {

// Colours of words have a contrast of 4.5 and more on their background (WCAG AA), those of marks 3 and more; s0 to s5 are
// the series of charts. Cells of heat tables are light in both themes, under dark words.
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --bg: #fff; --ink: #1f2328; --soft: #57606a; --rule: #d0d7de; --panel: #f6f8fa;
  --s0: #0550ae; --s1: #953800; --s2: #116329; --s3: #6639ba; --s4: #a40e26; --s5: #57606a; }
@media (prefers-color-scheme: dark) { :root { --bg: #0d1117; --ink: #e6edf3; --soft: #9da7b1; --rule: #3d444d;
  --panel: #161b22; --s0: #79b8ff; --s1: #ffa657; --s2: #7ee787; --s3: #d2a8ff; --s4: #ff9b9b; --s5: #9da7b1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 16px 64px; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 8px; } h2 { font-size: 20px; margin: 40px 0 4px;
  padding-top: 16px; border-top: 1px solid var(--rule); } h3 { font-size: 16px; margin: 28px 0 4px; }
h4 { font-size: 15px; margin: 20px 0 4px; }
p { max-width: 75ch; margin: 6px 0 12px; } p.soft { color: var(--soft); font-size: 13px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 12px 0; } a { color: var(--s0); }
.scroll { overflow-x: auto; margin: 8px 0 16px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--bg); max-width: 45vw;
  white-space: normal; }
@media (max-width: 700px) { td:first-child { min-width: 9.5em; } }
tr.ours td, .heat .ours { color: var(--s0); font-weight: 600; }
.heat td { min-width: 44px; text-align: center; } .heat td:first-child { text-align: left; }
.heat td.cell { color: #1f2328; border: 2px solid var(--bg); border-radius: 5px; padding: 3px 5px; }
.bars { max-width: 720px; margin: 8px 0 16px; } .bar { display: grid; grid-template-columns: 1fr auto; gap: 0 12px;
  margin: 0 0 8px; font-size: 13px; font-variant-numeric: tabular-nums; }
.bar i { grid-column: 1 / 3; height: 10px; min-width: 2px; border-radius: 2px; background: var(--s1); }
.bar.ours { color: var(--s0); font-weight: 600; } .bar.ours i { background: var(--s0); }
.bar.ours span:first-child::before { content: "\25CF\00A0"; }
figure { margin: 12px 0 16px; } figure svg { display: block; max-width: 100%; height: auto; }
figure .narrow { display: block; } figure .wide { display: none; }
@media (min-width: 940px) { figure .narrow { display: none; } figure .wide { display: block; } }
svg text { fill: var(--ink); font-size: 12px; } svg .soft { fill: var(--soft); } svg .grid { stroke: var(--rule); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 13px; } .legend svg { display: inline; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); } .s3 { stroke: var(--s3); }
.s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); } .line { fill: none; stroke-width: 2; }
.f0 { fill: var(--s0); } .f1 { fill: var(--s1); } svg text.f0 { fill: var(--s0); font-weight: 600; }
svg text.f1 { fill: var(--s1); } .lead { fill: none; stroke-opacity: .45; }
.map { display: grid; grid-template-columns: max-content 1fr; gap: 2px 8px; font-size: 12px; margin: 12px 0; }
.map svg { width: 100%; height: 100%; display: block; } .map .ends { display: flex; justify-content: space-between; }
.map .rows span { display: block; height: 14px; line-height: 14px; }
)";

// From orange (0) over nearly white to blue (1), which people who confuse red and green tell apart.
std::string shade(double good) {
  constexpr double kBad[] = {247, 181, 134}, kMiddle[] = {246, 246, 240}, kGood[] = {143, 196, 240};
  const double share = std::clamp(good, 0.0, 1.0), part = share < 0.5 ? 2 * share : 2 * share - 1;
  const double* from = share < 0.5 ? kBad : kMiddle;
  const double* to = share < 0.5 ? kMiddle : kGood;
  const auto mix = [&](int i) { return static_cast<int>(from[i] + part * (to[i] - from[i])); };
  return text("#%02x%02x%02x", mix(0), mix(1), mix(2));
}

}  // namespace

std::string escaped(const std::string& words) {
  std::string result;
  for (const char c : words) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else if (c == '"') {
      result += "&quot;";
    } else {
      result += c;
    }
  }
  return result;
}

std::string heading(int level, const std::string& words) {
  return text("<h%d>%s</h%d>\n", level, escaped(words).c_str(), level);
}

std::string paragraph(const std::string& words) { return "<p>" + escaped(words) + "</p>\n"; }

std::string html_table(const std::vector<std::string>& head, const std::vector<HtmlRow>& rows) {
  std::string html = "<div class=\"scroll\"><table>\n<tr>";
  for (const std::string& cell : head) html += "<th>" + escaped(cell) + "</th>";
  for (const HtmlRow& row : rows) {
    html += row.ours ? "</tr>\n<tr class=\"ours\">" : "</tr>\n<tr>";
    for (const std::string& cell : row.cells) html += "<td>" + escaped(cell) + "</td>";
  }
  return html + "</tr>\n</table></div>\n";
}

std::string heat_table(const std::string& corner, const std::vector<std::string>& columns,
                       const std::vector<HeatRow>& rows) {
  std::string html = "<div class=\"scroll\"><table class=\"heat\">\n<tr><th>" + escaped(corner) + "</th>";
  for (const std::string& column : columns) html += "<th>" + escaped(column) + "</th>";
  for (const HeatRow& row : rows) {
    html += text("</tr>\n<tr><td%s>%s</td>", row.ours ? " class=\"ours\"" : "", escaped(row.label).c_str());
    for (const HeatCell& cell : row.cells)
      html += cell.good ? text("<td class=\"cell\" style=\"background:%s\">%s</td>", shade(*cell.good).c_str(),
                               escaped(cell.words).c_str())
                        : "<td>" + escaped(cell.words) + "</td>";
  }
  return html + "</tr>\n</table></div>\n";
}

std::string bars(const std::vector<Bar>& all) {
  double longest = 0;
  for (const Bar& bar : all) longest = std::max(longest, bar.length);
  std::string html = "<div class=\"bars\">\n";
  for (const Bar& bar : all)
    html += text(
        "<div class=\"bar%s\"><span>%s</span><span class=\"v\">%s</span><i style=\"width:%.2f%%\"></i></div>\n",
        bar.ours ? " ours" : "", escaped(bar.label).c_str(), escaped(bar.words).c_str(),
        longest > 0 ? 100 * bar.length / longest : 0.0);
  return html + "</div>\n";
}

std::string html_page(const std::string& title, const std::vector<Section>& sections) {
  std::string html = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
                     escaped(title) + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n<h1>" +
                     escaped(title) + "</h1>\n";
  if (sections.size() > 1) {
    html += "<nav>";
    for (const Section& s : sections) html += text("<a href=\"#%s\">%s</a>", s.id.c_str(), escaped(s.title).c_str());
    html += "</nav>\n";
  }
  for (const Section& s : sections)
    html += text("<h2 id=\"%s\">%s</h2>\n%s", s.id.c_str(), escaped(s.title).c_str(), s.body.c_str());
  return html + "</body>\n</html>\n";
}

}  // namespace oscar::cli
