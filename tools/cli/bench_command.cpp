// oscar bench
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "bench_cache.h"
#include "command.h"
#include "output.h"
#include "progress.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Times attention of one new token over a cache of made-up keys and values, layer
by layer, and compares every profile with BF16 in this library (profile exact),
in turns: a busy machine is as busy for all of them. Times are medians.

us        of one layer's attention
tokens/s  of MODEL's layers of full attention, one after the other: attention
          alone, no weights; layers with a window are not counted
GB/s      bytes of the layer's cache over that time
of read   GB/s beside what as many threads read from memory, in turns with it
x BF16    how many times as fast as BF16
error     |out - reference| / |reference| against the double-precision reference
          on 600 tokens, worst row: the same bits, computed twice

Without MODEL: one layer of --heads and --dim, and tokens/s of that layer. As
many layers are made as keep the cache out of the processor's own caches. GPUs
are not measured here: bench/gpu_layer and bench/gpu_model in the source tree do
that.

Examples:
  oscar bench Qwen3-8B/config.json -c 4K -c 32K -p 2bit -p 4bit --threads 2
  oscar bench --heads 32/8 --dim 128 --format csv > bench.csv)";

struct Options {
  std::string model, heads = "32/8", format = "table";
  std::vector<std::string> contexts, profiles;
  uint32_t dim = 128, threads = 1, repetitions = 5;
  bool json = false;
};

struct Geometry {
  ModelLayer layer;
  uint32_t n_layers = 1;  // of the model
};

Geometry geometry_of(const Options& options) {
  Geometry g;
  if (!options.model.empty()) {
    const Model model = read_model(options.model);
    if (const std::string reason = obstacle(model); !reason.empty()) throw Failure(Exit::kNo, "not served: " + reason);
    const auto full = std::find_if(model.layers.begin(), model.layers.end(),
                                   [](const ModelLayer& l) { return l.attention == Attention::kFull; });
    if (full == model.layers.end())
      throw Failure(Exit::kNo, "bench: the model has no layer that attends to everything");
    g.layer = *full;
    g.n_layers = static_cast<uint32_t>(std::count_if(
        model.layers.begin(), model.layers.end(), [](const ModelLayer& l) { return l.attention == Attention::kFull; }));
  } else {
    int used = 0;
    if (std::sscanf(options.heads.c_str(), "%5u/%5u%n", &g.layer.n_q_heads, &g.layer.n_kv_heads, &used) != 2 ||
        static_cast<size_t>(used) != options.heads.size())
      bad_usage(text("--heads is \"%s\", wanted: QUERY/KV, e.g. 32/8", printable(options.heads).c_str()));
    g.layer.key_dim = g.layer.value_dim = options.dim;
  }
  g.layer.source = 0;
  return g;
}

Model layers_of(const ModelLayer& layer, uint32_t n) {
  Model model;
  for (uint32_t i = 0; i < n; ++i) {
    model.layers.push_back(layer);
    model.layers.back().source = i;
  }
  return model;
}

Choice choice_for(const std::string& profile, uint32_t n_threads) {
  Choice choice;
  choice.profile = profile;
  choice.n_threads = n_threads;
  return choice;
}

// As many layers as fill 128 MiB, so that none is still in the processor's caches when its turn comes again.
uint32_t layers_for(const ModelLayer& layer, const Choice& choice, uint64_t context) {
  Choice c = choice;
  c.max_tokens = context;
  const Model one = layers_of(layer, 1);
  const auto report = Serving(one, c).check(context, uint64_t{1} << 36);
  if (!report.served) throw Failure(Exit::kNo, text("not served: %s", report.reason));
  return static_cast<uint32_t>(std::clamp<uint64_t>((uint64_t{128} << 20) / report.bytes_sequences + 1, 1, 32));
}

