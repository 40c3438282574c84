// Upkeep and packing: the cache's jobs as device jobs, one launch for each class.
#include <algorithm>

#include "engine.h"

namespace oscar::cuda {

namespace {

template <class T>
void send(T* device, const std::pmr::vector<T>& jobs, cudaStream_t stream) {
  if (!jobs.empty())
    check(cudaMemcpyAsync(device, jobs.data(), jobs.size() * sizeof(T), cudaMemcpyHostToDevice, stream),
          "uploading jobs");
}

uint32_t u32(uint64_t position) { return static_cast<uint32_t>(position); }

}  // namespace

void CudaEngine::count(CountWork* device, std::span<const CountJob> jobs) {
  if (jobs.empty()) return;
  counts_.clear();
  for (uint32_t c = 0; c < classes_.size(); ++c)
    for (const CountJob& j : jobs)
      if (j.layer_class == c) counts_.push_back({j.scores, j.side, u32(j.from), u32(j.until), u32(j.first)});
  send(device, counts_, stream_);
  for (uint32_t c = 0; c < classes_.size(); ++c) {
    const uint32_t n = u32(static_cast<uint64_t>(
        std::count_if(jobs.begin(), jobs.end(), [&](const CountJob& j) { return j.layer_class == c; })));
    if (n > 0) check(count_launch(classes_[c].view, device, n, stream_), "counting votes");
    device += n;
  }
}

void CudaEngine::copy_sides(SideWork* device, std::span<const SideJob> jobs) {
  if (jobs.empty()) return;
  sides_.clear();
  for (uint32_t c = 0; c < classes_.size(); ++c)
    for (const SideJob& j : jobs)
      if (j.layer_class == c) sides_.push_back({j.scores, j.side, u32(j.first), u32(j.last)});
  send(device, sides_, stream_);
  for (uint32_t c = 0; c < classes_.size(); ++c) {
    const uint32_t n = u32(static_cast<uint64_t>(
        std::count_if(jobs.begin(), jobs.end(), [&](const SideJob& j) { return j.layer_class == c; })));
    if (n > 0) check(side_launch(classes_[c].view, device, n, stream_), "copying scores");
    device += n;
  }
}

void CudaEngine::pack_blocks(uint32_t layer_class, const PackJob* jobs, uint32_t n_jobs, uint32_t first_head,
                             uint32_t n_heads, uint32_t* arrivals) {
  const LayerClass& c = plan_.classes[layer_class];
  const DeviceClass& d = classes_[layer_class];
  PackLaunch launch{};
  launch.layout = c.layout;
  launch.key_dim = c.key_dim;
  launch.value_dim = c.value_dim;
  launch.first_head = first_head;
  launch.n_heads = n_heads;
  launch.n_jobs = n_jobs;
  launch.shaped = d.shaped;
  launch.general = d.general;
  launch.head_page_bytes = c.head_page_bytes;
  launch.jobs = jobs;
  launch.transforms = d.transforms;
  launch.arrivals = arrivals;
  launch.n_non_finite = n_non_finite_;
  check(launch_pack(launch, stream_), "packing");
}

void CudaEngine::pack(const StepArea& area, std::span<const oscar::PackJob> jobs) {
  if (jobs.empty()) return;
  packs_.clear();
  for (uint32_t i = 0; i < classes_.size(); ++i) {
    const ClassView& v = classes_[i].view;
    for (const oscar::PackJob& j : jobs) {
      if (j.layer_class != i) continue;
      PackJob job{};
      job.blocks = v.unit(j.block);
      job.page_offset = u32(j.start % kPageTokens);
      job.chunk_from = kBlockTokens;
      for (uint32_t p = 0; p < kMaxPackPages; ++p) job.pages[p] = j.pages[p] == kNoUnit ? nullptr : v.unit(j.pages[p]);
      if (v.has_votes) {
        job.votes = v.scores(j.scores, 0, j.side);
        job.vote_head_stride = v.head_vote_bytes / sizeof(float);
        job.vote_first = u32(j.start % v.n_scores);
        job.n_votes = v.n_scores;
      }
      packs_.push_back(job);
    }
  }
  send(area.packs, packs_, stream_);
  const PackJob* first = area.packs;
  for (uint32_t i = 0; i < classes_.size(); ++i) {
    const uint32_t n = u32(static_cast<uint64_t>(
        std::count_if(jobs.begin(), jobs.end(), [&](const oscar::PackJob& j) { return j.layer_class == i; })));
    if (n > 0) pack_blocks(i, first, n, 0, classes_[i].view.n_heads, area.arrivals);
    first += n;
  }
}

void CudaEngine::upkeep(uint32_t step_slot, const Upkeep& jobs) {
  on_device([&] {
    const StepArea& area = areas_[step_slot];
    count(area.counts, jobs.counts);
    pack(area, jobs.packs);
    count(area.counts + sizes_.max_counts, jobs.late_counts);
    copy_sides(area.sides, jobs.sides);
  });
}

// A block of a long step: old tokens from pages, new ones from the scratch, for every scratch area that layers of the
// class may use.
PackJob CudaEngine::chunk_job(const StepView& step, const StepEntry& e, uint32_t layer_class, uint32_t block,
                              uint32_t scratch_area) const {
  const LayerClass& c = plan_.classes[layer_class];
  const ClassView& v = classes_[layer_class].view;
  const StepPart& p = step.parts[e.classes + layer_class];
  const StepArea& area = areas_[step.slot];
  const EngineSizes& sizes = sizes_.engine;
  const uint64_t start = p.first_start + uint64_t{block} * kBlockTokens;
  PackJob job{};
  job.blocks = v.unit(step.blocks[p.first_block + block]);
  job.page_offset = u32(start % kPageTokens);
  job.chunk_from = start >= e.base ? 0 : u32(std::min<uint64_t>(e.base - start, kBlockTokens));
  for (uint32_t i = 0; i < kMaxPackPages; ++i) {
    const uint64_t page = start / kPageTokens + i;
    const Unit unit = page < p.sequence.pages.size() ? p.sequence.pages[page] : kNoUnit;
    job.pages[i] = unit == kNoUnit ? nullptr : v.unit(unit);
  }
  const uint64_t row = e.row + (start > e.base ? start - e.base : 0);
  const uint16_t* keys = area.scratch + scratch_area * sizes.scratch_elements;
  const uint16_t* values = keys + uint64_t{step.n_rows} * c.n_kv_heads * c.key_dim;
  job.key_token_stride = int64_t{c.n_kv_heads} * c.key_dim;
  job.key_head_stride = c.key_dim;
  job.value_token_stride = int64_t{c.n_kv_heads} * c.value_dim;
  job.value_head_stride = c.value_dim;
  job.chunk_keys = keys + static_cast<int64_t>(row) * job.key_token_stride;
  job.chunk_values = values + static_cast<int64_t>(row) * job.value_token_stride;
  if (c.votes) {
    job.votes = area.chunk_votes + uint64_t{scratch_area} * sizes.max_kv_heads * sizes.chunk_tokens + p.vote_offset +
                (start - p.sequence.packed_end);
    job.vote_head_stride = sizes.chunk_tokens;
    job.vote_first = 0;
    job.n_votes = kBlockTokens;
  }
  return job;
}

void CudaEngine::send_chunk_packs(const StepView& step) {
  StepState& state = states_[step.slot];
  packs_.clear();
  for (uint32_t c = 0; c < classes_.size(); ++c) {
    state.chunk_packs[c] = u32(packs_.size());
    for (uint32_t scratch = 0; scratch < plan_.n_scratch; ++scratch)
      for (const StepEntry& e : step.entries)
        for (uint32_t b = 0; e.slot != kPaddingSlot && b < step.parts[e.classes + c].n_blocks; ++b)
          packs_.push_back(chunk_job(step, e, c, b, scratch));
  }
  state.chunk_packs[classes_.size()] = u32(packs_.size());
  send(areas_[step.slot].packs + sizes_.engine.max_aged_blocks, packs_, stream_);
}

void CudaEngine::pack_chunk(const StepView& step, uint32_t layer) {
  const LayerPlan& l = plan_.layers[layer];
  const StepState& state = states_[step.slot];
  const uint32_t first = state.chunk_packs[l.layer_class];
  const uint32_t n = (state.chunk_packs[l.layer_class + 1] - first) / plan_.n_scratch;
  if (n == 0) return;
  const StepArea& area = areas_[step.slot];
  const uint32_t n_kv_heads = plan_.classes[l.layer_class].n_kv_heads;
  on_device([&] {
    pack_blocks(l.layer_class, area.packs + sizes_.engine.max_aged_blocks + first + l.scratch * n, n,
                l.index_in_class * n_kv_heads, n_kv_heads, area.arrivals);
  });
}

}  // namespace oscar::cuda
