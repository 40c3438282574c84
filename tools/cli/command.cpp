#include "command.h"

#include "program.h"

namespace oscar::cli {

Command::Command(Program& program, const char* name, const char* line, const char* footer)
    : program_(program), app_(program.app.add_subcommand(name, line)) {
  app_->footer(footer);
}

Command& Command::positional(const char* name, std::string& to, const char* words) {
  app_->add_option(name, to, words)->type_name("")->required();
  return *this;
}
Command& Command::optional_positional(const char* name, std::string& to, const char* words) {
  app_->add_option(name, to, words)->type_name("");
  return *this;
}
Command& Command::positionals(const char* name, std::vector<std::string>& to, const char* words) {
  app_->add_option(name, to, words)->type_name("")->required();
  return *this;
}
Command& Command::text(const char* names, std::string& to, const char* type, const char* words) {
  app_->add_option(names, to, words)->type_name(type);
  return *this;
}
Command& Command::needed_text(const char* names, std::string& to, const char* type, const char* words) {
  app_->add_option(names, to, words)->type_name(type)->required();
  return *this;
}
Command& Command::texts(const char* names, std::vector<std::string>& to, const char* type, const char* words) {
  app_->add_option(names, to, words)->type_name(type)->allow_extra_args(false);
  return *this;
}
Command& Command::one_of(const char* names, std::string& to, std::initializer_list<const char*> choices,
                         const char* words) {
  std::vector<std::string> known(choices.begin(), choices.end());
  app_->add_option(names, to, words)
      ->check(CLI::IsMember(known).description(""))
      ->type_name(to.empty() ? "" : "NAME")
      ->required(to.empty());
  return *this;
}
Command& Command::number(const char* names, uint32_t& to, uint32_t least, uint32_t most, const char* type,
                         const char* words) {
  app_->add_option(names, to, words)->check(CLI::Range(least, most).description(""))->type_name(type);
  return *this;
}
Command& Command::flag(const char* names, bool& to, const char* words) {
  app_->add_flag(names, to, words);
  return *this;
}
Command& Command::hidden() {
  app_->group("");
  return *this;
}

void Command::set_call(std::function<Exit()> run) {
  app_->callback([this_program = &program_, run = std::move(run)] { this_program->exit = run(); });
}

}  // namespace oscar::cli
