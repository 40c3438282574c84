// Numbers and names as people read and write them.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace oscar::cli {

// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...);

// A name that came out of a file: no control characters, at most 100 bytes.
std::string printable(std::string_view name);

// 1234567 -> "1,234,567".
std::string grouped(uint64_t number);

// A fingerprint: 16 hexadecimal digits.
std::string hex(uint64_t fingerprint);

// 1536 -> "1.50 KiB".
std::string bytes_text(uint64_t bytes);

// "4096", "32K", "1M": K and M are 1024 and 1024^2. Throws Failure (usage), which names `what`.
uint64_t parse_count(std::string_view given, const char* what);

// "80GiB", "80G", "80GB" (10^9), "512MiB", or a number of bytes.
uint64_t parse_bytes(std::string_view given, const char* what);

}  // namespace oscar::cli
