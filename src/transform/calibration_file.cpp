// The serialized form of a Calibration (docs/format.md, "Calibration file"): what was given, not what was derived.
#include <algorithm>
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
  uint32_t header_bytes;  // all before the matrices
  uint32_t n_layers;
  uint32_t n_heads;  // of all layers
  uint64_t file_bytes;
};
static_assert(sizeof(FileHeader) == 32);

struct ProvenanceRecord {
  uint32_t source, knows_rope;
  uint64_t n_tokens, n_positions, end_position;
  uint32_t n_refined, refined_key_bits, refined_value_bits;
  uint32_t reserved;                                                                        // 0
  char objective[kMaxNameLength + 1], model[kMaxNameLength + 1], note[kMaxNoteLength + 1];  // the rest is 0
};
static_assert(sizeof(ProvenanceRecord) == 304);

struct LayerRecord {
  uint32_t n_kv_heads, key_dim, value_dim;
};
static_assert(sizeof(LayerRecord) == 12);

constexpr uint8_t kMagic[8] = {'O', 'S', 'C', 'A', 'R', 'C', 'A', 'L'};
constexpr uint32_t kVersion = 2;

uint64_t header_bytes(uint64_t n_layers, uint64_t n_heads) {
  const uint64_t bytes = sizeof(FileHeader) + sizeof(ProvenanceRecord) + n_layers * sizeof(LayerRecord) +
                         n_heads * sizeof(HeadRecord);
  return (bytes + 7) / 8 * 8;
}

bool has_key(const HeadRecord& r) { return r.key_kind == static_cast<uint8_t>(MapKind::kDense); }
bool has_value(const HeadRecord& r) { return r.value_kind == static_cast<uint8_t>(MapKind::kDense); }

uint64_t floats_of(const LayerGeometry& g, const HeadRecord& r) {
  const uint64_t key = uint64_t{g.key_dim} * g.key_dim, value = uint64_t{g.value_dim} * g.value_dim;
  return (has_key(r) ? key : 0) + (r.has_moment ? key : 0) + (has_value(r) ? value : 0);
}

ProvenanceRecord record_of(const Provenance& p) {
  ProvenanceRecord r{};
  r.source = static_cast<uint32_t>(p.source);
  r.knows_rope = p.knows_rope;
  r.n_tokens = p.n_tokens;
  r.n_positions = p.n_positions;
  r.end_position = p.end_position;
  r.n_refined = p.n_refined;
  r.refined_key_bits = p.refined_key_bits;
  r.refined_value_bits = p.refined_value_bits;
  p.objective.copy(r.objective, kMaxNameLength);
  p.model.copy(r.model, kMaxNameLength);
  p.note.copy(r.note, kMaxNoteLength);
  return r;
}

// Calls visit(geometry, head transform) for every head.
template <class Visit>
void for_each_head(const Calibration& calibration, Visit&& visit) {
  for (uint32_t l = 0; l < calibration.layers().size(); ++l)
    for (uint32_t h = 0; h < calibration.layers()[l].n_kv_heads; ++h)
      visit(calibration.layers()[l], calibration.head(l, h));
}

