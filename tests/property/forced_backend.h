// The CPU's backends, and caches of one of them.
#pragma once
#include <cstdlib>
#include <string>
#include <vector>

#include "property/cache_fixture.h"

namespace test {

// Backends that can run here.
inline std::vector<std::string> cpu_backends() {
  std::vector<std::string> names;
  oscar_backend_info info{};
  info.struct_size = sizeof info;
  for (uint32_t i = 0; oscar_backend_get(i, &info) == OSCAR_OK; ++i)
    if (info.available && std::string(info.name) != "cuda") names.emplace_back(info.name);
  return names;
}

// Caches that are created while it lives compute with this backend.
struct ForcedBackend {
  explicit ForcedBackend(const std::string& name) { setenv("OSCAR_BACKEND", name.c_str(), 1); }
  ~ForcedBackend() {
    if (had)
      setenv("OSCAR_BACKEND", before.c_str(), 1);
    else
      unsetenv("OSCAR_BACKEND");
  }
  const bool had = std::getenv("OSCAR_BACKEND");
  const std::string before = had ? std::getenv("OSCAR_BACKEND") : "";
};

}  // namespace test
