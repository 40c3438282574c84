// Prefill attention on the GPU against the double-precision oracle on random steps of every geometry: head dims of keys
// and values apart, groups of 1 .. 32, ragged batches, long chunks, cut blocks, windows, masks, sinks, soft caps, all kinds
// of transforms, with and without splits. Repeats must be bit-equal, 16-bit outputs the rounded 32-bit ones, and what is
// not finite must reach the rows that see it only.
//
//   prefill_test [n = 320] [first seed = 0]
//
// Exit status 77 where there is no GPU.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>

#include "prefill_case.h"

namespace oscar::testing {
namespace {

// Worst row ||out - ref|| / ||ref|| and absolute error of the log-sum-exp.
constexpr double kTolerance = 1e-3;

struct Tally {
  double out = 0.0, lse = 0.0;
  uint64_t out_seed = 0, lse_seed = 0;
  uint32_t n_cases = 0, n_launches = 0, n_failures = 0, n_bad = 0;

  void fail(const char* what, uint64_t seed) {
    if (++n_failures <= 10) std::printf("FAILED seed %llu: %s\n", static_cast<unsigned long long>(seed), what);
  }
};

PrefillGeometry random_step(Random& random, uint64_t seed) {
  Geometry common = random_geometry(random);
  for (uint32_t* plane : {&common.key_plane, &common.value_plane})
    if (*plane > 2) *plane = 2;  // codes of 8 bits are the CPU's: plans with them are refused for a device
  const bool is_long = seed % 8 == 7, is_wide = seed % 4 >= 2;  // the kernel for wide tiles serves few geometries
  if (is_wide) common.key_dim = common.value_dim = 128, common.softcap = 0.0f;
  PrefillGeometry g{{common.key_dim, common.value_dim, common.n_refined, common.key_plane, common.value_plane},
                    random.between(1, 3),
                    common.group,
                    {},
                    {},
                    random.chance(0.3),
                    random.chance(0.2),
                    static_cast<cuda::Dtype>(random.below(3))};
  const bool has_window = random.chance(is_wide ? 0.05 : 0.3), tree = random.chance(0.3),
             without_blocks = random.chance(0.15);
  const uint32_t most_rows = is_long ? 512 : 160;
  uint32_t longest = 0;
  for (uint32_t n = is_long ? 1 : random.between(1, 4); n > 0; --n) {
    Geometry s = common;
    const Geometry other = random_geometry(random);
    s.n_blocks = without_blocks ? 0 : random.chance(0.1) ? random.between(4, is_wide ? 20 : 9) : other.n_blocks;
    s.n_sinks = other.n_sinks;
    s.n_recent = other.n_recent;
    const uint32_t most = std::max(1u, most_rows / s.group);
    s.n_new = random.chance(0.25) ? 1 : random.between(is_long ? (most + 1) / 2 : 1, most);
    s.window = 0;
    longest = std::max(longest, s.n_sinks + s.n_blocks * kBlockTokens + s.n_recent + s.n_new);
    g.sequences.push_back(s);
    g.uses_scratch.push_back(random.chance(0.5));
  }
  const uint32_t window = has_window ? random.between(1, longest) : 0;
  for (Geometry& s : g.sequences) s.window = window, s.tree_mask = tree;
  return g;
}

struct PreparedCase {
  Random random;
  PrefillCase step;
  std::vector<float> out, lse;  // the oracle's

