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
  MomentScratch scratch(g.key_dim, g.value_dim);  // from here on nothing fails
  if (owns) moments.add_tokens(tokens.first_position, tokens.n, tokens.k, tokens.v, scratch);
  moments.add_queries(tokens.first_position, tokens.n, layer.n_q_heads / g.n_kv_heads, layer.rope, tokens.q, scratch);
}

void check_positions(const CalibratorConfig& config, uint32_t layer, uint64_t end) {
  if (!config.knows_rope && end < config.n_positions)
    throw Error(
        Status::kState,
        "layer %u: %llu positions are to be served and tokens come from the first %llu: without rope_frequencies "
        "their statistics do not hold beyond; give frequencies, feed later positions or lower n_positions",
        layer, number(config.n_positions), number(end));
}

void solve_keys(const CalibratorConfig& config, uint32_t index, uint32_t head, const HeadMoments& moments,
                HeadMatrices& to) {
  const CalibratorLayer& layer = config.layers[index];
  const uint32_t dim = layer.geometry.key_dim;
  std::vector<double> key = moments.key.mean(), query = moments.query.mean();
  check_not_zero(key, dim, "the keys of a block are all the same", index, head);
  check_not_zero(query, dim, "the queries are zero", index, head);
  if (config.knows_rope) {
    layer.rope.average(config.n_positions, key.data());
    layer.rope.average(config.n_positions, query.data());
  }
  key = regularised(key, dim, kKeyShare);
  query = regularised(query, dim, kQueryShare);
  append(key_basis(key, query, dim), to.key_transform);
  append(query, to.query_moment);
}

void solve_values(const CalibratorConfig& config, uint32_t index, uint32_t head, const HeadMoments& moments,
                  HeadMatrices& to) {
  if (config.value_basis == ValueBasis::kHadamard) return;
  const uint32_t dim = config.layers[index].geometry.value_dim;
  const std::vector<double> value = moments.value.mean();
  check_not_zero(value, dim, "the values are zero", index, head);
  append(value_basis(regularised(value, dim, kValueShare), dim), to.value_transform);
}

Provenance provenance_of(const CalibratorConfig& config, CalibrationSource source, uint64_t n_tokens,
                         uint64_t end_position) {
  Provenance p = config.provenance;
  p.source = source;
  p.knows_rope = config.knows_rope;
  p.n_tokens = n_tokens;
  p.n_positions = config.n_positions;
  p.end_position = end_position;
  p.objective = config.value_basis == ValueBasis::kHadamard ? "k: |q (k' - k)|^2, shaped, p = 1/8"
                                                            : "k: |q (k' - k)|^2, shaped, p = 1/8; v: |v' - v|^2";
  return p;
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
  check_positions(config_, index, moments_[index]->end_position());
}

LayerMatrices Calibrator::solve(uint32_t index, uint64_t& n_tokens) const {
  LayerMatrices matrices{config_.layers[index].geometry, {}, {}, {}};
  if (!packs(index)) return matrices;
  const std::vector<HeadMoments> heads = moments_[index]->heads();
  check_enough(index, heads);
  n_tokens = std::min(n_tokens, heads[0].key.n_rows());
  HeadMatrices all;  // of one head after the other
  for (uint32_t h = 0; h < heads.size(); ++h) {
    solve_keys(config_, index, h, heads[h], all);
    solve_values(config_, index, h, heads[h], all);
  }
  matrices.key_transform = std::move(all.key_transform);
  matrices.query_moment = std::move(all.query_moment);
  matrices.value_transform = std::move(all.value_transform);
  return matrices;
}

Calibration Calibrator::finish() const {
  std::vector<LayerMatrices> layers;
  uint64_t n_tokens = UINT64_MAX, end = 0;
  for (uint32_t l = 0; l < n_layers(); ++l) {
    layers.push_back(solve(l, n_tokens));
    if (packs(l)) end = std::max(end, moments_[l]->end_position());
  }
  if (n_tokens == UINT64_MAX) n_tokens = 0;
  return Calibration::from_matrices(layers, provenance_of(config_, CalibrationSource::kCalibrator, n_tokens, end));
}

}  // namespace oscar
