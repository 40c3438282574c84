#include "layer_groups.h"

#include <algorithm>

#include "text.h"

namespace oscar::cli {

std::vector<LayerGroup> group_layers(const Model& model) {
  std::vector<LayerGroup> groups;
  for (uint32_t i = 0; i < model.layers.size(); ++i) {
    ModelLayer layer = model.layers[i];
    const bool shares = layer.source != i;
    layer.source = 0;
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const LayerGroup& g) { return g.shares == shares && g.layer == layer; });
    if (group == groups.end()) group = groups.insert(group, {layer, shares, {}});
    group->members.push_back(i);
  }
  return groups;
}

std::string describe_kind(const LayerGroup& group) {
  const ModelLayer& layer = group.layer;
  std::string kind = attention_name(layer.attention);
  if (layer.attention == Attention::kNone) return "keeps nothing";
  if (layer.window > 0) kind += ", " + grouped(layer.window) + " tokens";
  if (group.shares) kind += ", shared";
  return kind;
}

std::string describe_heads(const LayerGroup& group) {
  const ModelLayer& layer = group.layer;
  if (layer.attention == Attention::kNone) return "-";
  if (layer.latent_dim > 0) return text("row of %u+%u", layer.latent_dim, layer.latent_rope_dim);
  if (layer.key_dim != layer.value_dim) return text("%u of %u/%u", layer.n_kv_heads, layer.key_dim, layer.value_dim);
  return text("%u of %u", layer.n_kv_heads, layer.key_dim);
}

Model model_of(const LayerGroup& group) {
  Model model;
  for (uint32_t i = 0; i < group.members.size(); ++i) {
    model.layers.push_back(group.layer);
    model.layers.back().source = i;
  }
  return model;
}

}  // namespace oscar::cli
