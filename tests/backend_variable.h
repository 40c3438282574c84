// OSCAR_BACKEND for as long as this lives: caches that are created meanwhile compute with that backend.
#pragma once
#include <cstdlib>
#include <string>

namespace test {

class BackendVariable {
 public:
  explicit BackendVariable(const char* value) {  // null: unset
    if (const char* old = std::getenv("OSCAR_BACKEND")) old_ = old, had_ = true;
    value ? setenv("OSCAR_BACKEND", value, 1) : unsetenv("OSCAR_BACKEND");
  }
  ~BackendVariable() { had_ ? setenv("OSCAR_BACKEND", old_.c_str(), 1) : unsetenv("OSCAR_BACKEND"); }
  BackendVariable(const BackendVariable&) = delete;
  BackendVariable& operator=(const BackendVariable&) = delete;

 private:
  std::string old_;
  bool had_ = false;
};

}  // namespace test
