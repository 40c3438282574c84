// .npz as numpy.savez writes it: a zip of .npy files that are stored, not compressed.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#include <charconv>
#include <cstring>
#include <string_view>

#include "failure.h"
#include "tensor_file.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr uint32_t kEnd = 0x06054b50, kEntry = 0x02014b50, kLocal = 0x04034b50;
constexpr size_t kEndBytes = 22, kEntryBytes = 46, kLocalBytes = 30, kMostComment = 65535, kMostEntries = 4096;

template <class T>
T at(std::span<const uint8_t> bytes, size_t offset, const std::string& file) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) bad_input(file + ": the zip archive is cut off");
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::span<const uint8_t> part(std::span<const uint8_t> bytes, size_t offset, size_t size, const std::string& file) {
  if (offset > bytes.size() || bytes.size() - offset < size) bad_input(file + ": the zip archive is cut off");
  return bytes.subspan(offset, size);
}

size_t find_end(std::span<const uint8_t> bytes, const std::string& file) {
  const size_t least = bytes.size() > kEndBytes + kMostComment ? bytes.size() - kEndBytes - kMostComment : 0;
  for (size_t offset = bytes.size() >= kEndBytes ? bytes.size() - kEndBytes + 1 : 0; offset-- > least;)
    if (at<uint32_t>(bytes, offset, file) == kEnd) return offset;
  bad_input(file + ": the zip archive has no directory: it is cut off");
}

// The text after 'key': in the header's dictionary, up to the comma outside of brackets or the end.
std::string_view field(std::string_view header, std::string_view key, const std::string& where) {
  const size_t found = header.find(std::string("'") + std::string(key) + "':");
  if (found == std::string_view::npos) bad_input(where + ": the header lacks " + std::string(key));
  std::string_view rest = header.substr(found + key.size() + 3);
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  const size_t end = rest.starts_with("(") ? rest.find(')') : rest.find_first_of(",}");
  if (end == std::string_view::npos) bad_input(where + ": the header is not what numpy writes");
  return rest.substr(0, rest.starts_with("(") ? end + 1 : end);
}

void set_shape(TensorEntry& entry, std::string_view shape, const std::string& where) {
  if (!shape.starts_with("(")) bad_input(where + ": the shape is no tuple");
  shape.remove_prefix(1);
  while (!shape.starts_with(")")) {
    uint64_t extent = 0;
    const auto [rest, error] = std::from_chars(shape.data(), shape.data() + shape.size(), extent);
    if (error != std::errc{} || entry.shape.size() == 8) bad_input(where + ": the shape is not what numpy writes");
    entry.shape.push_back(extent);
    shape.remove_prefix(static_cast<size_t>(rest - shape.data()));
    shape.remove_prefix(std::min(shape.find_first_not_of(", "), shape.size()));
    if (shape.empty()) bad_input(where + ": the shape is not what numpy writes");
  }
}

TensorEntry read_npy(std::span<const uint8_t> bytes, const std::string& where) {
  if (bytes.size() < 10 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0) bad_input(where + ": no .npy file");
  const uint8_t version = bytes[6];
  if (version < 1 || version > 3) bad_input(text("%s: .npy version %u, read are 1 to 3", where.c_str(), version));
  const size_t begin = version == 1 ? 10 : 12;
  const size_t size = version == 1 ? at<uint16_t>(bytes, 8, where) : at<uint32_t>(bytes, 8, where);
  const std::span<const uint8_t> words = part(bytes, begin, size, where);
  const std::string_view header(reinterpret_cast<const char*>(words.data()), words.size());
  TensorEntry entry;
  entry.dtype_code = OSCAR_DTYPE_FLOAT;
  const std::string_view descr = field(header, "descr", where);
  if (descr == "'<f4'") entry.dtype_bits = 32;
  if (descr == "'<f2'") entry.dtype_bits = 16;
  if (entry.dtype_bits == 0) bad_input(where + ": dtype " + printable(descr) + ", wanted '<f4' or '<f2'");
  if (field(header, "fortran_order", where) != "False") bad_input(where + ": column-major, wanted row-major");
  set_shape(entry, field(header, "shape", where), where);
  set_data(entry, bytes.subspan(begin + size), where);
  return entry;
}

}  // namespace

TensorEntries read_npz(std::span<const uint8_t> bytes, const std::string& name) {
  const std::string file = printable(name);
  const size_t end = find_end(bytes, file);
  const size_t n = at<uint16_t>(bytes, end + 10, file);
  size_t entry = at<uint32_t>(bytes, end + 16, file);
  if (n > kMostEntries || entry == UINT32_MAX)
    bad_input(file + ": archives of 4 GiB, or of more than 4096 arrays, are not read: use .safetensors");
  TensorEntries tensors;
  for (size_t i = 0; i < n; ++i) {
    if (at<uint32_t>(bytes, entry, file) != kEntry) bad_input(file + ": the zip archive's directory is damaged");
    const auto method = at<uint16_t>(bytes, entry + 10, file);
    const auto stored = at<uint32_t>(bytes, entry + 20, file), size = at<uint32_t>(bytes, entry + 24, file);
    const auto name_size = at<uint16_t>(bytes, entry + 28, file), extra = at<uint16_t>(bytes, entry + 30, file),
               comment = at<uint16_t>(bytes, entry + 32, file);
    const auto local = at<uint32_t>(bytes, entry + 42, file);
    const auto letters = part(bytes, entry + kEntryBytes, name_size, file);
    std::string key(letters.begin(), letters.end());
    const std::string where = file + ": " + printable(key);
    if (method != 0) bad_input(where + ": compressed; numpy.savez, without _compressed, writes what is read here");
    if (stored != size || size == UINT32_MAX)
      bad_input(where + ": the sizes in the zip archive are damaged, or of 4 GiB and more");
    if (at<uint32_t>(bytes, local, file) != kLocal) bad_input(where + ": the zip archive is damaged");
    const size_t data = size_t{local} + kLocalBytes + at<uint16_t>(bytes, local + 26, file) +
                        at<uint16_t>(bytes, local + 28, file);
    if (key.ends_with(".npy")) key.resize(key.size() - 4);
    tensors[key] = read_npy(part(bytes, data, size, file), where);
    entry += kEntryBytes + name_size + extra + comment;
  }
  return tensors;
}

}  // namespace oscar::cli
