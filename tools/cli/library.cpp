#include "library.h"

#include "text.h"

namespace oscar::cli {

void call(oscar_status status) {
  if (status != OSCAR_OK) throw Failure(Exit::kLibrary, oscar_last_error());
}

oscar_tensor host_tensor(const void* data, uint8_t dtype_code, uint8_t dtype_bits,
                         std::initializer_list<uint64_t> shape) {
  oscar_tensor t{};
  t.data = const_cast<void*>(data);
  t.device_type = OSCAR_DEVICE_CPU;
  t.dtype_code = dtype_code;
  t.dtype_bits = dtype_bits;
  t.dtype_lanes = 1;
  for (const uint64_t extent : shape) t.shape[t.ndim++] = static_cast<int64_t>(extent);
  return t;
}

oscar_step begin_step(oscar_cache* cache, oscar_seq seq, uint32_t n) {
  const oscar_step_entry entry{seq, n, 0};
  auto args = sized<oscar_step_args>();
  args.n_entries = 1;
  args.entries = &entry;
  oscar_step step = 0;
  call(oscar_step_begin(cache, &args, nullptr, &step));
  return step;
}

std::vector<uint8_t> saved_bytes(const oscar_calibration* calibration) {
  uint64_t size = 0;
  call(oscar_calibration_save(calibration, nullptr, 0, &size));
  std::vector<uint8_t> bytes(size);
  call(oscar_calibration_save(calibration, bytes.data(), bytes.size(), &size));
  return bytes;
}

oscar_calibration_info info_of(const oscar_calibration* calibration) {
  auto info = sized<oscar_calibration_info>();
  call(oscar_calibration_info_get(calibration, &info));
  return info;
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