// Calls sink(bytes, size) with the file's pieces in order, but for the checksum at its end.
template <class Sink>
void write_contents(const Calibration& calibration, Sink&& sink) {
  FileHeader header{{}, kVersion, 0, static_cast<uint32_t>(calibration.layers().size()), 0, 0};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  uint64_t n_floats = 0;
  for_each_head(calibration, [&](const LayerGeometry& g, const HeadTransform& head) {
    ++header.n_heads;
    n_floats += floats_of(g, record_of(head));
  });
  header.header_bytes = static_cast<uint32_t>(header_bytes(header.n_layers, header.n_heads));
  header.file_bytes = header.header_bytes + n_floats * sizeof(float) + sizeof(uint64_t);
  sink(&header, sizeof header);
  const ProvenanceRecord provenance = record_of(calibration.provenance());
  sink(&provenance, sizeof provenance);
  uint64_t written = sizeof header + sizeof provenance;
  for (const LayerGeometry& g : calibration.layers()) {
    const LayerRecord record{g.n_kv_heads, g.key_dim, g.value_dim};
    sink(&record, sizeof record);
    written += sizeof record;
  }
  for_each_head(calibration, [&](const LayerGeometry&, const HeadTransform& head) {
    const HeadRecord record = record_of(head);
    sink(&record, sizeof record);
    written += sizeof record;
  });
  const uint8_t padding[8] = {};
  sink(padding, header.header_bytes - written);
  for_each_head(calibration, [&](const LayerGeometry&, const HeadTransform& head) { write_matrices(head, sink); });
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
  if (header.version < kVersion)
    throw Error(Status::kCorrupt, "calibration bytes: the version is %u, of a pre-release; wanted %u: calibrate again",
                header.version, kVersion);
  if (header.version != kVersion) corrupt("the version", header.version, kVersion);
  if (header.file_bytes != bytes.size()) corrupt("the size", bytes.size(), header.file_bytes);
  if (header.n_layers == 0 || header.n_layers > kMaxCalibrationLayers)
    throw Error(Status::kCorrupt, "calibration bytes: the number of layers is %u, wanted 1 to %u", header.n_layers,
                kMaxCalibrationLayers);
  if (header.n_heads == 0 || header.n_heads > kMaxCalibrationAllHeads)
    throw Error(Status::kCorrupt, "calibration bytes: the number of KV heads is %u, wanted 1 to %u", header.n_heads,
                kMaxCalibrationAllHeads);
  const uint64_t wanted = header_bytes(header.n_layers, header.n_heads);
  if (header.header_bytes != wanted) corrupt("the header's size", header.header_bytes, wanted);
  if (wanted + sizeof(uint64_t) > bytes.size()) corrupt("the size", bytes.size(), wanted + sizeof(uint64_t));
  Checksum checksum;
  checksum.update(bytes.data(), bytes.size() - sizeof(uint64_t));
  uint64_t stored;
  std::memcpy(&stored, bytes.data() + bytes.size() - sizeof stored, sizeof stored);
  if (checksum.value() != stored)
    throw Error(Status::kCorrupt, "calibration bytes: the checksum is %016llx, wanted %016llx",
                static_cast<unsigned long long>(checksum.value()), static_cast<unsigned long long>(stored));
  return header;
}

// Moves `at` over a record. The bytes may be unaligned.
template <class T>
T read(const uint8_t*& at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

template <size_t N>
std::string read_text(const char (&text)[N], const char* name) {
  const size_t length = strnlen(text, N);
  if (length == N || !std::all_of(text + length, text + N, [](char c) { return c == 0; }))
    throw Error(Status::kCorrupt, "calibration bytes: %s is not ended by zeros", name);
  return {text, length};
}

Provenance read_provenance(const uint8_t*& at) {
  const auto r = read<ProvenanceRecord>(at);
  if (r.source > static_cast<uint32_t>(CalibrationSource::kCache) || r.knows_rope > 1 || r.reserved != 0)
    throw Error(Status::kCorrupt,
                "calibration bytes: source, knows_rope and reserved are %u, %u, %u, wanted at most 5, 1, 0", r.source,
                r.knows_rope, r.reserved);
  Provenance p;
  p.source = static_cast<CalibrationSource>(r.source);
  p.knows_rope = r.knows_rope != 0;
  p.n_tokens = r.n_tokens;
  p.n_positions = r.n_positions;
  p.end_position = r.end_position;
  p.n_refined = r.n_refined;
  p.refined_key_bits = r.refined_key_bits;
  p.refined_value_bits = r.refined_value_bits;
  p.objective = read_text(r.objective, "the objective");
  p.model = read_text(r.model, "the model");
  p.note = read_text(r.note, "the note");
  return p;
}

std::vector<LayerGeometry> read_geometry(const uint8_t*& at, const FileHeader& header) {
  std::vector<LayerGeometry> geometry;
  uint64_t n_heads = 0;
  for (uint32_t l = 0; l < header.n_layers; ++l) {
    const auto r = read<LayerRecord>(at);
    geometry.push_back({r.n_kv_heads, r.key_dim, r.value_dim});
    n_heads += r.n_kv_heads;
  }
  CalibrationBuilder::check_geometry(geometry, Status::kCorrupt);
  if (n_heads != header.n_heads) corrupt("the number of KV heads", header.n_heads, n_heads);
  return geometry;
}

std::vector<HeadRecord> read_heads(const uint8_t*& at, uint32_t n_heads) {
  std::vector<HeadRecord> records(n_heads);
  for (uint32_t h = 0; h < n_heads; ++h) {
    const HeadRecord& r = records[h] = read<HeadRecord>(at);
    if (r.key_kind > static_cast<uint8_t>(MapKind::kDense) || r.value_kind > static_cast<uint8_t>(MapKind::kDense) ||
        r.has_moment > 1 || r.reserved != 0)
      throw Error(Status::kCorrupt, "calibration bytes: head %u: kinds are %u, %u, %u, %u, wanted at most 2, 2, 1, 0",
                  h, r.key_kind, r.value_kind, r.has_moment, r.reserved);
  }
  return records;
}

}  // namespace

