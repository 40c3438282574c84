// A model from the header of its GGUF file. Which layers slide is, for most architectures, knowledge of llama.cpp
// (src/llama-model.cpp) and not in the file.
#include <algorithm>
#include <array>
#include <string_view>

#include "failure.h"
#include "gguf.h"
#include "model.h"
#include "text.h"

namespace oscar::cli {

namespace {

// Every period-th layer is full, the others slide; 1: all slide; 0: none does, whatever the file says of a window.
struct Pattern {
  std::string_view architecture;
  uint32_t period;
};

constexpr std::array kPatterns{Pattern{"gemma2", 2},  Pattern{"gemma3", 6},  Pattern{"gemma3n", 5},
                               Pattern{"gpt-oss", 2}, Pattern{"cohere2", 4}, Pattern{"exaone4", 4},
                               Pattern{"olmo2", 4},   Pattern{"phi3", 1},    Pattern{"llama", 0},
                               Pattern{"qwen2", 0},   Pattern{"qwen3", 0}};

// Architectures whose layers keep states, or see in ways that the header does not tell.
constexpr std::array kNotUnderstood{"llama4",      "jamba",     "falcon-h1", "granitehybrid",
                                    "nemotron_h",  "qwen3next", "lfm2",      "plamo2",
                                    "kimi-linear", "t5",        "gemma4"};

uint32_t u32(uint64_t value) { return static_cast<uint32_t>(value); }

class GgufReader {
 public:
  explicit GgufReader(const Gguf& file) : f_(file), architecture_(file.word("general.architecture")) {
    if (architecture_.empty()) f_.refuse("general.architecture", "is missing");
    for (const char* name : kNotUnderstood)
      if (architecture_ == name)
        f_.refuse("general.architecture", text("is \"%s\", a design that is not understood here", name));
    if (f_.find(key("ssm.state_size")) || f_.find(key("wkv.head_size")))
      f_.refuse("general.architecture",
                text("is \"%s\", which keeps states: not understood here", printable(architecture_).c_str()));
  }

  Model read() const {
    Model model;
    model.type = printable(architecture_);
    model.format = "GGUF";
    model.layers.resize(f_.needed(key("block_count"), 1, kMostLayers));
    model.max_positions = f_.number(key("context_length"), 1, kMostTokens).value_or(0);
    set_heads(model);
    set_windows(model);
    set_shared(model);
    model.has_sink_logits = architecture_ == "gpt-oss";
    model.softcap = f_.real(key("attn_logit_softcapping")).value_or(architecture_ == "gemma2" ? 50.0 : 0.0);
    return model;
  }

 private:
  std::string key(const char* name) const { return architecture_ + "." + name; }

  void set_heads(Model& model) const {
    const size_t n = model.layers.size();
    const auto q_heads = f_.per_layer(key("attention.head_count"), n, kMostHeads);
    if (!q_heads) f_.refuse(key("attention.head_count"), "is missing");
    const auto kv_heads = f_.per_layer(key("attention.head_count_kv"), n, kMostHeads).value_or(*q_heads);
    for (uint32_t i = 0; i < n; ++i) {
      ModelLayer& layer = model.layers[i];
      layer.source = i;
      layer.n_q_heads = u32((*q_heads)[i]);
      layer.n_kv_heads = u32(kv_heads[i]);
      if (layer.n_q_heads == 0 || layer.n_kv_heads == 0) {
        layer.attention = Attention::kNone;
        continue;
      }
      if (layer.n_q_heads % layer.n_kv_heads != 0)
        f_.refuse(key("attention.head_count_kv"),
                  text("is %u, wanted a divisor of the %u query heads", layer.n_kv_heads, layer.n_q_heads));
      set_dims(layer);
    }
  }

  void set_dims(ModelLayer& layer) const {
    if (const auto rank = f_.number(key("attention.kv_lora_rank"), 1, kMostDim)) {
      layer.attention = Attention::kLatent;
      layer.latent_dim = u32(*rank);
      layer.latent_rope_dim = u32(f_.needed(key("rope.dimension_count"), 0, kMostDim));
      // Newer files give the heads' own sizes as *_mla; key_length is then that of the row.
      const bool has_mla = f_.find(key("attention.key_length_mla")) != nullptr;
      layer.n_kv_heads = layer.n_q_heads;
      layer.key_dim = u32(f_.needed(key(has_mla ? "attention.key_length_mla" : "attention.key_length"), 1, kMostDim));
      layer.value_dim = u32(
          f_.needed(key(has_mla ? "attention.value_length_mla" : "attention.value_length"), 1, kMostDim));
      return;
    }
    layer.key_dim = dim("attention.key_length", layer.n_q_heads);
    layer.value_dim = dim("attention.value_length", layer.n_q_heads);
  }

  uint32_t dim(const char* name, uint32_t n_q_heads) const {
    if (const auto given = f_.number(key(name), 1, kMostDim)) return u32(*given);
    const uint64_t width = f_.needed(key("embedding_length"), 1, kMostDim * 64);
    if (width % n_q_heads != 0)
      f_.refuse(key("embedding_length"),
                text("is %llu, wanted a multiple of the %u heads", static_cast<unsigned long long>(width), n_q_heads));
    return u32(width / n_q_heads);
  }

  void set_windows(Model& model) const {
    const auto window = f_.number(key("attention.sliding_window"), 0, kMostTokens).value_or(0);
    if (window == 0 || model.layers[0].latent_dim > 0) return;
    const char* pattern_key = "attention.sliding_window_pattern";
    const GgufValue* pattern = f_.find(key(pattern_key));
    const bool listed = pattern && std::holds_alternative<GgufList>(*pattern);
    const auto slides = listed ? f_.per_layer(key(pattern_key), model.layers.size(), 1) : std::nullopt;
    const uint32_t period = listed ? 0 : period_of();
    for (uint32_t i = 0; i < model.layers.size(); ++i) {
      const bool is_sliding = listed ? (*slides)[i] == 1 : period > 0 && (period == 1 || (i + 1) % period != 0);
      if (!is_sliding || model.layers[i].attention != Attention::kFull) continue;
      model.layers[i].attention = Attention::kSliding;
      model.layers[i].window = u32(window);
    }
  }

  uint32_t period_of() const {
    if (const auto given = f_.number(key("attention.sliding_window_pattern"), 1, kMostLayers)) return u32(*given);
    const auto* known = std::find_if(kPatterns.begin(), kPatterns.end(),
                                     [&](const Pattern& p) { return p.architecture == architecture_; });
    if (known == kPatterns.end())
      f_.refuse(key("attention.sliding_window"),
                text("is there, and which layers of \"%s\" slide is not known here", printable(architecture_).c_str()));
    return known->period;
  }

  void set_shared(Model& model) const {
    const auto n_shared = f_.number(key("attention.shared_kv_layers"), 0, kMostLayers).value_or(0);
    if (!share_last_layers(model, n_shared))
      f_.refuse(key("attention.shared_kv_layers"),
                text("is %u, which leaves a layer none of its kind to read", u32(n_shared)));
  }

  const Gguf& f_;
  std::string architecture_;
};

}  // namespace

Model model_from_gguf(std::span<const uint8_t> bytes, const std::string& name) {
  const Gguf file(bytes, name);
  Model model = GgufReader(file).read();
  check_elements(model, name);
  return model;
}

}  // namespace oscar::cli
