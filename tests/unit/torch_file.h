// Writes files as torch.save does, byte for byte where it matters, and every kind of file that it would never write.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "format/bf16.h"

namespace oscar::test {

using Bytes = std::vector<uint8_t>;

template <class T>
requires std::is_arithmetic_v<T>
void put(Bytes& to, T value) {
  const size_t at = to.size();
  to.resize(at + sizeof value);
  std::memcpy(to.data() + at, &value, sizeof value);
}

inline void put(Bytes& to, std::string_view text) { to.insert(to.end(), text.begin(), text.end()); }

inline Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

// ------------------------------------------------------------------------------------------------------ zip ----

struct ZipEntry {
  std::string name;
  Bytes bytes;
};

// A zip and where its parts are, for tests that change them.
struct ZipImage {
  Bytes bytes;
  std::vector<size_t> local, data, central;  // of the entries
  size_t directory = 0, zip64 = 0, end = 0;

  template <class T>
  ZipImage with(size_t at, T value) const {
    ZipImage changed = *this;
    std::memcpy(changed.bytes.data() + at, &value, sizeof value);
    return changed;
  }
};

inline uint32_t zip_crc(const Bytes& bytes) {
  uint32_t crc = ~0u;
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

// As torch's writer: sizes behind the data, data on 64 bytes by an extra field "FB", zip64's end records always.
inline ZipImage zip_of(const std::vector<ZipEntry>& entries, bool has_zip64 = true) {
  ZipImage zip;
  Bytes& to = zip.bytes;
  for (const ZipEntry& e : entries) {
    zip.local.push_back(to.size());
    put(to, uint32_t{0x04034b50});
    for (const uint16_t field : {0, 0x808, 0, 0, 0}) put(to, field);
    for (int i = 0; i < 3; ++i) put(to, uint32_t{0});
    put(to, static_cast<uint16_t>(e.name.size()));
    const size_t padding = 63 - (to.size() + 2 + e.name.size() + 4 + 63) % 64;
    put(to, static_cast<uint16_t>(4 + padding));
    put(to, e.name);
    put(to, "FB");
    put(to, static_cast<uint16_t>(padding));
    put(to, std::string(padding, 'Z'));
    zip.data.push_back(to.size());
    to.insert(to.end(), e.bytes.begin(), e.bytes.end());
    for (const uint32_t field : {uint32_t{0x08074b50}, zip_crc(e.bytes), static_cast<uint32_t>(e.bytes.size()),
                                 static_cast<uint32_t>(e.bytes.size())})
      put(to, field);
  }
  zip.directory = to.size();
  for (size_t i = 0; i < entries.size(); ++i) {
    zip.central.push_back(to.size());
    put(to, uint32_t{0x02014b50});
    for (const uint16_t field : {0, 0, 0x808, 0, 0, 0}) put(to, field);
    put(to, zip_crc(entries[i].bytes));
    put(to, static_cast<uint32_t>(entries[i].bytes.size()));
    put(to, static_cast<uint32_t>(entries[i].bytes.size()));
    put(to, static_cast<uint16_t>(entries[i].name.size()));
    for (int field = 0; field < 4; ++field) put(to, uint16_t{0});
    put(to, uint32_t{0});
    put(to, static_cast<uint32_t>(zip.local[i]));
    put(to, entries[i].name);
  }
  const uint64_t size = to.size() - zip.directory, n = entries.size();
  zip.zip64 = to.size();
  if (has_zip64) {
    put(to, uint32_t{0x06064b50});
    put(to, uint64_t{44});
    put(to, uint32_t{0x2d031e});
    for (const uint64_t field : {uint64_t{0}, n, n, size, uint64_t{zip.directory}}) put(to, field);
    put(to, uint32_t{0x07064b50});
    put(to, uint32_t{0});
    put(to, uint64_t{zip.zip64});
    put(to, uint32_t{1});
  }
  zip.end = to.size();
  put(to, uint32_t{0x06054b50});
  put(to, uint32_t{0});
  put(to, static_cast<uint16_t>(n));
  put(to, static_cast<uint16_t>(n));
  put(to, static_cast<uint32_t>(size));
  put(to, static_cast<uint32_t>(zip.directory));
  put(to, uint16_t{0});
  return zip;
}

// --------------------------------------------------------------------------------------------------- pickle ----

// Opcodes of protocol 2, in the forms that Python's pickler writes.
class PickleWriter {
 public:
  PickleWriter& raw(std::string_view bytes) {
    text_ += bytes;
    return *this;
  }
  PickleWriter& text(std::string_view value) {
    return raw("X").little(static_cast<int64_t>(value.size()), 4).raw(value);
  }
  PickleWriter& integer(int64_t value) {
    if (value >= 0 && value < 256) return raw("K").little(value, 1);
    if (value >= 0 && value < 65536) return raw("M").little(value, 2);
    return raw("J").little(value, 4);
  }
  PickleWriter& integers(const std::vector<int64_t>& values) {
    raw("(");
    for (const int64_t value : values) integer(value);
    return raw("t");
  }
  PickleWriter& name(std::string_view module, std::string_view name) {
    return raw("c").raw(module).raw("\n").raw(name).raw("\n");
  }
  PickleWriter& little(int64_t value, int size) {
    for (int i = 0; i < size; ++i) text_ += static_cast<char>(value >> 8 * i);
    return *this;
  }
  const std::string& done() const { return text_; }

 private:
  std::string text_;
};

inline constexpr std::string_view kPickleStart{"\x80\x02", 2};

struct TensorNote {
  std::string key = "0", type = "FloatStorage";
  int64_t n_elements = 0, offset = 0;
  std::vector<int64_t> shape, stride;
};

inline void put_tensor(PickleWriter& to, const TensorNote& t) {
  to.name("torch._utils", "_rebuild_tensor_v2").raw("((").text("storage").name("torch", t.type).text(t.key).text("cpu");
  to.integer(t.n_elements).raw("tQ").integer(t.offset).integers(t.shape).integers(t.stride).raw("\x89");
  to.name("collections", "OrderedDict").raw(")RtR");
}

struct LayerNote {
  int64_t id;
  TensorNote rotation;
};

inline std::string pickle_of(const std::vector<LayerNote>& layers, int version = 1,
                             std::string_view grouping = "layer") {
  PickleWriter p;
  p.raw(kPickleStart).raw("}q").little(0, 1).raw("(").text("format_version").integer(version);
  p.text("source_grouping").text(grouping).text("layers").raw("}(");
  for (const LayerNote& layer : layers) {
    p.integer(layer.id).raw("}(").text("layer_id").integer(layer.id).text("rotation");
    put_tensor(p, layer.rotation);
    p.raw("u");
  }
  return p.raw("uu.").done();
}

inline ZipImage torch_file(const std::string& pickle, const std::vector<Bytes>& storages) {
  std::vector<ZipEntry> entries = {{"rotation/data.pkl", bytes_of(pickle)}, {"rotation/byteorder", bytes_of("little")}};
  for (size_t i = 0; i < storages.size(); ++i) entries.push_back({"rotation/data/" + std::to_string(i), storages[i]});
  entries.push_back({"rotation/version", bytes_of("3\n")});
  return zip_of(entries);
}

// ------------------------------------------------------------------------------------------------- rotations ----

// Rows of Gaussian numbers made orthonormal (Gram and Schmidt, twice for accuracy).
inline std::vector<double> random_rotation(uint32_t dim, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<double> r(dim * dim);
  for (double& x : r) x = normal(random);
  for (uint32_t i = 0; i < dim; ++i) {
    double* row = &r[i * dim];
    for (int pass = 0; pass < 2; ++pass)
      for (uint32_t j = 0; j < i; ++j) {
        double product = 0;
        for (uint32_t k = 0; k < dim; ++k) product += row[k] * r[j * dim + k];
        for (uint32_t k = 0; k < dim; ++k) row[k] -= product * r[j * dim + k];
      }
    double square = 0;
    for (uint32_t k = 0; k < dim; ++k) square += row[k] * row[k];
    for (uint32_t k = 0; k < dim; ++k) row[k] /= std::sqrt(square);
  }
  return r;
}

inline Bytes storage_of(const std::vector<double>& values, std::string_view type = "FloatStorage") {
  Bytes bytes;
  for (const double x : values) {
    if (type == "DoubleStorage") put(bytes, x);
    if (type == "FloatStorage") put(bytes, static_cast<float>(x));
    if (type == "HalfStorage") put(bytes, f32_to_f16(static_cast<float>(x)));
    if (type == "BFloat16Storage") put(bytes, f32_to_bf16(static_cast<float>(x)));
  }
  return bytes;
}

// The usual note of a rotation that fills its storage.
inline TensorNote square_note(uint32_t storage, int64_t dim) {
  return {std::to_string(storage), "FloatStorage", dim * dim, 0, {dim, dim}, {dim, 1}};
}

}  // namespace oscar::test
