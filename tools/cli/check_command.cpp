// oscar check
#include <cstdio>

#include "choice_options.h"
#include "command.h"
#include "file.h"
#include "fit.h"
#include "layer_groups.h"
#include "library.h"
#include "output.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Says of each thing that the model needs, and of the whole with the options
given, whether the library serves it, and why not. Exit status 0: served; 1: not
served.

--calibration looks whether a file fits the model. --self-calibrate asks for a
cache that calibrates itself; it is asked without the model's RoPE frequencies,
which the file does not always tell.

Examples:
  oscar check config.json --device cuda --profile 2bit
  oscar check model.gguf --calibration model.oscarcal --shaped)";

struct Options {
  std::string profile = "2bit", calibration;
  ChoiceOptions choice;
  bool shaped = false, batch_invariant = false, self_calibrate = false, json = false;
};

struct Verdict {
  std::string what;
  bool served;
  std::string words;
};

// "" where it is served.
std::string problem_of(const Model& model, const Choice& choice, uint64_t context) {
  if (std::string reason = obstacle(model); !reason.empty()) return reason;
  const Serving serving(model, choice);
  const auto report = serving.try_check(context, kMostCapacity);
  if (!report) return oscar_last_error();
  return report->served ? "" : report->reason;
}

Verdict judge_group(const LayerGroup& group, Choice choice, uint64_t context) {
  choice.calibration = nullptr;  // it is for all layers
  choice.shaped = choice.self_calibrate = false;
  const std::string what = text("%zu layers: %s, %s", group.members.size(), describe_kind(group).c_str(),
                                describe_heads(group).c_str());
  if (group.layer.attention == Attention::kNone) return {what, true, "their states are the engine's own business"};
  const std::string problem = problem_of(model_of(group), choice, context);
  if (!problem.empty()) return {what, false, problem};
  return {what, true, group.shares ? "kv_source" : group.layer.window > 0 ? "window" : ""};
}

std::vector<Verdict> judge(const Model& model, const Choice& choice, uint64_t context) {
  std::vector<Verdict> verdicts;
  for (const LayerGroup& group : group_layers(model)) verdicts.push_back(judge_group(group, choice, context));
  if (model.has_sink_logits) verdicts.push_back({"learned sink logits", true, "sink_logits of oscar_attend"});
  if (model.softcap > 0)
    verdicts.push_back({text("soft cap of logits at %g", model.softcap), true, "softcap of oscar_attend"});
  const std::string problem = problem_of(model, choice, context);
  verdicts.push_back(
      {text("all of it, %s on %s, %s tokens", choice.profile.c_str(), choice.device.c_str(), grouped(context).c_str()),
       problem.empty(), problem});
  return verdicts;
}

void print(const std::vector<Verdict>& verdicts) {
  for (const Verdict& v : verdicts)
    std::printf("%-11s %s%s%s\n", v.served ? "served" : "NOT SERVED", v.what.c_str(), v.words.empty() ? "" : ": ",
                v.words.c_str());
}

Exit run(const Options& options) {
  const Model model = read_model(options.choice.model);
  Choice choice = choice_of(options.choice);
  choice.profile = options.profile;
  choice.shaped = options.shaped;
  choice.batch_invariant = options.batch_invariant;
  choice.self_calibrate = options.self_calibrate;
  const uint64_t context = context_of(options.choice, model);
  choice.max_tokens = context;
  Calibration calibration;
  if (!options.calibration.empty()) {
    const MappedFile file(options.calibration);
    calibration = load_calibration(file.bytes(), options.calibration);
    choice.calibration = calibration.get();
  }
  const std::vector<Verdict> verdicts = judge(model, choice, context);
  const bool served = verdicts.back().served;
  if (options.json) {
    OrderedJson list = OrderedJson::array();
    for (const Verdict& v : verdicts) list.push_back({{"what", v.what}, {"served", v.served}, {"words", v.words}});
    print_json({{"command", "check"},
                {"model_type", model.type},
                {"served", served},
                {"backend", selected_backend()},
                {"verdicts", list}});
  } else {
    print(verdicts);
  }
  return served ? Exit::kYes : Exit::kNo;
}

}  // namespace

void add_check(Program& program) {
  auto o = std::make_shared<Options>();
  Command command(program, "check", "whether a model and what it is to do are served", kFooter);
  add_model_options(command, o->choice);
  command.text("-p,--profile", o->profile, "NAME", kProfiles)
      .text("--calibration", o->calibration, "FILE", "with the transforms of this calibration file")
      .flag("--shaped", o->shaped, "shaped rounding, which needs query moments")
      .flag("--self-calibrate", o->self_calibrate, "the cache calibrates itself")
      .flag("--batch-invariant", o->batch_invariant, "a row's bits do not depend on the batch");
  add_choice_options(command, o->choice);
  command.flag("--json", o->json, "one JSON document").on_call(o, run);
}

}  // namespace oscar::cli
