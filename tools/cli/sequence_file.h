// The header of an exported sequence, by docs/export.md, and what the library says of the whole file.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "library.h"

namespace oscar::cli {

struct SequenceLayer {
  uint32_t n_q_heads, n_kv_heads, key_dim, value_dim, window, exact, n_refined, key_plane, value_plane, kv_source,
      layer_class, reserved;
};

struct SequenceClass {
  uint64_t packed_end, kept_from, counted, n_blocks, n_pages, block_bytes, page_bytes, vote_bytes;
};

struct SequenceHeader {
  uint64_t file_bytes = 0, fingerprint = 0, n_tokens = 0;
  uint32_t n_sink = 0, n_recent = 0, max_rollback = 0;
  std::vector<SequenceLayer> layers;
  std::vector<SequenceClass> classes;
};

bool is_sequence(std::span<const uint8_t> bytes);

// Throws Failure (input), which names the file, where the header is cut off, of another version, or contradicts itself.
SequenceHeader read_sequence_header(std::span<const uint8_t> bytes, const std::string& path);

// Imports the whole file into a cache made for it: checksums, sizes and every block, as the library checks them. Empty where
// all is well, else what is wrong. `calibration` may be NULL: then the sequence must be of a data-free cache.
std::string import_problem(const SequenceHeader& header, std::span<const uint8_t> bytes,
                           const oscar_calibration* calibration);

}  // namespace oscar::cli
