// Every instruction set against the others: blocks of any bits are packed to the same bytes, and attention of any
// geometry is that of the double-precision reference.
#include <cmath>
#include <vector>

#include "backend/backend.h"
#include "backends/random_work.h"
#include "fuzz/input.h"

using namespace oscar;
using oscar::fuzz::Input;
using oscar::testing::Geometry;
using oscar::testing::Problem;
using oscar::testing::Random;
using oscar::testing::Result;

namespace {

constexpr uint32_t kDims[] = {64, 80, 96, 128, 192, 256};

struct Aligned {
  std::vector<uint8_t> bytes;
  uint8_t* data;
  Aligned(size_t n, uint8_t fill)
      : bytes(n + 64, fill), data(bytes.data() + (-reinterpret_cast<uintptr_t>(bytes.data()) & 63)) {}
};

// Rows of 128 tokens: their bits come from the input, over and over.
std::vector<uint16_t> rows(Input& in, uint32_t dim) {
  std::vector<uint16_t> bits(kBlockTokens * dim);
  const uint16_t n = static_cast<uint16_t>(1 + in.below(200));
  std::vector<uint16_t> pattern(n);
  for (uint16_t& x : pattern) x = in.take<uint16_t>();
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(pattern[i % n] ^ (i / n % 7));
  return bits;
}

void pack(Input& in) {
  const uint32_t key_dim = in.pick(kDims), value_dim = in.pick(kDims);
  const BlockLayout layout = block_layout({key_dim, value_dim, in.below(129), in.below(3), in.below(3)});
  const auto kind = static_cast<MapKind>(in.below(2));
  HeadTransform transform{};
  transform.key = transform.query = {kind, key_dim, 0, 0, nullptr};
  transform.value = {kind, value_dim, 0, 0, nullptr};
  transform.value_inverse = {kind, value_dim, 1, 0, nullptr};
  PackWork work{&layout, &transform, key_dim, value_dim, false, {}, {}, {}, nullptr};
  float votes[kBlockTokens];
  for (float& v : votes) v = static_cast<float>(in.byte());
  slot_order(votes, layout.h, work.order);
  const std::vector<uint16_t> keys = rows(in, key_dim), values = rows(in, value_dim);
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    work.key[t] = &keys[t * key_dim];
    work.value[t] = &values[t * value_dim];
  }
  std::vector<uint8_t> first;
  for (const BackendEntry& entry : backend_list()) {
    if (!entry.backend) continue;
    Aligned block(layout.bytes, static_cast<uint8_t>(first.size())),
        scratch(entry.backend->scratch_bytes(key_dim, value_dim), 0x5a);
    work.block = block.data;
    entry.backend->pack(work, scratch.data);
    const std::vector<uint8_t> bytes(block.data, block.data + layout.bytes);
    FUZZ_CHECK(first.empty() || bytes == first);
    first = bytes;
  }
}

Geometry geometry(Input& in) {
  constexpr float kSoftcaps[] = {0.0f, 0.0f, 5.0f, 50.0f};
  constexpr uint32_t kPlanes[] = {0, 1, 2, 6};
  constexpr MapKind kMaps[] = {MapKind::kIdentity, MapKind::kHadamard, MapKind::kDense};
  Geometry g{};
  g.key_dim = in.pick(kDims);
  g.value_dim = in.pick(kDims);
  g.group = 1 + in.below(32);
  g.n_new = 1 + in.below(std::min(40u, 96 / g.group));
  g.n_refined = in.below(129);
  g.key_plane = in.pick(kPlanes);
  g.value_plane = in.pick(kPlanes);
  g.n_blocks = in.below(4);
  g.n_sinks = in.below(20);
  g.n_recent = in.below(100);
  g.cut_blocks = in.byte() & 1;
  g.map = in.pick(kMaps);
  const uint32_t n_past = g.n_sinks + g.n_blocks * kBlockTokens + g.n_recent;
  g.window = in.byte() & 1 ? 1 + in.below(n_past + g.n_new) : 0;
  g.tree_mask = g.n_new > 1 && (in.byte() & 1);
  g.sink_logits = in.byte() & 1;
  g.softcap = in.pick(kSoftcaps);
  g.n_voters = in.below(g.n_new + 1);
  return g;
}

// The tolerances of tests/backends/differential.cpp and four times that: a search finds what a draw does not.
constexpr double kTolerance = 4e-3;

void compare(const Problem& problem, const Result& got, const Result& wanted) {
  const AttendWork& work = problem.work();
  for (uint64_t r = 0; r < problem.n_rows(); ++r) {
    double error = 0, norm = 0;
    for (uint32_t d = 0; d < work.value_dim; ++d) {
      const double x = static_cast<double>(wanted.out[r * work.value_dim + d]);
      const double e = static_cast<double>(got.out[r * work.value_dim + d]) - x;
      error += e * e;
      norm += x * x;
    }
    FUZZ_CHECK(std::sqrt(error) <= kTolerance * std::sqrt(norm) + 1e-6);
    FUZZ_CHECK(std::fabs(static_cast<double>(got.lse[r]) - static_cast<double>(wanted.lse[r])) <= kTolerance);
  }
  for (uint32_t v = 0; v < work.n_voters; ++v)
    for (uint64_t j = 0; work.vote_first + j < work.first_position + work.n_new - 1; ++j) {
      const size_t at = v * work.vote_stride + j;
      FUZZ_CHECK(std::fabs(static_cast<double>(got.votes[at]) - static_cast<double>(wanted.votes[at])) <=
                 kTolerance * work.group);
    }
}

void attend(Input& in) {
  const Geometry g = geometry(in);
  Random random(in.take<uint32_t>());
  const Problem problem(g, random, oscar::testing::best_backend());
  const Result wanted = oscar::testing::attend(*backend_list()[0].backend, problem.work());
  for (const BackendEntry& entry : backend_list().subspan(1))
    if (entry.backend) compare(problem, oscar::testing::attend(*entry.backend, problem.work()), wanted);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  input.byte() & 1 ? pack(input) : attend(input);
  return 0;
}
