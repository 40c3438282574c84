#include "serving.h"

#include <algorithm>

#include "library.h"
#include "text.h"

namespace oscar::cli {

namespace {

// In the cache, layers that keep nothing are left out: the index there of every layer of the model.
std::vector<uint32_t> indices_in_cache(const Model& model) {
  std::vector<uint32_t> indices;
  uint32_t next = 0;
  for (const ModelLayer& layer : model.layers) indices.push_back(layer.attention == Attention::kNone ? next : next++);
  return indices;
}

oscar_layer_config entry_of(const ModelLayer& layer) {
  oscar_layer_config entry;
  call(oscar_layer_config_init(&entry, sizeof entry));
  entry.n_q_heads = layer.n_q_heads;
  entry.n_kv_heads = layer.n_kv_heads;
  entry.key_dim = layer.key_dim;
  entry.value_dim = layer.value_dim;
  entry.window = layer.window;
  return entry;
}

}  // namespace

std::string obstacle(const Model& model) {
  bool keeps = false;
  for (uint32_t i = 0; i < model.layers.size(); ++i) {
    const ModelLayer& layer = model.layers[i];
    switch (layer.attention) {
      case Attention::kLatent:
        return text(
            "layer %u is multi-head latent attention: a row of %u + %u elements that all heads read, and not keys "
            "and values of heads",
            i, layer.latent_dim, layer.latent_rope_dim);
      case Attention::kSparse: return text("layer %u attends to tokens that an index chooses", i);
      case Attention::kChunked:
        return text("layer %u attends within chunks of %u tokens, which is no sliding window", i, layer.window);
      case Attention::kFull:
      case Attention::kSliding: keeps = true; break;
      case Attention::kNone: break;
    }
  }
  return keeps ? "" : "no layer keeps keys and values";
}

Serving::Serving(const Model& model, const Choice& choice) {
  if (const std::string reason = obstacle(model); !reason.empty()) throw Failure(Exit::kNo, "not served: " + reason);
  if (oscar_cache_config_init(&config, sizeof config, choice.profile.c_str()) != OSCAR_OK)
    bad_usage(oscar_last_error());
  const std::vector<uint32_t> indices = indices_in_cache(model);
  for (uint32_t i = 0; i < model.layers.size(); ++i) {
    if (model.layers[i].attention == Attention::kNone) continue;
    layers_.push_back(entry_of(model.layers[i]));
    if (!model.owns(i)) layers_.back().kv_source = indices[model.layers[i].source];
  }
  config.n_layers = config.n_layer_configs = static_cast<uint32_t>(layers_.size());
  config.layers = layers_.data();
  config.n_q_heads = layers_[0].n_q_heads;
  config.n_kv_heads = layers_[0].n_kv_heads;
  config.key_dim = layers_[0].key_dim;
  config.value_dim = layers_[0].value_dim;
  config.max_tokens = choice.max_tokens;
  config.max_sequences = choice.n_sequences;
  const auto set = [](uint32_t& field, uint32_t chosen) {
    if (chosen != OSCAR_DEFAULT) field = chosen;
  };
  set(config.n_sink, choice.n_sink);
  set(config.n_recent, choice.n_recent);
  config.max_rollback = std::min(config.max_rollback, config.n_recent);
  set(config.max_rollback, choice.max_rollback);
  set(config.max_step_tokens, choice.max_step_tokens);
  set(config.n_threads, choice.n_threads);
  config.batch_invariant = choice.batch_invariant ? 1 : 0;
  if (choice.shaped) config.writer = OSCAR_WRITER_SHAPED;
  config.calibration = choice.calibration;
  calibrator_.struct_size = sizeof calibrator_;
  if (choice.self_calibrate) config.self_calibrate = &calibrator_;
  if (choice.device == "cuda") config.device_type = OSCAR_DEVICE_CUDA;
}

std::optional<oscar_cache_report> Serving::try_check(uint64_t context, uint64_t capacity_bytes) const {
  oscar_cache_config c = config;
  c.capacity_bytes = capacity_bytes;
  auto report = sized<oscar_cache_report>();
  const oscar_status status = oscar_cache_check(&c, context, &report);
  if (status == OSCAR_E_INVALID) return std::nullopt;
  call(status);
  return report;
}

oscar_cache_report Serving::check(uint64_t context, uint64_t capacity_bytes) const {
  const auto report = try_check(context, capacity_bytes);
  if (!report) bad_usage(oscar_last_error());
  return *report;
}

}  // namespace oscar::cli
