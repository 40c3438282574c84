#include "model.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "failure.h"
#include "file.h"
#include "text.h"

namespace oscar::cli {

const char* attention_name(Attention attention) {
  switch (attention) {
    case Attention::kFull: return "full";
    case Attention::kSliding: return "sliding";
    case Attention::kChunked: return "chunked";
    case Attention::kLatent: return "latent";
    case Attention::kSparse: return "sparse";
    case Attention::kNone: return "none";
  }
  return "none";
}

uint64_t elements_per_token(const ModelLayer& layer) {
  if (layer.attention == Attention::kNone) return 0;
  if (layer.latent_dim > 0) return uint64_t{layer.latent_dim} + layer.latent_rope_dim;
  return uint64_t{layer.n_kv_heads} * (uint64_t{layer.key_dim} + layer.value_dim);
}

uint64_t kept_elements(const Model& model, uint64_t n_tokens) {
  uint64_t elements = 0;
  for (uint32_t i = 0; i < model.layers.size(); ++i) {
    const ModelLayer& layer = model.layers[i];
    if (!model.owns(i)) continue;
    elements += (layer.window > 0 ? std::min<uint64_t>(layer.window, n_tokens) : n_tokens) * elements_per_token(layer);
  }
  return elements;
}

void check_elements(const Model& model, const std::string& name) {
  uint64_t elements = 0;  // 4096 layers of at most 65536 heads of 2 x 65536: no overflow
  for (const ModelLayer& layer : model.layers) elements += elements_per_token(layer);
  if (elements > kMostElements)
    bad_input(text("%s: %llu elements of keys and values a token, taken to be damage beyond %llu",
                   printable(name).c_str(), static_cast<unsigned long long>(elements),
                   static_cast<unsigned long long>(kMostElements)));
}

bool share_last_layers(Model& model, uint64_t n_shared) {
  const uint64_t n = model.layers.size();
  if (n_shared >= n) return false;
  const auto first = static_cast<uint32_t>(n - n_shared);
  for (uint32_t i = first; i < n; ++i) {
    uint32_t source = first;
    while (source > 0 && model.layers[source - 1].attention != model.layers[i].attention) --source;
    if (source == 0) return false;
    model.layers[i].source = source - 1;
  }
  return true;
}

Model read_model(const std::string& path) {
  struct stat status {};
  const bool is_folder = ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
  const std::string file_path = is_folder ? path + "/config.json" : path;
  const MappedFile file(file_path);
  const std::span<const uint8_t> bytes = file.bytes();
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) return model_from_gguf(bytes, file_path);
  return model_from_config(bytes, file_path);
}

}  // namespace oscar::cli
