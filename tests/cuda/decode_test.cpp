// GPU decode attention against the double-precision oracle on random steps: every profile and head dim that is built,
// ragged batches, cuts, windows, masks, sinks, soft caps, all kinds of transforms, every number of CTAs a step can be
// split over. Repeats of a launch must be bit-equal, and so must 16-bit outputs and the rounded 32-bit ones;
// batch-invariant launches over any part of a step; and rows that do not see a NaN or an infinity, with and without it.
//
//   decode_test [n per configuration = 40] [first seed = 0] [one configuration, as in 2bit/128]
//
// Exit status 77 where there is no GPU.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "decode_case.h"

namespace oscar::testing {
namespace {

// Worst row ||out - ref|| / ||ref|| and absolute error of the log-sum-exp: as for the CPU kernels
// (tests/backends/differential.cpp), queries and weights in 16-bit integers.
constexpr double kTolerance = 1e-3;

struct ProfileRow {
  const char* name;
  uint32_t h, key_plane, value_plane;
};
constexpr ProfileRow kProfiles[] = {
    {"2bit", 4, 2, 2}, {"2bit-plain", 0, 0, 0}, {"k3v2", 128, 1, 0}, {"3bit", 128, 1, 1}, {"4bit", 128, 2, 2}};

struct Tally {
  double out = 0.0, lse = 0.0;
  uint64_t out_seed = 0, lse_seed = 0;
  uint32_t n_cases = 0, n_launches = 0, n_failures = 0;

