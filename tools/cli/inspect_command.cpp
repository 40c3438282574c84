// oscar inspect
#include <algorithm>
#include <cstdio>

#include "calibration_file.h"
#include "command.h"
#include "file.h"
#include "library.h"
#include "output.h"
#include "sequence_file.h"
#include "svg_plot.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Geometry, origin, fingerprints, and the condition of every matrix of a
calibration file; tokens, windows and what is stored in which form of an
exported sequence, by its header (oscar verify reads all of it). What a file is,
its first bytes say.

The condition of a transform is its largest singular value over its smallest:
how much undoing it can amplify an error. That of a query moment says how
unevenly the queries look at the directions of the keys. Tables show medians and
maxima over the KV heads of a layer; --json has every head, and with --spectra
all singular values.

--svg draws the spectra of the query moments, or of the key transforms where the
file has none: one line a KV head, early layers blue, late ones red.

Example:
  oscar inspect model.oscarcal --svg spectra.svg)";

struct Options {
  std::string file, svg;
  bool spectra = false, force = false, json = false;
};

constexpr const char* kSources[] = {"matrices", "data-free", "identity", "imported", "calibrator", "cache"};
constexpr const char* kKinds[] = {"identity", "hadamard", "matrix"};

struct HeadSpectra {
  std::vector<double> key, moment, value;
};

double condition(const std::vector<double>& spectrum) {
  return spectrum.empty() ? 1.0 : spectrum.front() / spectrum.back();
}

std::vector<HeadSpectra> spectra_of(const CalibrationContents& contents) {
  std::vector<HeadSpectra> all;
  for (const CalibrationHead& head : contents.heads) {
    HeadSpectra& s = all.emplace_back();
    if (!head.key.empty()) s.key = singular_values(head.key, head.key_dim);
    if (!head.moment.empty()) s.moment = singular_values(head.moment, head.key_dim);
    if (!head.value.empty()) s.value = singular_values(head.value, head.value_dim);
  }
  return all;
}

OrderedJson to_json(const oscar_calibration* calibration, const oscar_calibration_info& info,
                    const CalibrationContents& contents, const std::vector<HeadSpectra>& spectra, uint64_t file_bytes,
                    bool with_spectra) {
  OrderedJson heads = OrderedJson::array();
  for (size_t i = 0; i < contents.heads.size(); ++i) {
    const CalibrationHead& head = contents.heads[i];
    auto about = sized<oscar_calibration_head_info>();
    call(oscar_calibration_head_get(calibration, head.layer, head.head, &about));
    OrderedJson entry = {{"layer", head.layer},
                         {"kv_head", head.head},
                         {"key_dim", head.key_dim},
                         {"value_dim", head.value_dim},
                         {"key_transform", kKinds[head.key_kind]},
                         {"value_transform", kKinds[head.value_kind]},
                         {"has_query_moment", !head.moment.empty()},
                         {"fingerprint", hex(about.fingerprint)},
                         {"key_condition", condition(spectra[i].key)},
                         {"value_condition", condition(spectra[i].value)}};
    if (!head.moment.empty()) entry["query_moment_condition"] = condition(spectra[i].moment);
    if (with_spectra)
      entry["spectra"] = {{"key", spectra[i].key}, {"query_moment", spectra[i].moment}, {"value", spectra[i].value}};
    heads.push_back(entry);
  }
  return {{"command", "inspect"},
          {"kind", "calibration"},
          {"bytes_file", file_bytes},
          {"bytes_memory", info.bytes},
          {"n_layers", info.n_layers},
          {"n_heads", info.n_heads},
          {"n_data_free_heads", info.n_data_free_heads},
          {"fingerprint", hex(info.fingerprint)},
          {"source", kSources[info.source]},
          {"is_shaped", info.is_shaped != 0},
          {"knows_rope", info.knows_rope != 0},
          {"n_tokens", info.n_tokens},
          {"n_positions", info.n_positions},
          {"end_position", info.end_position},
          {"n_refined", info.n_refined},
          {"refined_key_bits", info.refined_key_bits},
          {"refined_value_bits", info.refined_value_bits},
          {"objective", info.objective},
          {"model", info.model},
          {"note", info.note},
          {"heads", heads}};
}

std::string median_and_most(std::vector<double> numbers) {
  if (numbers.empty()) return "-";
  std::sort(numbers.begin(), numbers.end());
  return text("%.3g, %.3g", numbers[numbers.size() / 2], numbers.back());
}

