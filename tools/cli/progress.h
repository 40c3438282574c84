// A line on a terminal that says how far long work has come; nothing where stderr is none.
#pragma once
#include <unistd.h>

#include <cstdio>

namespace oscar::cli {

class Progress {
 public:
  explicit Progress(const char* what) : what_(what), shows_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (shows_) std::fprintf(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(size_t done, size_t all) const {
    constexpr size_t kWidth = 30;
    if (!shows_) return;
    const size_t full = kWidth * done / all;
    std::fprintf(stderr, "\r%s [%.*s%*s] %zu/%zu", what_, static_cast<int>(full), "##############################",
                 static_cast<int>(kWidth - full), "", done, all);
  }

 private:
  const char* what_;
  bool shows_;
};

}  // namespace oscar::cli
