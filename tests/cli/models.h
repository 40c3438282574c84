// The models of tests/cli/models, and bytes as readers take them.
#pragma once
#include <doctest/doctest.h>

#include <span>
#include <string>
#include <string_view>

#include "failure.h"
#include "model.h"

namespace oscar::cli::test {

inline std::string model_path(const std::string& name) { return std::string(OSCAR_CLI_MODELS) + "/" + name + ".json"; }
inline Model model_named(const std::string& name) { return read_model(model_path(name)); }

inline std::span<const uint8_t> bytes_of(std::string_view words) {
  return {reinterpret_cast<const uint8_t*>(words.data()), words.size()};
}

// What a call refuses with; "" where it does not.
template <class Call>
std::string refusal(Call&& call, Exit wanted = Exit::kInput) {
  try {
    call();
  } catch (const Failure& failure) {
    CHECK(static_cast<int>(failure.exit()) == static_cast<int>(wanted));
    return failure.what();
  }
  return "";
}

inline bool has(const std::string& words, const char* part) { return words.find(part) != std::string::npos; }

}  // namespace oscar::cli::test
