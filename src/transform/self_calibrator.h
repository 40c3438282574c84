// What a cache that calibrates itself remembers of its tokens, in bounded memory, and the calibration it makes of them:
// moments as a Calibrator has them, and of every layer one block of rows that the test of a new transform has not seen.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "transform/calibrator.h"
#include "transform/trial.h"

namespace oscar {

// n consecutive tokens of a sequence in one layer. Blocks of 128 tokens begin n_sink tokens into a sequence.
struct CollectedRows {
  uint64_t sequence;  // numbers sequences, from 0; a fork has its parent's number
  uint64_t first_position;
  uint32_t n;
  std::vector<float> keys, values;  // [n_kv_heads][n][dim]
};

// KV heads of a layer that stay data-free, and why: no transform could be made, or it was no better on held-out tokens.
struct Fallbacks {
  uint32_t keys_unsolved = 0, values_unsolved = 0, keys_no_better = 0, values_no_better = 0;
  bool none() const { return keys_unsolved + values_unsolved + keys_no_better + values_no_better == 0; }
};

// What collecting computes in, taken before anything changes: with it, collecting does not fail halfway.
struct CollectScratch {
  MomentScratch moments;
  CollectedRows rows;
};

class SelfCalibrator {
 public:
  // Where the tokens come from that are in no block yet.
  using OpenBlocks = std::function<std::vector<CollectedRows>(uint32_t layer)>;
  using LayoutOf = std::function<const BlockLayout&(uint32_t layer)>;

  explicit SelfCalibrator(CalibratorConfig config);
  // Memory of the object.
  static uint64_t bytes(const CalibratorConfig& config);
  const CalibratorConfig& config() const { return config_; }

  // Whether the layer stores blocks of keys and values of its own.
  bool collects(uint32_t layer) const { return layers_[layer].has_value(); }

  // For any layer, with room for a block of its rows.
  CollectScratch scratch() const;
  // Elements that are not finite count as 0, as they are stored in blocks. Layers that pack nothing are ignored.
  void add_queries(uint32_t layer, uint64_t sequence, uint64_t first_position, uint64_t n, const RowLoader& q,
                   MomentScratch& scratch);
  // A whole block; or its first 64 tokens and more, where the sequence ends there.
  void add_rows(uint32_t layer, const CollectedRows& rows, MomentScratch& scratch);

  // Solves with the tokens that are not held out, tries the result on those that are, and where it is better than the
  // data-free transform, keeps what all tokens lead to; keys and values of every KV head apart. Throws Error (STATE)
  // where there are too few tokens. A head that no transform can be made for stays data-free.
  // `fallbacks` gets an entry for every layer.
  Calibration finish(const Backend& backend, const LayoutOf& layout_of, bool plain_writer,
                     const OpenBlocks& open_blocks, std::vector<Fallbacks>& fallbacks) const;

 private:
  struct HeldOut {
    uint64_t first_position = 0;
    uint32_t n = 0;
    std::vector<uint16_t> keys, values;  // BF16, [n_kv_heads][128][dim]
    std::vector<SecondMoment> queries;   // of all held-out tokens, by head
  };
  struct Layer {
    LayerMoments moments;  // of all tokens
    HeldOut held_out;
  };
  // Of one KV head: moments of all tokens, and of those not held out.
  struct Split {
    HeadMoments all, learned;
  };

  bool is_held_out(uint64_t sequence, uint64_t position) const;
  void add_rows(Layer& layer, const LayerGeometry& g, const CollectedRows& rows, MomentScratch& scratch) const;
  std::vector<Split> split(uint32_t index, const Layer& layer) const;
  void check_enough(uint32_t index, const std::vector<Split>& heads, const Layer& layer) const;
  HeadMatrices choose(uint32_t index, uint32_t head, const Split& moments, const HeldOut& held_out, Trial& trial,
                      bool plain_writer, Fallbacks& fallbacks) const;

  CalibratorConfig config_;
  std::vector<std::optional<Layer>> layers_;
};

}  // namespace oscar
