// Random attention problems: geometry, transforms, packed blocks, exact rows, queries. All of it follows from the seed.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "attention/work.h"
#include "backend/backend.h"
#include "backend/cpu.h"
#include "format/bf16.h"
#include "importance/choice.h"
#include "transform/hadamard.h"

namespace oscar::testing {

// Counter-based (splitmix64): the n-th number of a seed is the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x1234567u) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(bits() % n); }
  uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }
  bool chance(double p) { return uniform() < p; }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  float normal() {  // Box-Muller
    const double r = std::sqrt(-2.0 * std::log(uniform() + 1e-300));
    return static_cast<float>(r * std::cos(6.283185307179586 * uniform()));
  }
  template <size_t N>
  uint32_t pick(const uint32_t (&choices)[N]) {
    return choices[below(N)];
  }

 private:
  uint64_t state_;
};

// What is drawn at random, unless a test sets it.
struct Geometry {
  uint32_t key_dim, value_dim, group, n_new;
  uint32_t n_refined, key_plane, value_plane;
  uint32_t n_blocks, n_sinks, n_recent;  // exact rows before the blocks, and between the blocks and the new tokens
  bool cut_blocks;
  MapKind map;
  uint32_t window;
  bool tree_mask, sink_logits;
  float softcap;
  uint32_t n_voters;
};

inline Geometry random_geometry(Random& random) {
  Geometry g{};
  g.key_dim = random.pick({64, 80, 96, 128, 192, 256});
  g.value_dim = random.chance(0.6) ? g.key_dim : random.pick({64, 80, 96, 128, 192, 256});
  g.group = random.pick({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 32});
  g.n_new = random.chance(0.5) ? 1 : random.between(1, 40);
  while (g.group * g.n_new > 96) random.chance(0.5) ? g.group = (g.group + 1) / 2 : g.n_new = (g.n_new + 1) / 2;
  if (random.chance(0.03)) g.n_new = 40, g.group = random.between(1, 4);
  g.n_refined = random.pick({0, 1, 2, 3, 4, 4, 4, 5, 7, 8, 9, 16, 23, 32, 40, 64, 100, 127, 128, 128});
  g.key_plane = random.pick({0, 1, 1, 2, 2, 6});
  g.value_plane = random.pick({0, 1, 1, 2, 2, 6});
  g.n_blocks = random.pick({0, 1, 1, 1, 2, 3});
  g.n_sinks = random.pick({0, 4, 4, 17});
  g.n_recent = random.pick({0, 1, 3, 31, 32, 50, 90});
  g.cut_blocks = random.chance(0.4);
  g.map = random.pick({0, 1, 1, 2, 2}) == 0 ? MapKind::kIdentity
          : random.chance(0.5)              ? MapKind::kHadamard
                                            : MapKind::kDense;
  const uint32_t n_past = g.n_sinks + g.n_blocks * kBlockTokens + g.n_recent;
  g.window = random.chance(0.3) ? random.between(1, n_past + g.n_new) : 0;
  g.tree_mask = g.n_new > 1 && random.chance(0.3);
  g.sink_logits = random.chance(0.25);
  g.softcap = random.chance(0.25) ? static_cast<float>(5.0 + 45.0 * random.uniform()) : 0.0f;
  g.n_voters = random.below(g.n_new + 1);
  return g;
}

// F = A D B with reflections A, B: dense, invertible, F^-T = A D^-1 B and F^-1 = B D^-1 A, all without a solver.
struct DenseTransform {
  std::vector<float> forward, inverse_transposed, inverse;

  DenseTransform(Random& random, uint32_t dim) {
    std::vector<double> a(dim), b(dim), d(dim);
    double aa = 0.0, bb = 0.0;
    for (uint32_t i = 0; i < dim; ++i) {
      a[i] = static_cast<double>(random.normal());
      b[i] = static_cast<double>(random.normal());
      d[i] = 0.5 + 1.5 * random.uniform();
      aa += a[i] * a[i];
      bb += b[i] * b[i];
    }
    const auto product = [&](const std::vector<double>& u, double uu, const std::vector<double>& v, double vv,
                             bool inv) {
      // (I - 2 u u^T / uu) D (I - 2 v v^T / vv)
      double udv = 0.0;
      const auto diagonal = [&](uint32_t i) { return inv ? 1.0 / d[i] : d[i]; };
      for (uint32_t i = 0; i < dim; ++i) udv += u[i] * diagonal(i) * v[i];
      std::vector<float> m(uint64_t{dim} * dim);
      for (uint32_t i = 0; i < dim; ++i)
        for (uint32_t j = 0; j < dim; ++j)
          m[uint64_t{i} * dim + j] = static_cast<float>(
              (i == j ? diagonal(i) : 0.0) - 2.0 * u[i] * u[j] * diagonal(j) / uu -
              2.0 * diagonal(i) * v[i] * v[j] / vv + 4.0 * u[i] * udv * v[j] / (uu * vv));
      return m;
    };
    forward = product(a, aa, b, bb, false);
    inverse_transposed = product(a, aa, b, bb, true);
    inverse = product(b, bb, a, aa, true);
  }
};

