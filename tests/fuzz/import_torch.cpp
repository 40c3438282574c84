// libFuzzer's entry into the import of published rotations. The first byte chooses what the others are: the key file
// itself, or the pickle of a file that is otherwise right (a fuzzer does not guess checksums).
#include "format/error.h"
#include "fuzz/input.h"
#include "transform/import_oscar.h"
#include "unit/torch_file.h"

using namespace oscar;
using namespace oscar::test;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const Bytes storage = [] {
    std::mt19937_64 random(1);
    return storage_of(random_rotation(64, random));
  }();
  Bytes file(data + 1, data + size);
  if (data[0] % 2 == 0) file = torch_file({file.begin(), file.end()}, {storage}).bytes;
  constexpr LayerGeometry kLayers[] = {{1, 64, 64}, {2, 64, 64}};
  try {
    import_oscar({std::span<const uint8_t>(file), {}}, std::span(kLayers).first(1 + data[0] / 2 % 2), {});
  } catch (const Error& error) {
    FUZZ_CHECK(error.status() == Status::kCorrupt || error.status() == Status::kUnsupported ||
               error.status() == Status::kInvalid);
  }
  return 0;
}
