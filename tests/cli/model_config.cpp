// What is read of config.json: the published models, what types leave out, and what is refused.
#include <algorithm>

#include "cli/models.h"

using namespace oscar::cli;
using namespace oscar::cli::test;

namespace {

uint64_t per_token(const Model& model) {
  uint64_t elements = 0;
  for (uint32_t i = 0; i < model.layers.size(); ++i)
    if (model.owns(i)) elements += elements_per_token(model.layers[i]);
  return elements;
}

int64_t n_of(const Model& model, Attention attention) {
  return std::count_if(model.layers.begin(), model.layers.end(),
                       [&](const ModelLayer& l) { return l.attention == attention; });
}

Model read(std::string_view words) { return model_from_config(bytes_of(words), "config.json"); }
std::string refused(std::string_view words) {
  return refusal([&] { read(words); });
}

}  // namespace

TEST_CASE("published models: elements that a token adds, by their model cards") {
  CHECK(per_token(model_named("qwen3-8b")) == 36 * 8 * (128 + 128));
  CHECK(per_token(model_named("qwen3-4b")) == 36 * 8 * (128 + 128));
  CHECK(per_token(model_named("llama-3.1-70b")) == 80 * 8 * (128 + 128));  // head_dim is 8192 / 64
  CHECK(per_token(model_named("gemma-3-27b")) == 62 * 16 * (128 + 128));
  CHECK(per_token(model_named("gpt-oss-120b")) == 36 * 8 * (64 + 64));
  CHECK(per_token(model_named("deepseek-v3")) == 61 * (512 + 64));
}

TEST_CASE("Gemma 3: every sixth layer is full, the others see 1,024 tokens") {
  const Model model = model_named("gemma-3-27b");
  CHECK(model.type == "gemma3_text");
  CHECK(model.max_positions == 131072);
  CHECK(n_of(model, Attention::kFull) == 10);
  CHECK(n_of(model, Attention::kSliding) == 52);
  for (const uint32_t full : {5u, 11u, 59u}) CHECK(model.layers[full].attention == Attention::kFull);
  CHECK(model.layers[61].attention == Attention::kSliding);
  CHECK(model.layers[0].window == 1024);
  CHECK(model.layers[0].n_q_heads == 32);
}

TEST_CASE("gpt-oss: the first of two layers sees 128 tokens; learned sinks") {
  const Model model = model_named("gpt-oss-120b");
  CHECK(model.layers[0].window == 128);
  CHECK(model.layers[1].window == 0);
  CHECK(n_of(model, Attention::kSliding) == 18);
  CHECK(model.has_sink_logits);
}

TEST_CASE("DeepSeek-V3: a latent row of 512 + 64, or 128 heads of 192 and 128") {
  const Model model = model_named("deepseek-v3");
  CHECK(n_of(model, Attention::kLatent) == 61);
  const ModelLayer& layer = model.layers[60];
  CHECK(layer.latent_dim == 512);
  CHECK(layer.latent_rope_dim == 64);
  CHECK(layer.n_kv_heads == 128);
  CHECK(layer.key_dim == 192);
  CHECK(layer.value_dim == 128);
}

TEST_CASE("Gemma 3n: the last 15 layers read what layers 18 and 19 store") {
  const Model model = model_named("gemma-3n-e4b");
  for (uint32_t i = 0; i < 20; ++i) CHECK(model.owns(i));
  for (uint32_t i = 20; i < 35; ++i) CHECK(model.layers[i].source == ((i + 1) % 5 == 0 ? 19 : 18));
  CHECK(per_token(model) == 20 * 2 * (256 + 256));
}

TEST_CASE("what a type leaves out is what its configuration class says") {
  // Gemma 3 4B names no heads at all.
  const Model gemma = read(R"({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 2560,
                               "num_hidden_layers": 34, "sliding_window": 1024}})");
  CHECK(gemma.layers[0].n_q_heads == 8);
  CHECK(gemma.layers[0].n_kv_heads == 4);
  CHECK(gemma.layers[0].key_dim == 256);
  CHECK(n_of(gemma, Attention::kFull) == 5);
  const Model gemma2 = read(R"({"model_type": "gemma2", "num_hidden_layers": 4})");
  CHECK(gemma2.layers[0].window == 4096);
  CHECK(gemma2.layers[1].window == 0);
  CHECK(gemma2.softcap == 50);
  const Model gpt2 = read(R"({"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024})");
  CHECK(gpt2.layers[11].n_kv_heads == 12);
  CHECK(gpt2.layers[11].key_dim == 64);
  CHECK(gpt2.max_positions == 1024);
  const Model falcon = read(
      R"({"model_type": "falcon", "num_hidden_layers": 2, "num_attention_heads": 71, "hidden_size": 4544})");
  CHECK(falcon.layers[0].n_kv_heads == 1);
  const char* mistral =
      R"({"model_type": "mistral", "num_hidden_layers": 2, "num_attention_heads": 32, "hidden_size": 4096,
                            "num_key_value_heads": 8, "sliding_window": %s})";
  char words[300];
  std::snprintf(words, sizeof words, mistral, "null");
  CHECK(n_of(read(words), Attention::kSliding) == 0);
  std::snprintf(words, sizeof words, mistral, "4096");
  CHECK(n_of(read(words), Attention::kSliding) == 2);
}

