// What a cache has to tell whoever runs it: a record at a time, to the one place that was asked for, or to nobody.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>

namespace oscar {

// Numbers of the public header, which nothing below the border includes (the border asserts that they agree).
enum class LogLevel : uint32_t { kInfo = 1, kWarning = 2 };
enum class LogEvent : uint32_t { kFreeze = 1, kDataFree = 2, kNoSpace = 3, kNonFinite = 4, kDrift = 5 };

inline constexpr uint32_t kAllLayers = UINT32_MAX;

struct LogRecord {
  LogLevel level;
  LogEvent event;
  uint32_t layer;  // kAllLayers: of no one layer
  const char* text;
};

// Writes on the thread of the call that it is about. The cache is whole then, and nothing is locked.
class Log {
 public:
  // `deliver` knows what the caller's function really is.
  struct Target {
    void* user = nullptr;
    void (*function)() = nullptr;
    void (*deliver)(const Target&, const LogRecord&) = nullptr;
    LogLevel least = LogLevel::kInfo;
  };

  void set(const Target& target) { target_ = target; }
  bool wants(LogLevel level) const { return target_.function && level >= target_.least; }

  // What the caller's function throws ends here: the call that it is told of has done its work.
  __attribute__((format(printf, 5, 6))) void write(LogLevel level, LogEvent event, uint32_t layer, const char* format,
                                                   ...) const noexcept {
    if (!wants(level)) return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    try {
      target_.deliver(target_, {level, event, layer, text});
    } catch (...) {
    }
  }

 private:
  Target target_;
};

}  // namespace oscar
