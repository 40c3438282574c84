#include "transform/self_calibrator.h"

#include <algorithm>
#include <cmath>

#include "format/bf16.h"
#include "format/error.h"
#include "transform/calibration_build.h"

namespace oscar {
namespace {

// One block in four is held out, the second one first: a sequence of two blocks has one to learn from and one to test
// with. Sequences differ in which, so that many short ones are split too.
constexpr uint64_t kHoldOutEvery = 4, kFirstHeldOut = 1;

unsigned long long number(uint64_t n) { return n; }

// Two words, which std::function holds without memory of its own: `rows` is borrowed.
RowLoader finite(const RowLoader& rows, uint32_t dim) {
  return [&rows, dim](uint64_t row, uint32_t head, float* to) {
    rows(row, head, to);
    for (uint32_t d = 0; d < dim; ++d)
      if (!std::isfinite(to[d])) to[d] = 0.0f;
  };
}

// Row i of head h of values [n_heads][n][dim].
RowLoader loader(const std::vector<float>& values, uint32_t n, uint32_t dim) {
  return [&values, n, dim](uint64_t row, uint32_t head, float* to) {
    std::copy_n(&values[(uint64_t{head} * n + row) * dim], dim, to);
  };
}

// The same of BF16 values [n_heads][128][dim].
RowLoader loader(const std::vector<uint16_t>& values, uint32_t dim) {
  return [&values, dim](uint64_t row, uint32_t head, float* to) {
    const uint16_t* from = &values[(uint64_t{head} * kBlockTokens + row) * dim];
    for (uint32_t d = 0; d < dim; ++d) to[d] = bf16_to_f32(from[d]);
  };
}

// Calls solve; whether a transform came of it that can be used.
template <class Solve>
bool solves(const LayerGeometry& g, HeadMatrices& matrices, Solve&& solve) {
  try {
    solve(matrices);
    LayerMatrices one{
        {1, g.key_dim, g.value_dim}, matrices.key_transform, matrices.query_moment, matrices.value_transform};
    Calibration::from_matrices({&one, 1});
    return true;
  } catch (const Error& error) {
    if (error.status() != Status::kInvalid) throw;
    matrices = {};
    return false;
  }
}

}  // namespace

SelfCalibrator::SelfCalibrator(CalibratorConfig config) : config_(std::move(config)) {
  layers_.reserve(config_.layers.size());
  for (uint32_t l = 0; l < config_.layers.size(); ++l) {
    const CalibratorLayer& given = config_.layers[l];
    const LayerGeometry& g = given.geometry;
    auto& layer = layers_.emplace_back();
    if (given.kv_source != l || given.exact) continue;
    layer.emplace(Layer{LayerMoments(g, given.rope, config_.n_sink), {}});
    layer->held_out.keys.resize(uint64_t{g.n_kv_heads} * kBlockTokens * g.key_dim);
    layer->held_out.values.resize(uint64_t{g.n_kv_heads} * kBlockTokens * g.value_dim);
    layer->held_out.queries.assign(g.n_kv_heads, SecondMoment(g.key_dim));
  }
}

uint64_t SelfCalibrator::bytes(const CalibratorConfig& config) {
  uint64_t bytes = sizeof(SelfCalibrator);
  for (uint32_t l = 0; l < config.layers.size(); ++l) {
    const CalibratorLayer& layer = config.layers[l];
    const LayerGeometry& g = layer.geometry;
    bytes += sizeof(std::optional<Layer>) + sizeof(CalibratorLayer) + Rope::heap_bytes(g.key_dim);
    if (layer.kv_source != l || layer.exact) continue;
    bytes += LayerMoments::heap_bytes(g) +
             g.n_kv_heads * (kBlockTokens * (g.key_dim + g.value_dim) * sizeof(uint16_t) + sizeof(SecondMoment) +
                             uint64_t{g.key_dim} * g.key_dim * sizeof(double));
  }
  return bytes;
}

bool SelfCalibrator::is_held_out(uint64_t sequence, uint64_t position) const {
  return position >= config_.n_sink &&
         ((position - config_.n_sink) / kBlockTokens + sequence) % kHoldOutEvery == kFirstHeldOut;
}

CollectScratch SelfCalibrator::scratch() const {
  uint32_t key_dim = 1, value_dim = 1;
  size_t keys = 0, values = 0;
  for (const CalibratorLayer& layer : config_.layers) {
    const LayerGeometry& g = layer.geometry;
    key_dim = std::max(key_dim, g.key_dim);
    value_dim = std::max(value_dim, g.value_dim);
    keys = std::max(keys, size_t{g.n_kv_heads} * kBlockTokens * g.key_dim);
    values = std::max(values, size_t{g.n_kv_heads} * kBlockTokens * g.value_dim);
  }
  CollectScratch scratch{MomentScratch(key_dim, value_dim), {}};
  scratch.rows.keys.reserve(keys);
  scratch.rows.values.reserve(values);
  return scratch;
}

void SelfCalibrator::add_queries(uint32_t index, uint64_t sequence, uint64_t first_position, uint64_t n,
                                 const RowLoader& given, MomentScratch& scratch) {
  const CalibratorLayer& layer = config_.layers[index];
  auto& source = layers_[layer.kv_source];
  if (!source) return;
  const LayerGeometry& g = layer.geometry;
  const uint32_t group = layer.n_q_heads / g.n_kv_heads;
  const RowLoader q = finite(given, g.key_dim);
  source->moments.add_queries(first_position, n, group, layer.rope, q, scratch);
  // The runs of tokens that are held out.
  for (uint64_t row = 0; row < n;) {
    uint64_t end = row;
    while (end < n && is_held_out(sequence, first_position + end)) ++end;
    if (end > row)
      add_query_rows(
          first_position + row, end - row, g.n_kv_heads, group, layer.rope,
          [&q, row](uint64_t i, uint32_t head, float* to) { q(row + i, head, to); }, config_.n_sink,
          [&source](uint32_t head) -> SecondMoment& { return source->held_out.queries[head]; }, scratch);
    row = end + 1;
  }
}

void SelfCalibrator::add_rows(uint32_t index, const CollectedRows& rows, MomentScratch& scratch) {
  if (layers_[index]) add_rows(*layers_[index], config_.layers[index].geometry, rows, scratch);
}

void SelfCalibrator::add_rows(Layer& layer, const LayerGeometry& g, const CollectedRows& rows,
                              MomentScratch& scratch) const {
  const RowLoader given_k = loader(rows.keys, rows.n, g.key_dim), given_v = loader(rows.values, rows.n, g.value_dim);
  const RowLoader k = finite(given_k, g.key_dim), v = finite(given_v, g.value_dim);
  HeldOut& held_out = layer.held_out;
  if (is_held_out(rows.sequence, rows.first_position) && rows.n >= held_out.n) {
    held_out.first_position = rows.first_position;
    held_out.n = rows.n;
    float* row = scratch.loaded.data();
    const auto keep = [&](const RowLoader& from, uint32_t dim, std::vector<uint16_t>& to) {
      for (uint32_t head = 0; head < g.n_kv_heads; ++head)
        for (uint32_t i = 0; i < rows.n; ++i) {
          from(i, head, row);
          std::transform(row, row + dim, &to[(uint64_t{head} * kBlockTokens + i) * dim], f32_to_bf16);
        }
    };
    keep(k, g.key_dim, held_out.keys);
    keep(v, g.value_dim, held_out.values);
  }
  layer.moments.end_sequence(scratch);  // what was open is no part of this block
  layer.moments.add_tokens(rows.first_position, rows.n, k, v, scratch);
  layer.moments.end_sequence(scratch);
}

std::vector<SelfCalibrator::Split> SelfCalibrator::split(uint32_t index, const Layer& layer) const {
  const CalibratorLayer& given = config_.layers[index];
  const HeldOut& held_out = layer.held_out;
  LayerMoments seen(given.geometry, given.rope, 0);
  MomentScratch scratch(given.geometry.key_dim, given.geometry.value_dim);
  if (held_out.n > 0)
    seen.add_tokens(held_out.first_position, held_out.n, loader(held_out.keys, given.geometry.key_dim),
                    loader(held_out.values, given.geometry.value_dim), scratch);
  const std::vector<HeadMoments> all = layer.moments.heads(), held = seen.heads();
  std::vector<Split> heads;
  for (uint32_t h = 0; h < all.size(); ++h) {
    Split& s = heads.emplace_back(Split{all[h], all[h]});
    s.learned.key.subtract(held[h].key);
    s.learned.value.subtract(held[h].value);
    s.learned.query.subtract(held_out.queries[h]);
  }
  return heads;
}

void SelfCalibrator::check_enough(uint32_t index, const std::vector<Split>& heads, const Layer& layer) const {
  constexpr uint32_t kLeast = LayerMoments::kLeastOpenTokens;
  const uint64_t wanted = std::max(kBlockTokens, config_.layers[index].geometry.key_dim);
  const uint64_t got = heads[0].learned.key.n_rows();
  // A sequence's first block is learned from, its second one held out, its third one learned from.
  const uint64_t length = config_.n_sink + wanted + (wanted > kBlockTokens ? kBlockTokens : kLeast);
  if (got < wanted || layer.held_out.n < kLeast)
    throw Error(
        Status::kState,
        "too few tokens: layer %u has %llu keys to learn from and %u to test with, wanted at least %llu and %u; "
        "a sequence of %llu tokens has them",
        index, number(got), layer.held_out.n, number(wanted), kLeast, number(length));
  const SecondMoment &learned = heads[0].learned.query, &all = heads[0].all.query;
  if (learned.n_rows() == 0 || learned.n_rows() == all.n_rows())
    throw Error(Status::kState,
                "layer %u: too few of its tokens have attended: no queries to learn from, or to test with", index);
  check_positions(config_, index, layer.moments.end_position());
}

HeadMatrices SelfCalibrator::choose(uint32_t index, uint32_t head, const Split& moments, const HeldOut& held_out,
                                    Trial& trial, bool plain_writer, Fallbacks& fallbacks) const {
  const CalibratorLayer& layer = config_.layers[index];
  const LayerGeometry& g = layer.geometry;
  const auto keys = [&](const HeadMoments& m) {
    return [&, head](HeadMatrices& to) { solve_keys(config_, index, head, m, to); };
  };
  const auto values = [&](const HeadMoments& m) {
    return [&, head](HeadMatrices& to) { solve_values(config_, index, head, m, to); };
  };
  HeadMatrices k, v;
  bool keys_ok = solves(g, k, keys(moments.learned)), values_ok = solves(g, v, values(moments.learned));
  const bool wants_values = config_.value_basis == ValueBasis::kBalanced;
  fallbacks.keys_unsolved += !keys_ok;
  fallbacks.values_unsolved += wants_values && !values_ok;
  if (keys_ok || values_ok) {
    std::vector<double> query = held_out.queries[head].mean();
    std::vector<double> turns;
    if (config_.knows_rope) {
      layer.rope.average(config_.n_positions, query.data());
      // The same keys in the middle of the positions to be served, and at their end.
      const double last = static_cast<double>(config_.n_positions) - 1 - held_out.n;
      for (double at : {last / 2, last}) turns.push_back(at - static_cast<double>(held_out.first_position));
    }
    const LayerMatrices given[] = {{{1, g.key_dim, g.value_dim}, {}, {}, {}},
                                   {{1, g.key_dim, g.value_dim}, k.key_transform, k.query_moment, v.value_transform}};
    PackingErrors errors[2];
    for (int i = 0; i < 2; ++i) {
      const Calibration one = Calibration::from_matrices({&given[i], 1});
      errors[i] = trial.errors(one.head(0, 0), !plain_writer, &held_out.keys[uint64_t{head} * kBlockTokens * g.key_dim],
                               &held_out.values[uint64_t{head} * kBlockTokens * g.value_dim], held_out.n, layer.rope,
                               turns, query);
    }
    const bool better_keys = errors[1].keys < errors[0].keys, better_values = errors[1].values < errors[0].values;
    fallbacks.keys_no_better += keys_ok && !better_keys;
    fallbacks.values_no_better += wants_values && values_ok && !better_values;
    keys_ok = keys_ok && better_keys;
    values_ok = values_ok && better_values;
  }
  HeadMatrices chosen, chosen_values;
  if (keys_ok) fallbacks.keys_unsolved += !solves(g, chosen, keys(moments.all));
  if (values_ok) fallbacks.values_unsolved += wants_values && !solves(g, chosen_values, values(moments.all));
  chosen.value_transform = std::move(chosen_values.value_transform);
  return chosen;
}

Calibration SelfCalibrator::finish(const Backend& backend, const LayoutOf& layout_of, bool plain_writer,
                                   const OpenBlocks& open_blocks, std::vector<Fallbacks>& fallbacks) const {
  const auto n_layers = static_cast<uint32_t>(layers_.size());
  std::vector<std::vector<HeadMatrices>> chosen(n_layers);
  fallbacks.assign(n_layers, {});
  std::vector<LayerSource> sources;
  uint64_t n_tokens = UINT64_MAX, end = 0;
  for (uint32_t l = 0; l < n_layers; ++l) {
    const LayerGeometry& g = config_.layers[l].geometry;
    chosen[l].resize(g.n_kv_heads);
    if (layers_[l]) {
      Layer layer = *layers_[l];
      MomentScratch scratch(g.key_dim, g.value_dim);
      for (const CollectedRows& rows : open_blocks(l)) add_rows(layer, g, rows, scratch);
      const std::vector<Split> heads = split(l, layer);
      check_enough(l, heads, layer);
      n_tokens = std::min(n_tokens, heads[0].all.key.n_rows());
      end = std::max(end, layer.moments.end_position());
      Trial trial(backend, layout_of(l), g.key_dim, g.value_dim);
      for (uint32_t h = 0; h < g.n_kv_heads; ++h)
        chosen[l][h] = choose(l, h, heads[h], layer.held_out, trial, plain_writer, fallbacks[l]);
    }
    LayerSource& source = sources.emplace_back(LayerSource{g, {}});
    for (const HeadMatrices& m : chosen[l]) {
      const auto kind = [](const std::vector<float>& matrix) {
        return matrix.empty() ? MapKind::kHadamard : MapKind::kDense;
      };
      source.heads.push_back({kind(m.key_transform), kind(m.value_transform), m.key_transform.data(),
                              m.query_moment.empty() ? nullptr : m.query_moment.data(), m.value_transform.data()});
    }
  }
  if (n_tokens == UINT64_MAX) n_tokens = 0;
  return CalibrationBuilder::build(sources, provenance_of(config_, CalibrationSource::kCache, n_tokens, end),
                                   Status::kInvalid);
}

}  // namespace oscar