TEST_CASE("Qwen's window begins at max_window_layers, where it is used at all") {
  const Model model = read(
      R"({"model_type": "qwen2", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512,
                               "use_sliding_window": true, "sliding_window": 100, "max_window_layers": 3})");
  CHECK(n_of(model, Attention::kSliding) == 1);
  CHECK(model.layers[3].window == 100);
}

TEST_CASE("layers without keys and values, chunks and indices are told apart") {
  const char* base = R"({"model_type": "x", "num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 512, %s})";
  char words[400];
  const auto with = [&](const char* more) {
    std::snprintf(words, sizeof words, base, more);
    return words;
  };
  CHECK(read(with(R"("layer_types": ["linear_attention", "full_attention"])")).layers[0].attention == Attention::kNone);
  CHECK(read(with(R"("full_attention_interval": 2)")).layers[0].attention == Attention::kNone);
  const Model chunked = read(
      with(R"("layer_types": ["chunked_attention", "full_attention"], "attention_chunk_size": 8192)"));
  CHECK(chunked.layers[0].attention == Attention::kChunked);
  CHECK(has(refused(with(R"("layer_types": ["full_attention"])")), "layer_types has 1 entries, the model 2 layers"));
  CHECK(
      has(refused(with(R"("layer_types": ["full_attention", "dreaming"])")), "\"dreaming\", which is not understood"));
  CHECK(has(refused(with(R"("layer_types": ["full_attention", 7])")), "layer_types [1] is of type number"));
  CHECK(has(refused(with(R"("layer_types": "full")")), "layer_types is of type string, wanted a list"));
  CHECK(has(refused(with(R"("layer_types": ["sliding_attention", "full_attention"])")), "sliding_window is missing"));
  CHECK(has(refused(with(R"("sliding_window": 128)")), "which layers of model type \"x\" slide is not known here"));
  CHECK(has(refused(with(R"("is_encoder_decoder": true)")), "is_encoder_decoder is true"));
  CHECK(has(refused(with(R"("hybrid_override_pattern": "M-M*")")), "hybrid_override_pattern belongs to a design"));
  CHECK(has(refused(with(R"("num_kv_shared_layers": 2)")), "num_kv_shared_layers is 2"));
}

TEST_CASE("wrong types, missing fields and absurd sizes name the field") {
  CHECK(has(refused("[1, 2]"), "is JSON of type array, wanted an object"));
  CHECK(has(refused("{"), "neither JSON nor GGUF (JSON fails at byte 2)"));
  CHECK(has(refused(""), "neither JSON nor GGUF"));
  CHECK(has(refused("{\"a\": 1e400}"), "a number in its JSON is too large"));
  CHECK(has(refused("{}"), "num_hidden_layers is missing"));
  CHECK(has(refused(R"({"num_hidden_layers": "36"})"), "num_hidden_layers is of type string, wanted a whole number"));
  CHECK(has(refused(R"({"num_hidden_layers": 1.5})"), "num_hidden_layers is of type number, wanted a whole number"));
  CHECK(has(refused(R"({"num_hidden_layers": -1})"), "num_hidden_layers is -1, wanted 1 to 4096"));
  CHECK(has(refused(R"({"num_hidden_layers": 18446744073709551615})"), "wanted 1 to 4096"));
  CHECK(has(refused(R"({"model_type": 3})"), "model_type is of type number, wanted a text"));
  CHECK(has(refused(R"({"num_hidden_layers": 1, "num_attention_heads": 3, "hidden_size": 64})"), "hidden_size is 64"));
  CHECK(has(refused(R"({"num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 3, "head_dim": 64})"),
            "num_key_value_heads is 3, wanted a divisor"));
  CHECK(has(refused(R"({"num_hidden_layers": 4096, "num_attention_heads": 65536, "head_dim": 65536})"),
            "taken to be damage"));
  CHECK(has(refused("{\"text_config\": 4}"), "text_config: is JSON of type number"));
}

TEST_CASE("deep and huge JSON ends in one line") {
  const std::string deep = std::string(1000000, '[');
  CHECK(has(refused(deep), "nested deeper than 64 levels"));
  CHECK(has(refused("{\"a\": " + deep), "nested deeper than 64 levels"));
  CHECK(has(refused("[" + std::string(5u << 20, ' ')), "a description in JSON has at most"));
  CHECK(has(refused("{\"model_type\": \"" + std::string(1000, 'x') + "\x01"), "JSON fails at byte"));
}
