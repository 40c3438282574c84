// Pieces of a page in HTML. Words are escaped here and nowhere else.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace oscar::cli {

std::string escaped(const std::string& words);

std::string heading(int level, const std::string& words);
std::string paragraph(const std::string& words);

struct HtmlRow {
  std::vector<std::string> cells;
  bool ours = false;  // a row of this library's, which stands out
};
// Scrolls sideways by itself where the page is narrower.
std::string html_table(const std::vector<std::string>& head, const std::vector<HtmlRow>& rows);

struct HeatCell {
  std::optional<double> good;  // 0, bad, to 1, good; nothing: there is no number
  std::string words;
};
struct HeatRow {
  std::string label;
  bool ours = false;
  std::vector<HeatCell> cells;
};
std::string heat_table(const std::string& corner, const std::vector<std::string>& columns,
                       const std::vector<HeatRow>& rows);

struct Bar {
  std::string label, words;
  double length = 0;  // the longest bar fills the width
  bool ours = false;
};
std::string bars(const std::vector<Bar>& all);

struct Section {
  std::string id, title, body;
};
// The whole document: everything is in it, nothing is fetched, nothing runs.
std::string html_page(const std::string& title, const std::vector<Section>& sections);

}  // namespace oscar::cli
