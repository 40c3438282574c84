// The kernels of one profile, as the launcher's table sees them.
#pragma once
#include "attend_kernel.cuh"

namespace oscar::cuda {

struct AttendInstance {
  void (*kernel)(AttendArgs);
  int n_threads, shared_bytes, ctas_per_sm;
  uint64_t partial_bytes_per_cta;
};

inline constexpr int kInstanceSizes = 4;  // for up to 4, 8, 16 and 32 queries

template <class P, int kTiles, int kSets>
AttendInstance attend_instance() {
  // Two CTAs an SM balance the load better than one; where their halves of the memory hold no ring, one.
  using Half = Config<P, kTiles, kSets, 2>;
#ifdef OSCAR_TUNE_ONE_CTA
  if constexpr (false) {
#else
  if constexpr (Half::kFit >= Half::kGroups) {
#endif
    return {attend_kernel<Half>, Half::kThreads, Half::kSharedBytes, 2, partial_bytes<Half>(1)};
  } else {
    using Whole = Config<P, kTiles, kSets, 1>;
    return {attend_kernel<Whole>, Whole::kThreads, Whole::kSharedBytes, 1, partial_bytes<Whole>(1)};
  }
}

template <uint32_t kKeyDim, uint32_t kValueDim, uint32_t kRefined, uint32_t kKeyPlane, uint32_t kValuePlane>
struct AttendInstances {
  static const AttendInstance table[kInstanceSizes];
};

}  // namespace oscar::cuda

// Defines the kernels of one line of instances.inc.
#define OSCAR_ATTEND(dk, dv, h, kp, vp)                                                                                \
  namespace oscar::cuda {                                                                                              \
  template <>                                                                                                          \
  const AttendInstance AttendInstances<dk, dv, h, kp, vp>::table[kInstanceSizes] = {                                   \
      attend_instance<Profile<dk, dv, h, kp, vp>, 1, 2>(), attend_instance<Profile<dk, dv, h, kp, vp>, 1, 1>(),        \
      attend_instance<Profile<dk, dv, h, kp, vp>, 2, 1>(), attend_instance<Profile<dk, dv, h, kp, vp>, 4, 1>()};       \
  }
