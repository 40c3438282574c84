#include "transform/moments.h"

#include <Eigen/Dense>
#include <algorithm>

#include "format/block.h"

namespace oscar {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr uint64_t kChunk = 128;  // rows that are in double precision at a time

// Rows of a rank update whose packed operands Eigen keeps on the stack: more would be allocated, and could fail.
constexpr uint64_t stack_rows(uint32_t dim) {
  return std::min<uint64_t>(kChunk, EIGEN_STACK_ALLOCATION_LIMIT / (dim * sizeof(double)));
}
static_assert(stack_rows(kMaxHeadDim) >= 64);

}  // namespace

MomentScratch::MomentScratch(uint32_t key_dim, uint32_t value_dim)
    : rows(kChunk * std::max(key_dim, value_dim)), phases(kChunk * key_dim), mean(key_dim),
      loaded(std::max(key_dim, value_dim)) {}

void SecondMoment::add(const double* rows, uint64_t n) {
  Eigen::Map<Matrix> sum(sum_.data(), dim_, dim_);
  for (uint64_t first = 0, count; first < n; first += count) {
    count = std::min(stack_rows(dim_), n - first);
    const Eigen::Map<const Matrix> x(rows + first * dim_, static_cast<Eigen::Index>(count), dim_);
    sum.selfadjointView<Eigen::Lower>().rankUpdate(x.transpose());
  }
  n_rows_ += n;
}

void SecondMoment::subtract(const SecondMoment& part) {
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] -= part.sum_[i];
  n_rows_ -= part.n_rows_;
}

std::vector<double> SecondMoment::mean() const {
  std::vector<double> full(sum_.size());
  for (uint64_t i = 0; i < dim_; ++i)
    for (uint64_t j = 0; j <= i; ++j)
      full[i * dim_ + j] = full[j * dim_ + i] = sum_[i * dim_ + j] / static_cast<double>(n_rows_);
  return full;
}

LayerMoments::LayerMoments(const LayerGeometry& geometry, const Rope& rope, uint64_t n_sink)
    : geometry_(geometry), rope_(rope), n_sink_(n_sink),
      open_keys_(uint64_t{geometry.n_kv_heads} * kBlockTokens * geometry.key_dim) {
  heads_.reserve(geometry.n_kv_heads);
  for (uint32_t h = 0; h < geometry.n_kv_heads; ++h)
    heads_.push_back(
        {SecondMoment(geometry.key_dim), SecondMoment(geometry.key_dim), SecondMoment(geometry.value_dim)});
}

void add_query_rows(uint64_t first_position, uint64_t n, uint32_t n_kv_heads, uint32_t group, const Rope& rope,
                    const RowLoader& q, uint64_t n_skipped, const MomentOfHead& at, MomentScratch& scratch) {
  const uint32_t dim = rope.dim();
  double *rows = scratch.rows.data(), *cos_sin = scratch.phases.data();
  const uint64_t skipped = first_position < n_skipped ? std::min(n, n_skipped - first_position) : 0;
  for (uint64_t first = skipped; first < n; first += kChunk) {
    const uint64_t count = std::min(kChunk, n - first);
    for (uint64_t i = 0; i < count; ++i)
      rope.phases(static_cast<double>(first_position + first + i), &cos_sin[i * dim]);
    for (uint32_t head = 0; head < n_kv_heads * group; ++head) {
      for (uint64_t i = 0; i < count; ++i) {
        q(first + i, head, scratch.loaded.data());
        std::copy_n(scratch.loaded.data(), dim, &rows[i * dim]);
        rope.undo(&cos_sin[i * dim], &rows[i * dim]);
      }
      at(head / group).add(rows, count);
    }
  }
}

void LayerMoments::add_queries(uint64_t first_position, uint64_t n, uint32_t group, const Rope& rope,
                               const RowLoader& q, MomentScratch& scratch) {
  add_query_rows(
      first_position, n, geometry_.n_kv_heads, group, rope, q, n_sink_,
      [this](uint32_t head) -> SecondMoment& { return heads_[head].query; }, scratch);
}

void LayerMoments::add_tokens(uint64_t first_position, uint64_t n, const RowLoader& k, const RowLoader& v,
                              MomentScratch& scratch) {
  if (first_position != next_position_) end_sequence(scratch);
  const uint32_t key_dim = geometry_.key_dim, value_dim = geometry_.value_dim;
  next_position_ = first_position + n;
  end_position_ = std::max(end_position_, next_position_);
  const uint64_t skipped = first_position < n_sink_ ? std::min(n, n_sink_ - first_position) : 0;
  for (uint64_t first = skipped, count; first < n; first += count) {
    count = std::min<uint64_t>(kBlockTokens - n_open_, n - first);
    for (uint32_t head = 0; head < geometry_.n_kv_heads; ++head) {
      for (uint64_t i = 0; i < count; ++i) {
        k(first + i, head, &open_keys_[(uint64_t{head} * kBlockTokens + n_open_ + i) * key_dim]);
        v(first + i, head, scratch.loaded.data());
        std::copy_n(scratch.loaded.data(), value_dim, &scratch.rows[i * value_dim]);
      }
      heads_[head].value.add(scratch.rows.data(), count);
    }
    n_open_ += static_cast<uint32_t>(count);
    if (n_open_ < kBlockTokens) continue;
    next_position_ = first_position + first + count;  // where the block ends
    add_open_block(heads_, scratch);
    n_open_ = 0;
    next_position_ = first_position + n;
  }
}

void LayerMoments::end_sequence(MomentScratch& scratch) {
  add_open_block(heads_, scratch);
  n_open_ = 0;
}

uint64_t LayerMoments::heap_bytes(const LayerGeometry& g) {
  const uint64_t key = uint64_t{g.key_dim} * g.key_dim, value = uint64_t{g.value_dim} * g.value_dim;
  return g.n_kv_heads * (sizeof(HeadMoments) + (2 * key + value) * sizeof(double) +
                         uint64_t{kBlockTokens} * g.key_dim * sizeof(float)) +
         Rope::heap_bytes(g.key_dim);
}

void LayerMoments::add_open_block(std::vector<HeadMoments>& heads, MomentScratch& scratch) const {
  if (n_open_ < kLeastOpenTokens) return;
  const uint32_t dim = geometry_.key_dim;
  // The mean of the block's positions: n_open_ consecutive ones that end before next_position_.
  rope_.phases(static_cast<double>(next_position_) - (n_open_ + 1) / 2.0, scratch.phases.data());
  Eigen::Map<Matrix> keys(scratch.rows.data(), n_open_, dim);
  Eigen::Map<Eigen::RowVectorXd> mean(scratch.mean.data(), dim);
  for (uint32_t head = 0; head < geometry_.n_kv_heads; ++head) {
    const float* from = &open_keys_[uint64_t{head} * kBlockTokens * dim];
    for (uint32_t i = 0; i < n_open_; ++i)
      for (uint32_t d = 0; d < dim; ++d) keys(i, d) = static_cast<double>(from[i * dim + d]);
    mean = keys.colwise().mean();
    keys.rowwise() -= mean;
    for (uint32_t i = 0; i < n_open_; ++i) rope_.undo(scratch.phases.data(), keys.row(i).data());
    heads[head].key.add(keys.data(), n_open_);
  }
}

std::vector<HeadMoments> LayerMoments::heads() const {
  MomentScratch scratch(geometry_.key_dim, geometry_.value_dim);
  std::vector<HeadMoments> all = heads_;
  add_open_block(all, scratch);
  return all;
}

}  // namespace oscar
