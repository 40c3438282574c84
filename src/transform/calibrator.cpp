#include "transform/calibrator.h"

#include <algorithm>
#include <cmath>

#include "format/block.h"
#include "format/error.h"
#include "transform/basis.h"
#include "transform/calibration_build.h"

namespace oscar {
namespace {

unsigned long long number(uint64_t n) { return n; }

void check_finite(const RowLoader& rows, const char* name, uint32_t layer, uint64_t n, uint32_t n_heads, uint32_t dim) {
  std::vector<float> row(dim);
  for (uint64_t i = 0; i < n; ++i)
    for (uint32_t head = 0; head < n_heads; ++head) {
      rows(i, head, row.data());
      const auto bad = std::find_if(row.begin(), row.end(), [](float x) { return !std::isfinite(x); });
      if (bad != row.end())
        throw Error(Status::kInvalid, "layer %u: %s[%llu][%u][%d] is %g, wanted finite numbers", layer, name, number(i),
                    head, static_cast<int>(bad - row.begin()), static_cast<double>(*bad));
    }
}

// A moment of which nothing but rounding errors is left cannot be scaled to unit variance.
void check_not_zero(const std::vector<double>& moment, uint32_t dim, const char* what, uint32_t layer, uint32_t head) {
  double trace = 0;
  for (uint64_t i = 0; i < dim; ++i) trace += moment[i * dim + i];
  constexpr double kLeastTrace = 1e-30;
  if (!(trace > kLeastTrace))
    throw Error(Status::kInvalid, "layer %u, head %u: %s: their moment has trace %.3g, wanted more than %.0e", layer,
                head, what, trace, kLeastTrace);
}

void append(const std::vector<double>& matrix, std::vector<float>& to) {
  for (double x : matrix) to.push_back(static_cast<float>(x));
}

}  // namespace

Calibrator::Calibrator(CalibratorConfig config) : config_(std::move(config)) {
  std::vector<LayerGeometry> geometries;
  for (const CalibratorLayer& layer : config_.layers) geometries.push_back(layer.geometry);
  CalibrationBuilder::check_geometry(geometries, Status::kInvalid);
  for (uint32_t l = 0; l < n_layers(); ++l) {
    const CalibratorLayer& layer = config_.layers[l];
    const bool packs = layer.kv_source == l && !layer.exact;
    moments_.push_back(packs ? std::make_unique<LayerMoments>(layer.geometry, layer.rope, config_.n_sink) : nullptr);
  }
}

void Calibrator::feed(uint32_t index, const FedTokens& tokens) {
  const CalibratorLayer& layer = config_.layers[index];
  const LayerGeometry& g = layer.geometry;
  const bool owns = layer.kv_source == index;
  check_finite(tokens.q, "q", index, tokens.n, layer.n_q_heads, g.key_dim);
  if (owns) {
    check_finite(tokens.k, "k", index, tokens.n, g.n_kv_heads, g.key_dim);
    check_finite(tokens.v, "v", index, tokens.n, g.n_kv_heads, g.value_dim);
  }
  if (!packs(layer.kv_source)) return;
  LayerMoments& moments = *moments_[layer.kv_source];
  if (owns) moments.add_tokens(tokens.first_position, tokens.n, tokens.k, tokens.v);
  moments.add_queries(tokens.first_position, tokens.n, layer.n_q_heads / g.n_kv_heads, layer.rope, tokens.q);
}

void Calibrator::check_enough(uint32_t index, const std::vector<HeadMoments>& heads) const {
  const uint64_t wanted = std::max(kBlockTokens, config_.layers[index].geometry.key_dim), got = heads[0].key.n_rows();
  if (moments_[index]->end_position() == 0)
    throw Error(Status::kState, "layer %u has been fed nothing, wanted at least %llu tokens", index, number(wanted));
  if (got < wanted)
    throw Error(
        Status::kState,
        "layer %u: %llu keys count, wanted at least %llu: of blocks of %u consecutive tokens, without the first "
        "%llu of a sequence (n_sink)",
        index, number(got), number(wanted), kBlockTokens, number(config_.n_sink));
  const uint64_t end = moments_[index]->end_position();
  if (!config_.knows_rope && end < config_.n_positions)
    throw Error(
        Status::kState,
        "layer %u: %llu positions are to be served and tokens come from the first %llu: without rope_frequencies "
        "their statistics do not hold beyond; give frequencies, feed later positions or lower n_positions",
        index, number(config_.n_positions), number(end));
}

LayerMatrices Calibrator::solve(uint32_t index) const {
  const CalibratorLayer& layer = config_.layers[index];
  LayerMatrices matrices{layer.geometry, {}, {}, {}};
  if (!packs(index)) return matrices;
  const std::vector<HeadMoments> heads = moments_[index]->heads();
  check_enough(index, heads);
  const uint32_t key_dim = layer.geometry.key_dim, value_dim = layer.geometry.value_dim;
  for (uint32_t h = 0; h < heads.size(); ++h) {
    std::vector<double> key = heads[h].key.mean(), query = heads[h].query.mean();
    check_not_zero(key, key_dim, "the keys of a block are all the same", index, h);
    check_not_zero(query, key_dim, "the queries are zero", index, h);
    if (config_.knows_rope) {
      layer.rope.average(config_.n_positions, key.data());
      layer.rope.average(config_.n_positions, query.data());
    }
    key = regularised(key, key_dim);
    query = regularised(query, key_dim);
    append(key_basis(key, query, key_dim), matrices.key_transform);
    append(query, matrices.query_moment);
    if (config_.value_basis == ValueBasis::kHadamard) continue;
    const std::vector<double> value = heads[h].value.mean();
    check_not_zero(value, value_dim, "the values are zero", index, h);
    append(value_basis(regularised(value, value_dim), value_dim), matrices.value_transform);
  }
  return matrices;
}

Calibration Calibrator::finish() const {
  std::vector<LayerMatrices> layers;
  for (uint32_t l = 0; l < n_layers(); ++l) layers.push_back(solve(l));
  return Calibration::from_matrices(layers);
}

}  // namespace oscar
