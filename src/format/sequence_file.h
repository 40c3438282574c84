// What oscar_seq_export writes (docs/export.md): the records of its header, and the two ends of a stream of bytes.
//
//   SequenceFileHeader | layer records | class records | u64 checksum of these
//   class by class:  block records | blocks | pages of exact rows | votes
//   u64 checksum of all bytes before it
#pragma once
#include <cstddef>
#include <cstdint>

#include "format/checksum.h"

namespace oscar {

struct SequenceFileHeader {
  uint8_t magic[8];       // "OSCARSEQ"
  uint32_t version;       // 1
  uint32_t header_bytes;  // all before the contents, the header's checksum included
  uint64_t file_bytes;    // of the whole export
  uint64_t fingerprint;   // of the calibration whose transforms the blocks are in
  uint64_t n_tokens;
  uint32_t n_layers, n_classes;
  uint32_t n_sink, n_recent, max_rollback;
  uint32_t reserved;  // 0
};
static_assert(sizeof(SequenceFileHeader) == 64);

inline constexpr uint8_t kSequenceMagic[8] = {'O', 'S', 'C', 'A', 'R', 'S', 'E', 'Q'};
inline constexpr uint32_t kSequenceVersion = 1;

// One layer. `exact`: it packs nothing, because it was told to or because its window is short.
struct SequenceLayerRecord {
  uint32_t n_q_heads, n_kv_heads, key_dim, value_dim, window, exact;
  uint32_t n_refined, key_plane, value_plane;  // 0 for an exact layer
  uint32_t kv_source, layer_class;
  uint32_t reserved;  // 0
};
static_assert(sizeof(SequenceLayerRecord) == 48);

// What the sequence holds in one class of layers. Sizes are of all its layers and KV heads together.
struct SequenceClassRecord {
  uint64_t packed_end, kept_from, counted;  // as in SequenceView (backend/engine.h)
  uint64_t n_blocks, n_pages;
  uint64_t block_bytes, page_bytes;  // of one
  uint64_t vote_bytes;               // of all votes
};
static_assert(sizeof(SequenceClassRecord) == 64);

// Tokens start .. start + n_tokens - 1 of a block of 128.
struct SequenceBlockRecord {
  uint64_t start;
  uint32_t n_tokens;
  uint32_t reserved;  // 0
};
static_assert(sizeof(SequenceBlockRecord) == 16);

inline uint64_t sequence_header_bytes(uint64_t n_layers, uint64_t n_classes) {
  return sizeof(SequenceFileHeader) + n_layers * sizeof(SequenceLayerRecord) + n_classes * sizeof(SequenceClassRecord) +
         sizeof(uint64_t);
}

// Bytes out, and in. They throw where the caller's end fails.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual void write(const void* bytes, uint64_t size) = 0;
};
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual void read(void* bytes, uint64_t size) = 0;
};

// The same, with a checksum over everything so far.
class CheckedSink {
 public:
  explicit CheckedSink(ByteSink& to) : to_(to) {}
  void write(const void* bytes, uint64_t size) {
    if (size == 0) return;
    checksum_.update(bytes, size);
    to_.write(bytes, size);
  }
  void write_checksum() {
    const uint64_t value = checksum_.value();
    write(&value, sizeof value);
  }

 private:
  ByteSink& to_;
  Checksum checksum_;
};
class CheckedSource {
 public:
  explicit CheckedSource(ByteSource& from) : from_(from) {}
  void read(void* bytes, uint64_t size) {
    if (size == 0) return;
    from_.read(bytes, size);
    checksum_.update(bytes, size);
  }
  // Whether the next 8 bytes are the checksum of those before them.
  bool read_checksum() {
    const uint64_t wanted = checksum_.value();
    uint64_t stored = 0;
    read(&stored, sizeof stored);
    return stored == wanted;
  }

 private:
  ByteSource& from_;
  Checksum checksum_;
};

}  // namespace oscar
