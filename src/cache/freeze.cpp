// A cache that calibrates itself: what it collects of its tokens, and how it becomes a cache that packs.
#include <unordered_map>

#include "cache/cache.h"
#include "format/error.h"

namespace oscar {

// Where the first block of collected rows begins at or after n_tokens: n_sink + 128 i.
uint64_t Cache::block_grid(uint64_t n_tokens) const {
  const uint64_t n_sink = plan_.config.n_sink;
  if (n_tokens <= n_sink) return n_sink;
  return n_sink + (n_tokens - n_sink + kBlockTokens - 1) / kBlockTokens * kBlockTokens;
}

// Drafts may be rejected, and a tree's stand at positions of their own: they do not count.
void Cache::collect_queries(const Step& step, const AttendRequest& r) {
  const uint32_t dim = class_of(r.layer).key_dim;
  MomentScratch scratch(dim, dim);  // from here on nothing fails
  for (const StepEntry& e : step.entries) {
    if (e.slot == kPaddingSlot || e.n_sure() == 0) continue;
    const RowLoader rows = [&r, first = e.row, dim](uint64_t row, uint32_t head, float* to) {
      load_row(r.q, first + row, head, dim, to);
    };
    collector_->add_queries(r.layer, sequences_[e.slot].number, e.base, e.n_sure(), rows, scratch);
  }
}

void Cache::rows_of(const Sequence& seq, uint32_t layer, uint64_t first, uint32_t n, CollectedRows& rows) const {
  const uint32_t index = plan_.layers[layer].layer_class;
  const LayerClass& c = plan_.classes[index];
  rows.sequence = seq.number;
  rows.first_position = first;
  rows.n = n;
  rows.keys.resize(uint64_t{c.n_kv_heads} * n * c.key_dim);
  rows.values.resize(uint64_t{c.n_kv_heads} * n * c.value_dim);
  for (uint32_t head = 0; head < c.n_kv_heads; ++head) {
    const TensorView k{&rows.keys[uint64_t{head} * n * c.key_dim], Dtype::kF32, c.key_dim, 0};
    const TensorView v{&rows.values[uint64_t{head} * n * c.value_dim], Dtype::kF32, c.value_dim, 0};
    engine_->read(view_of(seq.classes[index], index), layer, head, first, n, k, v);
  }
}

void Cache::collect_rows(const Sequence& seq, uint64_t first, uint32_t n, CollectScratch& scratch) {
  for (uint32_t l = 0; l < plan_.layers.size(); ++l) {
    if (!collector_->collects(l) || first < seq.classes[plan_.layers[l].layer_class].kept_from) continue;
    rows_of(seq, l, first, n, scratch.rows);
    collector_->add_rows(l, scratch.rows, scratch.moments);
  }
}

// Before an end commits: nothing has left a window yet.
void Cache::collect_blocks(Sequence& seq, uint64_t until, CollectScratch& scratch) {
  for (; seq.collected + kBlockTokens <= until; seq.collected += kBlockTokens)
    collect_rows(seq, seq.collected, kBlockTokens, scratch);
}

// Of a sequence that closes.
void Cache::collect_rest(Sequence& seq) {
  CollectScratch scratch = collector_->scratch();
  collect_blocks(seq, seq.length, scratch);
  if (seq.length >= seq.collected + LayerMoments::kLeastOpenTokens)
    collect_rows(seq, seq.collected, static_cast<uint32_t>(seq.length - seq.collected), scratch);
}

// Of a step that ends.
void Cache::collect_step(const Step& step) {
  CollectScratch scratch = collector_->scratch();
  for (const StepEntry& e : step.entries)
    if (e.slot != kPaddingSlot) collect_blocks(sequences_[e.slot], e.base + e.n_sure(), scratch);
}

// Sequences that share a block may each have but a part of its rows.
std::vector<FreezeJob> Cache::freeze_jobs() const {
  std::vector<FreezeJob> jobs;
  std::unordered_map<Unit, size_t> job_of;
  for (const Sequence& seq : sequences_) {
    for (uint32_t i = 0; seq.open && i < plan_.classes.size(); ++i) {
      const ClassState& s = seq.classes[i];
      for (const BlockEntry& b : s.blocks) {
        const auto [at, is_new] = job_of.try_emplace(b.unit, jobs.size());
        if (is_new) {
          FreezeJob& job = jobs.emplace_back(FreezeJob{i, b.unit, b.start, {}});
          std::fill(std::begin(job.pages), std::end(job.pages), kNoUnit);
        }
        FreezeJob& job = jobs[at->second];
        for (uint64_t token = std::max(b.start + b.first, s.kept_from); token < b.end(); ++token)
          job.pages[token - b.start] = s.pages[token / kPageTokens];
      }
    }
  }
  return jobs;
}

std::shared_ptr<const Calibration> Cache::freeze() {
  if (!plan_.config.self_calibration)
    throw Error(Status::kState, "the cache was created without self_calibrate: there is nothing to freeze");
  if (!collector_) throw Error(Status::kState, "the cache is frozen already");
  const auto n_open = std::count_if(steps_.begin(), steps_.end(), [](const Step& step) { return step.open; });
  if (n_open > 0) throw Error(Status::kState, "%d steps are open: end or abort them first", static_cast<int>(n_open));

  const auto open_blocks = [this](uint32_t layer) {
    std::vector<CollectedRows> rows;
    for (const Sequence& seq : sequences_) {
      if (!seq.open || seq.length < seq.collected + LayerMoments::kLeastOpenTokens) continue;
      if (seq.collected < seq.classes[plan_.layers[layer].layer_class].kept_from) continue;
      const uint64_t n = std::min<uint64_t>(seq.length - seq.collected, kBlockTokens);
      rows_of(seq, layer, seq.collected, static_cast<uint32_t>(n), rows.emplace_back());
    }
    return rows;
  };
  const auto layout_of = [this](uint32_t layer) -> const BlockLayout& { return class_of(layer).layout; };
  std::vector<Fallbacks> fallbacks;
  auto calibration = std::make_shared<const Calibration>(
      collector_->finish(backend_, layout_of, plan_.plain_writer, open_blocks, fallbacks));
  const std::vector<FreezeJob> jobs = freeze_jobs();

  // From here on nothing fails.
  plan_.collecting = false;
  n_blocks_packed_ += jobs.size();
  engine_->freeze(*calibration, jobs);
  calibration_ = calibration;
  for (Sequence& seq : sequences_)
    for (uint32_t i = 0; seq.open && i < plan_.classes.size(); ++i)
      release_pages(plan_.classes[i], seq.classes[i], seq.length, 0, seq.classes[i].pages.size());
  collector_.reset();
  report_freeze(fallbacks);
  report_packing();
  return calibration;
}

}  // namespace oscar