  void fail(const char* what, uint64_t seed) {
    if (++n_failures <= 5) std::printf("FAILED seed %llu: %s\n", static_cast<unsigned long long>(seed), what);
  }
};

uint32_t n_multiprocessors() {
  static const uint32_t n = [] {
    int count = 0;
    check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
    return static_cast<uint32_t>(count);
  }();
  return n;
}

DecodeGeometry random_step(const BlockShape& shape, Random& random, bool is_long) {
  DecodeGeometry g{shape, random.between(1, 3), random.between(1, 8), {}, random.chance(0.3), cuda::Dtype::kF32, 0.0f};
  g.q_dtype = static_cast<cuda::Dtype>(random.below(3));
  Geometry common = random_geometry(random);
  common.key_dim = shape.key_dim;
  common.value_dim = shape.value_dim;
  common.group = g.group;
  common.n_refined = shape.n_refined;
  common.key_plane = shape.key_plane;
  common.value_plane = shape.value_plane;
  common.map = random.pick({0, 1, 1, 2}) == 0 ? MapKind::kIdentity
               : random.chance(0.6)           ? MapKind::kHadamard
                                              : MapKind::kDense;
  const bool has_window = random.chance(0.3), tree = random.chance(0.3);
  uint32_t longest = 0;
  for (uint32_t n = is_long ? 1 : random.between(1, 4); n > 0; --n) {
    Geometry s = common;
    const Geometry other = random_geometry(random);
    s.n_blocks = is_long ? random.between(60, 300) : random.chance(0.2) ? random.between(4, 12) : other.n_blocks;
    s.n_sinks = other.n_sinks;
    s.n_recent = other.n_recent;
    s.n_new = is_long              ? random.between(1, 4)
              : random.chance(0.6) ? random.between(1, 32 / g.group)
                                   : random.between(1, 40);
    s.window = 0;
    longest = std::max(longest, s.n_sinks + s.n_blocks * kBlockTokens + s.n_recent + s.n_new);
    g.sequences.push_back(s);
  }
  const uint32_t window = has_window ? random.between(1, longest) : 0;
  for (Geometry& s : g.sequences) s.window = window, s.tree_mask = tree;
  g.softcap = common.softcap;
  return g;
}

void compare(const std::vector<float>& out, const std::vector<float>& lse, const std::vector<float>& out_ref,
             const std::vector<float>& lse_ref, uint32_t dv, uint64_t seed, Tally& tally) {
  for (size_t r = 0; r < lse.size(); ++r) {
    double error = 0.0, norm = 0.0;
    for (uint32_t d = 0; d < dv; ++d) {
      const double x = static_cast<double>(out_ref[r * dv + d]), e = static_cast<double>(out[r * dv + d]) - x;
      error += e * e;
      norm += x * x;
    }
    const bool is_padding = lse_ref[r] == -INFINITY;
    const double relative = is_padding ? std::sqrt(error) : std::sqrt(error / norm);
    const double off = is_padding ? (lse[r] == -INFINITY ? 0.0 : INFINITY)
                                  : std::fabs(static_cast<double>(lse[r]) - static_cast<double>(lse_ref[r]));
    if (!(relative <= tally.out)) tally.out = relative, tally.out_seed = seed;
    if (!(off <= tally.lse)) tally.lse = off, tally.lse_seed = seed;
  }
}

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

// Split counts to try: all up to the items of a small step, a sample of those of a large one.
std::vector<uint32_t> splits(const DecodeCase& step, Random& random) {
  std::vector<uint32_t> counts{1u << 20};
  const uint32_t most = std::min(step.n_items(), 264u);
  for (uint32_t n = 1; n <= most; n += most <= 24 ? 1 : random.between(1, most / 8)) counts.push_back(n);
  return counts;
}

// Random NaN and infinities in exact rows, keys and values: rows that see them change, the others keep their bits.
void run_non_finite(DecodeCase& step, uint32_t n_split, uint64_t seed, Random& random, Tally& tally) {
  const DecodeGeometry& g = step.geometry();
  const uint32_t sequence = random.below(static_cast<uint32_t>(g.sequences.size())), head = random.below(g.n_kv_heads),
                 dv = g.shape.value_dim;
  std::vector<uint8_t> bytes;
  std::vector<float> lse_before, lse;
  step.run(step.whole(n_split), n_multiprocessors(), bytes, lse_before);
  const std::vector<float> before = as_floats(bytes);
  for (bool is_value : {false, true}) {
    const DecodeCase::ExactRow bad = step.exact_row(sequence, head, is_value, random);
    const uint32_t d = random.below(is_value ? dv : g.shape.key_dim);
    const uint16_t was = bad.elements[d];
    const uint32_t kind = random.below(3);
    bad.elements[d] = kind == 0 ? uint16_t{0x7fc0} : kind == 1 ? uint16_t{0x7f80} : uint16_t{0xff80};
    step.run(step.whole(n_split), n_multiprocessors(), bytes, lse);
    bad.elements[d] = was;
    const std::vector<float> after = as_floats(bytes);
    const uint32_t first_row = step.first_row(sequence), n_new = g.sequences[sequence].n_new;
    for (uint32_t r = 0; r < lse.size(); ++r) {
      const uint32_t row = r / step.n_q_heads(), q_head = r % step.n_q_heads();
      const bool here = row >= first_row && row < first_row + n_new && q_head / g.group == head;
      const bool sees = here && step.sees(sequence, row - first_row, bad.position);
      const float* x = &after[uint64_t{r} * dv];
      if (sees && !is_value) {  // an infinite logit may also be one that weighs nothing
        for (uint32_t e = 0; e < dv; ++e)
          if (kind == 0 && !std::isnan(x[e])) return tally.fail("a key that is NaN left its row finite", seed);
        if (kind == 0 && !std::isnan(lse[r])) tally.fail("a key that is NaN left its log-sum-exp finite", seed);
        continue;
      }
      for (uint32_t e = 0; e < dv; ++e)
        if (sees && e == d ? std::isfinite(x[e])
                           : std::memcmp(&x[e], &before[uint64_t{r} * dv + e], sizeof(float)) != 0)
          return tally.fail("a value that is not finite is not where it should be, or elsewhere", seed);
      if (std::memcmp(&lse[r], &lse_before[r], sizeof(float)) != 0)
        tally.fail("a log-sum-exp changed that should not", seed);
    }
  }
}

// Part of a step, alone and split otherwise, has the bits that it has in the whole step.
void run_invariance(DecodeCase& step, uint64_t seed, Random& random, Tally& tally) {
  const DecodeGeometry& g = step.geometry();
  const uint32_t n_sequences = static_cast<uint32_t>(g.sequences.size()), dv = g.shape.value_dim;
  std::vector<uint8_t> all, part;
  std::vector<float> lse_all, lse_part;
  step.run(step.whole(1u << 20, cuda::Dtype::kF32, true), n_multiprocessors(), all, lse_all);
  for (int repeat = 0; repeat < 3; ++repeat) {
    DecodeLaunch launch = step.whole(random.chance(0.3) ? 1u << 20 : random.between(1, 264), cuda::Dtype::kF32, true);
    launch.first_head = random.below(g.n_kv_heads);
    launch.n_heads = random.between(1, g.n_kv_heads - launch.first_head);
    if (launch.n_heads == 1 && random.chance(0.5)) {
      launch.member = random.below(g.group);
      launch.group = random.between(1, g.group - launch.member);
    }
    for (uint32_t s = 0; s < n_sequences; ++s) {
      if (n_sequences > 1 && random.chance(0.4)) continue;
      Slice slice{s, 0, g.sequences[s].n_new};
      if (!g.sequences[s].tree_mask) {
        slice.first = random.below(slice.n_new);
        slice.n_new = random.between(1, slice.n_new - slice.first);
      }
      launch.slices.push_back(slice);
    }
    if (launch.slices.empty()) launch.slices.push_back({0, 0, g.sequences[0].n_new});
    step.run(launch, n_multiprocessors(), part, lse_part);
    const std::vector<float> x = as_floats(part), y = as_floats(all);
    for (const Slice& slice : launch.slices)
      for (uint32_t i = 0; i < slice.n_new; ++i) {
        const uint64_t row = uint64_t{step.first_row(slice.sequence) + slice.first + i} * step.n_q_heads() +
                             launch.first_head * g.group + launch.member;
        const uint64_t n = launch.n_heads * launch.group;
        if (std::memcmp(&x[row * dv], &y[row * dv], n * dv * sizeof(float)) != 0 ||
            std::memcmp(&lse_part[row], &lse_all[row], n * sizeof(float)) != 0)
          return tally.fail("a row of a batch-invariant step has other bits in part of the step", seed);
      }
    ++tally.n_launches;
  }
}

void run_case(const BlockShape& shape, uint64_t seed, bool is_long, Tally& tally) {
  Random random(seed);
  DecodeCase step(random_step(shape, random, is_long), random);
  std::vector<float> out_ref, lse_ref, lse, lse_again;
  std::vector<uint8_t> out, out_again;
  step.reference(out_ref, lse_ref);
  for (uint32_t n_split : splits(step, random)) {
    step.run(step.whole(n_split), n_multiprocessors(), out, lse);
    compare(as_floats(out), lse, out_ref, lse_ref, shape.value_dim, seed, tally);
    if (!step.counters_clean()) tally.fail("a counter is not zero after the launch", seed);
    ++tally.n_launches;
  }
  const cuda::Dtype dtype = random.chance(0.5) ? cuda::Dtype::kF16 : cuda::Dtype::kBF16;
  for (uint32_t n_split : {1u << 20, (1u << 20) + 1}) {  // all CTAs of both kinds of launch
    for (int repeat = 0; repeat < 2; ++repeat) {
      step.run(step.whole(n_split), n_multiprocessors(), out, lse);
      if (repeat > 0 && (out != out_again || std::memcmp(lse.data(), lse_again.data(), lse.size() * 4) != 0))
        tally.fail("a repeat differs", seed);
      out_again = out;
      lse_again = lse;
    }
    step.run(step.whole(n_split, dtype), n_multiprocessors(), out_again, lse_again);
    if (out_again != rounded(as_floats(out), dtype)) tally.fail("a 16-bit output is not the rounded 32-bit one", seed);
  }
  for (uint32_t n_split : {1u << 20, random.between(1, 264)}) {
    step.run(step.whole(n_split, cuda::Dtype::kF32, true), n_multiprocessors(), out, lse);
    compare(as_floats(out), lse, out_ref, lse_ref, shape.value_dim, seed, tally);
    if (!step.counters_clean()) tally.fail("a counter is not zero after a batch-invariant launch", seed);
  }
  run_invariance(step, seed, random, tally);
  run_non_finite(step, random.between(1, 264), seed, random, tally);
  tally.n_launches += 11;
  ++tally.n_cases;
}

bool run_configuration(const ProfileRow& profile, uint32_t dim, uint32_t n_cases, uint64_t first_seed) {
  const BlockShape shape{dim, dim, profile.h, profile.key_plane, profile.value_plane};
  Tally tally;
  for (uint32_t i = 0; i < n_cases; ++i) run_case(shape, first_seed + i, i % 10 == 9, tally);
  if (!(tally.out <= kTolerance)) tally.fail("output beyond the tolerance", tally.out_seed);
  if (!(tally.lse <= kTolerance)) tally.fail("log-sum-exp beyond the tolerance", tally.lse_seed);
  std::printf("%-10s d %3u  %4u steps %6u launches  worst row %.2e (seed %llu)  worst lse %.2e (seed %llu)  %s\n",
              profile.name, dim, tally.n_cases, tally.n_launches, tally.out,
              static_cast<unsigned long long>(tally.out_seed), tally.lse,
              static_cast<unsigned long long>(tally.lse_seed), tally.n_failures ? "FAILED" : "ok");
  std::fflush(stdout);
  return tally.n_failures == 0;
}

int run_all(uint32_t n_cases, uint64_t first_seed, const std::string& only) {
  int n_devices = 0;
  if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
    std::printf("no CUDA device: nothing was tested\n");
    return 77;
  }
  check_cuda(cuda::attend_prepare(), "attend_prepare");
  bool ok = true;
  int n_run = 0;
  for (uint32_t dim : {128u, 64u, 96u, 192u, 256u})
    for (const ProfileRow& profile : kProfiles) {
      if (!cuda::attend_serves({{dim, dim, profile.h, profile.key_plane, profile.value_plane}, 1, 1})) continue;
      if (!only.empty() && only != profile.name + ("/" + std::to_string(dim))) continue;
      ok = run_configuration(profile, dim, n_cases, first_seed) && ok;
      ++n_run;
    }
  return ok && (n_run == 1 || n_run >= 14) ? 0 : 1;
}

}  // namespace
}  // namespace oscar::testing

int main(int argc, char** argv) {
  const uint32_t n_cases = argc > 1 ? static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10)) : 40;
  const uint64_t first_seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  return oscar::testing::run_all(n_cases, first_seed, argc > 3 ? argv[3] : "");
}
