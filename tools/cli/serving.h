// A model as the library would serve it: the configuration of its cache.
#pragma once
#include <oscar/oscar.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model.h"

namespace oscar::cli {

// What a user may choose; 0 and OSCAR_DEFAULT take the library's default.
struct Choice {
  std::string profile = "2bit";
  std::string device = "cpu";  // or "cuda"
  uint64_t max_tokens = 0;     // of a sequence
  uint32_t n_sequences = 1;
  uint32_t n_sink = OSCAR_DEFAULT, n_recent = OSCAR_DEFAULT, max_rollback = OSCAR_DEFAULT;
  uint32_t max_step_tokens = OSCAR_DEFAULT, n_threads = OSCAR_DEFAULT;
  bool batch_invariant = false, shaped = false, self_calibrate = false;
  const oscar_calibration* calibration = nullptr;
};

// Why no configuration of a cache can say what these layers do; empty where one can.
std::string obstacle(const Model& model);

// Owns what its oscar_cache_config points to. Layers that keep nothing have no entry.
class Serving {
 public:
  // Throws Failure: there is an obstacle, or the library does not know the profile.
  Serving(const Model& model, const Choice& choice);
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;

  oscar_cache_config config;

  // What oscar_cache_check says of one sequence of `context` tokens. Throws Failure where the configuration is malformed.
  oscar_cache_report check(uint64_t context, uint64_t capacity_bytes) const;
  // The same; nothing where it is malformed, e.g. the capacity less than the cache's smallest.
  std::optional<oscar_cache_report> try_check(uint64_t context, uint64_t capacity_bytes) const;

 private:
  std::vector<oscar_layer_config> layers_;
  oscar_calibrator_args calibrator_{};
};

}  // namespace oscar::cli
