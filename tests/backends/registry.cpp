// The list of backends and the choice by OSCAR_BACKEND.
#include <doctest/doctest.h>

#include <string>

#include "backend/cpu.h"
#include "backend_variable.h"

namespace oscar {
namespace {

using test::BackendVariable;

TEST_CASE("reference and scalar are always available, others say why not") {
  const std::span<const BackendEntry> entries = backend_list();
  REQUIRE(entries.size() == 4);
  CHECK(std::string(entries[0].name) == "reference");
  CHECK(std::string(entries[1].name) == "scalar");
  CHECK(entries[0].backend != nullptr);
  CHECK(entries[1].backend != nullptr);
  for (const BackendEntry& entry : entries) {
    CHECK((entry.backend == nullptr) == (entry.reason[0] != '\0'));
    if (entry.backend) CHECK(std::string(entry.backend->name()) == entry.name);
  }
}

TEST_CASE("OSCAR_BACKEND forces an available backend by name") {
  char error[512] = "";
  for (const BackendEntry& entry : backend_list()) {
    if (!entry.backend) continue;
    const BackendVariable variable(entry.name);
    CHECK(backend_select(error, sizeof error) == entry.backend);
  }
}

TEST_CASE("without OSCAR_BACKEND the last available backend is used") {
  const BackendVariable variable(nullptr);
  char error[512] = "";
  const Backend* best = nullptr;
  for (const BackendEntry& entry : backend_list())
    if (entry.backend) best = entry.backend;
  CHECK(backend_select(error, sizeof error) == best);
}

TEST_CASE("an unknown name in OSCAR_BACKEND is an error that lists what there is") {
  const BackendVariable variable("abacus");
  char error[512] = "";
  CHECK(backend_select(error, sizeof error) == nullptr);
  const std::string text = error;
  CHECK(text.find("abacus") != std::string::npos);
  for (const BackendEntry& entry : backend_list()) CHECK(text.find(entry.name) != std::string::npos);
}

TEST_CASE("an error text is cut to the room given") {
  const BackendVariable variable("abacus");
  char error[16] = "";
  CHECK(backend_select(error, sizeof error) == nullptr);
  CHECK(std::string(error).size() == 15);
}

}  // namespace
}  // namespace oscar
