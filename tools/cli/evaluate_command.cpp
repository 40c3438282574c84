// oscar evaluate
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "attention_error.h"
#include "command.h"
#include "fit.h"
#include "output.h"
#include "progress.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Runs queries, keys and values that a model computed for a text through caches of
every profile, layer by layer, and through an exact one: the error is
|out - exact| / |exact| of attention's outputs, over the tokens that come after
the first packed block. Steps of 32 tokens; 4 first and 32 newest tokens stay
exact, so that nearly everything is packed; --sink and --recent change that.

DUMP is a .safetensors or .npz file (numpy.savez) with q [n_layers, n_tokens,
n_q_heads, dim], k and v [n_layers, n_tokens, n_kv_heads, dim], in F32, F16 or
BF16, positions (RoPE) already applied, of one text from its beginning on.

bits are those of a sequence of --context tokens with the library's windows,
all bytes counted. With --budget the profile with the smallest error within
these bits is named.

Examples:
  oscar evaluate dump.safetensors
  oscar evaluate dump.npz --calibration model.oscarcal --budget 3)";

struct Options {
  std::string dump, context = "32K", calibration, budget;
  std::vector<std::string> profiles;
  uint32_t sink = 4, recent = 32;
  bool json = false;
};

struct ProfileErrors {
  std::string profile;
  double bits = 0;
  std::vector<std::vector<double>> heads;  // [layer][KV head]
  std::vector<double> layers;
  double all = 0;
};

double parse_budget(const std::string& given) {
  char* end = nullptr;
  const double budget = std::strtod(given.c_str(), &end);
  if (end == given.c_str() || *end || !(budget > 0 && budget <= 64))
    bad_usage(text("--budget is \"%s\", wanted: bits per element, e.g. 2.5", printable(given).c_str()));
  return budget;
}

double bits_at(const Dump& dump, const std::string& profile, uint64_t context) {
  Choice choice;
  choice.profile = profile;
  choice.max_tokens = context;
  const Model model = dump.model();
  const Serving serving(model, choice);
  const oscar_cache_report report = serving.check(context, kMostCapacity);
  if (!report.served) throw Failure(Exit::kNo, std::string("not served: ") + report.reason);
  return report.bits_per_element;
}

Calibration layer_of(const oscar_calibration* whole, uint32_t layer, uint32_t n_kv_heads) {
  const oscar_calibration_part part{layer, 0, n_kv_heads};
  oscar_calibration* slice = nullptr;
  const oscar_status status = oscar_calibration_slice(whole, &part, 1, &slice);
  if (status == OSCAR_E_INVALID) bad_input(text("the calibration does not fit the dump: %s", oscar_last_error()));
  call(status);
  return Calibration(slice);
}

std::vector<ProfileErrors> evaluate(const Dump& dump, const Options& options, const std::vector<std::string>& profiles,
                                    const oscar_calibration* calibration) {
  const uint32_t first = options.sink + options.recent + 128 + kErrorStep;
  if (dump.n_tokens <= first)
    bad_input(text("%s: %u tokens, wanted more than %u: with these windows nothing is packed before",
                   printable(options.dump).c_str(), dump.n_tokens, first));
  std::vector<ProfileErrors> results;
  for (const std::string& profile : profiles)
    results.push_back({profile, bits_at(dump, profile, parse_count(options.context, "--context")), {}, {}, 0});
  const Progress progress("evaluating");
  for (uint32_t layer = 0; layer < dump.n_layers; ++layer) {
    progress.step(layer, dump.n_layers);
    Choice choice;
    choice.n_sink = options.sink;
    choice.n_recent = options.recent;
    choice.profile = "exact";
    const LayerRun exact = run_layer(dump, layer, choice);
    const Calibration own = calibration ? layer_of(calibration, layer, dump.n_kv_heads) : nullptr;
    choice.calibration = own.get();
    for (ProfileErrors& result : results) {
      choice.profile = result.profile;
      result.heads.push_back(errors_by_head(dump, run_layer(dump, layer, choice), exact, first));
      result.layers.push_back(together(result.heads.back()));
    }
  }
  for (ProfileErrors& result : results) result.all = together(result.layers);
  return results;
}

