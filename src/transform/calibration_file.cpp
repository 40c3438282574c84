// The serialized form of a Calibration (docs/format.md, "Calibration file"): what was given, not what was derived.
#include <cstring>
#include <utility>

#include "format/checksum.h"
#include "transform/calibration.h"
#include "transform/calibration_build.h"

namespace oscar {
namespace {

struct FileHeader {
  uint8_t magic[8];
  uint32_t version;
  uint32_t header_bytes;  // this struct and the layer records
  uint32_t n_layers;
  uint32_t reserved;  // 0
  uint64_t file_bytes;
};
static_assert(sizeof(FileHeader) == 32);

struct LayerRecord {
  uint32_t n_kv_heads, key_dim, value_dim;
  uint32_t key_kind, value_kind;  // MapKind
  uint32_t has_moment;
};
static_assert(sizeof(LayerRecord) == 24);

constexpr uint8_t kMagic[8] = {'O', 'S', 'C', 'A', 'R', 'C', 'A', 'L'};
constexpr uint32_t kVersion = 1;

uint64_t key_floats(const LayerRecord& r) { return uint64_t{r.n_kv_heads} * r.key_dim * r.key_dim; }
uint64_t value_floats(const LayerRecord& r) { return uint64_t{r.n_kv_heads} * r.value_dim * r.value_dim; }
bool has_key(const LayerRecord& r) { return r.key_kind == static_cast<uint32_t>(MapKind::kDense); }
bool has_value(const LayerRecord& r) { return r.value_kind == static_cast<uint32_t>(MapKind::kDense); }

uint64_t layer_floats(const LayerRecord& r) {
  return (has_key(r) ? key_floats(r) : 0) + (r.has_moment ? key_floats(r) : 0) + (has_value(r) ? value_floats(r) : 0);
}

LayerRecord record_of(const Calibration& calibration, uint32_t layer) {
  const LayerGeometry& g = calibration.layers()[layer];
  const HeadTransform& head = calibration.head(layer, 0);  // all heads of a layer are of one kind
  return {g.n_kv_heads,
          g.key_dim,
          g.value_dim,
          static_cast<uint32_t>(head.key.kind),
          static_cast<uint32_t>(head.value.kind),
          head.metric_root ? 1u : 0u};
}

// Calls sink(bytes, size) with the file's pieces in order, but for the checksum at its end.
template <class Sink>
void write_contents(const Calibration& calibration, Sink&& sink) {
  const auto n_layers = static_cast<uint32_t>(calibration.layers().size());
  FileHeader header{{},       kVersion, static_cast<uint32_t>(sizeof header + n_layers * sizeof(LayerRecord)),
                    n_layers, 0,        0};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.file_bytes = header.header_bytes + sizeof(uint64_t);
  for (uint32_t l = 0; l < n_layers; ++l) header.file_bytes += 4 * layer_floats(record_of(calibration, l));
  sink(&header, sizeof header);
  for (uint32_t l = 0; l < n_layers; ++l) {
    const LayerRecord record = record_of(calibration, l);
    sink(&record, sizeof record);
  }
  for (uint32_t l = 0; l < n_layers; ++l) {
    const LayerRecord record = record_of(calibration, l);
    const size_t key_bytes = sizeof(float) * record.key_dim * record.key_dim;
    const size_t value_bytes = sizeof(float) * record.value_dim * record.value_dim;
    const auto each = [&](bool present, auto matrix, size_t bytes) {
      for (uint32_t h = 0; present && h < record.n_kv_heads; ++h) sink(matrix(calibration.head(l, h)), bytes);
    };
    each(
        has_key(record), [](const HeadTransform& t) { return t.key.matrix; }, key_bytes);
    each(
        record.has_moment, [](const HeadTransform& t) { return CalibrationBuilder::query_moment(t); }, key_bytes);
    each(
        has_value(record), [](const HeadTransform& t) { return t.value.matrix; }, value_bytes);
  }
}

[[noreturn]] void corrupt(const char* what, uint64_t got, uint64_t wanted) {
  throw Error(Status::kCorrupt, "calibration bytes: %s is %llu, wanted %llu", what,
              static_cast<unsigned long long>(got), static_cast<unsigned long long>(wanted));
}

FileHeader read_header(std::span<const uint8_t> bytes) {
  FileHeader header;
  if (bytes.size() < sizeof header + sizeof(uint64_t))
    throw Error(Status::kCorrupt, "calibration bytes: there are %llu bytes, wanted at least %llu",
                static_cast<unsigned long long>(bytes.size()),
                static_cast<unsigned long long>(sizeof header + sizeof(uint64_t)));
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    throw Error(Status::kCorrupt, "calibration bytes: they do not begin with OSCARCAL");
  if (header.version != kVersion) corrupt("the version", header.version, kVersion);
  if (header.file_bytes != bytes.size()) corrupt("the size", bytes.size(), header.file_bytes);
  if (header.n_layers == 0 || header.n_layers > kMaxCalibrationLayers)
    throw Error(Status::kCorrupt, "calibration bytes: the number of layers is %u, wanted 1 to %u", header.n_layers,
                kMaxCalibrationLayers);
  if (header.reserved != 0) corrupt("the reserved word", header.reserved, 0);
  const uint64_t header_bytes = sizeof header + uint64_t{header.n_layers} * sizeof(LayerRecord);
  if (header.header_bytes != header_bytes) corrupt("the header's size", header.header_bytes, header_bytes);
  if (header_bytes + sizeof(uint64_t) > bytes.size())
    corrupt("the size", bytes.size(), header_bytes + sizeof(uint64_t));
  Checksum checksum;
  checksum.update(bytes.data(), bytes.size() - sizeof(uint64_t));
  uint64_t stored;
  std::memcpy(&stored, bytes.data() + bytes.size() - sizeof stored, sizeof stored);
  if (checksum.value() != stored)
    throw Error(Status::kCorrupt, "calibration bytes: the checksum is %016llx, wanted %016llx",
                static_cast<unsigned long long>(checksum.value()), static_cast<unsigned long long>(stored));
  return header;
}

std::vector<LayerRecord> read_records(std::span<const uint8_t> bytes, const FileHeader& header) {
  std::vector<LayerRecord> records(header.n_layers);
  std::memcpy(records.data(), bytes.data() + sizeof header, records.size() * sizeof(LayerRecord));
  std::vector<LayerGeometry> geometry;
  for (uint32_t l = 0; l < header.n_layers; ++l) {
    const LayerRecord& r = records[l];
    if (r.key_kind > static_cast<uint32_t>(MapKind::kDense) || r.value_kind > static_cast<uint32_t>(MapKind::kDense) ||
        r.has_moment > 1)
      throw Error(Status::kCorrupt, "calibration bytes: layer %u: kinds are %u, %u, %u, wanted at most 2, 2, 1", l,
                  r.key_kind, r.value_kind, r.has_moment);
    geometry.push_back({r.n_kv_heads, r.key_dim, r.value_dim});
  }
  CalibrationBuilder::check_geometry(geometry, Status::kCorrupt);
  return records;
}

}  // namespace

uint64_t calibration_fingerprint(const Calibration& calibration) {
  Checksum checksum;
  write_contents(calibration, [&](const void* piece, size_t size) { checksum.update(piece, size); });
  return checksum.value();
}

std::vector<uint8_t> Calibration::serialize() const {
  size_t size = sizeof fingerprint_, at = 0;
  write_contents(*this, [&](const void*, size_t piece_size) { size += piece_size; });
  std::vector<uint8_t> bytes(size);
  const auto append = [&](const void* piece, size_t piece_size) {
    std::memcpy(bytes.data() + at, piece, piece_size);
    at += piece_size;
  };
  write_contents(*this, append);
  append(&fingerprint_, sizeof fingerprint_);  // the fingerprint is the checksum of the contents
  return bytes;
}

Calibration Calibration::deserialize(std::span<const uint8_t> bytes) {
  const FileHeader header = read_header(bytes);
  const std::vector<LayerRecord> records = read_records(bytes, header);
  uint64_t n_floats = 0;  // at most 65536 heads x 3 x 256^2: no overflow
  for (const LayerRecord& r : records) n_floats += layer_floats(r);
  const uint64_t file_bytes = header.header_bytes + n_floats * sizeof(float) + sizeof(uint64_t);
  if (file_bytes != bytes.size()) corrupt("the size", bytes.size(), file_bytes);

  std::vector<float> floats(n_floats);  // a copy: the bytes may be unaligned
  if (n_floats > 0) std::memcpy(floats.data(), bytes.data() + header.header_bytes, n_floats * sizeof(float));
  std::vector<LayerSource> sources;
  const float* at = floats.data();
  for (const LayerRecord& r : records) {
    const auto take = [&at](bool present, uint64_t n) { return present ? std::exchange(at, at + n) : nullptr; };
    const float* key = take(has_key(r), key_floats(r));
    const float* moment = take(r.has_moment != 0, key_floats(r));
    const float* value = take(has_value(r), value_floats(r));
    sources.push_back({{r.n_kv_heads, r.key_dim, r.value_dim},
                       static_cast<MapKind>(r.key_kind),
                       static_cast<MapKind>(r.value_kind),
                       key,
                       moment,
                       value});
  }
  return CalibrationBuilder::build(sources, Status::kCorrupt);
}

}  // namespace oscar
