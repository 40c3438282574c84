// oscar report
#include <cstdio>

#include "command.h"
#include "file.h"
#include "output.h"
#include "report_sections.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(One HTML file, with everything in it: it fetches nothing and runs nothing, and
follows the reader's choice of light or dark. Each FILE is one JSON document:

  oscar plan --json       memory, by format
  oscar bench --json      speed beside BF16, by context
  oscar evaluate --json   error of every profile, by layer
  oscar calibrate --json  what a calibration is worth, by layer
  oscar inspect --json    conditions of a calibration's transforms
  oscar map --json        where attention goes
  bench/quality/run.py --json   quality against bytes, with every rival; needles
  bench/cpu.py decode --json    speed beside other engines

They become sections in the order in which they are given.

Example:
  oscar plan Qwen3-8B --context 128K --json > plan.json
  oscar bench Qwen3-8B --json > bench.json
  oscar report plan.json bench.json quality.json -o report.html)";

struct Options {
  std::vector<std::string> files;
  std::string output, title = "liboscar";
  bool force = false, json = false;
};

constexpr size_t kMostFiles = 64;

Exit run(const Options& options) {
  if (options.files.size() > kMostFiles) bad_usage(text("%zu files, at most %zu", options.files.size(), kMostFiles));
  std::vector<Section> sections;
  OrderedJson list = OrderedJson::array();
  for (const std::string& path : options.files) {
    const Json document = parse_json(MappedFile(path).bytes(), path);
    sections.push_back(section_of(document, path));
    list.push_back({{"file", path}, {"section", sections.back().id}});
    sections.back().id += text("-%zu", sections.size());
  }
  const std::string page = html_page(options.title, sections);
  write_file(options.output, {reinterpret_cast<const uint8_t*>(page.data()), page.size()}, options.force);
  if (options.json) {
    print_json({{"command", "report"}, {"file", options.output}, {"bytes", page.size()}, {"sections", list}});
  } else {
    std::printf("%s: %s bytes, %zu sections\n", printable(options.output).c_str(), grouped(page.size()).c_str(),
                sections.size());
  }
  return Exit::kYes;
}

}  // namespace

void add_report(Program& program) {
  auto o = std::make_shared<Options>();
  Command(program, "report", "one HTML page of what the others measured", kFooter)
      .positionals("FILE", o->files, "JSON documents")
      .needed_text("-o,--output", o->output, "FILE", "the page to write")
      .text("--title", o->title, "TEXT", "its title (default liboscar)")
      .flag("--force", o->force, "replace the file where it exists")
      .flag("--json", o->json, "one JSON document")
      .on_call(o, run);
}

}  // namespace oscar::cli
