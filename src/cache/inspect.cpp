// What the cache holds: statistics, capacity, read-back, scores.
#include <algorithm>
#include <vector>

#include "cache/cache.h"
#include "format/error.h"

namespace oscar {

namespace {

void check_range(uint64_t first, uint64_t n, uint64_t length) {
  if (first > length || n > length - first)
    throw Error(Status::kInvalid, "tokens [%llu, %llu + %llu) asked for, the sequence has %llu",
                static_cast<unsigned long long>(first), static_cast<unsigned long long>(first),
                static_cast<unsigned long long>(n), static_cast<unsigned long long>(length));
}

void check_kept(const ClassState& s, uint32_t layer, uint64_t first, uint64_t n) {
  if (n > 0 && first < s.kept_from)
    throw Error(Status::kState, "the window of layer %u has dropped the tokens before %llu", layer,
                static_cast<unsigned long long>(s.kept_from));
}

}  // namespace

void Cache::count_class(CacheStats& stats, uint32_t index) const {
  const LayerClass& c = plan_.classes[index];
  const auto bytes_of = [&](UnitKind kind) {
    return pool_.units_in_use(CachePlan::kind(index, kind)) * c.unit_bytes[static_cast<int>(kind)];
  };
  const uint32_t blocks = CachePlan::kind(index, UnitKind::kBlocks);
  const uint64_t n_blocks = pool_.units_in_use(blocks);
  const uint64_t refined = n_blocks * c.heads() * (c.layout.bytes - c.layout.key_refine);
  stats.n_blocks += n_blocks;
  stats.n_shared_blocks += pool_.units_shared(blocks);
  stats.n_block_references += pool_.references(blocks);
  stats.n_exact_pages += pool_.units_in_use(CachePlan::kind(index, UnitKind::kPage));
  stats.bytes_base += bytes_of(UnitKind::kBlocks) - refined;
  stats.bytes_refined += refined;
  stats.bytes_exact += bytes_of(UnitKind::kPage);
  stats.bytes_scores += bytes_of(UnitKind::kScores);
}

CacheStats Cache::stats() const {
  CacheStats stats{};
  uint64_t tables = 0;
  for (const Sequence& seq : sequences_) {
    if (!seq.open) continue;
    ++stats.n_sequences;
    stats.n_tokens += seq.length;
    uint64_t most_packed = 0;  // by any one class
    for (size_t c = 0; c < plan_.classes.size(); ++c) {
      const ClassState& s = seq.classes[c];
      tables += s.blocks.size() * sizeof(BlockEntry);
      tables += static_cast<uint64_t>(
                    std::count_if(s.pages.begin(), s.pages.end(), [](Unit u) { return u != kNoUnit; })) *
                sizeof(Unit);
      uint64_t packed = 0;
      for (const BlockEntry& b : s.blocks) packed += b.last - b.first;
      most_packed = std::max(most_packed, packed);
    }
    if (!plan_.collecting) stats.n_packed_tokens += most_packed;  // blocks are reserved, and nobody reads them
  }
  for (const Step& step : steps_) stats.n_open_steps += step.open;
  for (uint32_t c = 0; c < plan_.classes.size(); ++c) count_class(stats, c);
  stats.bytes_tables = tables;
  stats.bytes_shared = pool_.bytes_shared();
  stats.n_steps = n_steps_;
  stats.n_blocks_packed = n_blocks_packed_;
  stats.n_rollbacks = n_rollbacks_;
  stats.n_tokens_forgotten = n_tokens_forgotten_;
  stats.n_non_finite = engine_->n_non_finite();
  stats.bytes_sequences = pool_.bytes_in_use() + tables;
  stats.collecting = plan_.collecting;
  stats.bytes_calibration = calibration_->bytes() + (collector_ ? SelfCalibrator::bytes(collector_->config()) : 0);
  stats.bytes_fixed = sizeof(Cache) + memory_.bytes() - engine_->host_arena_bytes() + engine_->bytes() +
                      stats.bytes_calibration;
  stats.bytes_slabs = pool_.bytes_in_slabs();
  stats.bytes_free = pool_.bytes_free();
  const double elements = static_cast<double>(stats.n_tokens) * static_cast<double>(plan_.elements_per_token());
  stats.bits_per_element = elements > 0 ? 8.0 * static_cast<double>(stats.bytes_sequences) / elements : 0.0;
  return stats;
}

// Token by token through begin's own demand: the blocks that age are taken before their pages are given back.
uint64_t Cache::capacity() const {
  if (std::all_of(sequences_.begin() + 1, sequences_.end(), [](const Sequence& s) { return s.open; })) return 0;
  const uint64_t most = plan_.config.max_tokens;
  for (uint64_t n = 0; n < most;) {
    // The step from n to n + 1 tokens: what was there after the step before, a page, and the blocks that have aged.
    std::vector<uint64_t> units = plan_.units_for(n > 0 ? n - 1 : 0, n > 0 ? 1 : 0);
    const std::vector<uint64_t> after = plan_.units_for(n, 1);
    for (uint32_t c = 0; c < plan_.classes.size(); ++c) {
      const uint32_t blocks = CachePlan::kind(c, UnitKind::kBlocks), pages = CachePlan::kind(c, UnitKind::kPage);
      units[blocks] = std::max(units[blocks], after[blocks]);
      if (n % kPageTokens == 0) ++units[pages];
    }
    if (!pool_.can_allocate(units)) return n;
    // Nothing changes before the next page or the next block of some class.
    uint64_t next = (n / kPageTokens + 1) * kPageTokens;
    for (const LayerClass& c : plan_.classes) {
      if (c.exact) continue;
      const uint64_t first = c.n_sink + plan_.config.n_recent + kBlockTokens;
      next = std::min(next, n < first ? first : first + ((n - first) / kBlockTokens + 1) * kBlockTokens);
    }
    n = std::min(next, most);
  }
  return most;
}

void Cache::read(uint64_t id, uint32_t layer, uint32_t head, uint64_t first, uint64_t n, const TensorView& k,
                 const TensorView& v) const {
  const Sequence& seq = sequences_[slot_of(id)];
  check_range(first, n, seq.length);
  const ClassState& s = seq.classes[plan_.layers[layer].layer_class];
  check_kept(s, layer, first, n);
  engine_->read(view_of(s, plan_.layers[layer].layer_class), layer, head, first, n, k, v);
}

void Cache::scores(uint64_t id, uint32_t layer, uint32_t head, uint64_t first, uint64_t n,
                   const TensorView& out) const {
  const Sequence& seq = sequences_[slot_of(id)];
  check_range(first, n, seq.length);
  if (!class_of(layer).votes)
    throw Error(Status::kState, "layer %u keeps no scores: all or none of its tokens are refined, or it is exact",
                layer);
  const ClassState& s = seq.classes[plan_.layers[layer].layer_class];
  check_kept(s, layer, first, n);
  engine_->scores(view_of(s, plan_.layers[layer].layer_class), seq.length, layer, head, first, n, out);
}

}  // namespace oscar
