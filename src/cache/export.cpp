// A sequence as bytes: docs/export.md. Rows and votes that nobody would read are left out or 0, so that equal sequences
// give equal bytes and nothing of others gets out.
#include <cstring>
#include <vector>

#include "cache/cache.h"
#include "cache/extent.h"
#include "format/error.h"

namespace oscar {

void Cache::check_moves() const {
  if (plan_.config.device != Device::kCpu)
    throw Error(Status::kUnsupported, "sequences of a cache on a device are neither exported nor imported");
  if (plan_.collecting) throw Error(Status::kState, "the cache is collecting: oscar_cache_freeze comes first");
}

std::vector<SequenceLayerRecord> Cache::layer_records() const {
  std::vector<SequenceLayerRecord> records;
  for (const LayerPlan& l : plan_.layers) {
    const LayerClass& c = plan_.classes[l.layer_class];
    SequenceLayerRecord& r = records.emplace_back();
    r = {l.n_q_heads, c.n_kv_heads, c.key_dim, c.value_dim, c.window, c.exact, 0, 0, 0, l.kv_source, l.layer_class, 0};
    if (c.exact) continue;
    r.n_refined = c.layout.h;
    r.key_plane = c.layout.key_plane;
    r.value_plane = c.layout.value_plane;
  }
  return records;
}

Extent Cache::extent_of(const Sequence& seq, uint32_t layer_class, uint64_t n_tokens) const {
  const ClassState& s = seq.classes[layer_class];
  Extent e;
  e.length = n_tokens;
  e.packed_end = std::max<uint64_t>(plan_.classes[layer_class].n_sink, std::min(s.packed_end, n_tokens));
  e.kept_from = n_tokens > 0 ? s.kept_from : 0;
  e.counted = std::min(s.counted, n_tokens);
  e.n_blocks = s.blocks.size();
  while (e.n_blocks > 0 && s.blocks[e.n_blocks - 1].start >= n_tokens) --e.n_blocks;
  return e;
}

SequenceFileHeader Cache::file_header(const std::vector<SequenceClassRecord>& classes, uint64_t n_tokens) const {
  SequenceFileHeader h{};
  std::memcpy(h.magic, kSequenceMagic, sizeof h.magic);
  h.version = kSequenceVersion;
  h.n_layers = static_cast<uint32_t>(plan_.layers.size());
  h.n_classes = static_cast<uint32_t>(classes.size());
  h.header_bytes = static_cast<uint32_t>(sequence_header_bytes(h.n_layers, h.n_classes));
  h.file_bytes = h.header_bytes + sizeof(uint64_t);
  for (const SequenceClassRecord& r : classes) h.file_bytes += content_bytes(r);
  h.fingerprint = calibration_->fingerprint();
  h.n_tokens = n_tokens;
  h.n_sink = plan_.config.n_sink;
  h.n_recent = plan_.n_recent;
  h.max_rollback = plan_.max_rollback;
  return h;
}

void Cache::export_blocks(const ClassState& s, const Extent& e, const SequenceClassRecord& r, CheckedSink& to,
                          std::vector<uint8_t>& piece) const {
  for (uint64_t b = 0; b < e.n_blocks; ++b) {
    const BlockEntry& block = s.blocks[b];
    const uint64_t end = std::min(block.end(), e.length);
    const SequenceBlockRecord record{block.start, static_cast<uint32_t>(end - block.start), 0};
    to.write(&record, sizeof record);
  }
  piece.resize(r.block_bytes);
  for (uint64_t b = 0; b < e.n_blocks; ++b) {
    engine_->read_unit(s.blocks[b].unit, piece.size(), piece.data());
    to.write(piece.data(), piece.size());
  }
}

void Cache::export_pages(const LayerClass& c, const ClassState& s, const Extent& e, const SequenceClassRecord& r,
                         CheckedSink& to, std::vector<uint8_t>& piece) const {
  piece.resize(r.page_bytes);
  const uint64_t key_bytes = c.key_dim * sizeof(uint16_t), value_bytes = c.value_dim * sizeof(uint16_t);
  e.for_each_page(c, [&](uint64_t page) {
    engine_->read_unit(s.pages[page], piece.size(), piece.data());
    for (uint64_t row = 0; row < kPageTokens; ++row) {
      if (e.is_exact(c, page * kPageTokens + row)) continue;
      for (uint8_t* head = piece.data(); head < piece.data() + piece.size(); head += c.head_page_bytes) {
        std::memset(head + row * key_bytes, 0, key_bytes);
        std::memset(head + kPageTokens * key_bytes + row * value_bytes, 0, value_bytes);
      }
    }
    to.write(piece.data(), piece.size());
  });
}

void Cache::export_votes(const LayerClass& c, const ClassState& s, const Extent& e, const SequenceClassRecord& r,
                         CheckedSink& to, std::vector<uint8_t>& piece) const {
  if (r.vote_bytes == 0) return;
  piece.resize(c.heads() * c.vote_layout.bytes());
  engine_->read_unit(s.scores, piece.size(), piece.data());
  const VoteRecord record = e.votes(plan_.n_recent);
  std::vector<uint8_t> votes(r.vote_bytes);
  uint8_t* at = votes.data();
  for (uint64_t head = 0; head < c.heads(); ++head)
    at = record.store({piece.data() + head * c.vote_layout.bytes(), c.vote_layout}, s.side, at);
  to.write(votes.data(), votes.size());
}

uint64_t Cache::export_sequence(uint64_t id, uint64_t n_tokens, ByteSink* sink) const {
  const Sequence& seq = sequences_[idle_slot_of(id)];
  check_moves();
  if (n_tokens == 0) n_tokens = seq.length;
  check_cut(seq, n_tokens);
  std::vector<Extent> extents;
  std::vector<SequenceClassRecord> records;
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    extents.push_back(extent_of(seq, i, n_tokens));
    records.push_back(record_of(plan_.classes[i], extents[i], plan_.n_recent));
  }
  const SequenceFileHeader header = file_header(records, n_tokens);
  if (!sink) return header.file_bytes;

  CheckedSink to(*sink);
  to.write(&header, sizeof header);
  const std::vector<SequenceLayerRecord> layers = layer_records();
  to.write(layers.data(), layers.size() * sizeof(SequenceLayerRecord));
  to.write(records.data(), records.size() * sizeof(SequenceClassRecord));
  to.write_checksum();
  std::vector<uint8_t> piece;
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    const ClassState& s = seq.classes[i];
    export_blocks(s, extents[i], records[i], to, piece);
    export_pages(plan_.classes[i], s, extents[i], records[i], to, piece);
    export_votes(plan_.classes[i], s, extents[i], records[i], to, piece);
  }
  to.write_checksum();
  return header.file_bytes;
}

}  // namespace oscar