  explicit PreparedCase(uint64_t seed) : random(seed), step(random_step(random, seed), random) {
    step.reference(out, lse);
  }
};

std::vector<float> as_floats(const std::vector<uint8_t>& bytes) {
  std::vector<float> x(bytes.size() / 4);
  std::memcpy(x.data(), bytes.data(), bytes.size());
  return x;
}

std::vector<uint8_t> rounded(const std::vector<float>& x, cuda::Dtype dtype) {
  std::vector<uint8_t> bytes(x.size() * 2);
  for (size_t i = 0; i < x.size(); ++i) {
    const _Float16 half = static_cast<_Float16>(x[i]);
    const uint16_t brain = f32_to_bf16(x[i]);
    std::memcpy(bytes.data() + 2 * i, dtype == cuda::Dtype::kF16 ? static_cast<const void*>(&half) : &brain, 2);
  }
  return bytes;
}

void compare(const std::vector<float>& out, const std::vector<float>& lse, const PreparedCase& c, uint64_t seed,
             Tally& tally) {
  const uint32_t dv = c.step.geometry().shape.value_dim;
  for (size_t r = 0; r < lse.size(); ++r) {
    double error = 0.0, norm = 0.0;
    for (uint32_t d = 0; d < dv; ++d) {
      const double x = static_cast<double>(c.out[r * dv + d]), e = static_cast<double>(out[r * dv + d]) - x;
      error += e * e;
      norm += x * x;
    }
    const bool is_padding = c.lse[r] == -INFINITY;
    const double relative = is_padding ? std::sqrt(error) : std::sqrt(error / norm);
    const double off = is_padding ? (lse[r] == -INFINITY ? 0.0 : INFINITY)
                                  : std::fabs(static_cast<double>(lse[r]) - static_cast<double>(c.lse[r]));
    if (!(relative <= tally.out)) tally.out = relative, tally.out_seed = seed;
    if (!(off <= tally.lse)) tally.lse = off, tally.lse_seed = seed;
  }
}

// A new token whose key or value is not finite: rows that see it are spoilt, the others keep their bits.
void check_bad_token(PreparedCase& c, uint32_t n_sm, const std::vector<float>& out, const std::vector<float>& lse,
                     uint64_t seed, Tally& tally) {
  const PrefillGeometry& g = c.step.geometry();
  BadToken bad{c.random.below(static_cast<uint32_t>(g.sequences.size())), 0, c.random.chance(0.5),
               static_cast<uint16_t>(0x7fc0)};
  if (!bad.is_key && c.random.chance(0.5)) bad.bits = 0xff80;  // minus infinity
  bad.token = c.random.below(g.sequences[bad.sequence].n_new);
  std::vector<uint8_t> bytes;
  std::vector<float> spoilt_lse;
  c.step.run(n_sm, cuda::Dtype::kF32, &bad, bytes, spoilt_lse);
  const std::vector<float> spoilt = as_floats(bytes);
  const uint32_t dv = g.shape.value_dim, first = c.step.first_row(bad.sequence), n_heads = c.step.n_q_heads();
  for (uint32_t r = 0; r < lse.size(); ++r) {
    const uint32_t row = r / n_heads;
    const bool is_own = row >= first && row < first + g.sequences[bad.sequence].n_new;
    const float *was = &out[uint64_t{r} * dv], *is = &spoilt[uint64_t{r} * dv];
    if (!is_own || !c.step.sees(bad.sequence, row - first, bad.token)) {
      if (std::memcmp(was, is, dv * 4) != 0 || std::memcmp(&lse[r], &spoilt_lse[r], 4) != 0)
        return tally.fail("a bad token reached a row that does not see it", seed);
      continue;
    }
    uint32_t n_finite = 0;
    for (uint32_t d = 0; d < dv; ++d) n_finite += std::isfinite(is[d]);
    if (bad.is_key ? n_finite > 0 || !std::isnan(spoilt_lse[r]) : n_finite != dv - 1 || spoilt_lse[r] != lse[r])
      return tally.fail("a bad token did not reach a row that sees it", seed);
  }
  ++tally.n_bad;
}

void run_case(PreparedCase& c, uint32_t n_sm, uint64_t seed, Tally& tally) {
  std::vector<uint8_t> out, again;
  std::vector<float> lse, lse_again;
  for (uint32_t n : {1u, n_sm, c.random.between(2, 60)}) {  // without splits, with many, with few
    c.step.run(n, cuda::Dtype::kF32, nullptr, out, lse);
    compare(as_floats(out), lse, c, seed, tally);
    ++tally.n_launches;
  }
  c.step.is_hopper = false;
  c.step.run(n_sm, cuda::Dtype::kF32, nullptr, out, lse);
  compare(as_floats(out), lse, c, seed, tally);
  c.step.is_hopper = true;
  const uint32_t n = c.random.chance(0.5) ? 1 : n_sm;
  c.step.run(n, cuda::Dtype::kF32, nullptr, out, lse);
  c.step.run(n, cuda::Dtype::kF32, nullptr, again, lse_again);
  if (out != again || std::memcmp(lse.data(), lse_again.data(), lse.size() * 4) != 0)
    tally.fail("a repeat differs", seed);
  const cuda::Dtype dtype = c.random.chance(0.5) ? cuda::Dtype::kF16 : cuda::Dtype::kBF16;
  c.step.run(n, dtype, nullptr, again, lse_again);
  if (again != rounded(as_floats(out), dtype)) tally.fail("a 16-bit output is not the rounded 32-bit one", seed);
  check_bad_token(c, n, as_floats(out), lse, seed, tally);
  tally.n_launches += 5;
  ++tally.n_cases;
}

// Tile numbers ascend, do not overlap and leave room for all tiles.
bool plan_is_right() {
  Random random(7);
  for (int n = 0; n < 2000; ++n) {
    const uint32_t group = random.between(1, 32), n_parts = random.between(1, 20);
    uint32_t row = 0, end = 0;
    for (uint32_t p = 0; p < n_parts; ++p) {
      const uint32_t n_new = random.chance(0.2) ? 0 : random.between(1, random.chance(0.2) ? 3000 : 30);
      const uint32_t begin = cuda::tile_begin(row, p, group, cuda::kTileRows);
      if (begin < end || (p > 0 && begin == cuda::tile_begin(row, p - 1, group, cuda::kTileRows))) return false;
      end = begin + ceil_div(n_new * group, cuda::kTileRows);
      row += n_new;
    }
    if (end > cuda::n_tile_numbers(row, n_parts, group, cuda::kTileRows)) return false;
    const uint32_t n_splits = random.between(1, 128), n_items = random.below(100000);
    if (cuda::split_cut(n_items, 0, n_splits) != 0 || cuda::split_cut(n_items, n_splits, n_splits) != n_items)
      return false;
    const uint32_t n_tiles = random.between(1, 300), heads = random.between(1, 16), sm = random.between(1, 132);
    const uint32_t tile_rows = random.chance(0.5) ? cuda::kTileRows : cuda::kWideTileRows;
    if (const uint32_t k = cuda::prefill_splits(n_tiles, heads, tile_rows, sm);
        k == 0 || (k > 1 && k * n_tiles * heads * tile_rows > sm * cuda::kSplitRowsPerMultiprocessor))
      return false;
  }
  return true;
}

int run_all(uint32_t n_cases, uint64_t first_seed) {
  if (!plan_is_right()) {
    std::printf("FAILED: tiles of a step\n");
    return 1;
  }
  int n_devices = 0, n_sm = 0;
  if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
    std::printf("no CUDA device: only the plan was tested\n");
    return 77;
  }
  check_cuda(cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
  check_cuda(cuda::prefill_prepare(true), "prefill_prepare");
  const uint32_t n_workers = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::future<std::unique_ptr<PreparedCase>>> ahead(n_cases);  // the oracle is slow: on all cores
  const auto prepare = [&](uint32_t i) {
    if (i < n_cases)
      ahead[i] = std::async(std::launch::async, [=] { return std::make_unique<PreparedCase>(first_seed + i); });
  };
  Tally tally;
  for (uint32_t i = 0; i < n_workers; ++i) prepare(i);
  for (uint32_t i = 0; i < n_cases; ++i) {
    const std::unique_ptr<PreparedCase> c = ahead[i].get();
    prepare(i + n_workers);
    run_case(*c, static_cast<uint32_t>(n_sm), first_seed + i, tally);
  }
  if (!(tally.out <= kTolerance)) tally.fail("output beyond the tolerance", tally.out_seed);
  if (!(tally.lse <= kTolerance)) tally.fail("log-sum-exp beyond the tolerance", tally.lse_seed);
  std::printf("%u steps %u launches %u bad tokens  worst row %.2e (seed %llu)  worst lse %.2e (seed %llu)  %s\n",
              tally.n_cases, tally.n_launches, tally.n_bad, tally.out, static_cast<unsigned long long>(tally.out_seed),
              tally.lse, static_cast<unsigned long long>(tally.lse_seed), tally.n_failures ? "FAILED" : "ok");
  return tally.n_failures == 0 && n_cases > 0 ? 0 : 1;
}

}  // namespace
}  // namespace oscar::testing

int main(int argc, char** argv) {
  const uint32_t n_cases = argc > 1 ? static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10)) : 320;
  return oscar::testing::run_all(n_cases, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
}
