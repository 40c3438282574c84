// Few long sequences on many threads: the blocks of a head are attended to split by split, before the tasks of
// host_attend.cpp add the splits up. How many splits make a task changes no bit.
#include <algorithm>
#include <span>

#include "backend/host_engine.h"

namespace oscar {

namespace {

uint32_t count_splits(const SequenceView& s) {
  uint32_t n = 0;
  uint64_t last = ~uint64_t{0};
  for (const BlockEntry& b : s.blocks) {
    if (b.start >= s.exact_from) break;
    n += split_of(b.start) != last;
    last = split_of(b.start);
  }
  return n;
}

// The blocks of n splits, from split `first` on.
std::span<const BlockSpan> blocks_of_splits(std::span<const BlockSpan> blocks, uint32_t first, uint32_t n) {
  size_t at = 0;
  const auto skip = [&](uint32_t splits) {
    for (; splits > 0 && at < blocks.size(); --splits)
      for (const uint64_t split = split_of(blocks[at].start);
           at < blocks.size() && split_of(blocks[at].start) == split;)
        ++at;
    return at;
  };
  const size_t begin = skip(first);
  return blocks.subspan(begin, skip(n) - begin);
}

}  // namespace

// Which ranges are computed beforehand: those of one tile. Returns how many splits make a task.
uint32_t HostEngine::plan_splits(const StepView& step, uint32_t layer, uint32_t n_heads) {
  uint64_t total = 0;
  for (AttendRange& range : ranges_) {
    if (range.n > tile_tokens(layer)) continue;
    range.n_splits = count_splits(part_of(step, step.entries[range.entry], layer).sequence);
    total += uint64_t{range.n_splits} * n_heads;
  }
  return static_cast<uint32_t>(total / (2 * kTasksPerThread * pool_.n_threads()) + 1);
}

void HostEngine::attend_splits(const StepView& step, const AttendRequest& r) {
  const uint32_t n_heads = class_of(r.layer).n_kv_heads, per_task = plan_splits(step, r.layer, n_heads);
  const auto tasks_of_head = [&](uint32_t range) { return ceil_div(ranges_[range].n_splits, per_task); };
  uint32_t n_tasks = 0;
  for (uint32_t range = 0; range < ranges_.size(); ++range) n_tasks += tasks_of_head(range) * n_heads;
  pool_.run(n_tasks, [&](uint32_t task, uint32_t thread) {
    uint32_t range = 0;
    for (; task >= tasks_of_head(range) * n_heads; ++range) task -= tasks_of_head(range) * n_heads;
    const uint32_t head = task / tasks_of_head(range), first = task % tasks_of_head(range) * per_task;
    attend_some_splits(step, r, range, head, first, per_task, workers_[thread]);
  });
}

void HostEngine::attend_some_splits(const StepView& step, const AttendRequest& r, uint32_t index, uint32_t head,
                                    uint32_t first, uint32_t n, Worker& worker) {
  const AttendRange& range = ranges_[index];
  const Part p = part_of(step, step.entries[range.entry], r.layer);
  AttendWork work = describe(p, r, head, worker);
  work.first_row = uint64_t{range.first} * work.group;
  work.n_tile_rows = range.n * work.group;
  load_tile(p, r, head, work, worker);
  gather_blocks(p, head, worker);
  const std::span<const BlockSpan> blocks = blocks_of_splits(worker.blocks, first, n);
  work.blocks = blocks.data();
  work.n_blocks = static_cast<uint32_t>(blocks.size());
  const uint64_t stride = partial_floats(round_up(p.c.value_dim, kDimUnit));
  backend_.attend_splits(work, partials_at(index, p.c.n_kv_heads, head) + first * stride, worker.scratch.data);
}

}  // namespace oscar
