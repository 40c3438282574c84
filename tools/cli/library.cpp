#include "library.h"

#include "text.h"

namespace oscar::cli {

void call(oscar_status status) {
  if (status != OSCAR_OK) throw Failure(Exit::kLibrary, oscar_last_error());
}

std::string selected_backend() {
  auto info = sized<oscar_backend_info>();
  for (uint32_t i = 0; oscar_backend_get(i, &info) == OSCAR_OK; ++i)
    if (info.selected) return info.name;
  return "none";
}

Calibration load_calibration(std::span<const uint8_t> bytes, const std::string& path) {
  oscar_calibration* calibration = nullptr;
  const oscar_status status = oscar_calibration_load(bytes.data(), bytes.size(), &calibration);
  if (status == OSCAR_E_NO_MEMORY) call(status);
  if (status != OSCAR_OK) bad_input(text("%s: %s", printable(path).c_str(), oscar_last_error()));
  return Calibration(calibration);
}

}  // namespace oscar::cli
