// oscar convert
#include <cstdio>

#include "command.h"
#include "file.h"
#include "library.h"
#include "output.h"
#include "serving.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Makes a calibration file of rotations as the authors of OSCAR (arXiv 2605.17757)
publish them: one file of torch.save for keys, one for values. torch is not
needed, and nothing in a file is executed. Keys or values without a file are
data-free.

The files name their layers by numbers. Without --layers both must have as many
as the model, and rising numbers are layers 0, 1, ...; --layers 18-35 takes
these, for a model (or a part of one) of as many layers.

Example:
  oscar convert --model Qwen3-8B --keys k_rotation_qqt_r_h_pbr.pt \
    --values v_rotation_sst_r_h_pbr.pt -o qwen3-8b.oscarcal)";

struct Options {
  std::string model, keys, values, output, layers;
  bool force = false, json = false;
};

std::vector<uint32_t> parse_layers(const std::string& given) {
  std::vector<uint32_t> ids;
  unsigned first = 0, last = 0;
  int used = 0;
  const bool is_range = std::sscanf(given.c_str(), "%4u-%4u%n", &first, &last, &used) == 2 &&
                        given.size() == static_cast<size_t>(used);
  if (!is_range || last < first)
    bad_usage(text("--layers is \"%s\", wanted: FIRST-LAST, e.g. 18-35", printable(given).c_str()));
  for (unsigned id = first; id <= last; ++id) ids.push_back(id);
  return ids;
}

Exit run(const Options& options) {
  if (options.keys.empty() && options.values.empty()) bad_usage("convert: wanted --keys, --values or both");
  const Model model = read_model(options.model);
  Choice choice;
  choice.max_tokens = 1024;  // a calibration knows no length
  const Serving serving(model, choice);
  const std::vector<uint32_t> ids = options.layers.empty() ? std::vector<uint32_t>{} : parse_layers(options.layers);
  if (!ids.empty() && ids.size() != serving.config.n_layers)
    bad_usage(text("--layers names %zu layers, the model has %u", ids.size(), serving.config.n_layers));
  const auto open = [](const std::string& path) { return path.empty() ? nullptr : std::make_unique<MappedFile>(path); };
  const auto keys = open(options.keys), values = open(options.values);
  auto args = sized<oscar_calibration_import_args>();
  if (keys) args.key_bytes = keys->bytes().data(), args.key_size = keys->bytes().size();
  if (values) args.value_bytes = values->bytes().data(), args.value_size = values->bytes().size();
  args.layer_ids = ids.empty() ? nullptr : ids.data();
  args.n_layer_ids = static_cast<uint32_t>(ids.size());
  oscar_calibration* imported = nullptr;
  const oscar_status status = oscar_calibration_import_torch(&serving.config, &args, &imported);
  if (status == OSCAR_E_NO_MEMORY) call(status);
  if (status != OSCAR_OK) bad_input(oscar_last_error());
  const Calibration calibration(imported);
  const std::vector<uint8_t> bytes = saved_bytes(imported);
  write_file(options.output, bytes, options.force);
  const oscar_calibration_info info = info_of(imported);
  const std::string fingerprint = hex(info.fingerprint);
  if (options.json) {
    print_json({{"command", "convert"},
                {"file", options.output},
                {"bytes", bytes.size()},
                {"n_layers", info.n_layers},
                {"n_heads", info.n_heads},
                {"n_data_free_heads", info.n_data_free_heads},
                {"fingerprint", fingerprint}});
  } else {
    std::printf("%s: %s bytes, %u layers, %u KV heads, fingerprint %s\n", printable(options.output).c_str(),
                grouped(bytes.size()).c_str(), info.n_layers, info.n_heads, fingerprint.c_str());
  }
  return Exit::kYes;
}

}  // namespace

void add_convert(Program& program) {
  auto o = std::make_shared<Options>();
  Command(program, "convert", "published rotations into a calibration file", kFooter)
      .needed_text("--model", o->model, "MODEL", "config.json, its folder, or a GGUF file")
      .text("--keys", o->keys, "FILE", "rotations of keys, a file of torch.save")
      .text("--values", o->values, "FILE", "rotations of values")
      .text("--layers", o->layers, "RANGE", "their numbers in the files, FIRST-LAST")
      .needed_text("-o,--output", o->output, "FILE", "the calibration file to write")
      .flag("--force", o->force, "replace it where it exists")
      .flag("--json", o->json, "one JSON document")
      .on_call(o, run);
}

}  // namespace oscar::cli
