#include "transform/trial.h"

#include "format/bf16.h"
#include "importance/choice.h"
#include "transform/moments.h"

namespace oscar {
namespace {

constexpr size_t kAlignment = 64;

// Rows turned on by `distance` positions, as a cache would hold them there.
std::vector<uint16_t> turned(const uint16_t* rows, uint32_t n, uint32_t dim, const Rope& rope, double distance) {
  std::vector<double> cos_sin(dim), row(dim);
  std::vector<uint16_t> out(uint64_t{n} * dim);
  rope.phases(-distance, cos_sin.data());
  for (uint32_t i = 0; i < n; ++i) {
    for (uint32_t d = 0; d < dim; ++d) row[d] = static_cast<double>(bf16_to_f32(rows[uint64_t{i} * dim + d]));
    rope.undo(cos_sin.data(), row.data());
    for (uint32_t d = 0; d < dim; ++d) out[uint64_t{i} * dim + d] = f32_to_bf16(static_cast<float>(row[d]));
  }
  return out;
}

}  // namespace

Trial::Trial(const Backend& backend, const BlockLayout& layout, uint32_t key_dim, uint32_t value_dim)
    : backend_(backend), layout_(layout), key_dim_(key_dim), value_dim_(value_dim),
      memory_(layout.bytes + backend.scratch_bytes(key_dim, value_dim) + 2 * kAlignment),
      keys_(uint64_t{kBlockTokens} * key_dim), values_(uint64_t{kBlockTokens} * value_dim) {
  const auto aligned = [](uint8_t* p) { return p + (kAlignment - reinterpret_cast<uintptr_t>(p) % kAlignment); };
  block_ = aligned(memory_.data());
  scratch_ = aligned(block_ + layout.bytes - 1);
}

// A block that is not full repeats its rows: they come in equal parts, and the mean stays about theirs.
void Trial::pack(const HeadTransform& transform, bool shaped, const uint16_t* keys, const uint16_t* values,
                 uint32_t n) {
  const float no_votes[kBlockTokens] = {};
  PackWork work;
  work.layout = &layout_;
  work.transform = &transform;
  work.key_dim = key_dim_;
  work.value_dim = value_dim_;
  work.shaped = shaped && transform.metric_root;
  work.block = block_;
  for (uint32_t t = 0; t < kBlockTokens; ++t) {
    work.key[t] = keys + uint64_t{t % n} * key_dim_;
    work.value[t] = values + uint64_t{t % n} * value_dim_;
  }
  slot_order(no_votes, layout_.h, work.order);
  backend_.pack(work, scratch_);
  backend_.unpack(layout_, transform, key_dim_, value_dim_, block_, 0, n, keys_.data(), values_.data(), scratch_);
}

PackingErrors Trial::errors(const HeadTransform& transform, bool shaped, const uint16_t* keys, const uint16_t* values,
                            uint32_t n, const Rope& rope, const std::vector<double>& turns,
                            const std::vector<double>& query_moment) {
  PackingErrors sum{0, 0};
  SecondMoment key_errors(key_dim_);
  std::vector<double> wrong(uint64_t{n} * key_dim_);
  for (size_t i = 0; i <= turns.size(); ++i) {
    std::vector<uint16_t> later;
    if (i > 0) later = turned(keys, n, key_dim_, rope, turns[i - 1]);
    const uint16_t* given = i > 0 ? later.data() : keys;
    pack(transform, shaped, given, values, n);
    for (uint64_t j = 0; j < wrong.size(); ++j)
      wrong[j] = static_cast<double>(keys_[j]) - static_cast<double>(bf16_to_f32(given[j]));
    key_errors.add(wrong.data(), n);
    for (uint64_t j = 0; i == 0 && j < uint64_t{n} * value_dim_; ++j) {
      const double e = static_cast<double>(values_[j]) - static_cast<double>(bf16_to_f32(values[j]));
      sum.values += e * e;
    }
  }
  // E[(e q^T)^2] = tr(E[e^T e] E[q^T q]).
  const std::vector<double> moment = key_errors.mean();
  for (size_t i = 0; i < moment.size(); ++i) sum.keys += moment[i] * query_moment[i];
  return sum;
}

}  // namespace oscar
