// Layers of a model that are alike, as commands list them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model.h"

namespace oscar::cli {

struct LayerGroup {
  ModelLayer layer;     // any of them
  bool shares = false;  // they read what other layers store
  std::vector<uint32_t> members;
};

std::vector<LayerGroup> group_layers(const Model& model);

// "sliding, 1,024 tokens", "full", "latent", "full, shared".
std::string describe_kind(const LayerGroup& group);
// "16 of 128", "128 of 192/128", "row of 512+64".
std::string describe_heads(const LayerGroup& group);

// The model with these layers alone; none of them shares.
Model model_of(const LayerGroup& group);

}  // namespace oscar::cli
