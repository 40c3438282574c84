// A model from its Hugging Face config.json. What a field means when it is left out differs between model types; the
// rules here are those of the configuration classes of transformers (4.57 and 5).
#include <algorithm>
#include <array>
#include <string_view>

#include "failure.h"
#include "json_fields.h"
#include "model.h"
#include "text.h"

namespace oscar::cli {

namespace {

// What a type takes for granted; 0: nothing.
struct TypeDefaults {
  std::string_view type;
  uint32_t n_layers, n_q_heads, n_kv_heads, head_dim, window;
  uint32_t period;  // every period-th layer is full, the others slide; 1: all slide
  uint64_t max_positions;
  uint32_t n_shared;
};

constexpr std::array kDefaults{
    TypeDefaults{"gemma", 0, 0, 0, 256, 0, 0, 8192, 0},
    TypeDefaults{"gemma2", 26, 8, 4, 256, 4096, 2, 8192, 0},
    TypeDefaults{"gemma3_text", 26, 8, 4, 256, 4096, 6, 131072, 0},
    TypeDefaults{"gemma3n_text", 35, 8, 2, 256, 512, 5, 32768, 15},
    TypeDefaults{"gpt_oss", 36, 64, 8, 64, 128, 2, 131072, 0},
    TypeDefaults{"cohere2", 40, 64, 0, 0, 4096, 4, 8192, 0},
    TypeDefaults{"olmo3", 32, 32, 0, 0, 4096, 4, 2048, 0},
    TypeDefaults{"qwen3", 0, 0, 0, 128, 0, 0, 32768, 0},
    TypeDefaults{"mistral", 0, 0, 8, 0, 4096, 1, 131072, 0},
    TypeDefaults{"mixtral", 0, 0, 8, 0, 0, 1, 131072, 0},
    TypeDefaults{"phi3", 0, 0, 0, 0, 0, 1, 4096, 0},
    TypeDefaults{"phimoe", 0, 0, 8, 0, 0, 1, 131072, 0},
    TypeDefaults{"starcoder2", 0, 0, 2, 0, 0, 1, 4096, 0},
};

TypeDefaults defaults_of(std::string_view type) {
  const auto* found = std::find_if(kDefaults.begin(), kDefaults.end(), [&](const auto& d) { return d.type == type; });
  return found == kDefaults.end() ? TypeDefaults{} : *found;
}

// Fields of designs that this reader would misread: better no number than a wrong one.
constexpr std::array kNotUnderstood{"hybrid_override_pattern",
                                    "layers_block_type",
                                    "block_types",
                                    "attn_layer_period",
                                    "attn_layer_indices",
                                    "linear_attn_config",
                                    "ssm_cfg",
                                    "attn_type_list",
                                    "cross_attention_layers",
                                    "layer_group_size",
                                    "mamba_d_state",
                                    "mamba_num_heads",
                                    "block_configs",
                                    "hybrid_layer_ids",
                                    "use_cla",
                                    "global_head_dim",
                                    "num_global_key_value_heads"};

// The part that speaks of the language model, in the configuration of a model that also sees or hears.
JsonFields language_part(const Json& document, const std::string& name) {
  const JsonFields whole(document, name);
  for (const char* part : {"text_config", "language_config", "llm_config"})
    if (const Json* found = whole.find(part)) return {*found, whole.name() + ": " + part};
  return whole;
}

uint32_t u32(uint64_t value) { return static_cast<uint32_t>(value); }

class ConfigReader {
 public:
  explicit ConfigReader(const JsonFields& fields)
      : f_(fields), type_(fields.word("model_type")), d_(defaults_of(type_)) {}

  Model read() {
    refuse_unknown_designs();
    Model model;
    model.type = printable(type_);
    model.format = "config.json";
    model.layers.resize(
        or_default({"num_hidden_layers", "n_layer", "n_layers", "num_layers"}, kMostLayers, d_.n_layers));
    model.max_positions = f_.number({"max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"}, 1, kMostTokens)
                              .value_or(d_.max_positions);
    const ModelLayer base = base_layer();
    for (uint32_t i = 0; i < model.layers.size(); ++i) {
      model.layers[i] = base;
      model.layers[i].source = i;
    }
    set_attention(model);
    set_shared(model);
    model.has_sink_logits = type_ == "gpt_oss";
    model.softcap = f_.real("attn_logit_softcapping").value_or(type_ == "gemma2" ? 50.0 : 0.0);
    return model;
  }

