// oscar_calibration_load: any bytes yield a status, and what is read is written again byte for byte. The first byte's
// lowest bit puts size and checksum right, which a fuzzer does not guess.
#include <vector>

#include "format/checksum.h"
#include "fuzz/input.h"
#include "oscar/oscar.h"

namespace {

std::vector<uint8_t> repaired(std::vector<uint8_t> file) {
  constexpr size_t kSizeAt = 24, kChecksumBytes = 8;
  if (file.size() < kSizeAt + 8 + kChecksumBytes) return file;
  const uint64_t size = file.size();
  std::memcpy(&file[kSizeAt], &size, sizeof size);
  oscar::Checksum checksum;
  checksum.update(file.data(), file.size() - kChecksumBytes);
  const uint64_t value = checksum.value();
  std::memcpy(&file[file.size() - kChecksumBytes], &value, sizeof value);
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::vector<uint8_t> file(data + 1, data + size);
  if (data[0] & 1) file = repaired(std::move(file));
  file.reserve(file.size() + 1);  // data() is not NULL
  oscar_calibration* calibration = nullptr;
  const oscar_status status = oscar_calibration_load(file.data(), file.size(), &calibration);
  if (status != OSCAR_OK) {
    FUZZ_CHECK(status == OSCAR_E_CORRUPT && calibration == nullptr && oscar_last_error()[0] != 0);
    return 0;
  }
  std::vector<uint8_t> again(file.size());
  uint64_t n = 0;
  FUZZ_CHECK(oscar_calibration_save(calibration, again.data(), again.size(), &n) == OSCAR_OK);
  FUZZ_CHECK(n == file.size() && again == file);
  oscar_calibration_info info{};
  info.struct_size = sizeof info;
  FUZZ_CHECK(oscar_calibration_info_get(calibration, &info) == OSCAR_OK);
  oscar_calibration_head_info head{};
  head.struct_size = sizeof head;
  FUZZ_CHECK(oscar_calibration_head_get(calibration, info.n_layers - 1, 0, &head) == OSCAR_OK);
  oscar_calibration_destroy(calibration);
  return 0;
}
