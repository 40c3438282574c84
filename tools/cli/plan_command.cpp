// oscar plan
#include <algorithm>
#include <cstdio>

#include "choice_options.h"
#include "command.h"
#include "output.h"
#include "plan.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(What a cache costs, to the byte, before any memory is taken: liboscar's profiles
beside BF16, FP8 (8 bits, no scales counted) and INT4 (4 bits and a 16-bit scale
for 32 elements, as llama.cpp's q4_0).

bytes     all that grows with tokens: codes, scales, means, exact rows, votes,
          tables; equal to what the running cache reports
bits      8 bytes / elements that a cache without packing keeps (a sliding
          window's layers keep the window)
fixed     workspace, tables and transforms, however long the sequences
capacity  what to create the cache with (capacity_bytes): bytes, rounded to the
          slabs of the allocator, which was asked

With --memory: the longest sequence, and the largest batch of the context, whose
capacity and fixed bytes fit in it. Weights and activations are yours to take
off first. One cache holds less than 256 GiB; at most 16M tokens are looked for.
These are tokens that come one by one: a step of many takes room for their rows
besides, until they are packed. Leave some for your longest step.

Exit status 1 where the library cannot serve the model; the reason is printed,
and so are the other formats.

Example:
  oscar plan Qwen3-8B/config.json -c 128K -m 80GiB -p 2bit -p 4bit)";

struct Options {
  std::string memory;
  std::vector<std::string> profiles;
  ChoiceOptions choice;
  bool json = false;
};

OrderedJson to_json(const Plan& plan) {
  OrderedJson layers = OrderedJson::array(), formats = OrderedJson::array();
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    const LayerGroup& group = plan.groups[g];
    OrderedJson bytes = OrderedJson::object();
    for (const PlanRow& row : plan.rows)
      if (g < row.group_bytes.size()) bytes[row.format] = row.group_bytes[g];
    layers.push_back({{"attention", attention_name(group.layer.attention)},
                      {"shares", group.shares},
                      {"layers", group.members},
                      {"n_q_heads", group.layer.n_q_heads},
                      {"n_kv_heads", group.layer.n_kv_heads},
                      {"key_dim", group.layer.key_dim},
                      {"value_dim", group.layer.value_dim},
                      {"window", group.layer.window},
                      {"latent_dim", group.layer.latent_dim},
                      {"latent_rope_dim", group.layer.latent_rope_dim},
                      {"elements_per_token", group.shares ? 0 : elements_per_token(group.layer)},
                      {"bytes_of_a_sequence", bytes}});
  }
  for (const PlanRow& row : plan.rows) {
    OrderedJson format = {{"format", row.format}, {"served", row.served}, {"reason", row.reason}};
    if (row.served) {
      format["bytes"] = row.bytes;
      format["bits_per_element"] = row.bits_per_element;
      format["bytes_fixed"] = row.bytes_fixed;
      format["capacity_bytes"] = row.capacity_bytes;
      if (plan.memory_bytes > 0) {
        format["longest_sequence"] = row.longest_sequence;
        format["largest_batch"] = row.largest_batch;
      }
    }
    formats.push_back(format);
  }
  OrderedJson json = {{"command", "plan"},
                      {"model_type", plan.model.type},
                      {"model_format", plan.model.format},
                      {"n_layers", plan.model.layers.size()},
                      {"max_positions", plan.model.max_positions},
                      {"context", plan.context},
                      {"batch", plan.n_sequences},
                      {"layers", layers},
                      {"formats", formats}};
  if (plan.memory_bytes > 0) json["memory_bytes"] = plan.memory_bytes;
  if (!plan.remark.empty()) json["remark"] = plan.remark;
  return json;
}

void print_layers(const Plan& plan) {
  std::printf("%s, %zu layers (%s)\n", plan.model.type.c_str(), plan.model.layers.size(), plan.model.format.c_str());
  Table table({"layers", "attention", "KV heads", "elements/token"});
  for (const LayerGroup& group : plan.groups)
    table.add({std::to_string(group.members.size()), describe_kind(group), describe_heads(group),
               grouped(group.shares ? 0 : group.members.size() * elements_per_token(group.layer))});
  table.print();
}

void print_formats(const Plan& plan) {
  const uint64_t bf16 = std::find_if(plan.rows.begin(), plan.rows.end(), [](const PlanRow& r) {
                          return r.format == "BF16";
                        })->bytes;
  std::printf("\n%s tokens, %u %s\n", grouped(plan.context).c_str(), plan.n_sequences,
              plan.n_sequences == 1 ? "sequence" : "sequences");
  Table table({"", "bytes", "", "bits", "of BF16", "fixed", "capacity"});
  for (const PlanRow& row : plan.rows) {
    if (!row.served) {
      table.add({row.format, "not served", "", "", "", "", ""});
      continue;
    }
    const bool ours = !row.group_bytes.empty() && row.bytes_fixed > 0;
    table.add({row.format, grouped(row.bytes), bytes_text(row.bytes), text("%.3f", row.bits_per_element),
               text("%.1f%%", 100.0 * static_cast<double>(row.bytes) / static_cast<double>(bf16)),
               ours ? bytes_text(row.bytes_fixed) : "",
               !ours                    ? ""
               : row.capacity_bytes > 0 ? grouped(row.capacity_bytes)
                                        : "too large"});
  }
  table.print();
}

void print_fits(const Plan& plan) {
  std::printf("\nIn %s\n", bytes_text(plan.memory_bytes).c_str());
  Table table({"", "longest sequence", "sequences of " + grouped(plan.context)});
  for (const PlanRow& row : plan.rows)
    if (row.served) table.add({row.format, grouped(row.longest_sequence) + " tokens", grouped(row.largest_batch)});
  table.print();
}

void print_words(const Plan& plan) {
  for (const PlanRow& row : plan.rows)
    if (!row.reason.empty())
      std::printf("\n%s%s: %s\n", row.format.c_str(), row.served ? "" : " is not served", row.reason.c_str());
  if (!plan.remark.empty()) std::printf("%s\n", plan.remark.c_str());
}

Exit run(const Options& options) {
  const Model model = read_model(options.choice.model);
  const uint64_t memory = options.memory.empty() ? 0 : parse_bytes(options.memory, "--memory");
  const std::vector<std::string> profiles = options.profiles.empty() ? std::vector<std::string>{"2bit"}
                                                                     : options.profiles;
  const Plan plan = make_plan(model, choice_of(options.choice), profiles, context_of(options.choice, model),
                              options.choice.batch, memory);
  if (options.json) {
    print_json(to_json(plan));
  } else {
    print_layers(plan);
    print_formats(plan);
    if (memory > 0) print_fits(plan);
    print_words(plan);
  }
  return plan.all_served ? Exit::kYes : Exit::kNo;
}

}  // namespace

void add_plan(Program& program) {
  auto o = std::make_shared<Options>();
  Command command(program, "plan", "what a model's cache costs, and what fits in memory", kFooter);
  add_model_options(command, o->choice);
  command.text("-m,--memory", o->memory, "BYTES", "say what fits in this much memory")
      .texts("-p,--profile", o->profiles, "NAME", (std::string(kProfiles) + "; repeatable").c_str());
  add_choice_options(command, o->choice);
  command.flag("--json", o->json, "one JSON document").on_call(o, run);
}

}  // namespace oscar::cli