// A problem with all the memory that its AttendWork points to. Not copyable: the views point inside.
class Problem {
 public:
  Problem(const Geometry& geometry, Random& random, const Backend& packer) : geometry_(geometry) {
    layout_ = block_layout(
        {geometry.key_dim, geometry.value_dim, geometry.n_refined, geometry.key_plane, geometry.value_plane});
    make_transform(random);
    make_tokens(random);
    make_blocks(random, packer);
    make_queries(random);
    make_work(random);
  }
  Problem(const Problem&) = delete;

  const Geometry& geometry() const { return geometry_; }
  const BlockLayout& layout() const { return layout_; }
  const HeadTransform& transform() const { return transform_; }
  const AttendWork& work() const { return work_; }
  uint64_t n_rows() const { return uint64_t{geometry_.n_new} * geometry_.group; }
  uint64_t n_past() const { return geometry_.n_sinks + geometry_.n_blocks * kBlockTokens + geometry_.n_recent; }
  std::vector<float>& queries() { return q_; }
  uint16_t* key(uint64_t token) { return keys_.data() + token * key_stride_; }
  uint16_t* value(uint64_t token) { return values_.data() + token * value_stride_; }
  uint32_t key_stride() const { return key_stride_; }
  uint32_t value_stride() const { return value_stride_; }

 private:
  void make_transform(Random& random) {
    const uint32_t dk = geometry_.key_dim, dv = geometry_.value_dim;
    transform_.key = transform_.query = {geometry_.map, dk, 0, 0, nullptr};
    transform_.value = {geometry_.map, dv, 0, 0, nullptr};
    transform_.value_inverse = {geometry_.map, dv, 1, 0, nullptr};
    if (geometry_.map != MapKind::kDense) return;
    key_map_ = std::make_unique<DenseTransform>(random, dk);
    value_map_ = std::make_unique<DenseTransform>(random, dv);
    transform_.key.matrix = key_map_->forward.data();
    transform_.query.matrix = key_map_->inverse_transposed.data();
    transform_.value.matrix = value_map_->forward.data();
    transform_.value_inverse.matrix = value_map_->inverse.data();
    transform_.value_inverse.transposed = 0;
  }

  // All tokens, packed ones too, as BF16 rows: a key bias, a few outlier channels, some tokens that attention likes and
  // some whose values are nearly zero.
  void make_tokens(Random& random) {
    const uint64_t n = n_past() + geometry_.n_new;
    key_stride_ = geometry_.key_dim + 8 * random.below(3);
    value_stride_ = geometry_.value_dim + 8 * random.below(3);
    keys_.resize(n * key_stride_);
    values_.resize(n * value_stride_);
    std::vector<float> bias(geometry_.key_dim), gain(geometry_.key_dim);
    for (uint32_t d = 0; d < geometry_.key_dim; ++d) {
      bias[d] = random.chance(0.05) ? 4.0f * random.normal() : 0.2f * random.normal();
      gain[d] = random.chance(0.04) ? 6.0f : 1.0f;
    }
    direction_.resize(geometry_.key_dim);
    for (float& x : direction_) x = random.normal();
    for (uint64_t t = 0; t < n; ++t) {
      const float peak = random.chance(0.03) ? 1.5f : 0.0f, size = random.chance(0.05) ? 0.01f : 1.0f;
      for (uint32_t d = 0; d < geometry_.key_dim; ++d)
        key(t)[d] = f32_to_bf16(bias[d] + gain[d] * random.normal() + peak * direction_[d]);
      for (uint32_t d = 0; d < geometry_.value_dim; ++d) value(t)[d] = f32_to_bf16(size * random.normal());
    }
  }

  void make_blocks(Random& random, const Backend& packer) {
    blocks_.resize(geometry_.n_blocks * (layout_.bytes + 64));
    std::vector<uint8_t> scratch(packer.scratch_bytes(geometry_.key_dim, geometry_.value_dim) + 64);
    for (uint32_t b = 0; b < geometry_.n_blocks; ++b) {
      PackWork pack{&layout_, &transform_, geometry_.key_dim, geometry_.value_dim, false, {}, {}, {}, nullptr};
      const uint64_t start = geometry_.n_sinks + b * kBlockTokens;
      float votes[kBlockTokens];
      for (uint32_t i = 0; i < kBlockTokens; ++i) {
        pack.key[i] = key(start + i);
        pack.value[i] = value(start + i);
        votes[i] = static_cast<float>(random.uniform());
      }
      slot_order(votes, layout_.h, pack.order);
      pack.block = aligned(blocks_.data() + b * (layout_.bytes + 64));
      packer.pack(pack, aligned(scratch.data()));
      BlockSpan span{pack.block, start, 0, kBlockTokens};
      if (geometry_.cut_blocks && random.chance(0.5)) span.first = random.below(kBlockTokens);
      if (geometry_.cut_blocks && random.chance(0.5)) span.last = random.between(span.first + 1, kBlockTokens);
      spans_.push_back(span);
    }
  }

