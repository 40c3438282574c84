// oscar completion: what a shell needs to complete commands and options, from the commands themselves.
#include <cstdio>

#include "program.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Prints a completion script. Packages install all three; by hand:
  oscar completion bash > ~/.local/share/bash-completion/completions/oscar
  oscar completion zsh > "${fpath[1]}/_oscar"
  oscar completion fish > ~/.config/fish/completions/oscar.fish)";

struct Options {
  std::string shell;
  const CLI::App* program = nullptr;
};

std::vector<const CLI::App*> commands_of(const CLI::App& program) {
  return program.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

// "--json", "-c", ... of one command.
std::vector<std::string> names_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  return line;
}

std::string command_names(const CLI::App& program) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands_of(program)) names.push_back(command->get_name());
  return joined(names);
}

std::string quoted(const std::string& words) {
  std::string result = "'";
  for (const char c : words) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

void print_bash(const CLI::App& program) {
  std::printf("# bash completion for oscar\n_oscar() {\n  local word=${COMP_WORDS[COMP_CWORD]} words\n"
              "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    words='%s %s'\n  else\n    case ${COMP_WORDS[1]} in\n",
              command_names(program).c_str(), joined(names_of(program)).c_str());
  for (const CLI::App* command : commands_of(program))
    std::printf("      %s) words='%s' ;;\n", command->get_name().c_str(), joined(names_of(*command)).c_str());
  std::printf("      *) return ;;\n    esac\n  fi\n"
              "  COMPREPLY=()\n  case $word in\n    -*) ;;\n    *) [ \"$COMP_CWORD\" -gt 1 ] && return ;;\n  esac\n"
              "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n}\n"
              "complete -o default -F _oscar oscar\n");
}

void print_zsh(const CLI::App& program) {
  std::printf("#compdef oscar\n_oscar() {\n  if (( CURRENT == 2 )); then\n    local -a commands=(\n");
  for (const CLI::App* command : commands_of(program))
    std::printf("      %s\n", quoted(command->get_name() + ":" + command->get_description()).c_str());
  std::printf("    )\n    _describe command commands\n    return\n  fi\n  if [[ $PREFIX != -* ]]; then\n    _files\n   "
              " return\n"
              "  fi\n  case ${words[2]} in\n");
  for (const CLI::App* command : commands_of(program))
    std::printf("    %s) compadd -- %s ;;\n", command->get_name().c_str(), joined(names_of(*command)).c_str());
  std::printf("  esac\n}\n_oscar \"$@\"\n");
}

void print_fish(const CLI::App& program) {
  std::printf("# fish completion for oscar\n");
  for (const CLI::App* command : commands_of(program))
    std::printf("complete -c oscar -n __fish_use_subcommand -a %s -d %s\n", command->get_name().c_str(),
                quoted(command->get_description()).c_str());
  for (const CLI::App* command : commands_of(program)) {
    for (const CLI::Option* option : command->get_options()) {
      if (!option->nonpositional()) continue;
      std::string line = "complete -c oscar -n '__fish_seen_subcommand_from " + command->get_name() + "'";
      for (const std::string& name : option->get_snames()) line += " -s " + name;
      for (const std::string& name : option->get_lnames()) line += " -l " + name;
      if (option->get_items_expected_max() > 0) line += " -r";
      std::printf("%s -d %s\n", line.c_str(), quoted(option->get_description()).c_str());
    }
  }
}

Exit run(const Options& options) {
  if (options.shell == "bash") print_bash(*options.program);
  if (options.shell == "zsh") print_zsh(*options.program);
  if (options.shell == "fish") print_fish(*options.program);
  return Exit::kYes;
}

}  // namespace

void add_completion(Program& program) {
  auto o = std::make_shared<Options>();
  o->program = &program.app;
  Command(program, "completion", "a completion script for a shell", kFooter)
      .one_of("SHELL", o->shell, {"bash", "zsh", "fish"}, "bash, zsh or fish")
      .on_call(o, run);
}

}  // namespace oscar::cli
