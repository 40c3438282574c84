// The sources that are compiled once per instruction set, as tests see them: every variant that was built and that this
// machine can run, by name.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/work.h"

#define OSCAR_TEST_DECLARE_ISA(isa)                                                                                    \
  namespace oscar::isa {                                                                                               \
  size_t pack_scratch_bytes(uint32_t key_dim, uint32_t value_dim);                                                     \
  void pack_block(const PackWork& work, void* scratch);                                                                \
  void unpack_block(const BlockLayout& layout, const HeadTransform& transform, uint32_t key_dim, uint32_t value_dim,   \
                    const uint8_t* block, uint32_t first, uint32_t last, float* keys, float* values, void* scratch);   \
  }

OSCAR_TEST_DECLARE_ISA(scalar)
#if defined(__x86_64__)
OSCAR_TEST_DECLARE_ISA(avx2)
OSCAR_TEST_DECLARE_ISA(avx512)
#endif
#undef OSCAR_TEST_DECLARE_ISA

namespace oscar::test {

struct IsaVariant {
  const char* name;
  size_t (*pack_scratch_bytes)(uint32_t, uint32_t);
  void (*pack_block)(const PackWork&, void*);
  void (*unpack_block)(const BlockLayout&, const HeadTransform&, uint32_t, uint32_t, const uint8_t*, uint32_t, uint32_t,
                       float*, float*, void*);
};

// The best variant last.
inline std::vector<IsaVariant> runnable_isa_variants() {
  std::vector<IsaVariant> variants = {{"scalar", scalar::pack_scratch_bytes, scalar::pack_block, scalar::unpack_block}};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    variants.push_back({"avx2", avx2::pack_scratch_bytes, avx2::pack_block, avx2::unpack_block});
  bool has_avx512 = true;  // what -march=icelake-server may use here
  has_avx512 = has_avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  has_avx512 = has_avx512 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  has_avx512 = has_avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
  has_avx512 = has_avx512 && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bitalg");
  if (has_avx512) variants.push_back({"avx512", avx512::pack_scratch_bytes, avx512::pack_block, avx512::unpack_block});
#endif
  return variants;
}

}  // namespace oscar::test
