#include "backend/engine_plan.h"

#include <doctest/doctest.h>

#include <algorithm>

using namespace oscar;

namespace {

EnginePlan plan_with(uint32_t max_sequences, uint32_t max_step_tokens) {
  EnginePlan plan;
  plan.layers.resize(1);
  plan.layers[0].n_q_heads = 4;
  plan.classes.resize(1);
  plan.classes[0].n_kv_heads = 2;
  plan.classes[0].key_dim = plan.classes[0].value_dim = 64;
  plan.classes[0].n_layers = 1;
  plan.n_recent = 128;
  plan.max_rollback = 8;
  plan.max_sequences = max_sequences;
  plan.max_open_steps = 1;
  plan.max_step_tokens = max_step_tokens;
  plan.max_tokens = 4096;
  return plan;
}

}  // namespace

TEST_CASE("a line of chunk votes is what the long entries of the fullest step need, and no more") {
  for (const uint32_t max_sequences : {1u, 2u, 7u, 100u})
    for (const uint32_t step_tokens : {128u, 129u, 257u, 258u, 1000u, 2048u}) {
      CAPTURE(max_sequences);
      CAPTURE(step_tokens);
      const EngineSizes sizes(plan_with(max_sequences, step_tokens));
      // As many entries of 129 tokens as there are sequences and tokens for; the last one takes what is left over.
      uint64_t needed = 0, left = step_tokens;
      for (uint32_t i = 0; i < max_sequences && left >= 129; ++i) {
        const uint64_t n_new = i + 1 < max_sequences && left >= 2 * 129 ? 129 : left;
        needed += sizes.undecided + n_new;
        left -= n_new;
      }
      CHECK(sizes.chunk_tokens == needed);
    }
}
