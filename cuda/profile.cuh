// A profile as the kernels see it: the block layout and everything that follows from it at compile time.
#pragma once
#include "format/block.h"

namespace oscar::cuda {

template <uint32_t kKeyDim, uint32_t kValueDim, uint32_t kRefined, uint32_t kKeyPlaneBits, uint32_t kValuePlaneBits>
struct Profile {
  static constexpr BlockShape kShape{kKeyDim, kValueDim, kRefined, kKeyPlaneBits, kValuePlaneBits};
  static constexpr BlockLayout kLayout = block_layout(kShape);
  static constexpr int kDk = kKeyDim, kDv = kValueDim, kH = kLayout.h;
  static constexpr int kKeyPlane = kLayout.key_plane, kValuePlane = kLayout.value_plane;
  // Few refined tokens: they are slots of token tile 0. All: every tile is refined.
  static constexpr bool kFew = kH > 0 && kH < static_cast<int>(kBlockTokens), kAll = kH == kBlockTokens;
  static_assert(kDk % 32 == 0 && kDv % 32 == 0, "padded head dims have no kernel");
  static_assert(!kFew || kH <= 8, "the kernel refines the slots of one MMA tile, or all of them");
  static_assert(!kFew || (kKeyPlane > 0 && kValuePlane > 0), "few refined tokens refine keys and values");

  // A page of exact rows lies in a stage row by row, each padded by 16 bytes: ldmatrix without bank conflicts.
  static constexpr int kKeyPitch = kDk * 2 + 16, kValuePitch = kDv * 2 + 16;
  static constexpr int kPageStage = kPageTokens * (kKeyPitch + kValuePitch);
  static constexpr uint32_t kPageBytes = kPageTokens * (kDk + kDv) * 2;  // in the pool
  static constexpr int kStage = kPageStage > static_cast<int>(kLayout.bytes) ? kPageStage : kLayout.bytes;
  static_assert(kLayout.bytes % 16 == 0 && kStage % 16 == 0);
};

// The largest plane-shifted code: 15 << 4. Its products with 8-bit limbs, 256 times those of the upper limb included,
// must fit int32: over kDk for logits, over the 64 tokens of half a block for outputs.
inline constexpr int64_t kLargestShiftedCode = 240;
static_assert(127 * kLargestShiftedCode * int64_t{kMaxHeadDim} * 256 +
                  128 * kLargestShiftedCode * int64_t{kMaxHeadDim} <=
              INT32_MAX);
static_assert(255 * kLargestShiftedCode * 64 * 256 + 255 * kLargestShiftedCode * 64 <= INT32_MAX);

// Where a code with `plane` refinement bits sits in its byte when its base bits lie at 2 * place (place: which of the
// four codes of the byte): the multiplication by 2^code_shift is undone by a constant.
__host__ __device__ constexpr int code_shift(int place, int plane) { return 2 * place > plane ? 2 * place - plane : 0; }
// 2^-(code_shift + plane): from sums of shifted codes to sums in steps of the stored scale.
__host__ __device__ constexpr float code_unit(int place, int plane) {
  return 1.0f / static_cast<float>(1 << (code_shift(place, plane) + plane));
}
// The offset of a code in steps of the stored scale: (4 * 2^w - 1) / 2 / 2^w (format/block.h).
__host__ __device__ constexpr float code_offset(int plane) {
  return (4.0f * static_cast<float>(1 << plane) - 1.0f) / 2.0f / static_cast<float>(1 << plane);
}

// Four codes of `base` (bits 2 * place of each byte) as they are multiplied.
__device__ __forceinline__ uint32_t base_codes(uint32_t base, int place) { return base & (0x03030303u << 2 * place); }

// Four base codes joined with their refinement, which lies at bits from .. from + plane - 1 of each byte.
__device__ __forceinline__ uint32_t joined_codes(uint32_t base, int place, uint32_t refinement, int from, int plane) {
  const int to = code_shift(place, plane), up = to + plane - 2 * place;
  const uint32_t upper = (up > 0 ? base << up : base) & (0x03030303u << (to + plane));
  const uint32_t moved = from >= to ? refinement >> (from - to) : refinement << (to - from);
  return upper | (moved & ((0x01010101u * ((1u << plane) - 1u)) << to));
}

}  // namespace oscar::cuda
