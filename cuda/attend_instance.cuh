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

// kWarps where the registers of the sums allow it, else 8.
template <class P, int kTiles, int kSets, int kWarpsWanted>
AttendInstance attend_instance() {
  constexpr int kWarps = P::kDv > 128 ? 8 : kWarpsWanted;
  using C = Config<P, kTiles, kSets, kWarps, 1>;
  static_assert(C::kFit >= C::kGroups);
  return {attend_kernel<C>, C::kThreads, C::kSharedBytes, 1, Partials<C>::kBytes};
}

// CTAs an SM that are wanted; where their share of the memory holds no ring, one.
template <class P, int kCtasPerSm>
AttendInstance invariant_instance() {
  using C = Config<P, 1, 2, 8, kCtasPerSm, true>;
  if constexpr (C::kFit < C::kGroups) {
    return invariant_instance<P, 1>();
  } else {
    return {attend_kernel<C>, C::kThreads, C::kSharedBytes, kCtasPerSm, Partials<C>::kBytes};
  }
}

template <uint32_t kKeyDim, uint32_t kValueDim, uint32_t kRefined, uint32_t kKeyPlane, uint32_t kValuePlane>
struct AttendInstances {
  static const AttendInstance table[kInstanceSizes][2];  // by size, then by consumer warps: 8, 16
  static const AttendInstance invariant[2];              // by CTAs an SM: the same bits
};

}  // namespace oscar::cuda

// Defines the kernels of one line of instances.inc.
#define OSCAR_ATTEND(dk, dv, h, kp, vp)                                                                                \
  namespace oscar::cuda {                                                                                              \
  template <>                                                                                                          \
  const AttendInstance AttendInstances<dk, dv, h, kp, vp>::table[kInstanceSizes][2] = {                                \
      {attend_instance<Profile<dk, dv, h, kp, vp>, 1, 2, 8>(),                                                         \
       attend_instance<Profile<dk, dv, h, kp, vp>, 1, 2, 16>()},                                                       \
      {attend_instance<Profile<dk, dv, h, kp, vp>, 1, 1, 8>(),                                                         \
       attend_instance<Profile<dk, dv, h, kp, vp>, 1, 1, 16>()},                                                       \
      {attend_instance<Profile<dk, dv, h, kp, vp>, 2, 1, 8>(),                                                         \
       attend_instance<Profile<dk, dv, h, kp, vp>, 2, 1, 16>()},                                                       \
      {attend_instance<Profile<dk, dv, h, kp, vp>, 4, 1, 8>(),                                                         \
       attend_instance<Profile<dk, dv, h, kp, vp>, 4, 1, 16>()}};                                                      \
  template <>                                                                                                          \
  const AttendInstance AttendInstances<dk, dv, h, kp, vp>::invariant[2] = {                                            \
      invariant_instance<Profile<dk, dv, h, kp, vp>, 1>(), invariant_instance<Profile<dk, dv, h, kp, vp>, 2>()};       \
  }
