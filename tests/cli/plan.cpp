// Bytes of published models: by hand, and as the allocator counts them.
#include "plan.h"

#include "cli/by_hand.h"
#include "cli/filled_cache.h"
#include "cli/gguf_writer.h"
#include "cli/models.h"
#include "fit.h"

using namespace oscar::cli;
using namespace oscar::cli::test;

namespace {

const PlanRow& row(const Plan& plan, const char* format) {
  for (const PlanRow& r : plan.rows)
    if (r.format == format) return r;
  FAIL("no row " << format);
  return plan.rows.front();
}

Plan plan_of(const Model& model, uint64_t context, uint32_t n_sequences = 1, uint64_t memory = 0,
             const std::vector<std::string>& profiles = {"2bit"}) {
  return make_plan(model, Choice{}, profiles, context, n_sequences, memory);
}

constexpr uint64_t kBlock64 = 4576, kBlock128 = 8864, kBlock256 = 17440;  // docs/format.md, "2bit (default)"

}  // namespace

TEST_CASE("Qwen3-8B and Qwen3-4B at 32K, to the byte") {
  for (const char* name : {"qwen3-8b", "qwen3-4b"}) {
    const Plan plan = plan_of(model_named(name), 32768);
    // 36 layers x 8 heads x 256 elements x 2 bytes x 32768 tokens
    CHECK(row(plan, "BF16").bytes == 4831838208);
    CHECK(row(plan, "FP8").bytes == 2415919104);
    CHECK(row(plan, "INT4").bytes == 1358954496);  // 4.5 bits
    // 254 blocks of 288 heads; 17 pages of 16 rows of 288 heads; votes: 288 x 10,048; tables: 254 x 16 + 17 x 4
    CHECK(row(plan, "liboscar 2bit").bytes == 254u * 288 * 8864 + 17u * 288 * 8192 + 288u * 10048 + 254 * 16 + 17 * 4);
    CHECK(row(plan, "liboscar 2bit").bytes == 691425316);
    CHECK(row(plan, "liboscar 2bit").bits_per_element == doctest::Approx(8.0 * 691425316 / (73728.0 * 32768)));
  }
}

TEST_CASE("Llama-3.1-70B at 128K: 40 GiB of BF16") {
  const Plan plan = plan_of(model_named("llama-3.1-70b"), 131072);
  CHECK(row(plan, "BF16").bytes == uint64_t{40} << 30);
  CHECK(row(plan, "liboscar 2bit").bytes == bytes_by_hand({80, 8, 256, kBlock128}, 131072));
}

TEST_CASE("Gemma-3-27B at 32K: windows of 1,024 are packed, and keep no more than they see") {
  const Plan plan = plan_of(model_named("gemma-3-27b"), 32768);
  // Full: 10 x 16 x 256 elements x 32768 tokens; sliding: 52 x 16 x 256 x 1024
  CHECK(row(plan, "BF16").bytes == 2 * (uint64_t{40960} * 32768 + uint64_t{212992} * 1024));
  const uint64_t full = bytes_by_hand({10, 16, 256, kBlock128}, 32768),
                 sliding = bytes_by_hand({52, 16, 256, kBlock128, 1024}, 32768);
  // By the numbers: 8 blocks and 9 pages behind the window of 1024 + 8 that can be rolled back
  CHECK(sliding == 8u * (832 * 8864 + 16) + 9u * (832 * 8192 + 4) + 832u * 10048);
  CHECK(row(plan, "liboscar 2bit").bytes == full + sliding);
  REQUIRE(plan.groups.size() == 2);
  CHECK(row(plan, "liboscar 2bit").group_bytes[0] == sliding);  // layer 0 slides
  CHECK(row(plan, "liboscar 2bit").group_bytes[1] == full);
}

TEST_CASE("gpt-oss-120b at 128K: windows of 128 stay exact") {
  const Plan plan = plan_of(model_named("gpt-oss-120b"), 131072);
  CHECK(row(plan, "BF16").bytes == 2 * 18 * 8 * 128 * (uint64_t{131072} + 128));
  // 144 heads of 64: pages of 16 x 128 x 2 bytes; the window's 128 + 8 tokens and one more lie in 10 of them
  const uint64_t sliding = bytes_by_hand({18, 8, 128, 0, 128}, 131072);
  CHECK(sliding == 10u * (144 * 4096 + 4));
  CHECK(row(plan, "liboscar 2bit").bytes == sliding + bytes_by_hand({18, 8, 128, kBlock64}, 131072));
}

TEST_CASE("DeepSeek-V3: latent rows are counted, not served, and the reason is said") {
  const Plan plan = plan_of(model_named("deepseek-v3"), 32768);
  CHECK(row(plan, "BF16").bytes == uint64_t{61} * 576 * 2 * 32768);
  CHECK_FALSE(plan.all_served);
  CHECK_FALSE(row(plan, "liboscar 2bit").served);
  CHECK(has(row(plan, "liboscar 2bit").reason, "multi-head latent attention: a row of 512 + 64 elements"));
  CHECK(has(plan.remark, "Multiplied out into 128 of 192/128"));
}

