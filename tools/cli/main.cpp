// oscar: what liboscar can do for a model, from the command line.
#include <cstdio>
#include <new>

#include "library.h"
#include "program.h"
#include "text.h"

using namespace oscar::cli;

namespace {

constexpr const char* kDescription = R"(oscar - a language model's key/value cache at about two bits per element

Says what a cache costs and whether it is served, makes and looks after
calibration files, and measures errors and speed, with liboscar. Every command
has its own help: oscar COMMAND --help.)";

constexpr const char* kFooter = R"(MODEL is a Hugging Face config.json, the folder that holds one, or a GGUF file,
of which only the header is read. Counts may end in K or M (1024, 1024^2), bytes
in KiB, MiB, GiB, TiB or KB, MB, GB, TB. DUMP is a .safetensors or .npz file
with what a model computed for a text; examples/python/capture.py writes one.

--json prints one JSON document instead of tables. Its fields are described in
docs/cli.md; fields are only ever added.

Exit status:
  0  done; the answer is yes
  1  the answer is no: not served, not verified, or nothing within the budget
  2  the command line is wrong
  3  a file is missing, damaged, or not what it should be
  4  the library or this machine could not do it, e.g. for want of memory
A failure is one line on stderr, and nothing on stdout.

Examples:
  oscar plan Qwen3-8B/config.json --context 128K --batch 4 --memory 80GiB
  oscar check model.gguf --profile 4bit && echo served
  oscar verify model.oscarcal --model Qwen3-8B
  oscar evaluate dump.safetensors --calibration model.oscarcal --budget 3
  oscar bench Qwen3-8B/config.json --json > bench.json
  oscar report bench.json -o report.html

Environment:
  OSCAR_BACKEND  forces one way of computing by name, e.g. avx2)";

int fail(Exit exit, const std::string& line) {
  std::fflush(stdout);
  std::fprintf(stderr, "oscar: %s\n", line.c_str());
  return static_cast<int>(exit);
}

// CLI11 says some things in several lines.
std::string one_line(std::string words) {
  for (char& c : words)
    if (c == '\n') c = ' ';
  words.erase(words.find_last_not_of(' ') + 1);
  return printable(words);
}

int run(int argc, char** argv) {
  Program program;
  program.app.name("oscar");
  program.app.description(kDescription);
  program.app.footer(kFooter);
  program.app.set_version_flag("--version", std::string("oscar ") + oscar_version());
  program.app.require_subcommand(1);
  program.app.get_formatter()->column_width(28);
  add_plan(program);
  add_check(program);
  add_inspect(program);
  add_verify(program);
  add_convert(program);
  add_calibrate(program);
  add_evaluate(program);
  add_bench(program);
  add_map(program);
  add_report(program);
  add_completion(program);
  add_manual(program);
  try {
    program.app.parse(argc, argv);
  } catch (const CLI::Success& asked_for_help) {
    return program.app.exit(asked_for_help);
  } catch (const CLI::ParseError& error) {
    return fail(Exit::kUsage, one_line(error.what()) + " (oscar --help)");
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) return fail(Exit::kLibrary, "the output could not be written");
  return static_cast<int>(program.exit);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Failure& failure) {
    return fail(failure.exit(), failure.what());
  } catch (const std::bad_alloc&) {
    return fail(Exit::kLibrary, "there is not enough memory");
  } catch (const std::exception& error) {
    return fail(Exit::kLibrary, error.what());
  }
}
