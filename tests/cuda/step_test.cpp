// The kernels beside attention (cuda/append.h) against the host engine: random classes and steps over the same arena
// bytes. Rows are byte-identical; votes are within a unit of F16 or 1e-3 of the double computation, and scores with
// them; where votes are exact (flat scenes), and in upkeep and moves, every byte of the arena is the same.
//
//   step_test [rounds = 300] [first seed = 0]
//
// Exit status 77 where there is no GPU.
#include <cstdio>
#include <cstdlib>

#include "step_scene.h"

namespace oscar::testing {

// The host engine's memory is private: an explicit instantiation may name it.
template <auto kScratch, auto kArena>
struct MemoryOf {
  friend auto& scratch_of(HostEngine& engine) { return engine.*kScratch; }
  friend auto& arena_of(HostEngine& engine) { return engine.*kArena; }
};
auto& scratch_of(HostEngine& engine);
auto& arena_of(HostEngine& engine);
template struct MemoryOf<&HostEngine::scratch_, &HostEngine::arena_>;

namespace {

std::vector<uint8_t> arena_bytes(HostEngine& engine) {
  const auto& arena = arena_of(engine);
  return {arena.data, arena.data + arena.size};
}

struct Tally {
  uint64_t n_failures = 0, n_votes = 0, n_scores = 0, n_long = 0, n_flat = 0;
  double worst = 0.0;

  void fail(uint64_t seed, const char* what, uint64_t at, double got, double want) {
    if (++n_failures <= 10)
      std::printf("FAILED seed %llu: %s %llu: got %.9g, want %.9g\n", static_cast<unsigned long long>(seed), what,
                  static_cast<unsigned long long>(at), got, want);
  }
  // Whether two sums of votes agree; unit: what one vote may be off where it is tiny.
  void compare(uint64_t seed, const char* what, uint64_t at, float got, float want, double unit, bool exact) {
    const double a = static_cast<double>(got), b = static_cast<double>(want), off = std::fabs(a - b);
    const double allowed = exact ? 0.0 : std::max(1e-3 * b, unit);
    if (!(off <= allowed)) fail(seed, what, at, a, b);
    if (b > 1e-3) worst = std::max(worst, off / b);
  }
};

// Everything of a scene on the device.
struct DeviceStep {
  StepScene& s;
  DeviceBuffer<uint8_t> arena, k, v, q, mask;
  DeviceBuffer<uint32_t> pages;
  DeviceBuffer<cuda::PartWork> parts;
  DeviceBuffer<float> lse;
  uint64_t n_rows, n_chunk;
  DeviceBuffer<uint16_t> keys, values;
  DeviceBuffer<float> chunk;

  explicit DeviceStep(StepScene& scene)
      : s(scene), arena(s.arena), k(s.k.bytes), v(s.v.bytes), q(s.q.bytes), mask(s.mask), pages(s.page_table),
        parts(s.works), lse(s.lse.size()), n_rows(uint64_t{s.n_rows} * s.c().n_kv_heads), n_chunk(s.sizes.chunk_tokens),
        keys(n_rows * s.c().key_dim), values(n_rows * s.c().value_dim), chunk(n_chunk * s.c().n_kv_heads) {
    keys.fill(0xff);
    values.fill(0xff);
    chunk.fill(0xff);
  }
  cuda::ClassView view() const { return s.class_view(arena.get(), pages.get()); }
  cuda::ScratchView scratch() const { return {keys.get(), values.get(), chunk.get(), n_chunk}; }

