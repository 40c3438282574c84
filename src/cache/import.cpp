// A sequence from bytes that anyone may have written: everything that memory safety or the cache's own rules rest on is
// checked before it is used, whatever the checksums say.
#include <cmath>
#include <cstring>
#include <vector>

#include "cache/cache.h"
#include "cache/extent.h"
#include "cache/id.h"
#include "format/error.h"

namespace oscar {

namespace {

using Long = unsigned long long;
constexpr uint32_t kMaxLayers = 4096;  // of any cache

[[noreturn]] void corrupt(const char* what, uint64_t got, uint64_t wanted) {
  throw Error(Status::kCorrupt, "exported bytes: %s is %llu, wanted %llu", what, static_cast<Long>(got),
              static_cast<Long>(wanted));
}

void check(bool holds, const char* what) {
  if (!holds) throw Error(Status::kCorrupt, "exported bytes: %s", what);
}

// The bytes are an export, as it was written; of what geometry is another question.
struct FileHead {
  SequenceFileHeader header;
  std::vector<SequenceLayerRecord> layers;
  std::vector<SequenceClassRecord> classes;
};

FileHead read_head(CheckedSource& from) {
  FileHead head;
  SequenceFileHeader& h = head.header;
  from.read(&h, sizeof h);
  check(std::memcmp(h.magic, kSequenceMagic, sizeof h.magic) == 0, "they do not begin with OSCARSEQ");
  if (h.version != kSequenceVersion) corrupt("the version", h.version, kSequenceVersion);
  if (h.n_layers == 0 || h.n_layers > kMaxLayers || h.n_classes == 0 || h.n_classes > h.n_layers)
    throw Error(Status::kCorrupt, "exported bytes: they have %u layers in %u classes", h.n_layers, h.n_classes);
  const uint64_t header_bytes = sequence_header_bytes(h.n_layers, h.n_classes);
  if (h.header_bytes != header_bytes) corrupt("the header's size", h.header_bytes, header_bytes);
  head.layers.resize(h.n_layers);
  head.classes.resize(h.n_classes);
  from.read(head.layers.data(), head.layers.size() * sizeof(SequenceLayerRecord));
  from.read(head.classes.data(), head.classes.size() * sizeof(SequenceClassRecord));
  check(from.read_checksum(), "the header's checksum is not that of the header");
  if (h.reserved != 0) corrupt("the header's reserved field", h.reserved, 0);
  return head;
}

void check_same(const char* what, uint64_t got, uint64_t wanted) {
  if (got != wanted)
    throw Error(Status::kInvalid, "the exported sequence's %s is %llu, the cache's %llu", what, static_cast<Long>(got),
                static_cast<Long>(wanted));
}

void check_layer(size_t index, const SequenceLayerRecord& got, const SequenceLayerRecord& wanted) {
  static constexpr const char* kNames[] = {"n_q_heads",
                                           "n_kv_heads",
                                           "key_dim",
                                           "value_dim",
                                           "window",
                                           "exact",
                                           "n_refined",
                                           "refined key bits beyond 2",
                                           "refined value bits beyond 2",
                                           "kv_source",
                                           "class",
                                           "reserved field"};
  uint32_t ours[12], theirs[12];
  std::memcpy(theirs, &got, sizeof theirs);
  std::memcpy(ours, &wanted, sizeof ours);
  for (size_t i = 0; i < 12; ++i) {
    if (theirs[i] == ours[i]) continue;
    throw Error(Status::kInvalid, "layer %zu: the exported sequence's %s is %u, the cache's %u", index, kNames[i],
                theirs[i], ours[i]);
  }
}

// A record, against what the numbers in it lead to.
void check_record(const LayerClass& c, const SequenceClassRecord& r, const Extent& e, uint32_t n_recent,
                  uint64_t undecided) {
  check(e.packed_end >= c.n_sink && e.packed_end <= std::max<uint64_t>(c.n_sink, e.length) &&
            (!c.exact || e.packed_end == c.n_sink),
        "a class is packed up to where it cannot be");
  check(e.kept_from == 0 || (c.window > 0 && e.kept_from <= e.length && e.length - e.kept_from + 1 >= c.window),
        "a class has dropped what its window still sees");
  check(c.exact || e.kept_from <= e.packed_end, "a class has dropped tokens that it has not packed");
  check(c.votes ? e.counted <= e.length && e.length - e.counted <= c.vote_layout.n_lines : e.counted == 0,
        "votes are counted up to where they cannot be");
  check(c.exact || e.length <= e.packed_end || e.length - e.packed_end <= undecided, "too many tokens are not packed");
  const SequenceClassRecord wanted = record_of(c, e, n_recent);
  if (r.n_pages != wanted.n_pages) corrupt("a number of pages", r.n_pages, wanted.n_pages);
  if (r.block_bytes != wanted.block_bytes) corrupt("the size of a block", r.block_bytes, wanted.block_bytes);
  if (r.page_bytes != wanted.page_bytes) corrupt("the size of a page", r.page_bytes, wanted.page_bytes);
  if (r.vote_bytes != wanted.vote_bytes) corrupt("the size of votes", r.vote_bytes, wanted.vote_bytes);
}

bool is_scale_base(float base) {
  int exponent = 0;
  return std::isfinite(base) && base >= 0x1p-110f && base <= 0x1p126f && std::frexp(base, &exponent) == 0.5f;
}

// Numbers of a block that others take for granted; any codes and scales are codes and scales.
void check_block(const LayerClass& c, const uint8_t* blocks) {
  for (uint64_t head = 0; head < c.heads(); ++head) {
    const uint8_t* block = blocks + head * c.layout.bytes;
    BlockHeader header;
    std::memcpy(&header, block + c.layout.header, sizeof header);
    check(is_scale_base(header.key_base) && is_scale_base(header.value_base), "a block's scale is no power of two");
    check(std::isfinite(header.mean_scale), "a block's mean is not finite");
    for (uint32_t slot = 0; c.layout.has_ids() && slot < c.layout.h; ++slot) {
      const uint8_t* id = block + c.layout.ids + slot;
      check(*id < kBlockTokens && (slot == 0 || id[0] > id[-1]), "a block's refined tokens do not ascend");
    }
  }
}

}  // namespace

// Same layers, windows and transforms: the bytes mean here what they meant there.
void Cache::check_import(const SequenceFileHeader& h, const std::vector<SequenceLayerRecord>& layers,
                         const std::vector<SequenceClassRecord>& classes) const {
  check_same("number of layers", h.n_layers, plan_.layers.size());
  const std::vector<SequenceLayerRecord> ours = layer_records();
  for (size_t i = 0; i < layers.size(); ++i) check_layer(i, layers[i], ours[i]);
  check_same("number of layer classes", h.n_classes, plan_.classes.size());
  check_same("n_sink", h.n_sink, plan_.config.n_sink);
  check_same("n_recent", h.n_recent, plan_.n_recent);
  check_same("max_rollback", h.max_rollback, plan_.max_rollback);
  if (h.fingerprint != calibration_->fingerprint())
    throw Error(Status::kInvalid,
                "the exported sequence's calibration has the fingerprint %016llx, the cache's %016llx",
                static_cast<Long>(h.fingerprint), static_cast<Long>(calibration_->fingerprint()));
  if (h.n_tokens > plan_.max_tokens)
    throw Error(Status::kNoSpace, "the exported sequence has %llu tokens, max_tokens is %llu",
                static_cast<Long>(h.n_tokens), static_cast<Long>(plan_.max_tokens));
  for (const SequenceClassRecord& r : classes)
    if (r.n_blocks > sizes_.max_blocks)
      throw Error(Status::kNoSpace, "the exported sequence is cut into %llu blocks, the cache has tables for %llu",
                  static_cast<Long>(r.n_blocks), static_cast<Long>(sizes_.max_blocks));
}

std::vector<Extent> Cache::extents_of(const SequenceFileHeader& h,
                                      const std::vector<SequenceClassRecord>& classes) const {
  std::vector<Extent> extents;
  uint64_t file_bytes = h.header_bytes + sizeof(uint64_t);
  for (uint32_t i = 0; i < classes.size(); ++i) {
    const SequenceClassRecord& r = classes[i];
    extents.push_back({h.n_tokens, r.packed_end, r.kept_from, r.counted, r.n_blocks});
    check_record(plan_.classes[i], r, extents[i], plan_.n_recent, sizes_.undecided);
    file_bytes += content_bytes(r);
  }
  if (h.file_bytes != file_bytes) corrupt("the size", h.file_bytes, file_bytes);
  return extents;
}

// The blocks of a class stand side by side, from the first token that is not exact or dropped to packed_end.
void Cache::import_blocks(uint32_t i, const Extent& e, ClassState& s, CheckedSource& from,
                          std::vector<uint8_t>& piece) {
  const LayerClass& c = plan_.classes[i];
  uint64_t next = 0;
  for (uint64_t b = 0; b < e.n_blocks; ++b) {
    SequenceBlockRecord r;
    from.read(&r, sizeof r);
    const bool begins = b == 0 ? r.start >= c.n_sink && r.start <= std::max<uint64_t>(c.n_sink, e.kept_from)
                               : r.start == next;
    check(begins && r.n_tokens > 0 && r.n_tokens <= kBlockTokens && r.reserved == 0, "a block is out of its place");
    next = r.start + r.n_tokens;
    check(next > e.kept_from, "a block has been dropped");
    const Unit unit = pool_.allocate(CachePlan::kind(i, UnitKind::kBlocks));
    s.blocks.push_back({r.start, unit, 0, static_cast<uint8_t>(r.n_tokens)});
  }
  check(e.n_blocks > 0 ? next == e.packed_end : e.packed_end == std::max<uint64_t>(c.n_sink, e.kept_from) || c.exact,
        "blocks do not reach to where tokens are packed");
  piece.resize(c.exact ? 0 : c.heads() * c.layout.bytes);
  for (const BlockEntry& block : s.blocks) {
    from.read(piece.data(), piece.size());
    check_block(c, piece.data());
    engine_->write_unit(block.unit, piece.size(), piece.data());
  }
}

void Cache::import_pages(uint32_t i, const Extent& e, ClassState& s, CheckedSource& from, std::vector<uint8_t>& piece) {
  const LayerClass& c = plan_.classes[i];
  piece.resize(c.heads() * c.head_page_bytes);
  e.for_each_page(c, [&](uint64_t page) {
    if (s.pages.size() <= page) s.pages.resize(page + 1, kNoUnit);
    s.pages[page] = pool_.allocate(CachePlan::kind(i, UnitKind::kPage));
    from.read(piece.data(), piece.size());
    engine_->write_unit(s.pages[page], piece.size(), piece.data());
  });
}

void Cache::import_votes(uint32_t i, const Extent& e, const ClassState& s, CheckedSource& from,
                         std::vector<uint8_t>& piece) {
  const LayerClass& c = plan_.classes[i];
  if (!c.votes) return;
  const VoteRecord record = e.votes(plan_.n_recent);
  std::vector<uint8_t> votes(c.heads() * record.bytes());
  from.read(votes.data(), votes.size());
  piece.assign(c.heads() * c.vote_layout.bytes(), 0);
  const uint8_t* at = votes.data();
  for (uint64_t head = 0; head < c.heads(); ++head)
    check(record.load(at, {piece.data() + head * c.vote_layout.bytes(), c.vote_layout}),
          "a vote is negative or not finite");
  engine_->write_unit(s.scores, piece.size(), piece.data());
}

uint64_t Cache::import_sequence(ByteSource& source) {
  check_moves();
  CheckedSource from(source);
  const FileHead head = read_head(from);
  check_import(head.header, head.layers, head.classes);
  const std::vector<Extent> extents = extents_of(head.header, head.classes);

  std::fill(units_.begin(), units_.end(), 0);
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    units_[CachePlan::kind(i, UnitKind::kBlocks)] = head.classes[i].n_blocks;
    units_[CachePlan::kind(i, UnitKind::kPage)] = head.classes[i].n_pages;
    units_[CachePlan::kind(i, UnitKind::kScores)] = plan_.classes[i].votes;
  }
  if (!pool_.can_allocate(units_)) refuse_room("the imported sequence", units_);
  const uint64_t id = open();
  Sequence& seq = sequences_[slot_of(id)];
  struct Undo {
    Cache& cache;
    Sequence* seq;
    ~Undo() {
      if (!seq) return;
      cache.release_all(*seq);
      seq->open = false;
    }
  } undo{*this, &seq};
  std::vector<uint8_t> piece;
  for (uint32_t i = 0; i < plan_.classes.size(); ++i) {
    ClassState& s = seq.classes[i];
    const Extent& e = extents[i];
    s.packed_end = e.packed_end;
    s.kept_from = e.kept_from;
    s.counted = e.counted;
    import_blocks(i, e, s, from, piece);
    import_pages(i, e, s, from, piece);
    import_votes(i, e, s, from, piece);
  }
  check(from.read_checksum(), "the checksum is not that of the contents");
  seq.length = head.header.n_tokens;
  undo.seq = nullptr;
  return id;
}

}  // namespace oscar
