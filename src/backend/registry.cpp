// Which backends were built, which of them this machine can run, and which one to use.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "backend/cpu.h"

namespace oscar {
namespace {

#if defined(__x86_64__)

// What -march=haswell and -march=icelake-server let the compiler use (cmake/cpu_kernels.cmake), as far as compilers do.
#define OSCAR_FEATURE(name)                                                                                            \
  if (!__builtin_cpu_supports(name)) missing += missing.empty() ? name : ", " name

// Features whose names __builtin_cpu_supports knows in GCC 12 but not in clang 14; none of them needs the operating
// system's help beyond what AVX does. CPUID leaf, register (0: eax .. 3: edx) and bit (Intel SDM, volume 2, CPUID).
struct CpuidBit {
  const char* name;
  uint32_t leaf, at, bit;
};
constexpr CpuidBit kAvx2Bits[] = {{"f16c", 1, 2, 29}, {"movbe", 1, 2, 22}, {"lzcnt", 0x80000001, 2, 5}};
constexpr CpuidBit kAvx512Bits[] = {{"vaes", 7, 2, 9}, {"adx", 7, 1, 19}, {"rdpid", 7, 2, 22}, {"sha", 7, 1, 29}};

void add_missing(std::span<const CpuidBit> bits, std::string& missing) {
  for (const CpuidBit& b : bits) {
    unsigned words[4] = {};
    if (__get_cpuid_count(b.leaf, 0, &words[0], &words[1], &words[2], &words[3]) && (words[b.at] >> b.bit & 1) != 0)
      continue;
    if (!missing.empty()) missing += ", ";
    missing += b.name;
  }
}

std::string missing_for_avx2() {
  std::string missing;
  OSCAR_FEATURE("avx2");
  OSCAR_FEATURE("fma");
  OSCAR_FEATURE("bmi");
  OSCAR_FEATURE("bmi2");
  OSCAR_FEATURE("popcnt");
  add_missing(kAvx2Bits, missing);
  return missing;
}

std::string missing_for_avx512() {
  std::string missing = missing_for_avx2();
  OSCAR_FEATURE("avx512f");
  OSCAR_FEATURE("avx512bw");
  OSCAR_FEATURE("avx512cd");
  OSCAR_FEATURE("avx512dq");
  OSCAR_FEATURE("avx512vl");
  OSCAR_FEATURE("avx512ifma");
  OSCAR_FEATURE("avx512vbmi");
  OSCAR_FEATURE("avx512vbmi2");
  OSCAR_FEATURE("avx512vnni");
  OSCAR_FEATURE("avx512bitalg");
  OSCAR_FEATURE("avx512vpopcntdq");
  OSCAR_FEATURE("gfni");
  OSCAR_FEATURE("vpclmulqdq");
  add_missing(kAvx512Bits, missing);
  return missing;
}

#undef OSCAR_FEATURE

#endif

struct Registry {
  static constexpr size_t kEntries = 4;
  std::array<std::array<char, 192>, kEntries> reasons{};
  std::array<BackendEntry, kEntries> entries{};

  Registry() {
    entries[0] = {"reference", &reference_backend(), ""};
    entries[1] = {"scalar", &scalar::cpu_backend(), ""};
#if defined(__x86_64__)
    add(2, "avx2", missing_for_avx2(), avx2::cpu_backend);
    add(3, "avx512", missing_for_avx512(), avx512::cpu_backend);
#else
    entries[2] = {"avx2", nullptr, "this library was built for a processor other than x86-64"};
    entries[3] = {"avx512", nullptr, "this library was built for a processor other than x86-64"};
#endif
  }

 private:
  [[maybe_unused]] void add(size_t i, const char* name, const std::string& missing, const Backend& (*backend)()) {
    if (missing.empty()) {
      entries[i] = {name, &backend(), ""};
      return;
    }
    std::snprintf(reasons[i].data(), reasons[i].size(), "this CPU or its operating system lacks %s", missing.c_str());
    entries[i] = {name, nullptr, reasons[i].data()};
  }
};

}  // namespace

std::span<const BackendEntry> backend_list() {
  static const Registry registry;
  return registry.entries;
}

const Backend* backend_select(char* error, size_t error_size) {
  const std::span<const BackendEntry> entries = backend_list();
  const char* wanted = std::getenv("OSCAR_BACKEND");
  if (!wanted || !*wanted) {
    const Backend* best = nullptr;
    for (const BackendEntry& entry : entries)
      if (entry.backend) best = entry.backend;
    return best;
  }
  std::string known;
  for (const BackendEntry& entry : entries) {
    const bool named = std::strcmp(entry.name, wanted) == 0;
    if (named && entry.backend) return entry.backend;
    known += known.empty() ? "" : ", ";
    known += entry.name;
    if (!entry.backend) known += std::string(" (not available: ") + entry.reason + ")";
  }
  std::snprintf(error, error_size, "OSCAR_BACKEND is \"%.40s\"; wanted is one of: %s", wanted, known.c_str());
  return nullptr;
}

}  // namespace oscar
