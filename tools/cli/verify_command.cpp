// oscar verify
#include <cstdio>
#include <cstring>

#include "calibration_file.h"
#include "command.h"
#include "file.h"
#include "fit.h"
#include "library.h"
#include "output.h"
#include "sequence_file.h"
#include "serving.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Reads the whole file as the library does: checksum, format, every matrix. Writes
it again in memory, and compares. Then, where they are given, its fingerprint
with --fingerprint and its geometry with --model. Exit status 1 on any doubt.

An exported sequence is imported into a cache made for it: both checksums, every
size, every block. Where its cache was calibrated, --calibration must give that
file; --fingerprint is then that of the transforms it was stored with.

The checksum finds damage; it does not prove who made the file.

Examples:
  oscar verify model.oscarcal --model Qwen3-8B --fingerprint 0123456789abcdef
  oscar verify chat.oscar --calibration model.oscarcal)";

struct Options {
  std::string file, fingerprint, model, calibration;
  bool json = false;
};

struct Finding {
  std::string what;
  std::string problem;  // empty: as it should be
};

Finding is_written_as_read(const oscar_calibration* calibration, std::span<const uint8_t> bytes) {
  const std::vector<uint8_t> again = saved_bytes(calibration);
  const bool same = again.size() == bytes.size() && std::memcmp(again.data(), bytes.data(), bytes.size()) == 0;
  return {"written again, the same bytes", same ? "" : "the library writes other bytes than it has read"};
}

Finding has_fingerprint(uint64_t fingerprint, const std::string& wanted) {
  const std::string found = hex(fingerprint);
  return {"fingerprint", found == wanted ? "" : "is " + found + ", wanted " + wanted};
}

Finding fits_model(const oscar_calibration* calibration, const std::string& path) {
  const Model model = read_model(path);
  Finding finding{"fits the model", obstacle(model)};
  if (!finding.problem.empty()) return finding;
  Choice choice;
  choice.max_tokens = 1024;
  choice.calibration = calibration;
  const Serving serving(model, choice);
  const auto report = serving.try_check(1024, kMostCapacity);
  if (!report) {
    finding.problem = oscar_last_error();
  } else if (!report->served) {
    finding.problem = report->reason;
  }
  return finding;
}

std::string check_fingerprint(const std::string& given) {
  if (given.size() != 16 || given.find_first_not_of("0123456789abcdef") != std::string::npos)
    bad_usage(text("--fingerprint is \"%s\", wanted: 16 digits, 0-9 and a-f", printable(given).c_str()));
  return given;
}

std::vector<Finding> verify_sequence(const Options& options, std::span<const uint8_t> bytes) {
  if (!options.model.empty()) bad_usage("--model is for calibration files: an exported sequence has its own geometry");
  SequenceHeader header;
  try {
    header = read_sequence_header(bytes, options.file);
  } catch (const Failure& failure) {
    return {Finding{"header", failure.what()}};
  }
  Calibration calibration;
  if (!options.calibration.empty())
    calibration = load_calibration(MappedFile(options.calibration).bytes(), options.calibration);
  std::vector<Finding> findings{{"checksums, sizes and blocks", import_problem(header, bytes, calibration.get())}};
  if (!options.fingerprint.empty()) findings.push_back(has_fingerprint(header.fingerprint, options.fingerprint));
  return findings;
}

std::vector<Finding> verify_calibration(const Options& options, std::span<const uint8_t> bytes) {
  if (!options.calibration.empty()) bad_usage("--calibration is for exported sequences");
  std::vector<Finding> findings;
  oscar_calibration* loaded = nullptr;
  const oscar_status status = oscar_calibration_load(bytes.data(), bytes.size(), &loaded);
  if (status == OSCAR_E_NO_MEMORY) call(status);
  const Calibration calibration(loaded);
  findings.push_back({"checksum, format and matrices", status == OSCAR_OK ? "" : oscar_last_error()});
  if (!calibration) return findings;
  findings.push_back(is_written_as_read(loaded, bytes));
  if (!options.fingerprint.empty())
    findings.push_back(has_fingerprint(info_of(loaded).fingerprint, options.fingerprint));
  if (!options.model.empty()) findings.push_back(fits_model(loaded, options.model));
  return findings;
}

// What a file is, by its first bytes. A file that is none of these is a calibration file with a damaged beginning, or
// something else: not verified either way.
struct Kind {
  bool (*is)(std::span<const uint8_t> bytes);
  std::vector<Finding> (*verify)(const Options& options, std::span<const uint8_t> bytes);
};
constexpr Kind kFileKinds[] = {{is_calibration, verify_calibration}, {is_sequence, verify_sequence}};

std::vector<Finding> verify(const Options& options, std::span<const uint8_t> bytes) {
  for (const Kind& kind : kFileKinds)
    if (kind.is(bytes)) return kind.verify(options, bytes);
  return {{"a file of liboscar's", "it begins with neither OSCARCAL nor OSCARSEQ"}};
}

Exit run(const Options& options) {
  if (!options.fingerprint.empty()) check_fingerprint(options.fingerprint);
  const MappedFile file(options.file);
  const std::vector<Finding> findings = verify(options, file.bytes());
  bool verified = true;
  OrderedJson list = OrderedJson::array();
  for (const Finding& finding : findings) {
    verified = verified && finding.problem.empty();
    list.push_back({{"what", finding.what}, {"ok", finding.problem.empty()}, {"problem", finding.problem}});
    if (options.json) continue;
    std::printf("%-6s %s%s%s\n", finding.problem.empty() ? "ok" : "FAILED", finding.what.c_str(),
                finding.problem.empty() ? "" : ": ", finding.problem.c_str());
  }
  if (options.json)
    print_json({{"command", "verify"}, {"file", options.file}, {"verified", verified}, {"findings", list}});
  return verified ? Exit::kYes : Exit::kNo;
}

}  // namespace

void add_verify(Program& program) {
  auto o = std::make_shared<Options>();
  Command(program, "verify", "whether a file is whole and right", kFooter)
      .positional("FILE", o->file, "a calibration file or an exported sequence")
      .text("--fingerprint", o->fingerprint, "HEX", "the transforms that it must have")
      .text("--model", o->model, "MODEL", "the model that a calibration must fit")
      .text("--calibration", o->calibration, "FILE", "that of the cache an exported sequence is from")
      .flag("--json", o->json, "one JSON document")
      .on_call(o, run);
}

}  // namespace oscar::cli
