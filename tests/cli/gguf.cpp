// GGUF headers: SmolLM2's, per-layer lists, and every way of being wrong.
#include "gguf.h"

#include <cstdlib>

#include "cli/gguf_writer.h"
#include "cli/models.h"

using namespace oscar::cli;
using namespace oscar::cli::test;

namespace {

GgufWriter llama(uint32_t n_layers = 2, uint32_t version = 3) {
  GgufWriter writer(version);
  writer.word("general.architecture", "llama").u32("llama.block_count", n_layers).u32("llama.embedding_length", 512);
  return writer;
}
std::string refused(const std::vector<uint8_t>& bytes) {
  return refusal([&] { model_from_gguf(bytes, "model.gguf"); });
}

}  // namespace

TEST_CASE("SmolLM2: 30 layers of 9 query and 3 KV heads of 64") {
  const Model model = model_from_gguf(smollm2_header(), "smollm2.gguf");
  REQUIRE(model.layers.size() == 30);
  CHECK(model.layers[29].n_q_heads == 9);
  CHECK(model.layers[29].n_kv_heads == 3);
  CHECK(model.layers[29].key_dim == 64);
  CHECK(model.layers[29].attention == Attention::kFull);
  CHECK(model.max_positions == 8192);
}

TEST_CASE("heads may differ from layer to layer; none of them: a layer that keeps nothing") {
  const auto bytes =
      llama(3).u32s("llama.attention.head_count", {8, 8, 0}).u32s("llama.attention.head_count_kv", {8, 2, 0}).bytes();
  const Model model = model_from_gguf(bytes, "model.gguf");
  CHECK(model.layers[0].n_kv_heads == 8);
  CHECK(model.layers[1].n_kv_heads == 2);
  CHECK(model.layers[2].attention == Attention::kNone);
  CHECK(kept_elements(model, 10) == 10 * (8 + 2) * (64 + 64));
}

TEST_CASE("windows: llama.cpp's pattern of the architecture, or the file's own list") {
  GgufWriter gemma;
  gemma.word("general.architecture", "gemma3").u32("gemma3.block_count", 7).u32("gemma3.attention.head_count", 8);
  gemma.u32("gemma3.attention.key_length", 256).u32("gemma3.attention.value_length", 256);
  gemma.u32("gemma3.attention.sliding_window", 512);
  const Model model = model_from_gguf(gemma.bytes(), "gemma.gguf");
  for (uint32_t i = 0; i < 7; ++i) CHECK(model.layers[i].window == (i == 5 ? 0 : 512));
  gemma.u32s("gemma3.attention.sliding_window_pattern", {0, 0, 0, 0, 0, 0, 1});
  CHECK(model_from_gguf(gemma.bytes(), "gemma.gguf").layers[6].window == 512);
  CHECK(model_from_gguf(gemma.bytes(), "gemma.gguf").layers[0].window == 0);
  GgufWriter other;
  other.word("general.architecture", "new").u32("new.block_count", 1).u32("new.attention.head_count", 8);
  other.u32("new.embedding_length", 512).u32("new.attention.sliding_window", 128);
  CHECK(has(refused(other.bytes()), "which layers of \"new\" slide is not known here"));
}

TEST_CASE("latent attention, by the older and by the newer keys") {
  for (const bool newer : {false, true}) {
    GgufWriter file;
    file.word("general.architecture", "deepseek2")
        .u32("deepseek2.block_count", 1)
        .u32("deepseek2.attention.head_count", 128);
    file.u32("deepseek2.attention.kv_lora_rank", 512).u32("deepseek2.rope.dimension_count", 64);
    if (newer) file.u32("deepseek2.attention.key_length", 576).u32("deepseek2.attention.value_length", 512);
    const std::string end = newer ? "_mla" : "";
    file.u32("deepseek2.attention.key_length" + end, 192).u32("deepseek2.attention.value_length" + end, 128);
    const Model model = model_from_gguf(file.bytes(), "deepseek.gguf");
    CHECK(elements_per_token(model.layers[0]) == 576);
    CHECK(model.layers[0].key_dim == 192);
    CHECK(model.layers[0].value_dim == 128);
  }
}

TEST_CASE("each cut of a header is refused with its place") {
  const std::vector<uint8_t> whole = smollm2_header();
  for (size_t size = 0; size < whole.size(); ++size) {
    INFO("cut to " << size);
    CHECK(!refused({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}).empty());
  }
}

TEST_CASE("each byte of a header may change: a model or one line, and nothing else") {
  const std::vector<uint8_t> whole = smollm2_header();
  for (size_t at = 0; at < whole.size(); ++at)
    for (const uint8_t flip : {0x01, 0x80, 0xff}) {
      std::vector<uint8_t> bytes = whole;
      bytes[at] ^= flip;
      refused(bytes);
    }
}

TEST_CASE("lies about sizes are not believed") {
  CHECK(has(refused(llama(2, 1).bytes()), "version 1"));
  CHECK(has(refused(llama(2, 0x03000000).bytes()), "version 50331648"));  // big endian
  GgufWriter list = llama();
  list.raw("a", 9, uint32_t{4});
  list.put(uint64_t{1} << 60);
  CHECK(has(refused(list.bytes()), "a list of 1152921504606846976 elements"));
  GgufWriter word = llama();
  word.raw("a", 8, UINT64_MAX);
  CHECK(has(refused(word.bytes()), "a text of 18446744073709551615 bytes"));
  std::vector<uint8_t> many = llama().bytes();
  const uint64_t n_keys = uint64_t{1} << 40;
  std::memcpy(many.data() + 16, &n_keys, 8);
  CHECK(has(refused(many), "1099511627776 keys"));
  GgufWriter nested = llama();
  nested.raw("a", 9, uint32_t{9});
  for (int i = 0; i < 10000; ++i) nested.put(uint64_t{1}), nested.put(uint32_t{9});
  CHECK(has(refused(nested.bytes()), "lists nested deeper"));
  CHECK(has(refused(llama().raw("a", 77, uint32_t{0}).bytes()), "unknown type 77"));
  CHECK(has(refused(llama().u32("llama.block_count", 3).bytes()), "is there twice"));
  CHECK(has(refused(llama().bytes()), "llama.attention.head_count is missing"));
  CHECK(has(refused(llama().f32("llama.attention.head_count", 8).bytes()), "is no whole number"));
  CHECK(
      has(refused(llama().u32s("llama.attention.head_count", {1, 2, 3}).bytes()), "has 3 entries, the model 2 layers"));
  CHECK(has(refused(llama(5000).bytes()), "llama.block_count is 5000, wanted 1 to 4096"));
  CHECK(has(refused(GgufWriter().word("general.architecture", "llama4").bytes()),
            "a design that is not understood here"));
  CHECK(has(refused(GgufWriter().u32("general.architecture", 1).bytes()), "is no text"));
}
