// The archive of a torch.save file: a zip of stored entries below one folder, read in place. Nothing in it is trusted.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace oscar {

// Text of a file for an error message: unprintable bytes as '?', cut after 64.
std::string printable(std::string_view text);

class TorchZip {
 public:
  // Borrows the bytes. `file` is how error texts call them. Reads the whole directory and checks every entry's bounds
  // and CRC-32 (PKWARE's APPNOTE 6.3, the subset that torch writes). Throws Error: CORRUPT; UNSUPPORTED where the
  // archive is compressed, encrypted or larger than 32-bit sizes can say. Takes less memory than the file.
  TorchZip(std::span<const uint8_t> bytes, const char* file);

  // The bytes of `path`, which is relative to the archive's folder.
  std::optional<std::span<const uint8_t>> find(std::string_view path) const;

 private:
  struct Entry {
    std::string_view name;  // relative to the folder once the directory is read
    uint32_t header_offset, data_offset, size, crc;
  };
  struct Directory {
    uint32_t offset, size, n_entries;
  };

  [[noreturn]] __attribute__((format(printf, 3, 4))) void corrupt(uint64_t at, const char* format, ...) const;
  [[noreturn]] __attribute__((format(printf, 3, 4))) void unsupported(uint64_t at, const char* format, ...) const;
  uint64_t number(uint64_t at, uint32_t size) const;
  std::string_view text(uint64_t at, uint64_t size) const;
  Directory read_end() const;
  void check_zip64(const Directory& directory, uint64_t at) const;
  uint32_t read_entry(uint64_t at, uint64_t end);
  void check_extra(uint64_t at, uint64_t size) const;
  void check_local(Entry& entry, uint32_t flags, uint64_t directory_offset) const;
  void check_overlaps() const;
  void strip_folder();

  std::span<const uint8_t> bytes_;
  const char* file_;
  std::vector<Entry> entries_;  // by name
};

}  // namespace oscar