  void make_queries(Random& random) {
    q_.resize(n_rows() * geometry_.key_dim);
    for (uint64_t r = 0; r < n_rows(); ++r) {
      const float follow = random.chance(0.5) ? 1.0f : 0.0f;
      for (uint32_t d = 0; d < geometry_.key_dim; ++d)
        q_[r * geometry_.key_dim + d] = random.normal() + follow * direction_[d];
    }
    sinks_.resize(geometry_.group);
    for (float& s : sinks_) s = 3.0f * random.normal();
    mask_stride_ = geometry_.n_new + random.below(3);
    mask_.resize(geometry_.n_new * mask_stride_);
    for (uint8_t& m : mask_) m = random.chance(0.5);
  }

  void add_rows(Random& random, uint64_t begin, uint64_t end) {
    while (begin < end) {
      const uint32_t n = random.between(1, static_cast<uint32_t>(end - begin));
      rows_.push_back({key(begin), value(begin), begin, n, key_stride_, value_stride_});
      begin += n;
    }
  }

  void make_work(Random& random) {
    add_rows(random, 0, geometry_.n_sinks);
    add_rows(random, geometry_.n_sinks + geometry_.n_blocks * kBlockTokens, n_past() + geometry_.n_new);
    AttendWork& w = work_;
    w = {};
    w.layout = &layout_;
    w.transform = &transform_;
    w.key_dim = geometry_.key_dim;
    w.value_dim = geometry_.value_dim;
    w.group = geometry_.group;
    w.n_new = geometry_.n_new;
    w.first_position = n_past();
    w.window = geometry_.window;
    w.scale = static_cast<float>((0.3 + 0.9 * random.uniform()) / std::sqrt(geometry_.key_dim));
    w.softcap = geometry_.softcap;
    w.sink_logits = geometry_.sink_logits ? sinks_.data() : nullptr;
    w.mask = geometry_.tree_mask ? mask_.data() : nullptr;
    w.mask_stride = mask_stride_;
    w.blocks = spans_.data();
    w.n_blocks = geometry_.n_blocks;
    w.rows = rows_.data();
    w.n_rows = static_cast<uint32_t>(rows_.size());
    w.q = q_.data();
    w.n_voters = geometry_.n_voters;
    w.vote_first = n_past() - (geometry_.n_recent ? random.below(geometry_.n_recent + 1) : 0);
    w.vote_stride = n_past() + geometry_.n_new - w.vote_first + random.below(4);
  }

  static uint8_t* aligned(uint8_t* p) { return p + (-reinterpret_cast<uintptr_t>(p) & 63); }

  Geometry geometry_;
  BlockLayout layout_;
  HeadTransform transform_;
  std::unique_ptr<DenseTransform> key_map_, value_map_;
  uint32_t key_stride_ = 0, value_stride_ = 0;
  uint64_t mask_stride_ = 0;
  std::vector<uint16_t> keys_, values_;
  std::vector<float> direction_, q_, sinks_;
  std::vector<uint8_t> mask_, blocks_;
  std::vector<BlockSpan> spans_;
  std::vector<RowSpan> rows_;
  AttendWork work_{};
};

struct Result {
  std::vector<float> out, lse, votes;
};

// Runs a backend on all rows, in tiles. Outputs start as a number that no test expects, so that what is not written
// shows.
inline Result attend(const Backend& backend, AttendWork work) {
  const uint64_t n_rows = uint64_t{work.n_new} * work.group;
  Result result{std::vector<float>(n_rows * work.value_dim, -12345.0f), std::vector<float>(n_rows, -12345.0f),
                std::vector<float>(work.n_voters * work.vote_stride, 0.0f)};
  work.votes = result.votes.data();
  std::vector<uint8_t> scratch(backend.scratch_bytes(work.key_dim, work.value_dim) + 64, uint8_t{0xff});
  const float* q = work.q;
  const uint64_t most = &backend == &reference_backend() ? n_rows : kTileRows;  // the oracle is slow to begin
  for (uint64_t row = 0; row < n_rows; row += work.n_tile_rows) {
    work.first_row = row;
    work.n_tile_rows = static_cast<uint32_t>(std::min(most, n_rows - row));
    work.q = q + row * work.key_dim;
    work.out = result.out.data() + row * work.value_dim;
    work.lse = result.lse.data() + row;
    backend.attend(work, scratch.data() + (-reinterpret_cast<uintptr_t>(scratch.data()) & 63));
  }
  return result;
}

inline const Backend& best_backend() {
  const Backend* best = nullptr;
  for (const BackendEntry& entry : backend_list())
    if (entry.backend) best = entry.backend;
  return *best;
}

}  // namespace oscar::testing