// What the backend in use computes, against the reference, on the same bits.
double error_of(const ModelLayer& layer, const Choice& choice) {
  const char* forced = std::getenv("OSCAR_BACKEND");
  const std::optional<std::string> before = forced ? std::optional<std::string>(forced) : std::nullopt;
  const auto result = [&] {
    BenchCache cache(layers_of(layer, 1), choice, 600);
    cache.attend_us();
    return cache.out();
  };
  const std::vector<float> got = result();
  ::setenv("OSCAR_BACKEND", "reference", 1);
  const std::vector<float> wanted = result();
  before ? ::setenv("OSCAR_BACKEND", before->c_str(), 1) : ::unsetenv("OSCAR_BACKEND");
  double worst = 0;
  for (size_t row = 0; row < wanted.size(); row += layer.value_dim) {
    double error = 0, size = 0;
    for (size_t i = row; i < row + layer.value_dim; ++i) {
      const double w = wanted[i], e = got[i] - w;
      error += e * e;
      size += w * w;
    }
    const double relative = std::sqrt(error / size);
    if (!(relative <= worst)) worst = relative;
  }
  return worst;
}

struct Result {
  std::string profile;
  uint64_t context = 0;
  double us = 0, us_least = 0, tokens_per_s = 0, gb_per_s = 0, read_gb_per_s = 0, of_read = 0, times_bf16 = 0, bits = 0,
         error = 0;
};

// All profiles in turns; `exact` among them.
std::vector<Result> measure(const Geometry& g, const Options& options, const std::vector<std::string>& profiles,
                            uint64_t context, const ReadSpeed& read_speed, const std::vector<double>& errors) {
  std::vector<std::unique_ptr<BenchCache>> caches;
  std::vector<uint32_t> n_layers;
  for (const std::string& profile : profiles) {
    const Choice choice = choice_for(profile, options.threads);
    n_layers.push_back(layers_for(g.layer, choice, context));
    caches.push_back(std::make_unique<BenchCache>(layers_of(g.layer, n_layers.back()), choice, context));
    caches.back()->attend_us();  // touches all of it once
  }
  std::vector<std::vector<double>> us(profiles.size());
  std::vector<double> read;
  const Progress progress("measuring");
  for (uint32_t round = 0; round < options.repetitions; ++round) {
    progress.step(round, options.repetitions);
    read.push_back(read_speed.bytes_per_us());
    for (size_t i = 0; i < profiles.size(); ++i)
      for (const double x : caches[i]->attend_us()) us[i].push_back(x);
  }
  const auto exact = static_cast<size_t>(std::find(profiles.begin(), profiles.end(), "exact") - profiles.begin());
  const double bf16 = median(us[exact]);
  const double elements = static_cast<double>(context * elements_per_token(g.layer));
  std::vector<Result> results;
  for (size_t i = 0; i < profiles.size(); ++i) {
    Result r;
    const double bytes = static_cast<double>(caches[i]->bytes()) / n_layers[i];
    r.profile = profiles[i];
    r.context = context;
    r.us = median(us[i]);
    r.us_least = *std::min_element(us[i].begin(), us[i].end());
    r.tokens_per_s = 1e6 / (r.us * g.n_layers);
    r.gb_per_s = bytes / r.us * 1e-3;
    r.read_gb_per_s = median(read) * 1e-3;
    r.of_read = r.gb_per_s / r.read_gb_per_s;
    r.times_bf16 = bf16 / r.us;
    r.bits = 8 * bytes / elements;
    r.error = errors[i];
    results.push_back(r);
  }
  return results;
}

void print(const std::vector<Result>& results, const std::string& format) {
  Table table({"profile", "context", "bits", "us", "tokens/s", "GB/s", "of read", "x BF16", "error"});
  for (const Result& r : results)
    table.add({r.profile, std::to_string(r.context), text("%.2f", r.bits), text("%.1f", r.us),
               text("%.1f", r.tokens_per_s), text("%.2f", r.gb_per_s), text("%.0f%%", 100 * r.of_read),
               text("%.2f", r.times_bf16), text("%.1e", r.error)});
  if (format == "md") {
    table.print_markdown();
  } else if (format == "csv") {
    table.print_csv();
  } else {
    table.print();
  }
}

