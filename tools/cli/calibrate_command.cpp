// oscar calibrate
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "attention_error.h"
#include "command.h"
#include "output.h"
#include "progress.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Makes a calibration file of queries, keys and values that a model computed for a
text, and predicts what it is good for: the transforms are solved for once from
the first three quarters of the text alone, and the last quarter is run through
caches with them and without; then they are solved for from all of it, and
written.

DUMP is a .safetensors or .npz file (numpy.savez) with q [n_layers, n_tokens,
n_q_heads, dim], k and v [n_layers, n_tokens, n_kv_heads, dim], in F32, F16 or
BF16, positions (RoPE) already applied, of one text from its beginning on. A
tensor rope_frequencies [n_pairs] or [n_layers, n_pairs] says how the model
turns its pairs; --theta says it for plain RoPE. With neither, moments are taken
as they are, and the text must be as long as the contexts to be served. A few
thousand tokens of ordinary text are plenty; 350 are enough.

Examples:
  oscar calibrate dump.safetensors --positions 128K -o model.oscarcal
  oscar evaluate another.safetensors --calibration model.oscarcal)";

struct Options {
  std::string dump, output, theta, positions = "128K", pairing = "half", value_basis = "balanced", name, note;
  uint32_t rotary_dim = 0, sink = 16;
  bool force = false, json = false;
};

struct CalibratorEnd {
  void operator()(oscar_calibrator* calibrator) const { oscar_calibrator_destroy(calibrator); }
};

std::vector<float> frequencies_of(const Options& options, uint32_t key_dim) {
  if (options.theta.empty()) return {};
  char* end = nullptr;
  const double theta = std::strtod(options.theta.c_str(), &end);
  if (end == options.theta.c_str() || *end || !(theta > 1 && theta < 1e12))
    bad_usage(text("--theta is \"%s\", wanted: a number above 1, e.g. 10000", printable(options.theta).c_str()));
  const uint32_t dim = options.rotary_dim > 0 ? options.rotary_dim : key_dim;
  if (dim % 2 != 0 || dim > key_dim)
    bad_usage(text("--rotary-dim is %u, wanted: an even number of at most %u", dim, key_dim));
  std::vector<float> frequencies(dim / 2);
  for (uint32_t i = 0; i < dim / 2; ++i) frequencies[i] = static_cast<float>(std::pow(theta, -2.0 * i / dim));
  return frequencies;
}

// From tokens [0, n_tokens) of the dump.
Calibration calibrate(const Dump& dump, const Options& options, uint32_t n_tokens) {
  std::vector<float> frequencies = frequencies_of(options, dump.key_dim);
  auto args = sized<oscar_calibrator_args>();
  args.rope_pairing = options.pairing == "half" ? OSCAR_ROPE_HALF : OSCAR_ROPE_INTERLEAVED;
  args.value_basis = options.value_basis == "balanced" ? OSCAR_VALUE_BASIS_BALANCED : OSCAR_VALUE_BASIS_HADAMARD;
  args.n_positions = parse_count(options.positions, "--positions");
  args.rope_frequencies = dump.rope_frequencies();
  if (!frequencies.empty()) args.rope_frequencies = host_tensor(frequencies.data(), {frequencies.size()});
  args.model = options.name.empty() ? nullptr : options.name.c_str();
  args.note = options.note.empty() ? nullptr : options.note.c_str();
  Choice choice;
  choice.max_tokens = args.n_positions;
  choice.n_sink = options.sink;
  const Model model = dump.model();
  const Serving serving(model, choice);
  oscar_calibrator* created = nullptr;
  if (oscar_calibrator_create(&serving.config, &args, &created) != OSCAR_OK) bad_usage(oscar_last_error());
  const std::unique_ptr<oscar_calibrator, CalibratorEnd> calibrator(created);
  const Progress progress("calibrating");
  for (uint32_t layer = 0; layer < dump.n_layers; ++layer) {
    progress.step(layer, dump.n_layers);
    auto feed = sized<oscar_calibrator_feed_args>();
    feed.layer = layer;
    feed.q = dump.q(layer, 0, n_tokens), feed.k = dump.k(layer, 0, n_tokens), feed.v = dump.v(layer, 0, n_tokens);
    const oscar_status status = oscar_calibrator_feed(created, &feed);
    if (status == OSCAR_E_INVALID) bad_input(text("%s: %s", printable(options.dump).c_str(), oscar_last_error()));
    call(status);
  }
  oscar_calibration* finished = nullptr;
  const oscar_status status = oscar_calibrator_finish(created, &finished);
  if (status == OSCAR_E_INVALID || status == OSCAR_E_STATE)
    bad_input(text("%s: %s", printable(options.dump).c_str(), oscar_last_error()));
  call(status);
  return Calibration(finished);
}

