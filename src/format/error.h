// The library's one exception: a status and a text. Thrown anywhere below the border, caught only there.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <exception>

namespace oscar {

// Values of oscar_status_enum, repeated because nothing below the border includes the public header (the border
// asserts that they agree).
enum class Status : int32_t {
  kInvalid = -1,
  kNoMemory = -2,
  kNoSpace = -3,
  kNotFound = -4,
  kState = -5,
  kUnsupported = -6,
  kCorrupt = -7,
  kBackend = -8,
  kInternal = -9,
  kDevice = -10,
};

class Error : public std::exception {
 public:
  __attribute__((format(printf, 3, 4))) Error(Status status, const char* format, ...) noexcept : status_(status) {
    va_list args;
    va_start(args, format);
    vsnprintf(text_, sizeof text_, format, args);
    va_end(args);
  }
  Status status() const noexcept { return status_; }
  const char* what() const noexcept override { return text_; }

 private:
  Status status_;
  char text_[480];
};

}  // namespace oscar
