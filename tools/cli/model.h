// What a model's layers keep for every token, as its config.json or its GGUF header says.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace oscar::cli {

enum class Attention : uint32_t {
  kFull,     // every token of the past
  kSliding,  // the last `window` tokens
  kChunked,  // the tokens of the query's own chunk of `window` tokens (Llama 4)
  kLatent,   // one compressed row for all heads (multi-head latent attention, DeepSeek)
  kSparse,   // an index chooses the tokens (DeepSeek V3.2 and later)
  kNone,     // keeps a state instead of keys and values: linear attention, convolution, state space
};

const char* attention_name(Attention attention);

struct ModelLayer {
  Attention attention = Attention::kFull;
  uint32_t n_q_heads = 0, n_kv_heads = 0, key_dim = 0, value_dim = 0;
  uint32_t window = 0;                           // tokens; of kSliding and kChunked
  uint32_t latent_dim = 0, latent_rope_dim = 0;  // of kLatent: elements of its row
  uint32_t source = 0;  // the layer whose keys and values it reads: its own index, or an earlier one

  bool operator==(const ModelLayer&) const = default;
};

struct Model {
  std::string type;    // model_type of a config.json, architecture of a GGUF file
  std::string format;  // "config.json" or "GGUF"
  std::vector<ModelLayer> layers;
  uint64_t max_positions = 0;  // 0: not said
  bool has_sink_logits = false;
  double softcap = 0;  // of attention's logits; 0: none
  std::vector<std::string> notes;

  bool owns(uint32_t layer) const {
    return layers[layer].source == layer && layers[layer].attention != Attention::kNone;
  }
};

// Elements of one layer that one token adds.
uint64_t elements_per_token(const ModelLayer& layer);

// Elements that a cache without any packing keeps of one sequence: a window's layers keep the window.
uint64_t kept_elements(const Model& model, uint64_t n_tokens);

// Lets the last layers read what the last layer of their kind before them stores (Gemma 3n). False where there is none.
bool share_last_layers(Model& model, uint64_t n_shared);

// Limits of what a header may claim; beyond them it is taken to be damaged.
inline constexpr uint64_t kMostLayers = 4096, kMostHeads = 65536, kMostDim = 65536, kMostTokens = uint64_t{1} << 31;

// Of all layers together: sums of bytes over 2^31 tokens stay within 64 bits.
inline constexpr uint64_t kMostElements = uint64_t{1} << 26;
// Throws Failure (input) where the layers have more elements than that.
void check_elements(const Model& model, const std::string& name);

// Reads a model's file (config.json or GGUF, told apart by content), or the folder with its config.json. Throws Failure.
Model read_model(const std::string& path);

// The readers, on bytes; `name` is for messages.
Model model_from_config(std::span<const uint8_t> bytes, const std::string& name);
Model model_from_gguf(std::span<const uint8_t> bytes, const std::string& name);

}  // namespace oscar::cli
