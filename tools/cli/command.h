// A command's options, declared without the parser's header: it is large, and one file that includes it is enough.
#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "failure.h"

namespace CLI {
class App;
}

namespace oscar::cli {

struct Program;

class Command {
 public:
  // `line` is what lists of commands say; `footer` stands below the options.
  Command(Program& program, const char* name, const char* line, const char* footer);

  Command& positional(const char* name, std::string& to, const char* words);
  Command& optional_positional(const char* name, std::string& to, const char* words);
  Command& positionals(const char* name, std::vector<std::string>& to, const char* words);
  Command& text(const char* names, std::string& to, const char* type, const char* words);
  Command& needed_text(const char* names, std::string& to, const char* type, const char* words);
  Command& texts(const char* names, std::vector<std::string>& to, const char* type, const char* words);
  Command& one_of(const char* names, std::string& to, std::initializer_list<const char*> choices, const char* words);
  Command& number(const char* names, uint32_t& to, uint32_t least, uint32_t most, const char* type, const char* words);
  Command& flag(const char* names, bool& to, const char* words);
  Command& hidden();

  template <class Options>
  void on_call(std::shared_ptr<Options> options, Exit (*run)(const Options&)) {
    set_call([options, run] { return run(*options); });
  }

 private:
  void set_call(std::function<Exit()> run);
  Program& program_;
  CLI::App* app_;
};

void add_plan(Program& program);
void add_check(Program& program);
void add_inspect(Program& program);
void add_verify(Program& program);
void add_convert(Program& program);
void add_calibrate(Program& program);
void add_evaluate(Program& program);
void add_bench(Program& program);
void add_map(Program& program);
void add_report(Program& program);
void add_completion(Program& program);
void add_manual(Program& program);

}  // namespace oscar::cli
