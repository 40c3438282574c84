// Makes a Calibration from a model's own queries, keys and values: gathers their moments layer by layer in bounded
// memory, then solves for the transforms.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "transform/calibration.h"
#include "transform/moments.h"

namespace oscar {

enum class ValueBasis : uint32_t { kBalanced = 0, kHadamard = 1 };

struct CalibratorLayer {
  LayerGeometry geometry;
  uint32_t n_q_heads;
  uint32_t kv_source;  // the layer's own index, or that of the layer whose keys it attends to
  bool exact;          // nothing of it is packed
  Rope rope;
};

struct CalibratorConfig {
  std::vector<CalibratorLayer> layers;
  bool knows_rope;       // false: rope turns nothing, and statistics hold only for the positions they come from
  uint64_t n_positions;  // positions 0 .. n_positions - 1 will be served
  uint64_t n_sink;
  ValueBasis value_basis;
  Provenance provenance = {};  // the profile and the caller's words; the rest is filled in
};

// What one head's moments lead to; empty: data-free. Both throw Error (INVALID), naming layer and head, where they are
// degenerate.
struct HeadMatrices {
  std::vector<float> key_transform, query_moment, value_transform;
};
void solve_keys(const CalibratorConfig& config, uint32_t layer, uint32_t head, const HeadMoments& moments,
                HeadMatrices& to);
void solve_values(const CalibratorConfig& config, uint32_t layer, uint32_t head, const HeadMoments& moments,
                  HeadMatrices& to);  // nothing where values stay in the Hadamard basis
// Throws Error (STATE) where positions are to be served that nothing is known of.
void check_positions(const CalibratorConfig& config, uint32_t layer, uint64_t end_position);
Provenance provenance_of(const CalibratorConfig& config, CalibrationSource source, uint64_t n_tokens,
                         uint64_t end_position);

// n tokens of one sequence at the positions from `first_position` on, with positions applied.
struct FedTokens {
  uint64_t first_position, n;
  RowLoader q, k, v;  // k and v empty for a layer whose kv_source is another
};

class Calibrator {
 public:
  // Throws Error (INVALID) unless a calibration of these geometries can be made.
  explicit Calibrator(CalibratorConfig config);

  const CalibratorLayer& layer(uint32_t index) const { return config_.layers[index]; }
  uint32_t n_layers() const { return static_cast<uint32_t>(config_.layers.size()); }

  // Throws Error (INVALID), having counted nothing, where an element is not finite.
  void feed(uint32_t layer, const FedTokens& tokens);

  // Layers that pack nothing (exact, or with another's keys) get data-free transforms. Throws Error (STATE) where what
  // was fed is not enough, INVALID where it is degenerate; more may be fed afterwards.
  Calibration finish() const;

 private:
  void check_enough(uint32_t layer, const std::vector<HeadMoments>& heads) const;
  LayerMatrices solve(uint32_t layer, uint64_t& n_tokens) const;
  bool packs(uint32_t layer) const { return moments_[layer] != nullptr; }

  CalibratorConfig config_;
  std::vector<std::unique_ptr<LayerMoments>> moments_;  // null for a layer that packs nothing
};

}  // namespace oscar