  void append(bool dependent) {
    const cuda::AppendArgs a{view(),
                             scratch(),
                             parts.get(),
                             static_cast<uint32_t>(s.works.size()),
                             s.n_rows,
                             StepScene::kLayer * s.c().n_kv_heads,
                             s.k.device(k.get()),
                             s.v.device(v.get())};
    check_cuda(cuda::append_launch(a, dependent, nullptr), "append_launch");
  }
  void vote(bool dependent) {
    lse.upload(s.lse);
    const cuda::VoteArgs a{view(),
                           scratch(),
                           parts.get(),
                           static_cast<uint32_t>(s.works.size()),
                           s.n_rows,
                           StepScene::kLayer * s.c().n_kv_heads,
                           s.group,
                           s.q.device(q.get()),
                           lse.get(),
                           s.lse_stride(),
                           s.has_mask ? mask.get() : nullptr,
                           s.max_new,
                           s.scale,
                           s.softcap,
                           s.c().window};
    check_cuda(cuda::votes_launch(a, dependent, nullptr), "votes_launch");
  }
};

// The votes of one sequence, in the heads of the layer.
void compare_votes(uint64_t seed, const StepScene& s, const StepPart& p, const std::vector<uint8_t>& got,
                   const std::vector<uint8_t>& want, Tally& tally) {
  const VoteLayout& l = s.c().vote_layout;
  for (uint32_t h = 0; h < s.c().n_kv_heads; ++h) {
    const uint64_t at = p.sequence.scores * kUnitAlignment + (StepScene::kLayer * s.c().n_kv_heads + h) * l.bytes();
    const float *a = reinterpret_cast<const float*>(got.data() + at),
                *b = reinterpret_cast<const float*>(want.data() + at);
    for (uint32_t i = 0; i < 2 * l.n_scores; ++i)
      tally.compare(seed, "score", i, a[i], b[i], kMaxVoters * 0x1p-24, s.reference.flat);
    const uint16_t* x = reinterpret_cast<const uint16_t*>(a + 2 * l.n_scores);
    const uint16_t* y = reinterpret_cast<const uint16_t*>(b + 2 * l.n_scores);
    for (uint32_t i = 0; i < l.n_lines * l.n_line; ++i)
      tally.compare(seed, "vote", i, f16_to_f32(x[i]), f16_to_f32(y[i]),
                    std::max(0x1p-24, 0x1p-10 * static_cast<double>(f16_to_f32(y[i]))), s.reference.flat);
    tally.n_votes += l.n_lines * l.n_line;
    tally.n_scores += 2 * l.n_scores;
  }
}

// All bytes of the arena but those votes.
void compare_arena(uint64_t seed, const StepScene& s, std::vector<uint8_t> got, std::vector<uint8_t> want,
                   bool votes_too, const char* what, Tally& tally) {
  const uint64_t bytes = s.c().n_kv_heads * s.c().vote_layout.bytes();
  for (const StepPart& p : s.parts) {
    if (votes_too || !s.c().votes) break;
    const uint64_t at = p.sequence.scores * kUnitAlignment + StepScene::kLayer * bytes;
    std::fill_n(got.begin() + static_cast<int64_t>(at), bytes, uint8_t{0});
    std::fill_n(want.begin() + static_cast<int64_t>(at), bytes, uint8_t{0});
  }
  const auto [a, b] = std::mismatch(got.begin(), got.end(), want.begin());
  if (a != got.end()) tally.fail(seed, what, static_cast<uint64_t>(a - got.begin()), *a, *b);
}

void compare_scratch(uint64_t seed, StepScene& s, HostEngine& host, const DeviceStep& device, Tally& tally) {
  const std::vector<uint16_t> keys = device.keys.download(), values = device.values.download();
  const std::vector<float> chunk = device.chunk.download();
  const auto& scratch = scratch_of(host)[0];
  const LayerClass& c = s.c();
  for (const StepEntry& e : s.entries) {
    if (e.slot == kPaddingSlot) continue;
    const StepPart& p = s.parts[e.classes];
    const auto compare_rows = [&](const std::vector<uint16_t>& got, const uint16_t* want, uint32_t dim) {
      const uint64_t width = c.n_kv_heads * dim;
      for (uint64_t i = e.row * width; i < (e.row + e.n_new) * width; ++i)
        if (got[i] != want[i]) return tally.fail(seed, "scratch row", i / width, got[i], want[i]);
    };
    if (p.uses_scratch) {
      compare_rows(keys, scratch.rows.data(), c.key_dim);
      compare_rows(values, scratch.rows.data() + uint64_t{s.n_rows} * c.n_kv_heads * c.key_dim, c.value_dim);
    }
    if (p.n_blocks == 0 || !c.votes) continue;
    ++tally.n_long;
    for (uint32_t h = 0; h < c.n_kv_heads; ++h)
      for (uint64_t i = p.vote_offset; i < p.vote_offset + (e.end() - p.sequence.packed_end); ++i)
        tally.compare(seed, "chunk vote", i, chunk[h * device.n_chunk + i], scratch.votes[h * s.sizes.chunk_tokens + i],
                      kMaxVoters * 0x1p-24, s.reference.flat);
  }
}

// Counting, sides and moves over the arena as the step left it on the host: bytes equal.
void check_upkeep(uint64_t seed, StepScene& s, Random& random, HostEngine& host, DeviceStep& device, Tally& tally) {
  if (!s.c().votes) return;
  device.arena.upload(arena_bytes(host));
  std::vector<CountJob> counts;
  std::vector<SideJob> sides;
  std::vector<cuda::CountWork> count_works;
  std::vector<cuda::SideWork> side_works;
  for (size_t i = 0; i < s.parts.size(); ++i) {
    const SequenceView& q = s.parts[i].sequence;
    uint64_t base = 0;
    for (const StepEntry& e : s.entries)
      if (e.slot != kPaddingSlot && e.classes == i) base = e.base;
    const uint64_t from = base > s.plan.max_rollback ? base - random.below(s.plan.max_rollback + 1) : 0;
    const uint64_t until = from + random.below(s.plan.max_rollback + 1), last = std::max(base, q.packed_end);
    counts.push_back({0, q.scores, q.side, from, until, q.packed_end});
    sides.push_back({0, q.scores, q.side, q.packed_end, last});
    const auto u32 = [](uint64_t x) { return static_cast<uint32_t>(x); };
    count_works.push_back({q.scores, q.side, u32(from), u32(until), u32(q.packed_end)});
    side_works.push_back({q.scores, q.side, u32(q.packed_end), u32(last)});
  }
  host.upkeep(0, {counts, {}, {}, sides});
  DeviceBuffer<cuda::CountWork> count_jobs(count_works);
  DeviceBuffer<cuda::SideWork> side_jobs(side_works);
  const uint32_t n = static_cast<uint32_t>(counts.size());
  check_cuda(cuda::count_launch(device.view(), count_jobs.get(), n, nullptr), "count_launch");
  check_cuda(cuda::side_launch(device.view(), side_jobs.get(), n, nullptr), "side_launch");
  compare_arena(seed, s, device.arena.download(), arena_bytes(host), true, "byte after upkeep", tally);
  for (size_t i = 0; i < s.entries.size(); ++i) {
    const StepEntry& e = s.entries[i];
    if (e.slot == kPaddingSlot || e.n_new > 2 * s.plan.max_rollback || e.is_long()) continue;
    std::vector<uint32_t> indices;
    for (uint32_t j = 0; j < e.n_new; ++j)
      if (random.chance(0.6)) indices.push_back(j);
    const SequenceView& sequence = s.parts[e.classes].sequence;
    host.move_accepted(0, sequence, e.base, indices);
    DeviceBuffer<uint32_t> device_indices(indices);
    check_cuda(cuda::move_launch({device.view(), s.works[i].page_begin, s.works[i].base, sequence.scores, sequence.side,
                                  device_indices.get(), static_cast<uint32_t>(indices.size())},
                                 nullptr),
               "move_launch");
  }
  compare_arena(seed, s, device.arena.download(), arena_bytes(host), true, "byte after moves", tally);
}

void run_round(uint64_t seed, Tally& tally) {
  Random random(seed);
  StepScene::Shape shape;
  shape.n_entries = random.between(1, 5);
  shape.n_long = random.chance(0.35) ? random.between(1, 2) : 0;
  shape.flat = random.chance(0.35);
  shape.spoiled = !shape.flat && random.chance(0.3);
  StepScene s(shape, random);
  tally.n_flat += shape.flat;
  std::vector<uint8_t> out;
  const std::unique_ptr<HostEngine> host = s.host();
  std::copy(s.arena.begin(), s.arena.end(), arena_of(*host).data);
  DeviceStep device(s);

  host->append(s.view(), StepScene::kLayer, s.k.host(), s.v.host());
  device.append(random.chance(0.5));
  check_cuda(cudaDeviceSynchronize(), "append");
  const std::vector<uint8_t> appended = device.arena.download();
  const std::vector<float> chunk = device.chunk.download();
  compare_arena(seed, s, appended, arena_bytes(*host), true, "byte after append", tally);
  if (s.c().votes) {
    host->attend(s.view(), s.request(out), true);
    device.vote(random.chance(0.5));
    check_cuda(cudaDeviceSynchronize(), "votes");
    const std::vector<uint8_t> voted = device.arena.download(), arena = arena_bytes(*host);
    compare_arena(seed, s, voted, arena, false, "byte after votes", tally);
    for (const StepPart& p : s.parts) compare_votes(seed, s, p, voted, arena, tally);
    compare_scratch(seed, s, *host, device, tally);
    const std::vector<float> chunk_voted = device.chunk.download();
    device.arena.upload(appended);
    device.chunk.upload(chunk);
    device.vote(false);
    compare_arena(seed, s, device.arena.download(), voted, true, "byte of a repeat", tally);
    const std::vector<float> again = device.chunk.download();
    if (!again.empty() && std::memcmp(again.data(), chunk_voted.data(), again.size() * 4) != 0)
      tally.fail(seed, "chunk votes of a repeat", 0, 0, 0);
  } else {
    compare_scratch(seed, s, *host, device, tally);
  }
  check_upkeep(seed, s, random, *host, device, tally);
}

}  // namespace
}  // namespace oscar::testing

int main(int argc, char** argv) {
  using namespace oscar::testing;
  int n_devices = 0;
  if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
    std::printf("no CUDA device: nothing was tested\n");
    return 77;
  }
  const uint64_t n_rounds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 300;
  const uint64_t first_seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  Tally tally;
  for (uint64_t i = 0; i < n_rounds; ++i) run_round(first_seed + i, tally);
  std::printf(
      "%s: %llu rounds (%llu flat, %llu chunks), %llu votes and %llu scores, worst relative %.2e, %llu failures\n",
      tally.n_failures ? "FAILED" : "passed", static_cast<unsigned long long>(n_rounds),
      static_cast<unsigned long long>(tally.n_flat), static_cast<unsigned long long>(tally.n_long),
      static_cast<unsigned long long>(tally.n_votes), static_cast<unsigned long long>(tally.n_scores), tally.worst,
      static_cast<unsigned long long>(tally.n_failures));
  return tally.n_failures != 0 || n_rounds == 0;
}
