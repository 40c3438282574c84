#include "output.h"

#include <algorithm>
#include <cstdio>

namespace oscar::cli {

void print_json(const OrderedJson& value) {
  // Texts out of files may be no UTF-8: the output is, always.
  const std::string line = value.dump(2, ' ', false, OrderedJson::error_handler_t::replace);
  std::printf("%s\n", line.c_str());
}

void Table::print(const char* indent) const {
  std::vector<size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  for (const auto& row : rows_) {
    std::string line = indent;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - row[i].size(), ' ');
      line += i == 0 ? row[i] + space : "  " + space + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
}

void Table::print_markdown() const {
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (const std::string& cell : rows_[r]) std::printf("| %s ", cell.c_str());
    std::printf("|\n");
    if (r > 0) continue;
    for (size_t i = 0; i < rows_[r].size(); ++i) std::printf(i == 0 ? "| --- " : "| ---: ");
    std::printf("|\n");
  }
}

void Table::print_csv() const {
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      std::string cell = row[i];
      if (cell.find_first_of(",\"\n") != std::string::npos) {
        for (size_t at = 0; (at = cell.find('"', at)) != std::string::npos; at += 2) cell.insert(at, 1, '"');
        cell = '"' + cell + '"';
      }
      std::printf("%s%s", i > 0 ? "," : "", cell.c_str());
    }
    std::printf("\n");
  }
}

}  // namespace oscar::cli