void print(const std::string& path, const oscar_calibration_info& info, const CalibrationContents& contents,
           const std::vector<HeadSpectra>& spectra, uint64_t file_bytes) {
  std::printf("%s: calibration file, %s bytes (%s in memory)\n", printable(path).c_str(), grouped(file_bytes).c_str(),
              bytes_text(info.bytes).c_str());
  std::printf("  fingerprint  %s\n", hex(info.fingerprint).c_str());
  std::printf("  geometry     %u layers, %u KV heads, %u of them data-free\n", info.n_layers, info.n_heads,
              info.n_data_free_heads);
  std::printf("  made by      %s%s%s\n", kSources[info.source], info.model[0] ? " for " : "",
              printable(info.model).c_str());
  if (info.n_tokens > 0)
    std::printf("  from         %s tokens, to serve positions up to %s%s\n", grouped(info.n_tokens).c_str(),
                grouped(info.n_positions).c_str(), info.knows_rope ? ", RoPE averaged" : "");
  if (info.objective[0]) std::printf("  objective    %s\n", printable(info.objective).c_str());
  if (info.note[0]) std::printf("  note         %s\n", printable(info.note).c_str());
  std::printf("\nConditions, median and most of a layer's KV heads\n");
  Table table({"layer", "heads", "dims", "key transform", "query moment", "value transform"});
  for (uint32_t l = 0; l < contents.layers.size(); ++l) {
    std::vector<double> key, moment, value;
    for (size_t i = 0; i < contents.heads.size(); ++i) {
      if (contents.heads[i].layer != l) continue;
      key.push_back(condition(spectra[i].key));
      value.push_back(condition(spectra[i].value));
      if (!spectra[i].moment.empty()) moment.push_back(condition(spectra[i].moment));
    }
    const CalibrationLayer& layer = contents.layers[l];
    table.add({std::to_string(l), std::to_string(layer.n_kv_heads), text("%u/%u", layer.key_dim, layer.value_dim),
               median_and_most(key), median_and_most(moment), median_and_most(value)});
  }
  table.print();
}

Plot plot_of(const CalibrationContents& contents, const std::vector<HeadSpectra>& spectra) {
  const bool has_moments = std::any_of(spectra.begin(), spectra.end(),
                                       [](const HeadSpectra& s) { return !s.moment.empty(); });
  Plot plot{has_moments ? "Query moments: eigenvalues" : "Key transforms: singular values",
            "rank (1 is the largest)",
            has_moments ? "eigenvalue" : "singular value",
            {}};
  for (size_t i = 0; i < spectra.size(); ++i) {
    const double depth = contents.layers.size() > 1 ? static_cast<double>(contents.heads[i].layer) /
                                                          static_cast<double>(contents.layers.size() - 1)
                                                    : 0;
    const std::vector<double>& line = has_moments ? spectra[i].moment : spectra[i].key;
    if (!line.empty()) plot.lines.push_back({line, depth});
  }
  return plot;
}

Exit inspect_calibration(const Options& options, std::span<const uint8_t> bytes) {
  const Calibration calibration = load_calibration(bytes, options.file);
  const oscar_calibration_info info = info_of(calibration.get());
  const CalibrationContents contents = read_calibration(bytes);
  const std::vector<HeadSpectra> spectra = spectra_of(contents);
  if (!options.svg.empty()) {
    const Plot plot = plot_of(contents, spectra);
    if (plot.lines.empty())
      bad_input(text("%s: there is nothing to draw, all transforms are data-free", printable(options.file).c_str()));
    const std::string svg = to_svg(plot);
    write_file(options.svg, {reinterpret_cast<const uint8_t*>(svg.data()), svg.size()}, options.force);
  }
  if (options.json) {
    print_json(to_json(calibration.get(), info, contents, spectra, bytes.size(), options.spectra));
  } else {
    print(options.file, info, contents, spectra, bytes.size());
  }
  return Exit::kYes;
}

std::string storage_of(const SequenceLayer& layer) {
  if (layer.exact) return "exact";
  if (layer.n_refined == 0) return "2 bits";
  return text("2 bits, %u of 128 at %u/%u", layer.n_refined, 2 + layer.key_plane, 2 + layer.value_plane);
}