TEST_CASE("Gemma 3n E4B: layers that share keep nothing") {
  const Plan plan = plan_of(model_named("gemma-3n-e4b"), 8192);
  // 20 layers store: 16 sliding, 4 full, 2 heads of 256
  CHECK(row(plan, "BF16").bytes == 2 * 2 * 512 * (uint64_t{4} * 8192 + 16 * 512));
  CHECK(row(plan, "liboscar 2bit").bytes ==
        bytes_by_hand({4, 2, 512, kBlock256}, 8192) + bytes_by_hand({16, 2, 512, kBlock256, 512}, 8192));
}

TEST_CASE("SmolLM2's GGUF at 8K") {
  const Plan plan = plan_of(model_from_gguf(smollm2_header(), "smollm2.gguf"), 8192, 3);
  CHECK(row(plan, "BF16").bytes == 3 * uint64_t{23040} * 8192);
  CHECK(row(plan, "liboscar 2bit").bytes == 3 * bytes_by_hand({30, 3, 128, kBlock64}, 8192));
}

TEST_CASE("groups of layers add up to the whole, in every profile") {
  for (const char* name : {"qwen3-8b", "gemma-3-27b", "gpt-oss-120b", "gemma-3n-e4b"}) {
    const Plan plan = plan_of(model_named(name), 5000, 1, 0, {"2bit", "2bit-plain", "k3v2", "3bit", "4bit", "exact"});
    for (const PlanRow& r : plan.rows) {
      INFO(name << " " << r.format);
      uint64_t sum = 0;
      for (const uint64_t bytes : r.group_bytes) sum += bytes;
      CHECK(sum == r.bytes);
    }
  }
}

TEST_CASE("a running cache of the same geometry counts the same bytes") {
  std::vector<std::pair<std::string, Model>> models;
  for (const char* name : {"qwen3-4b", "gemma-3-27b", "gpt-oss-120b", "gemma-3n-e4b"})
    models.emplace_back(name, model_named(name));
  models.emplace_back("smollm2", model_from_gguf(smollm2_header(), "smollm2.gguf"));
  for (const auto& [name, model] : models) {
    for (const uint64_t n_tokens : {1ull, 700ull, 1500ull}) {
      INFO(name << " " << n_tokens);
      const Plan plan = plan_of(model, n_tokens);
      Choice choice;
      choice.max_tokens = n_tokens + 1;
      choice.max_step_tokens = 512;
      FilledCache cache(model, choice, row(plan, "liboscar 2bit").capacity_bytes + (64u << 20));
      cache.fill(n_tokens);
      CHECK(cache.bytes_with_a_step_begun() == row(plan, "liboscar 2bit").bytes);
    }
  }
}

TEST_CASE("capacity_bytes is what the tokens need: a byte less is refused") {
  const Model model = model_from_gguf(smollm2_header(), "smollm2.gguf");
  for (const uint64_t n_tokens : {40ull, 1000ull}) {
    Choice choice;
    choice.max_tokens = n_tokens;
    choice.max_step_tokens = 1;
    const Need needed = need(model, choice, n_tokens, 1);
    REQUIRE(needed.capacity_bytes > 0);
    FilledCache enough(model, choice, needed.capacity_bytes);
    CHECK(enough.fill(n_tokens) == n_tokens);
    CHECK(enough.bytes_fixed() == needed.bytes_fixed);
    FilledCache short_of_it(model, choice, needed.capacity_bytes - 1);
    CHECK(short_of_it.fill(n_tokens) < n_tokens);
  }
}

TEST_CASE("as many sequences as the plan says go into that memory") {
  const Model model = model_from_gguf(smollm2_header(), "smollm2.gguf");
  Choice choice;
  choice.max_step_tokens = 1;  // a longer step reserves room for its rows besides
  const uint64_t memory = 64u << 20, context = 1000;
  const uint64_t n = largest_batch(model, choice, context, memory);
  REQUIRE(n >= 2);
  const Need needed = need(model, choice, context, static_cast<uint32_t>(n));
  CHECK(needed.total() <= memory);
  CHECK(need(model, choice, context, static_cast<uint32_t>(n + 1)).total() > memory);
  choice.max_tokens = context;
  choice.n_sequences = static_cast<uint32_t>(n);
  FilledCache cache(model, choice, needed.capacity_bytes);
  for (uint64_t i = 0; i < n; ++i) CHECK(cache.fill(context) == context);
  CHECK(cache.bytes_fixed() == needed.bytes_fixed);
}

TEST_CASE("the longest sequence fits, and 128 tokens more do not") {
  for (const char* name : {"qwen3-8b", "gemma-3-27b", "gpt-oss-120b"}) {
    const Model model = model_named(name);
    const uint64_t memory = uint64_t{24} << 30, n = longest_sequence(model, Choice{}, memory);
    INFO(name << " " << n);
    CHECK(need(model, Choice{}, n, 1).total() <= memory);
    CHECK(need(model, Choice{}, n + 128, 1).total() > memory);
  }
}

TEST_CASE("more than one cache can have is said, not calculated") {
  const Plan plan = plan_of(model_named("llama-3.1-70b"), 131072, 1000);
  CHECK(row(plan, "liboscar 2bit").capacity_bytes == 0);
  CHECK(has(refusal([] { plan_of(model_named("llama-3.1-70b"), uint64_t{1} << 32); }, Exit::kUsage), "max_tokens"));
  CHECK(has(refusal([] { plan_of(model_named("qwen3-8b"), 100, 1, 0, {"1bit"}); }, Exit::kUsage),
            "profile is \"1bit\", known: 2bit"));
}
