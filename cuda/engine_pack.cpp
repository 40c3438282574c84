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

// The jobs of each class, as the device wants them, one class after the other in `device`.
template <class Job, class Work, class Convert, class Launch>
void run_by_class(uint32_t n_classes, std::span<const Job> jobs, std::pmr::vector<Work>& works, Work* device,
                  cudaStream_t stream, const Convert& convert, const Launch& launch) {
  for (uint32_t c = 0; c < n_classes; ++c) {
    works.clear();
    for (const Job& j : jobs)
      if (j.layer_class == c) works.push_back(convert(j));
    if (works.empty()) continue;
    send(device, works, stream);
    launch(c, device, u32(works.size()));
    device += works.size();
  }
}

}  // namespace

void CudaEngine::count(CountWork* device, std::span<const CountJob> jobs) {
  run_by_class(
      u32(classes_.size()), jobs, counts_, device, stream_,
      [](const CountJob& j) {
        return CountWork{j.scores, j.side, u32(j.from), u32(j.until), u32(j.first)};
      },
      [&](uint32_t c, const CountWork* first, uint32_t n) {
        check(count_launch(classes_[c].view, first, n, stream_), "counting votes");
      });
}

void CudaEngine::copy_sides(SideWork* device, std::span<const SideJob> jobs) {
  run_by_class(
      u32(classes_.size()), jobs, sides_, device, stream_,
      [](const SideJob& j) {
        return SideWork{j.scores, j.side, u32(j.first), u32(j.last)};
      },
      [&](uint32_t c, const SideWork* first, uint32_t n) {
        check(side_launch(classes_[c].view, first, n, stream_), "copying scores");
      });
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

// A block of tokens that have aged: all of them from pages.
PackJob CudaEngine::aged_job(const oscar::PackJob& j) const {
  const ClassView& v = classes_[j.layer_class].view;
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
  return job;
}

void CudaEngine::pack(const StepArea& area, std::span<const oscar::PackJob> jobs) {
  run_by_class(
      u32(classes_.size()), jobs, packs_, area.packs, stream_, [&](const oscar::PackJob& j) { return aged_job(j); },
      [&](uint32_t c, const PackJob* first, uint32_t n) {
        pack_blocks(c, first, n, 0, classes_[c].view.n_heads, area.arrivals);
      });
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
