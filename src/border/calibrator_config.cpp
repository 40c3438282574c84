#include "border/calibrator_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "border/arguments.h"

namespace oscar::border {

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

std::string read_text(const char* text, const char* name, size_t most) {
  const size_t length = text ? strnlen(text, most + 1) : 0;
  if (length > most) throw Error(Status::kInvalid, "%s has more than %zu bytes", name, most);
  return {text ? text : "", length};
}

// Of the first layer that packs.
void read_profile(const CacheConfig& config, Provenance& to) {
  for (const LayerConfig& l : config.layers) {
    if (l.exact) continue;
    to.n_refined = l.n_refined;
    to.refined_key_bits = l.refined_key_bits;
    to.refined_value_bits = l.refined_value_bits;
    return;
  }
}

}  // namespace

CalibratorConfig calibrator_config(const CacheConfig& config, const oscar_calibrator_args* given, const char* name) {
  const auto args = read_struct(given, name);
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
  c.provenance.model = read_text(args.model, "model", kMaxNameLength);
  c.provenance.note = read_text(args.note, "note", kMaxNoteLength);
  read_profile(config, c.provenance);
  const auto pairing = static_cast<RopePairing>(args.rope_pairing);
  for (uint32_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& l = config.layers[i];
    if (l.n_kv_heads == 0 || l.n_q_heads == 0 || l.n_q_heads % l.n_kv_heads != 0)
      throw Error(Status::kInvalid, "layer %u: n_q_heads is %u, wanted: a multiple of n_kv_heads = %u", i, l.n_q_heads,
                  l.n_kv_heads);
    // Before there is a table for it.
    if (l.key_dim > kMaxHeadDim)
      throw Error(Status::kUnsupported, "layer %u: key_dim is %u, served: at most %u", i, l.key_dim, kMaxHeadDim);
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

}  // namespace oscar::border