std::vector<uint8_t> Calibration::serialize() const {
  std::vector<uint8_t> bytes;
  uint64_t size = sizeof(uint64_t);
  write_contents(*this, [&](const void*, size_t piece_size) { size += piece_size; });
  bytes.reserve(size);
  const auto append = [&](const void* piece, size_t piece_size) {
    const auto* from = static_cast<const uint8_t*>(piece);
    bytes.insert(bytes.end(), from, from + piece_size);
  };
  write_contents(*this, append);
  Checksum checksum;
  checksum.update(bytes.data(), bytes.size());
  const uint64_t value = checksum.value();
  append(&value, sizeof value);
  return bytes;
}

Calibration Calibration::deserialize(std::span<const uint8_t> bytes) {
  const FileHeader header = read_header(bytes);
  const uint8_t* at = bytes.data() + sizeof header;
  Provenance provenance = read_provenance(at);
  const std::vector<LayerGeometry> geometry = read_geometry(at, header);
  const std::vector<HeadRecord> records = read_heads(at, header.n_heads);
  for (; at < bytes.data() + header.header_bytes; ++at)
    if (*at != 0) corrupt("a byte between records and matrices", *at, 0);
  uint64_t n_floats = 0, head = 0;  // at most 65536 heads x 3 x 256^2: no overflow
  for (const LayerGeometry& g : geometry)
    for (uint32_t h = 0; h < g.n_kv_heads; ++h) n_floats += floats_of(g, records[head++]);
  const uint64_t file_bytes = header.header_bytes + n_floats * sizeof(float) + sizeof(uint64_t);
  if (file_bytes != bytes.size()) corrupt("the size", bytes.size(), file_bytes);

  std::vector<float> floats(n_floats);  // a copy: the bytes may be unaligned
  if (n_floats > 0) std::memcpy(floats.data(), at, n_floats * sizeof(float));
  std::vector<LayerSource> sources;
  const float* next = floats.data();
  head = 0;
  for (const LayerGeometry& g : geometry) {
    LayerSource& source = sources.emplace_back(LayerSource{g, {}});
    const uint64_t key = uint64_t{g.key_dim} * g.key_dim, value = uint64_t{g.value_dim} * g.value_dim;
    const auto take = [&next](bool present, uint64_t n) { return present ? std::exchange(next, next + n) : nullptr; };
    for (uint32_t h = 0; h < g.n_kv_heads; ++h) {
      const HeadRecord& r = records[head++];
      HeadSource& s = source.heads.emplace_back();
      s.key_kind = static_cast<MapKind>(r.key_kind);
      s.value_kind = static_cast<MapKind>(r.value_kind);
      s.key = take(has_key(r), key);
      s.moment = take(r.has_moment != 0, key);
      s.value = take(has_value(r), value);
    }
  }
  return CalibrationBuilder::build(sources, std::move(provenance), Status::kCorrupt);
}

}  // namespace oscar
