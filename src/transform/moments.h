// What a calibrator remembers of one layer's tokens: second moments per KV head, in double precision, and the rows of
// the block that is still open. Its size does not depend on how many tokens were seen.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "transform/calibration.h"
#include "transform/rope.h"

namespace oscar {

// Copies row `row` of head `head` to `to`, as float.
using RowLoader = std::function<void(uint64_t row, uint32_t head, float* to)>;

// What adding rows to moments computes in. Whoever adds takes it before anything changes: with it, adding takes no
// memory and cannot fail halfway.
struct MomentScratch {
  MomentScratch(uint32_t key_dim, uint32_t value_dim);
  std::vector<double> rows;    // [128][the larger dim]
  std::vector<double> phases;  // [128][key_dim]
  std::vector<double> mean;    // [key_dim]
  std::vector<float> loaded;   // [the larger dim]
};

// Sum of x^T x over row vectors x.
class SecondMoment {
 public:
  explicit SecondMoment(uint32_t dim) : dim_(dim), sum_(uint64_t{dim} * dim, 0.0) {}
  // rows [n][dim]. Takes no memory.
  void add(const double* rows, uint64_t n);
  // Takes back what was added to `part`, whose rows were added here too.
  void subtract(const SecondMoment& part);
  uint64_t n_rows() const { return n_rows_; }
  // E[x^T x], [dim][dim], both triangles; of at least one row.
  std::vector<double> mean() const;

 private:
  uint32_t dim_;
  uint64_t n_rows_ = 0;
  std::vector<double> sum_;  // the lower triangle
};

struct HeadMoments {
  SecondMoment query;  // of un-rotated queries
  SecondMoment key;    // of keys less the mean of their block, turned back by the block's centre
  SecondMoment value;
};

// Adds queries, turned back by their positions, to the moment of their KV head; q has `group` heads for each. The first
// n_skipped positions do not count. at(head): a SecondMoment &.
using MomentOfHead = std::function<SecondMoment&(uint32_t head)>;
void add_query_rows(uint64_t first_position, uint64_t n, uint32_t n_kv_heads, uint32_t group, const Rope& rope,
                    const RowLoader& q, uint64_t n_skipped, const MomentOfHead& at, MomentScratch& scratch);

class LayerMoments {
 public:
  // The first n_sink tokens of a sequence stay exact in a cache and are not counted.
  LayerMoments(const LayerGeometry& geometry, const Rope& rope, uint64_t n_sink);

  // Rows 0 .. n-1 at the positions from `first_position` on; q has `group` heads for every KV head.
  void add_queries(uint64_t first_position, uint64_t n, uint32_t group, const Rope& rope, const RowLoader& q,
                   MomentScratch& scratch);
  // A run that does not start where the last one ended is another sequence: its blocks begin anew.
  void add_tokens(uint64_t first_position, uint64_t n, const RowLoader& k, const RowLoader& v, MomentScratch& scratch);
  // What comes next is another sequence, wherever it starts.
  void end_sequence(MomentScratch& scratch);

  // Moments of all that was added; a block that the end of its sequence cut short counts where it has at least
  // kLeastOpenTokens, as it would at the start of another sequence.
  std::vector<HeadMoments> heads() const;
  const Rope& rope() const { return rope_; }
  // One more than the largest position seen.
  uint64_t end_position() const { return end_position_; }

  static constexpr uint32_t kLeastOpenTokens = 64;
  // Memory of the vectors.
  static uint64_t heap_bytes(const LayerGeometry& geometry);

 private:
  void add_open_block(std::vector<HeadMoments>& heads, MomentScratch& scratch) const;

  LayerGeometry geometry_;
  Rope rope_;
  uint64_t n_sink_;
  std::vector<HeadMoments> heads_;
  std::vector<float> open_keys_;  // [n_kv_heads][kBlockTokens][key_dim]
  uint32_t n_open_ = 0;
  uint64_t next_position_ = 0, end_position_ = 0;
};

}  // namespace oscar
