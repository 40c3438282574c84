// Asynchronous matrix products of a warp group (four warps, 64 rows; warp w has rows 16 w ..): wgmma of PTX ISA 8.0,
// sm_90a. Fragments are those of mma.sync: of sums c[n][..], columns 8 n + 2 i + e of rows g and g + 8.
// Between start and wait nobody may touch the registers.
//
// A matrix in shared memory is 128 x 128 elements of 2 bytes: two halves of kHalfBytes, each 128 rows of 128 bytes whose
// 16-byte chunks are permuted by chunk ^ (row % 8). It begins at a multiple of 1024 bytes.
#pragma once
#include "prefill_ptx.cuh"

namespace oscar::cuda {

inline constexpr uint32_t kHalfBytes = 128 * 128, kMatrixBytes = 2 * kHalfBytes;

// Of chunk `chunk` of a row inside a half.
__device__ __forceinline__ uint32_t chunk_at(uint32_t row, uint32_t chunk) {
  return row * 128 + (chunk ^ row % 8) * 16;
}

// The sum runs along the rows' elements (of A and B).
__device__ __forceinline__ uint64_t matrix_descriptor(const void* shared) {
  return ((shared_address(shared) & 0x3ffffu) >> 4) | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}
// The next 16 elements of it; step 0 .. 7.
__device__ __forceinline__ uint64_t at_step(uint64_t descriptor, int step) {
  return descriptor + (step / 4 * (kHalfBytes >> 4)) + step % 4 * (32 >> 4);
}
// The sum runs along the rows (of B): 16 of them a step.
__device__ __forceinline__ uint64_t transposed_descriptor(const void* shared) {
  return ((shared_address(shared) & 0x3ffffu) >> 4) | uint64_t{kHalfBytes >> 4} << 16 | uint64_t{1024 >> 4} << 32 |
         uint64_t{1} << 62;
}
__device__ __forceinline__ uint64_t at_transposed_step(uint64_t descriptor, int step) {
  return descriptor + step * (16 * 128 >> 4);
}

__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kPending groups are under way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Sums are not read before this point.
template <int kN>
__device__ __forceinline__ void hold(float (&c)[kN][4]) {
#pragma unroll
  for (int k = 0; k < kN * 4; ++k) asm volatile("" : "+f"(c[k / 4][k % 4])::"memory");
}
__device__ __forceinline__ void hold(uint4& a) {
  asm volatile("" : "+r"(a.x), "+r"(a.y), "+r"(a.z), "+r"(a.w)::"memory");
}
// What ordinary stores wrote to shared memory becomes visible to wgmma.
__device__ __forceinline__ void fence_for_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// clang-format off
#define OSCAR_SUMS_TEXT \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

#define OSCAR_SUMS(c) \
  "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), \
  "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]), \
  "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]), \
  "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), \
  "+f"(c[4][0]), "+f"(c[4][1]), "+f"(c[4][2]), "+f"(c[4][3]), \
  "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]), \
  "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), \
  "+f"(c[7][0]), "+f"(c[7][1]), "+f"(c[7][2]), "+f"(c[7][3]), \
  "+f"(c[8][0]), "+f"(c[8][1]), "+f"(c[8][2]), "+f"(c[8][3]), \
  "+f"(c[9][0]), "+f"(c[9][1]), "+f"(c[9][2]), "+f"(c[9][3]), \
  "+f"(c[10][0]), "+f"(c[10][1]), "+f"(c[10][2]), "+f"(c[10][3]), \
  "+f"(c[11][0]), "+f"(c[11][1]), "+f"(c[11][2]), "+f"(c[11][3]), \
  "+f"(c[12][0]), "+f"(c[12][1]), "+f"(c[12][2]), "+f"(c[12][3]), \
  "+f"(c[13][0]), "+f"(c[13][1]), "+f"(c[13][2]), "+f"(c[13][3]), \
  "+f"(c[14][0]), "+f"(c[14][1]), "+f"(c[14][2]), "+f"(c[14][3]), \
  "+f"(c[15][0]), "+f"(c[15][1]), "+f"(c[15][2]), "+f"(c[15][3])

// c (+)= A B: 64 rows, 128 columns, 16 along the sum; A and B in shared memory.
template <bool kBrain>
__device__ __forceinline__ void wgmma_shared(float (&c)[16][4], uint64_t a, uint64_t b, bool add) {
  if constexpr (kBrain)
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" OSCAR_SUMS_TEXT "}, %64, %65, p, 1, 1, 0, 0;\n}"
                 : OSCAR_SUMS(c) : "l"(a), "l"(b), "r"(static_cast<int>(add)));
  else
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" OSCAR_SUMS_TEXT "}, %64, %65, p, 1, 1, 0, 0;\n}"
                 : OSCAR_SUMS(c) : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

// c += A B, A in registers (as mma_f16 has it): FP16; BF16 with a transposed_descriptor.
__device__ __forceinline__ void wgmma_f16(float (&c)[16][4], uint4 a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" OSCAR_SUMS_TEXT "},"
               "{%64,%65,%66,%67}, %68, 1, 1, 1, 0;"
               : OSCAR_SUMS(c) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b));
}
__device__ __forceinline__ void wgmma_bf16_transposed(float (&c)[16][4], uint4 a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" OSCAR_SUMS_TEXT "},"
               "{%64,%65,%66,%67}, %68, 1, 1, 1, 1;"
               : OSCAR_SUMS(c) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b));
}
#undef OSCAR_SUMS
#undef OSCAR_SUMS_TEXT
// clang-format on

}  // namespace oscar::cuda
