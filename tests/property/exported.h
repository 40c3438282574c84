// Exports in memory.
#pragma once
#include <algorithm>

#include "property/cache_fixture.h"

namespace test {

using ExportedBytes = std::vector<uint8_t>;

inline oscar_status append_bytes(void* user, const void* bytes, uint64_t size) {
  auto* to = static_cast<ExportedBytes*>(user);
  const auto* from = static_cast<const uint8_t*>(bytes);
  to->insert(to->end(), from, from + size);
  return OSCAR_OK;
}

// Reads bytes, and remembers how much was asked for at a time.
struct ByteReader {
  const ExportedBytes& bytes;
  uint64_t at = 0, largest = 0;
  static oscar_status read(void* user, void* to, uint64_t size) {
    auto* r = static_cast<ByteReader*>(user);
    r->largest = std::max(r->largest, size);
    if (size > r->bytes.size() - r->at) return OSCAR_E_CORRUPT;
    std::memcpy(to, r->bytes.data() + r->at, size);
    r->at += size;
    return OSCAR_OK;
  }
};

inline ExportedBytes exported(const oscar_cache* cache, oscar_seq seq, uint64_t n_tokens = 0) {
  ExportedBytes bytes;
  oscar_export_args args{sizeof args, 0, n_tokens, nullptr, nullptr};
  uint64_t predicted = 0, size = 0;
  OSCAR_OK_(oscar_seq_export(cache, seq, &args, &predicted));
  args.user = &bytes;
  args.write = append_bytes;
  OSCAR_OK_(oscar_seq_export(cache, seq, &args, &size));
  REQUIRE(size == bytes.size());
  REQUIRE(predicted == size);
  return bytes;
}

inline oscar_status try_import(oscar_cache* cache, ByteReader& reader, oscar_seq* seq) {
  *seq = 77;
  const oscar_import_args args{sizeof args, 0, &reader, ByteReader::read};
  return oscar_seq_import(cache, &args, seq);
}

inline oscar_seq imported(oscar_cache* cache, const ExportedBytes& bytes) {
  ByteReader reader{bytes};
  oscar_seq seq = 0;
  OSCAR_OK_(try_import(cache, reader, &seq));
  REQUIRE(reader.at == bytes.size());
  return seq;
}

}  // namespace test
