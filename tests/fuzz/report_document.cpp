// libFuzzer's entry into what oscar report makes of JSON. Any bytes end in a page whose tags are closed, or in one line.
#include "failure.h"
#include "fuzz/input.h"
#include "report_sections.h"

using namespace oscar::cli;

namespace {

size_t count(const std::string& page, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = page.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Section section = section_of(parse_json({data, size}, "file"), "file");
    const std::string page = html_page("title", {section});
    FUZZ_CHECK(count(page, "<table") == count(page, "</table>"));
    FUZZ_CHECK(count(page, "<svg") == count(page, "</svg>"));
    FUZZ_CHECK(count(page, "<script") == 0);
  } catch (const Failure& failure) {
    FUZZ_CHECK(failure.exit() == Exit::kInput);
    for (const char* c = failure.what(); *c; ++c) FUZZ_CHECK(*c != '\n');
  }
  return 0;
}
