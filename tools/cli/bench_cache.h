// A cache with tokens in it, and the time that its attention takes.
#pragma once
#include <cstdint>
#include <vector>

#include "library.h"
#include "serving.h"

namespace oscar::cli {

class BenchCache {
 public:
  // Filled with `context` tokens of made-up keys and values in every layer.
  BenchCache(const Model& model, const Choice& choice, uint64_t context);

  // A step of one token that is not kept; the microseconds of each layer's attention.
  std::vector<double> attend_us();
  // The output of the last one: [layers][n_q_heads][value_dim].
  const std::vector<float>& out() const { return out_; }
  uint64_t bytes() const;

 private:
  void append(oscar_step step, uint32_t layer, uint32_t n);

  Serving serving_;
  Cache cache_;
  oscar_seq seq_ = 0;
  std::vector<uint16_t> rows_;  // BF16, for keys, values and queries alike
  std::vector<float> out_;
};

// Memory that no cache of a processor holds, and how fast so many threads read it.
class ReadSpeed {
 public:
  explicit ReadSpeed(uint32_t n_threads);
  double bytes_per_us() const;  // once more

 private:
  uint32_t n_threads_;
  std::vector<uint64_t> numbers_;
};

double median(std::vector<double> numbers);

}  // namespace oscar::cli
