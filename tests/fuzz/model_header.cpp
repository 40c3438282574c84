// libFuzzer's entry into what the program oscar reads of a model: config.json, and GGUF headers. Any bytes end in a model
// or in one line.
#include "failure.h"
#include "fuzz/input.h"
#include "layer_groups.h"
#include "model.h"

using namespace oscar::cli;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  const bool is_gguf = size >= 4 && data[0] == 'G';
  try {
    const Model model = is_gguf ? model_from_gguf(bytes, "model") : model_from_config(bytes, "model");
    FUZZ_CHECK(!model.layers.empty() && model.layers.size() <= kMostLayers);
    size_t n_members = 0;
    for (const LayerGroup& group : group_layers(model)) {
      n_members += group.members.size();
      FUZZ_CHECK(!describe_kind(group).empty() && !describe_heads(group).empty());
    }
    FUZZ_CHECK(n_members == model.layers.size());
    FUZZ_CHECK(kept_elements(model, kMostTokens) <= kMostTokens * kMostElements);
    for (uint32_t i = 0; i < model.layers.size(); ++i) FUZZ_CHECK(model.layers[i].source <= i);
  } catch (const Failure& failure) {
    FUZZ_CHECK(failure.exit() == Exit::kInput);
    for (const char* c = failure.what(); *c; ++c) FUZZ_CHECK(*c != '\n');
  }
  return 0;
}