OrderedJson to_json(const SequenceHeader& header) {
  OrderedJson layers = OrderedJson::array(), classes = OrderedJson::array();
  for (const SequenceLayer& l : header.layers)
    layers.push_back({{"n_q_heads", l.n_q_heads},
                      {"n_kv_heads", l.n_kv_heads},
                      {"key_dim", l.key_dim},
                      {"value_dim", l.value_dim},
                      {"window", l.window},
                      {"exact", l.exact != 0},
                      {"n_refined", l.n_refined},
                      {"refined_key_bits", 2 + l.key_plane},
                      {"refined_value_bits", 2 + l.value_plane},
                      {"kv_source", l.kv_source},
                      {"class", l.layer_class}});
  for (const SequenceClass& c : header.classes)
    classes.push_back({{"packed_end", c.packed_end},
                       {"kept_from", c.kept_from},
                       {"n_blocks", c.n_blocks},
                       {"n_pages", c.n_pages},
                       {"block_bytes", c.block_bytes},
                       {"page_bytes", c.page_bytes},
                       {"vote_bytes", c.vote_bytes}});
  return {{"command", "inspect"},
          {"kind", "sequence"},
          {"bytes_file", header.file_bytes},
          {"fingerprint", hex(header.fingerprint)},
          {"n_tokens", header.n_tokens},
          {"n_sink", header.n_sink},
          {"n_recent", header.n_recent},
          {"max_rollback", header.max_rollback},
          {"layers", layers},
          {"classes", classes}};
}

void print(const std::string& path, const SequenceHeader& header) {
  std::printf("%s: exported sequence, %s bytes\n", printable(path).c_str(), grouped(header.file_bytes).c_str());
  std::printf("  fingerprint  %s, of its calibration\n", hex(header.fingerprint).c_str());
  std::printf("  tokens       %s\n", grouped(header.n_tokens).c_str());
  std::printf("  windows      %u first and %u newest exact, %u can be taken back\n\n", header.n_sink, header.n_recent,
              header.max_rollback);
  Table table({"class", "layers", "heads", "dims", "window", "stored", "packed to", "blocks", "exact pages"});
  for (uint32_t c = 0; c < header.classes.size(); ++c) {
    const SequenceClass& kept = header.classes[c];
    uint32_t n = 0;
    const SequenceLayer* one = nullptr;
    for (const SequenceLayer& layer : header.layers)
      if (layer.layer_class == c) one = &layer, ++n;
    if (!one) continue;
    table.add({std::to_string(c), std::to_string(n), text("%u/%u", one->n_q_heads, one->n_kv_heads),
               text("%u/%u", one->key_dim, one->value_dim), one->window > 0 ? grouped(one->window) : "-",
               storage_of(*one), grouped(kept.packed_end), grouped(kept.n_blocks), grouped(kept.n_pages)});
  }
  table.print();
}

Exit inspect_sequence(const Options& options, std::span<const uint8_t> bytes) {
  if (!options.svg.empty()) bad_usage("--svg is for calibration files: an exported sequence has no spectra");
  const SequenceHeader header = read_sequence_header(bytes, options.file);
  if (options.json) {
    print_json(to_json(header));
  } else {
    print(options.file, header);
  }
  return Exit::kYes;
}

// What a file is, by its first bytes.
struct Kind {
  bool (*is)(std::span<const uint8_t> bytes);
  Exit (*inspect)(const Options& options, std::span<const uint8_t> bytes);
};
constexpr Kind kFileKinds[] = {{is_calibration, inspect_calibration}, {is_sequence, inspect_sequence}};

Exit run(const Options& options) {
  const MappedFile file(options.file);
  for (const Kind& kind : kFileKinds)
    if (kind.is(file.bytes())) return kind.inspect(options, file.bytes());
  bad_input(
      text("%s: no file of liboscar's: it begins with neither OSCARCAL nor OSCARSEQ", printable(options.file).c_str()));
}

}  // namespace

void add_inspect(Program& program) {
  auto o = std::make_shared<Options>();
  Command(program, "inspect", "what is in a calibration or an exported sequence", kFooter)
      .positional("FILE", o->file, "a calibration file or an exported sequence")
      .text("--svg", o->svg, "FILE", "draw the spectra into this file")
      .flag("--spectra", o->spectra, "all singular values, in --json")
      .flag("--force", o->force, "replace the file of --svg")
      .flag("--json", o->json, "one JSON document")
      .on_call(o, run);
}

}  // namespace oscar::cli
