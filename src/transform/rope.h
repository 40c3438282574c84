// Rotary position embedding as a calibrator needs it: undone token by token, and averaged over positions.
//
// RoPE turns pair j of a row at position p by the angle p f_j (J. Su et al., "RoFormer", 2021):
// (a, b) -> (a cos - b sin, a sin + b cos), or z -> z exp(i p f_j) for z = a + i b. Whatever stretches the frequencies
// (YaRN, Llama 3, NTK) ends in other f_j and is served by them.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace oscar {

// Which elements of a row are a pair, of the first 2 n ones for n frequencies.
enum class RopePairing : uint32_t {
  kHalf = 0,        // j and j + n
  kInterleaved = 1  // 2 j and 2 j + 1
};

class Rope {
 public:
  // Elements beyond the 2 n paired ones do not turn (partial rotary); no frequencies: nothing turns. Wants an even dim
  // and n <= dim / 2.
  Rope(uint32_t dim, RopePairing pairing, std::span<const float> frequencies);

  // cos and sin of the pairs at a position, which may lie between two tokens: [2 dim / 2].
  void phases(double position, double* cos_sin) const;
  // Turns a row [dim] back by the angles of `cos_sin`.
  void undo(const double* cos_sin, double* row) const;

  // moment [dim][dim], symmetric, becomes the mean of R_p^T moment R_p over the positions p = 0 .. n_positions - 1,
  // where R_p turns row vectors to position p. In closed form: with z = a + i b, E[z_j conj z_k] is multiplied by the
  // mean of exp(i p (f_j - f_k)) and E[z_j z_k] by that of exp(i p (f_j + f_k)), which are geometric sums.
  void average(uint64_t n_positions, double* moment) const;

  // Memory of the vector.
  static uint64_t heap_bytes(uint32_t dim) { return dim / 2 * sizeof(Pair); }

  uint32_t dim() const { return 2 * static_cast<uint32_t>(pairs_.size()); }

 private:
  struct Pair {
    uint32_t a, b;
    double frequency;
  };
  std::vector<Pair> pairs_;
};

}  // namespace oscar
