// What commands print: a table for people, JSON for programs.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace oscar::cli {

using OrderedJson = nlohmann::ordered_json;

void print_json(const OrderedJson& value);

// Cells in columns: the first to the left, the others to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> head) : rows_{std::move(head)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print(const char* indent = "  ") const;
  void print_markdown() const;
  void print_csv() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace oscar::cli