 private:
  void refuse_unknown_designs() const {
    if (f_.flag("is_encoder_decoder").value_or(false))
      f_.refuse("is_encoder_decoder", "is true: a model with cross-attention is not understood here");
    for (const char* field : kNotUnderstood)
      if (f_.has(field)) f_.refuse(field, "belongs to a design that is not understood here");
  }

  uint64_t or_default(std::initializer_list<const char*> names, uint64_t most, uint64_t fallback) const {
    return fallback > 0 ? f_.number(names, 1, most).value_or(fallback) : f_.needed(names, 1, most);
  }

  ModelLayer base_layer() const {
    ModelLayer layer;
    layer.n_q_heads = u32(
        or_default({"num_attention_heads", "n_head", "n_heads", "num_heads"}, kMostHeads, d_.n_q_heads));
    if (f_.has("kv_lora_rank")) {
      set_latent(layer);
      return layer;
    }
    layer.n_kv_heads = n_kv_heads(layer.n_q_heads);
    layer.key_dim = layer.value_dim = head_dim(layer.n_q_heads);
    if (layer.n_q_heads % layer.n_kv_heads != 0)
      f_.refuse("num_key_value_heads",
                text("is %u, wanted a divisor of the %u query heads", layer.n_kv_heads, layer.n_q_heads));
    return layer;
  }

  void set_latent(ModelLayer& layer) const {
    layer.attention = f_.has("index_topk") ? Attention::kSparse : Attention::kLatent;
    layer.latent_dim = u32(f_.needed({"kv_lora_rank"}, 1, kMostDim));
    layer.latent_rope_dim = u32(f_.needed({"qk_rope_head_dim"}, 0, kMostDim));
    layer.n_kv_heads = layer.n_q_heads;
    layer.key_dim = u32(f_.needed({"qk_nope_head_dim"}, 0, kMostDim)) + layer.latent_rope_dim;
    layer.value_dim = u32(f_.needed({"v_head_dim"}, 1, kMostDim));
  }

  uint32_t n_kv_heads(uint32_t n_q_heads) const {
    const bool falcon = type_ == "falcon" || type_ == "RefinedWeb" || type_ == "RefinedWebModel";
    const bool one = f_.flag("multi_query").value_or(falcon) && !f_.flag("new_decoder_architecture").value_or(false);
    if ((falcon || type_ == "gpt_bigcode") && one) return 1;
    const uint32_t fallback = d_.n_kv_heads > 0 ? d_.n_kv_heads : n_q_heads;
    return u32(f_.number({"num_key_value_heads", "num_kv_heads", "n_head_kv"}, 1, kMostHeads).value_or(fallback));
  }

  uint32_t head_dim(uint32_t n_q_heads) const {
    if (const auto given = f_.number({"head_dim", "attention_head_dim"}, 1, kMostDim)) return u32(*given);
    if (d_.head_dim > 0) return d_.head_dim;
    const uint64_t hidden = f_.needed({"hidden_size", "n_embd", "d_model"}, 1, kMostDim * 64);
    if (hidden % n_q_heads != 0)
      f_.refuse("hidden_size", text("is %llu, wanted a multiple of the %u heads, or head_dim",
                                    static_cast<unsigned long long>(hidden), n_q_heads));
    return u32(hidden / n_q_heads);
  }

  // ---- which layers see how far

  void set_attention(Model& model) const {
    if (const Json* types = f_.array("layer_types")) {
      set_by_types(model, *types);
    } else if (const auto interval = f_.number({"full_attention_interval"}, 1, kMostLayers)) {
      for (uint32_t i = 0; i < model.layers.size(); ++i)
        if ((i + 1) % *interval != 0) model.layers[i].attention = Attention::kNone;
    } else if (type_ == "llama4_text") {
      set_llama4(model);
    } else if (model.layers[0].latent_dim == 0) {
      set_by_pattern(model);
    }
  }

