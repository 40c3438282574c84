#include "attention/oracle.h"
#include "backend/cpu.h"
#define OSCAR_ISA scalar
#include "backend/isa.h"

namespace oscar {
namespace {

class ReferenceBackend final : public Backend {
 public:
  const char* name() const override { return "reference"; }

  size_t scratch_bytes(uint32_t key_dim, uint32_t value_dim) const override {
    return scalar::pack_scratch_bytes(key_dim, value_dim);
  }
  void attend(const AttendWork& work, void* /*scratch*/) const override { attend_oracle(work); }
  void attend_splits(const AttendWork&, float*, void*) const override {}
  void pack(const PackWork& work, void* scratch) const override { scalar::pack_block(work, scratch); }
  void unpack(const BlockLayout& layout, const HeadTransform& transform, uint32_t key_dim, uint32_t value_dim,
              const uint8_t* block, uint32_t first, uint32_t last, float* keys, float* values,
              void* scratch) const override {
    scalar::unpack_block(layout, transform, key_dim, value_dim, block, first, last, keys, values, scratch);
  }
};

}  // namespace

const Backend& reference_backend() {
  static const ReferenceBackend backend;
  return backend;
}

}  // namespace oscar
