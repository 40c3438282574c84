// Calibrators.
#include "transform/calibrator.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "border/arguments.h"
#include "border/config.h"
#include "border/guard.h"
#include "border/handles.h"

using namespace oscar;
using namespace oscar::border;

namespace {

constexpr uint64_t kMaxPositions = uint64_t{1} << 31;

// [n_pairs] for all layers, or [n_layers, n_pairs]; returns the rows, one for every layer, empty where absent.
std::vector<std::vector<float>> read_frequencies(const oscar_tensor& tensor, const CacheConfig& config) {
  const auto n_layers = static_cast<uint32_t>(config.layers.size());
  std::vector<std::vector<float>> rows(n_layers);
  if (!tensor.data && tensor.ndim == 0) return rows;
  uint32_t most = kMaxHeadDim / 2;
  for (const LayerConfig& l : config.layers) most = std::min(most, l.key_dim / 2);
  const bool per_layer = tensor.ndim == 2;
  const int64_t n_pairs = tensor.ndim >= 1 && tensor.ndim <= 2 ? tensor.shape[tensor.ndim - 1] : 1;
  if (n_pairs < 1 || n_pairs > most)
    throw Error(Status::kInvalid, "rope_frequencies: shape[%d] is %lld, allowed: 1 .. key_dim / 2 = %u",
                tensor.ndim - 1, static_cast<long long>(n_pairs), most);
  const TensorView view = per_layer ? check_tensor(tensor, {"rope_frequencies", {n_layers, n_pairs}, kF32Only})
                                    : check_tensor(tensor, {"rope_frequencies", {n_pairs}, kF32Only});
  for (uint32_t l = 0; l < n_layers; ++l) {
    rows[l].resize(static_cast<size_t>(n_pairs));
    load_row(view, per_layer ? l : 0, 0, static_cast<uint32_t>(n_pairs), rows[l].data());
    for (float f : rows[l])
      if (!std::isfinite(f))
        throw Error(Status::kInvalid, "rope_frequencies: layer %u has %g, wanted finite numbers", l,
                    static_cast<double>(f));
  }
  return rows;
}

CalibratorConfig read_config(const oscar_cache_config* given, const oscar_calibrator_args* given_args) {
  const CacheConfig config = resolve_config(given);
  const auto args = read_struct(given_args, "args");
  if (args.rope_pairing > OSCAR_ROPE_INTERLEAVED)
    throw Error(Status::kInvalid, "rope_pairing is %u, allowed: 0 (half), 1 (interleaved)", args.rope_pairing);
  if (args.value_basis > OSCAR_VALUE_BASIS_HADAMARD)
    throw Error(Status::kInvalid, "value_basis is %u, allowed: 0 (balanced), 1 (Hadamard)", args.value_basis);
  if (args.reserved != 0) throw Error(Status::kInvalid, "reserved is %u, wanted 0", args.reserved);
  CalibratorConfig c;
  c.n_positions = args.n_positions == 0 ? config.max_tokens : args.n_positions;
  if (c.n_positions == 0 || c.n_positions > kMaxPositions)
    throw Error(Status::kInvalid, "n_positions is %llu, allowed: 1 .. 2^31",
                static_cast<unsigned long long>(c.n_positions));
  const auto frequencies = read_frequencies(args.rope_frequencies, config);
  c.knows_rope = !frequencies[0].empty();
  c.n_sink = config.n_sink;
  c.value_basis = static_cast<ValueBasis>(args.value_basis);
  const auto pairing = static_cast<RopePairing>(args.rope_pairing);
  for (uint32_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& l = config.layers[i];
    if (l.n_kv_heads == 0 || l.n_q_heads == 0 || l.n_q_heads % l.n_kv_heads != 0)
      throw Error(Status::kInvalid, "layer %u: n_q_heads is %u, wanted: a multiple of n_kv_heads = %u", i, l.n_q_heads,
                  l.n_kv_heads);
    const LayerGeometry geometry{l.n_kv_heads, l.key_dim, l.value_dim};
    if (l.kv_source > i)
      throw Error(Status::kInvalid, "layer %u: kv_source is %u, wanted an earlier layer", i, l.kv_source);
    if (l.kv_source != i &&
        (c.layers[l.kv_source].kv_source != l.kv_source || c.layers[l.kv_source].geometry != geometry))
      throw Error(Status::kInvalid, "layer %u: kv_source %u has no keys of its own, or another geometry", i,
                  l.kv_source);
    c.layers.push_back({geometry, l.n_q_heads, l.kv_source, l.exact, Rope(l.key_dim, pairing, frequencies[i])});
  }
  return c;
}

RowLoader loader(const TensorView& view, uint32_t dim) {
  return [view, dim](uint64_t row, uint32_t head, float* to) { load_row(view, row, head, dim, to); };
}

void feed(Calibrator& calibrator, const oscar_calibrator_feed_args& args) {
  if (args.layer >= calibrator.n_layers())
    throw Error(Status::kInvalid, "layer is %u, the configuration has %u layers", args.layer, calibrator.n_layers());
  const CalibratorLayer& layer = calibrator.layer(args.layer);
  const LayerGeometry& g = layer.geometry;
  const int64_t n = args.q.ndim == 3 ? args.q.shape[0] : 1;
  if (n < 1) throw Error(Status::kInvalid, "q: shape[0] is %lld, wanted at least 1", static_cast<long long>(n));
  const uint64_t n_tokens = static_cast<uint64_t>(n);
  if (args.first_position > kMaxPositions || n_tokens > kMaxPositions - args.first_position)
    throw Error(Status::kInvalid, "first_position is %llu and there are %lld tokens, allowed: positions below 2^31",
                static_cast<unsigned long long>(args.first_position), static_cast<long long>(n));
  FedTokens tokens{args.first_position, n_tokens, {}, {}, {}};
  tokens.q = loader(check_tensor(args.q, {"q", {n, layer.n_q_heads, g.key_dim}, kFloats}), g.key_dim);
  if (layer.kv_source == args.layer) {
    tokens.k = loader(check_tensor(args.k, {"k", {n, g.n_kv_heads, g.key_dim}, kFloats}), g.key_dim);
    tokens.v = loader(check_tensor(args.v, {"v", {n, g.n_kv_heads, g.value_dim}, kFloats}), g.value_dim);
  } else if (args.k.data || args.v.data) {
    throw Error(Status::kInvalid, "layer %u attends to the keys of layer %u: wanted absent k and v", args.layer,
                layer.kv_source);
  }
  calibrator.feed(args.layer, tokens);
}

}  // namespace

extern "C" {

oscar_status oscar_calibrator_create(const oscar_cache_config* config, const oscar_calibrator_args* args,
                                     oscar_calibrator** calibrator_out) {
  return guarded("oscar_calibrator_create", [&] {
    require(calibrator_out, "calibrator_out");
    *calibrator_out = nullptr;
    *calibrator_out = new oscar_calibrator{Calibrator(read_config(config, args))};
  });
}

oscar_status oscar_calibrator_feed(oscar_calibrator* calibrator, const oscar_calibrator_feed_args* args) {
  return guarded("oscar_calibrator_feed", [&] {
    require(calibrator, "calibrator");
    feed(calibrator->calibrator, read_struct(args, "args"));
  });
}

oscar_status oscar_calibrator_finish(const oscar_calibrator* calibrator, oscar_calibration** calibration_out) {
  return guarded("oscar_calibrator_finish", [&] {
    require(calibration_out, "calibration_out");
    *calibration_out = nullptr;
    require(calibrator, "calibrator");
    *calibration_out = new oscar_calibration{std::make_shared<const Calibration>(calibrator->calibrator.finish())};
  });
}

void oscar_calibrator_destroy(oscar_calibrator* calibrator) { delete calibrator; }

}  // extern "C"
