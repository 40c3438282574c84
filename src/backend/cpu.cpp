// One CPU backend: the kernels of one instruction set behind the interface. Compiled once per instruction set.
#include "backend/cpu.h"

#include "backend/isa.h"

namespace oscar::OSCAR_ISA {
namespace {

#define OSCAR_NAME_OF(isa) #isa
#define OSCAR_NAME(isa) OSCAR_NAME_OF(isa)

class CpuBackend final : public Backend {
 public:
  const char* name() const override { return OSCAR_NAME(OSCAR_ISA); }

  size_t scratch_bytes(uint32_t key_dim, uint32_t value_dim) const override {
    const size_t attend = attend_scratch_bytes(key_dim, value_dim);
    const size_t pack = pack_scratch_bytes(key_dim, value_dim);  // unpack needs no more
    return attend > pack ? attend : pack;
  }
  void attend(const AttendWork& work, void* scratch) const override { attend_tile(work, scratch); }
  void attend_splits(const AttendWork& work, float* partials, void* scratch) const override {
    OSCAR_ISA::attend_splits(work, partials, scratch);
  }
  void pack(const PackWork& work, void* scratch) const override { pack_block(work, scratch); }
  void unpack(const BlockLayout& layout, const HeadTransform& transform, uint32_t key_dim, uint32_t value_dim,
              const uint8_t* block, uint32_t first, uint32_t last, float* keys, float* values,
              void* scratch) const override {
    unpack_block(layout, transform, key_dim, value_dim, block, first, last, keys, values, scratch);
  }
};

}  // namespace

// Made at the first call, not when the library is loaded: that code, too, is of this instruction set.
const Backend& cpu_backend() {
  static const CpuBackend backend;
  return backend;
}

}  // namespace oscar::OSCAR_ISA
