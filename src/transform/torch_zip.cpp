#include "transform/torch_zip.h"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "format/error.h"

namespace oscar {
namespace {

constexpr uint32_t kLocalSignature = 0x04034b50, kEntrySignature = 0x02014b50, kEndSignature = 0x06054b50;
constexpr uint32_t kZip64EndSignature = 0x06064b50, kZip64LocatorSignature = 0x07064b50;
constexpr uint32_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22, kZip64EndBytes = 56, kZip64LocatorBytes = 20;
constexpr uint32_t kSizesFollow = 1u << 3, kUtf8 = 1u << 11;  // flags: sizes stand behind the data; names are UTF-8
constexpr uint32_t kZip64Field = 0x0001;
constexpr uint64_t kMaxFileBytes = 0xfffffffe;
constexpr std::string_view kPickleName = "data.pkl";

// CRC-32 of zip: the polynomial 0x04c11db7, reflected.
constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    table[i] = crc;
  }
  return table;
}();

uint32_t crc32(std::span<const uint8_t> bytes) {
  uint32_t crc = ~0u;
  for (const uint8_t byte : bytes) crc = crc >> 8 ^ kCrcTable[(crc ^ byte) & 0xff];
  return ~crc;
}

// Of the files that torch wrote before it wrote zips: the pickled long that they begin with.
constexpr uint8_t kLegacyMagic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

// Names are only compared, never opened; one that would leave the archive is still nothing that torch writes.
bool is_plain_name(std::string_view name) {
  if (name.empty() || name.front() == '/') return false;
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    if (part.empty() || part == "." || part == "..") return false;
    at = end + 1;
  }
  return std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == '\\' || c == 0x7f; });
}

}  // namespace

std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 64));
  for (char& c : shown)
    if (c < 0x20 || c > 0x7e) c = '?';
  return text.size() > 64 ? shown + "..." : shown;
}

void TorchZip::corrupt(uint64_t at, const char* format, ...) const {
  char what[320];
  va_list args;
  va_start(args, format);
  vsnprintf(what, sizeof what, format, args);
  va_end(args);
  throw Error(Status::kCorrupt, "%s: byte %llu of the zip: %s", file_, static_cast<unsigned long long>(at), what);
}

void TorchZip::unsupported(uint64_t at, const char* format, ...) const {
  char what[320];
  va_list args;
  va_start(args, format);
  vsnprintf(what, sizeof what, format, args);
  va_end(args);
  throw Error(Status::kUnsupported, "%s: byte %llu of the zip: %s", file_, static_cast<unsigned long long>(at), what);
}

// A little-endian number of up to 8 bytes. Callers have checked that it lies in the file.
uint64_t TorchZip::number(uint64_t at, uint32_t size) const {
  uint64_t value = 0;
  for (uint32_t i = 0; i < size; ++i) value |= uint64_t{bytes_[at + i]} << 8 * i;
  return value;
}

std::string_view TorchZip::text(uint64_t at, uint64_t size) const {
  return {reinterpret_cast<const char*>(bytes_.data()) + at, size};
}

TorchZip::TorchZip(std::span<const uint8_t> bytes, const char* file) : bytes_(bytes), file_(file) {
  if (bytes.size() >= sizeof kLegacyMagic && std::memcmp(bytes.data(), kLegacyMagic, sizeof kLegacyMagic) == 0)
    throw Error(Status::kUnsupported, "%s: it is of the format that torch wrote before 1.6, wanted a zip", file);
  if (bytes.size() > kMaxFileBytes)
    throw Error(Status::kUnsupported, "%s: it has %zu bytes, served: less than 4 GiB", file, bytes.size());
  const Directory directory = read_end();
  entries_.reserve(directory.n_entries);
  uint64_t at = directory.offset;
  const uint64_t end = at + directory.size;
  for (uint32_t i = 0; i < directory.n_entries; ++i) at += read_entry(at, end);
  if (at != end)
    corrupt(at, "%u entries end here, the directory's end is %llu", directory.n_entries,
            static_cast<unsigned long long>(end));
  check_overlaps();
  for (const Entry& entry : entries_)
    if (const uint32_t crc = crc32(bytes.subspan(entry.data_offset, entry.size)); crc != entry.crc)
      corrupt(entry.data_offset, "the CRC-32 of \"%s\" is %08x, wanted %08x", printable(entry.name).c_str(), crc,
              entry.crc);
  strip_folder();
}

