// The CPU's backends.
#pragma once
#include <string>
#include <vector>

#include "backend_variable.h"
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

}  // namespace test
