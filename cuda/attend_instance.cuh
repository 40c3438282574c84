// The kernels of one profile, as the launcher's table sees them.
#pragma once
#include "attend_kernel.cuh"

namespace oscar::cuda {

struct AttendInstance {
  void (*kernel)(AttendArgs);
  int n_threads, shared_bytes, ctas_per_sm;
  uint64_t partial_bytes;  // of one place
};

inline constexpr int kInstanceSizes = 4;  // for up to 4, 8, 16 and 32 queries

// CTAs an SM that are wanted; where their share of the memory holds no ring, one.
template <class P, int kTiles, int kSets, int kCtasPerSm, bool kInvariant = false>
AttendInstance attend_instance() {
  using C = Config<P, kTiles, kSets, kCtasPerSm, kInvariant>;
  if constexpr (C::kFit < C::kGroups) {
    return attend_instance<P, kTiles, kSets, 1, kInvariant>();
  } else {
    return {attend_kernel<C>, C::kThreads, C::kSharedBytes, kCtasPerSm, Partials<C>::kBytes};
  }
}

template <uint32_t kKeyDim, uint32_t kValueDim, uint32_t kRefined, uint32_t kKeyPlane, uint32_t kValuePlane>
struct AttendInstances {
  static const AttendInstance table[kInstanceSizes][2];  // by size, then by CTAs an SM: 1, 2
  static const AttendInstance invariant[2];              // by CTAs an SM: the same bits
};

}  // namespace oscar::cuda

// Defines the kernels of one line of instances.inc.
#define OSCAR_ATTEND(dk, dv, h, kp, vp)                                                                                \
  namespace oscar::cuda {                                                                                              \
  template <>                                                                                                          \
  const AttendInstance AttendInstances<dk, dv, h, kp, vp>::table[kInstanceSizes][2] = {                                \
      {attend_instance<Profile<dk, dv, h, kp, vp>, 1, 2, 1>(),                                                         \
       attend_instance<Profile<dk, dv, h, kp, vp>, 1, 2, 2>()},                                                        \
      {attend_instance<Profile<dk, dv, h, kp, vp>, 1, 1, 1>(),                                                         \
       attend_instance<Profile<dk, dv, h, kp, vp>, 1, 1, 2>()},                                                        \
      {attend_instance<Profile<dk, dv, h, kp, vp>, 2, 1, 1>(),                                                         \
       attend_instance<Profile<dk, dv, h, kp, vp>, 2, 1, 2>()},                                                        \
      {attend_instance<Profile<dk, dv, h, kp, vp>, 4, 1, 1>(),                                                         \
       attend_instance<Profile<dk, dv, h, kp, vp>, 4, 1, 2>()}};                                                       \
  template <>                                                                                                          \
  const AttendInstance AttendInstances<dk, dv, h, kp, vp>::invariant[2] = {                                            \
      attend_instance<Profile<dk, dv, h, kp, vp>, 1, 2, 1, true>(),                                                    \
      attend_instance<Profile<dk, dv, h, kp, vp>, 1, 2, 2, true>()};                                                   \
  }