// The record at the end of the file, which torch writes without a comment.
TorchZip::Directory TorchZip::read_end() const {
  if (bytes_.size() < kEndBytes)
    throw Error(Status::kCorrupt, "%s: there are %zu bytes, wanted a zip of at least %u", file_, bytes_.size(),
                kEndBytes);
  const uint64_t at = bytes_.size() - kEndBytes;
  if (number(at, 4) != kEndSignature || number(at + 20, 2) != 0)
    corrupt(at, "there is no end record of a zip without a comment");
  if (number(at + 4, 4) != 0 || number(at + 8, 2) != number(at + 10, 2)) corrupt(at, "the zip is of several volumes");
  const Directory directory{static_cast<uint32_t>(number(at + 16, 4)), static_cast<uint32_t>(number(at + 12, 4)),
                            static_cast<uint32_t>(number(at + 10, 2))};
  if (directory.n_entries == 0xffff || directory.size == 0xffffffff || directory.offset == 0xffffffff)
    unsupported(at, "entries or sizes of zip64 are not served");
  const uint64_t end = uint64_t{directory.offset} + directory.size;
  if (end != at && end + kZip64EndBytes + kZip64LocatorBytes != at)
    corrupt(at, "the directory, %u bytes at %u, does not end before the end record", directory.size, directory.offset);
  if (end != at) check_zip64(directory, end);
  if (directory.n_entries == 0 || uint64_t{directory.n_entries} * kEntryBytes > directory.size)
    corrupt(at, "there are %u entries in a directory of %u bytes", directory.n_entries, directory.size);
  return directory;
}

// Torch writes zip64's end records always. They must say what the plain one says.
void TorchZip::check_zip64(const Directory& directory, uint64_t at) const {
  const uint64_t locator = at + kZip64EndBytes;
  if (number(at, 4) != kZip64EndSignature || number(at + 4, 8) != kZip64EndBytes - 12 || number(at + 16, 8) != 0 ||
      number(at + 24, 8) != directory.n_entries || number(at + 32, 8) != directory.n_entries ||
      number(at + 40, 8) != directory.size || number(at + 48, 8) != directory.offset)
    corrupt(at, "the zip64 end record differs from the plain one");
  if (number(locator, 4) != kZip64LocatorSignature || number(locator + 4, 4) != 0 || number(locator + 8, 8) != at ||
      number(locator + 16, 4) != 1)
    corrupt(locator, "the zip64 locator does not point to the zip64 end record");
}

// Takes the directory's record at `at`; returns its size.
uint32_t TorchZip::read_entry(uint64_t at, uint64_t end) {
  if (end - at < kEntryBytes || number(at, 4) != kEntrySignature) corrupt(at, "there is no entry of the directory");
  const auto flags = static_cast<uint32_t>(number(at + 8, 2)), method = static_cast<uint32_t>(number(at + 10, 2));
  const auto packed = static_cast<uint32_t>(number(at + 20, 4)), size = static_cast<uint32_t>(number(at + 24, 4));
  const auto name_size = static_cast<uint32_t>(number(at + 28, 2)), extra = static_cast<uint32_t>(number(at + 30, 2));
  const auto record = static_cast<uint32_t>(kEntryBytes + name_size + extra + number(at + 32, 2));
  if (end - at < record) corrupt(at, "an entry of %u bytes leaves the directory", record);
  const std::string_view name = text(at + kEntryBytes, name_size);
  if (!is_plain_name(name)) corrupt(at, "the entry's name is \"%s\"", printable(name).c_str());
  if (flags & ~(kSizesFollow | kUtf8))
    unsupported(at, "\"%s\" has the flags %#x: encryption and the like are not served", printable(name).c_str(), flags);
  if (method != 0)
    unsupported(at, "\"%s\" is compressed by method %u, served: stored entries, as torch.save writes them",
                printable(name).c_str(), method);
  if (packed == 0xffffffff || size == 0xffffffff || number(at + 42, 4) == 0xffffffff)
    unsupported(at, "\"%s\" has sizes of zip64", printable(name).c_str());
  if (packed != size)
    corrupt(at, "\"%s\" is stored, but has %u bytes packed and %u unpacked", printable(name).c_str(), packed, size);
  if (number(at + 34, 2) != 0) corrupt(at, "\"%s\" lies in another volume", printable(name).c_str());
  check_extra(at + kEntryBytes + name_size, extra);
  Entry entry{name, static_cast<uint32_t>(number(at + 42, 4)), 0, size, static_cast<uint32_t>(number(at + 16, 4))};
  check_local(entry, flags, at);
  entries_.push_back(entry);
  return record;
}