const ProfileErrors* suggestion(const std::vector<ProfileErrors>& results, double budget) {
  const ProfileErrors* best = nullptr;
  for (const ProfileErrors& r : results)
    if (r.bits <= budget && (!best || r.all < best->all)) best = &r;
  return best;
}

void print(const std::vector<ProfileErrors>& results, uint32_t n_layers) {
  std::vector<std::string> head{"layer"}, bits{"bits"}, all{"all"};
  for (const ProfileErrors& r : results) {
    head.push_back(r.profile);
    bits.push_back(text("%.2f", r.bits));
    all.push_back(text("%.4f", r.all));
  }
  Table table(head);
  table.add(bits);
  for (uint32_t layer = 0; layer < n_layers; ++layer) {
    std::vector<std::string> row{std::to_string(layer)};
    for (const ProfileErrors& r : results) row.push_back(text("%.4f", r.layers[layer]));
    table.add(row);
  }
  table.add(all);
  std::printf("|out - exact| / |exact| of attention, root mean square over heads\n");
  table.print();
}

Exit run(const Options& options) {
  const double budget = options.budget.empty() ? 0 : parse_budget(options.budget);
  const Dump dump(options.dump);
  Calibration calibration;
  if (!options.calibration.empty())
    calibration = load_calibration(MappedFile(options.calibration).bytes(), options.calibration);
  std::vector<std::string> profiles = options.profiles;
  if (profiles.empty()) profiles = {"2bit-plain", "2bit", "k3v2", "3bit", "4bit", "8bit"};
  const std::vector<ProfileErrors> results = evaluate(dump, options, profiles, calibration.get());
  const ProfileErrors* best = budget > 0 ? suggestion(results, budget) : nullptr;
  if (options.json) {
    OrderedJson list = OrderedJson::array();
    for (const ProfileErrors& r : results)
      list.push_back({{"profile", r.profile},
                      {"bits_per_element", r.bits},
                      {"error", r.all},
                      {"layers", r.layers},
                      {"heads", r.heads}});
    OrderedJson json = {{"command", "evaluate"},
                        {"n_layers", dump.n_layers},
                        {"n_tokens", dump.n_tokens},
                        {"n_kv_heads", dump.n_kv_heads},
                        {"sink", options.sink},
                        {"recent", options.recent},
                        {"calibrated", calibration != nullptr},
                        {"profiles", list}};
    if (budget > 0) json["suggestion"] = best ? OrderedJson(best->profile) : OrderedJson(nullptr);
    print_json(json);
  } else {
    print(results, dump.n_layers);
    if (best)
      std::printf("\nWithin %g bits: %s, %.2f bits, error %.4f\n", budget, best->profile.c_str(), best->bits,
                  best->all);
    if (budget > 0 && !best) std::printf("\nNo profile takes %g bits or less.\n", budget);
  }
  return budget > 0 && !best ? Exit::kNo : Exit::kYes;
}

}  // namespace

void add_evaluate(Program& program) {
  auto o = std::make_shared<Options>();
  Command(program, "evaluate", "the error of every profile on a model's tensors", kFooter)
      .positional("DUMP", o->dump, "a .safetensors or .npz file with q, k and v")
      .texts("-p,--profile", o->profiles, "NAME", "these only; repeatable")
      .text("--calibration", o->calibration, "FILE", "with the transforms of this calibration file")
      .text("--budget", o->budget, "BITS", "suggest a profile of at most so many bits")
      .text("-c,--context", o->context, "TOKENS", "whose bits are shown (default 32K)")
      .number("--sink", o->sink, 0, 1u << 20, "TOKENS", "first tokens that stay exact (default 4)")
      .number("--recent", o->recent, 1, 1u << 20, "TOKENS", "newest tokens that are exact (default 32)")
      .flag("--json", o->json, "one JSON document")
      .on_call(o, run);
}

}  // namespace oscar::cli
