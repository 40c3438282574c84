// libFuzzer's entry into what the program oscar reads of .safetensors and .npz files. Any bytes end in tensors that lie
// within them, or in one line.
#include "tensor_file.h"
#include "failure.h"
#include "fuzz/input.h"

using namespace oscar::cli;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  try {
    for (const auto& [name, entry] : read_tensors(bytes, "file")) {
      uint64_t wanted = entry.dtype_bits / 8;
      for (const uint64_t extent : entry.shape) wanted *= extent;
      FUZZ_CHECK(entry.dtype_bits == 16 || entry.dtype_bits == 32);
      FUZZ_CHECK(entry.data.size() == wanted);
      FUZZ_CHECK(entry.data.data() >= data && entry.data.data() + entry.data.size() <= data + size);
    }
  } catch (const Failure& failure) {
    FUZZ_CHECK(failure.exit() == Exit::kInput);
    for (const char* c = failure.what(); *c; ++c) FUZZ_CHECK(*c != '\n');
  }
  return 0;
}
