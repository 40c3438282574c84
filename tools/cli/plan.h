// What `oscar plan` answers, before it is printed.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "layer_groups.h"
#include "serving.h"

namespace oscar::cli {

struct PlanRow {
  std::string format;  // "liboscar 2bit", "BF16"
  bool served = true;
  std::string reason;             // why it is not served, or advice
  uint64_t bytes = 0;             // of all sequences, all that grows with tokens
  double bits_per_element = 0;    // of the elements that a cache without packing keeps
  uint64_t bytes_fixed = 0;       // what else the cache takes
  uint64_t capacity_bytes = 0;    // to create the cache with; 0: more than one cache can have
  uint64_t longest_sequence = 0;  // in the memory asked about
  uint64_t largest_batch = 0;
  std::vector<uint64_t> group_bytes;  // of one sequence, for each group of layers
};

struct Plan {
  Model model;
  std::vector<LayerGroup> groups;
  uint64_t context = 0, memory_bytes = 0;  // 0: not asked
  uint32_t n_sequences = 1;
  std::vector<PlanRow> rows;  // the library's profiles, then the rivals
  std::string remark;         // on what the library could do instead
  bool all_served = true;
};

Plan make_plan(const Model& model, const Choice& choice, const std::vector<std::string>& profiles, uint64_t context,
               uint32_t n_sequences, uint64_t memory_bytes);

}  // namespace oscar::cli
