// Version, error text, status names, backends.
#include <cstdio>
#include <cstring>

#include "backend/backend.h"
#include "backend/device_engine.h"
#include "border/arguments.h"
#include "border/guard.h"

#define OSCAR_STRING_(x) #x
#define OSCAR_STRING(x) OSCAR_STRING_(x)

namespace oscar::border {

namespace {
thread_local char last_error[512] = "";
}

void set_last_error(const char* function, const char* text) noexcept {
  std::snprintf(last_error, sizeof last_error, "%s: %s", function, text);
}

}  // namespace oscar::border

using namespace oscar;
using namespace oscar::border;

namespace {

// Chosen by a cache's device_type, and never by OSCAR_BACKEND.
oscar_backend_info cuda_info() {
  oscar_backend_info info{};
  std::snprintf(info.name, sizeof info.name, "cuda");
  try {
    cuda_check_device(0);
    info.available = 1;
  } catch (const Error& e) {
    std::snprintf(info.reason, sizeof info.reason, "%s", e.what());
  }
  return info;
}

}  // namespace

extern "C" {

const char* oscar_version(void) {
  return OSCAR_STRING(OSCAR_VERSION_MAJOR) "." OSCAR_STRING(OSCAR_VERSION_MINOR) "." OSCAR_STRING(OSCAR_VERSION_PATCH);
}

uint32_t oscar_abi_version(void) { return OSCAR_ABI_VERSION; }

const char* oscar_last_error(void) { return last_error; }

const char* oscar_status_name(oscar_status status) {
  switch (status) {
    case OSCAR_OK: return "OSCAR_OK";
    case OSCAR_E_INVALID: return "OSCAR_E_INVALID";
    case OSCAR_E_NO_MEMORY: return "OSCAR_E_NO_MEMORY";
    case OSCAR_E_NO_SPACE: return "OSCAR_E_NO_SPACE";
    case OSCAR_E_NOT_FOUND: return "OSCAR_E_NOT_FOUND";
    case OSCAR_E_STATE: return "OSCAR_E_STATE";
    case OSCAR_E_UNSUPPORTED: return "OSCAR_E_UNSUPPORTED";
    case OSCAR_E_CORRUPT: return "OSCAR_E_CORRUPT";
    case OSCAR_E_BACKEND: return "OSCAR_E_BACKEND";
    case OSCAR_E_INTERNAL: return "OSCAR_E_INTERNAL";
    case OSCAR_E_DEVICE: return "OSCAR_E_DEVICE";
    default: return "OSCAR_E_UNKNOWN";
  }
}

oscar_status oscar_backend_get(uint32_t index, oscar_backend_info* info_out) {
  return guarded("oscar_backend_get", [&] {
    require(info_out, "info_out");
    const auto list = backend_list();
    if (index > list.size()) {
      write_struct(info_out, oscar_backend_info{}, "info_out");
      throw Error(Status::kNotFound, "index is %u, there are %zu backends", index, list.size() + 1);
    }
    if (index == list.size()) {
      write_struct(info_out, cuda_info(), "info_out");
      return;
    }
    char error[256];
    const BackendEntry& entry = list[index];
    oscar_backend_info info{};
    info.available = entry.backend != nullptr;
    info.selected = entry.backend != nullptr && entry.backend == backend_select(error, sizeof error);
    std::snprintf(info.name, sizeof info.name, "%s", entry.name);
    std::snprintf(info.reason, sizeof info.reason, "%s", entry.reason);
    write_struct(info_out, info, "info_out");
  });
}

}  // extern "C"
