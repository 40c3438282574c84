#include "report_sections.h"

#include "failure.h"
#include "text.h"

namespace oscar::cli {

namespace {

struct Kind {
  const char* command;
  Section (*draw)(const Json& document);
};
constexpr Kind kKinds[] = {{"plan", memory_section},       {"bench", bench_section},
                           {"evaluate", evaluate_section}, {"calibrate", calibrate_section},
                           {"inspect", inspect_section},   {"map", map_section}};

}  // namespace

Section section_of(const Json& document, const std::string& file) {
  const std::string name = printable(file);
  if (!document.is_object()) bad_input(name + ": JSON, but no object");
  try {
    if (document.contains("arms") && document.contains("results")) return quality_section(document);
    if (document.contains("machine") && document.contains("rivals")) return cpu_section(document);
    const std::string command = document.value("command", "");
    if (command == "inspect" && document.value("kind", "") != "calibration")
      bad_input(name + ": of an exported sequence there is nothing to draw");
    for (const Kind& kind : kKinds)
      if (command == kind.command) return kind.draw(document);
    bad_input(name + ": nothing that oscar report draws; oscar report --help lists what it does");
  } catch (const Json::exception& error) {
    bad_input(
        text("%s: a field is missing or is not what it should be: %s", name.c_str(), printable(error.what()).c_str()));
  }
}

}  // namespace oscar::cli
