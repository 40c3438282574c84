// What ends a command early: one line for its user, and the program's exit status.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

namespace oscar::cli {

enum class Exit : int {
  kYes = 0,      // done; served; verified
  kNo = 1,       // the answer is no: not served, not verified, nothing within the budget
  kUsage = 2,    // the command line is wrong
  kInput = 3,    // a file is missing, damaged, or not what it should be
  kLibrary = 4,  // the library or this machine could not do it
};

class Failure : public std::runtime_error {
 public:
  Failure(Exit exit, const std::string& line) : std::runtime_error(line), exit_(exit) {}
  Exit exit() const { return exit_; }

 private:
  Exit exit_;
};

[[noreturn]] inline void bad_usage(const std::string& line) { throw Failure(Exit::kUsage, line); }
[[noreturn]] inline void bad_input(const std::string& line) { throw Failure(Exit::kInput, line); }

}  // namespace oscar::cli