struct Prediction {
  double data_free = 0, calibrated = 0;
};

// The last quarter's error in profile 2bit, with transforms of the first three quarters.
std::vector<Prediction> predict(const Dump& dump, const Options& options) {
  const uint32_t first = dump.n_tokens / 4 * 3;
  const Calibration calibration = calibrate(dump, options, first);
  std::vector<Prediction> predictions;
  const Progress progress("predicting");
  for (uint32_t layer = 0; layer < dump.n_layers; ++layer) {
    progress.step(layer, dump.n_layers);
    Choice choice;
    choice.n_sink = 4;
    choice.n_recent = 32;
    choice.profile = "exact";
    const LayerRun exact = run_layer(dump, layer, choice);
    choice.profile = "2bit";
    Prediction p;
    p.data_free = together(errors_by_head(dump, run_layer(dump, layer, choice), exact, first));
    const oscar_calibration_part part{layer, 0, dump.n_kv_heads};
    oscar_calibration* slice = nullptr;
    call(oscar_calibration_slice(calibration.get(), &part, 1, &slice));
    const Calibration own(slice);
    choice.calibration = slice;
    p.calibrated = together(errors_by_head(dump, run_layer(dump, layer, choice), exact, first));
    predictions.push_back(p);
  }
  return predictions;
}

Exit run(const Options& options) {
  const Dump dump(options.dump);
  if (dump.n_tokens < 350)
    bad_input(text("%s: %u tokens, wanted at least 350", printable(options.dump).c_str(), dump.n_tokens));
  const std::vector<Prediction> predictions = predict(dump, options);
  const Calibration calibration = calibrate(dump, options, dump.n_tokens);
  const std::vector<uint8_t> bytes = saved_bytes(calibration.get());
  write_file(options.output, bytes, options.force);
  const oscar_calibration_info info = info_of(calibration.get());
  const std::string fingerprint = hex(info.fingerprint);
  if (options.json) {
    OrderedJson layers = OrderedJson::array();
    for (const Prediction& p : predictions)
      layers.push_back({{"error_data_free", p.data_free}, {"error", p.calibrated}});
    print_json({{"command", "calibrate"},
                {"file", options.output},
                {"bytes", bytes.size()},
                {"fingerprint", fingerprint},
                {"n_tokens", info.n_tokens},
                {"layers", layers}});
    return Exit::kYes;
  }
  std::printf("Error of attention in 2bit, on the last quarter, of transforms from the others\n");
  Table table({"layer", "data-free", "calibrated", "ratio"});
  for (size_t l = 0; l < predictions.size(); ++l)
    table.add({std::to_string(l), text("%.4f", predictions[l].data_free), text("%.4f", predictions[l].calibrated),
               text("%.2f", predictions[l].calibrated / predictions[l].data_free)});
  table.print();
  std::printf("\n%s: %s bytes, %s tokens, fingerprint %s\n", printable(options.output).c_str(),
              grouped(bytes.size()).c_str(), grouped(info.n_tokens).c_str(), fingerprint.c_str());
  return Exit::kYes;
}

}  // namespace

void add_calibrate(Program& program) {
  auto o = std::make_shared<Options>();
  Command(program, "calibrate", "a calibration file from a model's tensors", kFooter)
      .positional("DUMP", o->dump, "a .safetensors or .npz file with q, k and v")
      .needed_text("-o,--output", o->output, "FILE", "the calibration file to write")
      .text("--theta", o->theta, "NUMBER", "the base of plain RoPE")
      .number("--rotary-dim", o->rotary_dim, 2, 65536, "N", "elements that turn (default: all)")
      .one_of("--pairing", o->pairing, {"half", "interleaved"}, "half (default) or interleaved")
      .text("--positions", o->positions, "TOKENS", "the longest context to be served (default 128K)")
      .one_of("--value-basis", o->value_basis, {"balanced", "hadamard"}, "balanced (default) or hadamard")
      .number("--sink", o->sink, 0, 1u << 20, "TOKENS", "first tokens, which do not count (default 16)")
      .text("--name", o->name, "TEXT", "the model, for the file")
      .text("--note", o->note, "TEXT", "a note for the file")
      .flag("--force", o->force, "replace the file where it exists")
      .flag("--json", o->json, "one JSON document")
      .on_call(o, run);
}

}  // namespace oscar::cli
