#include "text.h"

#include <array>
#include <charconv>
#include <cstdarg>
#include <cstdio>

#include "failure.h"

namespace oscar::cli {

std::string text(const char* format, ...) {
  std::va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, format, arguments);
  va_end(arguments);
  std::string result(static_cast<size_t>(size), '\0');
  std::vsnprintf(result.data(), result.size() + 1, format, again);
  va_end(again);
  return result;
}

std::string printable(std::string_view name) {
  std::string result(name.substr(0, 100));
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return result;
}

std::string grouped(uint64_t number) {
  const std::string digits = std::to_string(number);
  std::string result;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) result += ',';
    result += digits[i];
  }
  return result;
}

std::string hex(uint64_t fingerprint) { return text("%016llx", static_cast<unsigned long long>(fingerprint)); }

std::string bytes_text(uint64_t bytes) {
  static constexpr std::array kUnits{"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return text("%d B", static_cast<int>(bytes));
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return text(value < 10 ? "%.2f %s" : "%.1f %s", value, kUnits[unit]);
}

namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr uint64_t kKibi = 1024;
constexpr std::array kCounts{Unit{"", 1}, Unit{"K", kKibi}, Unit{"k", kKibi}, Unit{"M", kKibi* kKibi}};
constexpr std::array kBytes{
    Unit{"", 1},
    Unit{"B", 1},
    Unit{"K", kKibi},
    Unit{"KiB", kKibi},
    Unit{"M", kKibi* kKibi},
    Unit{"MiB", kKibi* kKibi},
    Unit{"G", kKibi* kKibi* kKibi},
    Unit{"GiB", kKibi* kKibi* kKibi},
    Unit{"T", kKibi* kKibi* kKibi* kKibi},
    Unit{"TiB", kKibi* kKibi* kKibi* kKibi},
    Unit{"KB", 1000},
    Unit{"MB", 1000 * 1000},
    Unit{"GB", 1000ull * 1000 * 1000},
    Unit{"TB", 1000ull * 1000 * 1000 * 1000},
};

template <class Units>
uint64_t parse(std::string_view given, const char* what, const Units& units, const char* wanted) {
  const auto refuse = [&] { bad_usage(text("%s is \"%s\", wanted: %s", what, printable(given).c_str(), wanted)); };
  uint64_t number = 0;
  const auto [rest, error] = std::from_chars(given.data(), given.data() + given.size(), number);
  if (error != std::errc{} || number == 0) refuse();
  const std::string_view suffix(rest, static_cast<size_t>(given.data() + given.size() - rest));
  for (const Unit& unit : units) {
    if (unit.name != suffix) continue;
    uint64_t product = 0;
    if (__builtin_mul_overflow(number, unit.factor, &product)) refuse();
    return product;
  }
  refuse();
  return 0;
}

}  // namespace

uint64_t parse_count(std::string_view given, const char* what) {
  return parse(given, what, kCounts, "a whole number, e.g. 4096 or 32K");
}

uint64_t parse_bytes(std::string_view given, const char* what) {
  return parse(given, what, kBytes, "whole bytes with a unit, e.g. 80GiB, 512MiB or 24GB");
}

}  // namespace oscar::cli