  uint32_t window(const char* field) const {
    return u32(d_.window > 0 ? f_.number({field}, 1, kMostTokens).value_or(d_.window)
                             : f_.needed({field}, 1, kMostTokens));
  }

  void set_by_types(Model& model, const Json& types) const {
    if (types.size() != model.layers.size())
      f_.refuse("layer_types", text("has %zu entries, the model %zu layers", types.size(), model.layers.size()));
    for (uint32_t i = 0; i < types.size(); ++i) {
      ModelLayer& layer = model.layers[i];
      if (!types[i].is_string())
        f_.refuse("layer_types", text("[%u] is of type %s, wanted a text", i, types[i].type_name()));
      const auto& kind = types[i].get_ref<const std::string&>();
      if (kind == "full_attention" || kind == "attention") continue;
      if (kind == "sliding_attention") {
        layer.attention = Attention::kSliding;
        layer.window = window("sliding_window");
      } else if (kind == "chunked_attention") {
        layer.attention = Attention::kChunked;
        layer.window = window("attention_chunk_size");
      } else if (kind == "linear_attention" || kind == "mamba" || kind == "conv" || kind == "recurrent") {
        layer.attention = Attention::kNone;
      } else {
        f_.refuse("layer_types", text("[%u] is \"%s\", which is not understood here", i, printable(kind).c_str()));
      }
    }
  }

  // Three of four layers turn their keys (RoPE), and those see only their own chunk.
  void set_llama4(Model& model) const {
    if (!f_.has("attention_chunk_size")) return;
    const Json* turns = f_.array("no_rope_layers");
    const auto interval = f_.number({"no_rope_layer_interval"}, 1, kMostLayers).value_or(4);
    if (turns && !turns->empty() && turns->size() != model.layers.size())
      f_.refuse("no_rope_layers", text("has %zu entries, the model %zu layers", turns->size(), model.layers.size()));
    for (uint32_t i = 0; i < model.layers.size(); ++i) {
      const bool in_chunks = turns && !turns->empty() ? (*turns)[i] == 1 : (i + 1) % interval != 0;
      if (!in_chunks) continue;
      model.layers[i].attention = Attention::kChunked;
      model.layers[i].window = window("attention_chunk_size");
    }
  }

  void set_by_pattern(Model& model) const {
    const bool may_slide = f_.flag("use_sliding_window").value_or(!is_qwen());
    // null, written out, means none, also where the type has a window of its own
    if (!may_slide || f_.is_null("sliding_window") || (!f_.has("sliding_window") && d_.window == 0)) return;
    const auto period =
        f_.number({"sliding_window_pattern", "_sliding_window_pattern"}, 1, kMostLayers).value_or(d_.period);
    if (period == 0 && !is_qwen())
      f_.refuse("sliding_window",
                text("is there, and which layers of model type \"%s\" slide is not known here", model.type.c_str()));
    const uint64_t first = is_qwen() ? f_.number({"max_window_layers"}, 0, kMostLayers).value_or(28) : 0;
    for (uint32_t i = 0; i < model.layers.size(); ++i) {
      const bool full = is_qwen() ? i < first : period > 1 && (i + 1) % period == 0;
      if (full) continue;
      model.layers[i].attention = Attention::kSliding;
      model.layers[i].window = window("sliding_window");
    }
  }

  bool is_qwen() const { return type_.rfind("qwen", 0) == 0; }

  void set_shared(Model& model) const {
    const uint64_t n_shared = f_.number({"num_kv_shared_layers"}, 0, kMostLayers).value_or(d_.n_shared);
    if (!share_last_layers(model, n_shared))
      f_.refuse("num_kv_shared_layers", text("is %u, which leaves a layer none of its kind to read", u32(n_shared)));
  }

  const JsonFields& f_;
  std::string type_;
  TypeDefaults d_;
};

}  // namespace

Model model_from_config(std::span<const uint8_t> bytes, const std::string& name) {
  const Json document = parse_json(bytes, name, "neither JSON nor GGUF");
  const JsonFields fields = language_part(document, name);
  Model model = ConfigReader(fields).read();
  check_elements(model, name);
  return model;
}

}  // namespace oscar::cli
