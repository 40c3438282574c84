// The program: the parser, which knows all commands.
#pragma once
#include <CLI/CLI.hpp>

#include "command.h"

namespace oscar::cli {

struct Program {
  CLI::App app;
  Exit exit = Exit::kYes;  // of the command that ran
};

}  // namespace oscar::cli
