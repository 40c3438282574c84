// Files that are read, and files that are written without losing what was there.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace oscar::cli {

// The bytes of a regular file, mapped. Throws Failure (input) with the path and the reason.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const uint8_t> bytes() const { return bytes_; }

 private:
  std::span<const uint8_t> bytes_;
};

// Writes a new file whole: beside it first, then under its name. An existing file is refused unless `replace`.
void write_file(const std::string& path, std::span<const uint8_t> bytes, bool replace);

}  // namespace oscar::cli