void TorchZip::check_extra(uint64_t at, uint64_t size) const {
  for (uint64_t end = at + size; at < end;) {
    if (end - at < 4 || end - at - 4 < number(at + 2, 2)) corrupt(at, "an extra field leaves its entry");
    if (number(at, 2) == kZip64Field) unsupported(at, "zip64's fields of an entry are not served");
    at += 4 + number(at + 2, 2);
  }
}

// The header in front of the data must say what the directory says. `limit`: where the directory's record lies, which
// is behind all data.
void TorchZip::check_local(Entry& entry, uint32_t flags, uint64_t limit) const {
  const uint64_t at = entry.header_offset;
  const std::string name = printable(entry.name);
  if (at >= limit || limit - at < kLocalBytes || number(at, 4) != kLocalSignature)
    corrupt(at, "there is no header of \"%s\"", name.c_str());
  const uint64_t name_size = number(at + 26, 2), extra = number(at + 28, 2);
  const uint64_t data = at + kLocalBytes + name_size + extra;
  if (data > limit || limit - data < entry.size)
    corrupt(at, "\"%s\", %u bytes at %llu, leaves the file", name.c_str(), entry.size,
            static_cast<unsigned long long>(data));
  if (text(at + kLocalBytes, name_size) != entry.name || number(at + 6, 2) != flags || number(at + 8, 2) != 0)
    corrupt(at, "the header of \"%s\" differs from the directory in name, flags or method", name.c_str());
  const bool may_follow = (flags & kSizesFollow) && number(at + 14, 8) == 0 && number(at + 22, 4) == 0;
  if (!may_follow &&
      (number(at + 14, 4) != entry.crc || number(at + 18, 4) != entry.size || number(at + 22, 4) != entry.size))
    corrupt(at, "the header of \"%s\" differs from the directory in CRC-32 or sizes", name.c_str());
  check_extra(at + kLocalBytes + name_size, extra);
  entry.data_offset = static_cast<uint32_t>(data);
}

void TorchZip::check_overlaps() const {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  ranges.reserve(entries_.size());
  for (const Entry& e : entries_) ranges.push_back({e.header_offset, uint64_t{e.data_offset} + e.size});
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first < ranges[i - 1].second) corrupt(ranges[i].first, "two entries overlap");
}

// All names begin with one folder, the one of data.pkl.
void TorchZip::strip_folder() {
  const std::string_view first = entries_.front().name;
  const std::string_view folder = first.substr(0, first.find('/') + 1);
  for (Entry& entry : entries_) {
    if (folder.empty() || !entry.name.starts_with(folder))
      corrupt(entry.header_offset, "\"%s\" is not in the folder \"%s\"", printable(entry.name).c_str(),
              printable(folder).c_str());
    entry.name.remove_prefix(folder.size());
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  for (size_t i = 1; i < entries_.size(); ++i)
    if (entries_[i].name == entries_[i - 1].name)
      corrupt(entries_[i].header_offset, "there are two entries \"%s\"", printable(entries_[i].name).c_str());
  if (!find(kPickleName)) corrupt(0, "there is no entry \"%sdata.pkl\"", printable(folder).c_str());
}

std::optional<std::span<const uint8_t>> TorchZip::find(std::string_view path) const {
  const auto found = std::lower_bound(entries_.begin(), entries_.end(), path,
                                      [](const Entry& e, std::string_view wanted) { return e.name < wanted; });
  if (found == entries_.end() || found->name != path) return std::nullopt;
  return bytes_.subspan(found->data_offset, found->size);
}

}  // namespace oscar