OrderedJson to_json(const Geometry& g, const Options& options, const std::vector<Result>& results) {
  OrderedJson list = OrderedJson::array();
  for (const Result& r : results)
    list.push_back({{"profile", r.profile},
                    {"context", r.context},
                    {"bits_per_element", r.bits},
                    {"us", r.us},
                    {"us_least", r.us_least},
                    {"tokens_per_s", r.tokens_per_s},
                    {"gb_per_s", r.gb_per_s},
                    {"read_gb_per_s", r.read_gb_per_s},
                    {"of_read", r.of_read},
                    {"times_bf16", r.times_bf16},
                    {"error", r.error}});
  return {{"command", "bench"},
          {"version", oscar_version()},
          {"backend", selected_backend()},
          {"threads", options.threads},
          {"n_q_heads", g.layer.n_q_heads},
          {"n_kv_heads", g.layer.n_kv_heads},
          {"key_dim", g.layer.key_dim},
          {"value_dim", g.layer.value_dim},
          {"n_layers", g.n_layers},
          {"repetitions", options.repetitions},
          {"results", list}};
}

Exit run(const Options& options) {
  const Geometry g = geometry_of(options);
  std::vector<std::string> profiles = options.profiles.empty() ? std::vector<std::string>{"2bit"} : options.profiles;
  profiles.erase(std::remove(profiles.begin(), profiles.end(), "exact"), profiles.end());
  profiles.insert(profiles.begin(), "exact");
  std::vector<uint64_t> contexts;
  for (const std::string& given : options.contexts.empty() ? std::vector<std::string>{"4K", "16K"} : options.contexts)
    contexts.push_back(parse_count(given, "--context"));
  std::vector<double> errors;
  for (const std::string& profile : profiles) {
    const Choice choice = choice_for(profile, options.threads);
    layers_for(g.layer, choice, 600);  // says what is not served
    errors.push_back(error_of(g.layer, choice));
  }
  const ReadSpeed read_speed(options.threads);
  std::vector<Result> results;
  for (const uint64_t context : contexts) {
    const std::vector<Result> some = measure(g, options, profiles, context, read_speed, errors);
    results.insert(results.end(), some.begin(), some.end());
  }
  if (options.json) {
    print_json(to_json(g, options, results));
    return Exit::kYes;
  }
  if (options.format == "table")
    std::printf("%s, %u threads, %u/%u heads of %u/%u\n", selected_backend().c_str(), options.threads,
                g.layer.n_q_heads, g.layer.n_kv_heads, g.layer.key_dim, g.layer.value_dim);
  print(results, options.format);
  return Exit::kYes;
}

}  // namespace

void add_bench(Program& program) {
  auto o = std::make_shared<Options>();
  Command(program, "bench", "how fast attention is on this CPU, beside BF16", kFooter)
      .optional_positional("MODEL", o->model, "config.json, its folder, or a GGUF file")
      .text("--heads", o->heads, "QUERY/KV", "heads of a layer, without MODEL (default 32/8)")
      .number("--dim", o->dim, 1, 65536, "N", "elements of a head, without MODEL (default 128)")
      .texts("-c,--context", o->contexts, "TOKENS", "tokens in the cache; repeatable (default 4K and 16K)")
      .texts("-p,--profile", o->profiles, "NAME", "beside exact; repeatable (default 2bit)")
      .number("--threads", o->threads, 1, 1024, "N", "threads within a call (default 1)")
      .number("-r,--repetitions", o->repetitions, 1, 1000, "N", "rounds (default 5)")
      .one_of("--format", o->format, {"table", "md", "csv"}, "table (default), md or csv")
      .flag("--json", o->json, "one JSON document")
      .on_call(o, run);
}

}  // namespace oscar::cli
