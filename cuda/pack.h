// Packing on the GPU: one launch turns the exact rows of many blocks (all layers and KV heads of a class, any number of
// sequences) into blocks. The bytes are those of quant/pack.cpp for the same rows and votes.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "format/block.h"
#include "transform/transform.h"

namespace oscar::cuda {

inline constexpr uint32_t kMaxPackPages = kBlockTokens / kPageTokens + 1;

// 128 tokens of one sequence, for all heads of the launch. All pointers are the device's.
struct PackJob {
  uint8_t* blocks;       // block of class head i at blocks + i * layout.bytes; 16-byte aligned
  uint32_t page_offset;  // row of token 0 in pages[0]: start position % 16
  uint32_t chunk_from;   // tokens with this offset (0 .. 128) and later come from the chunk, the others from pages
  // [16][key_dim] keys, then [16][value_dim] values of class head i at pages[p] + i * head_page_bytes; 16-byte aligned.
  // Pages without a token of the block are not read.
  const uint8_t* pages[kMaxPackPages];
  // Row of token `chunk_from` for the first head of the launch; strides in elements; every row 16-byte aligned.
  const uint16_t* chunk_keys;
  const uint16_t* chunk_values;
  int64_t key_token_stride, key_head_stride, value_token_stride, value_head_stride;
  // Votes of the token at offset t for head i of the launch: votes[i * vote_head_stride + (vote_first + t) % n_votes],
  // with vote_first < n_votes and n_votes >= 128. null: all equal.
  const float* votes;
  uint64_t vote_head_stride;
  uint32_t vote_first, n_votes;
};

struct PackLaunch {
  BlockLayout layout;
  uint32_t key_dim, value_dim;   // 64, 80, 96, 128, 192 or 256
  uint32_t first_head, n_heads;  // class heads [first_head, first_head + n_heads)
  uint32_t n_jobs;
  uint32_t shaped;   // heads with a metric get shaped rounding
  uint32_t general;  // a head is not `is_plain`, or shaped: the kernel that serves every transform
  uint64_t head_page_bytes;
  const PackJob* jobs;              // device, [n_jobs]
  const HeadTransform* transforms;  // device, by class head; matrices on the device, 16-byte aligned
  uint32_t* arrivals;  // device, [n_jobs * n_heads]: zero before the first launch, and zero again after each
  unsigned long long* n_non_finite;  // device: what the blocks count is added; or null
};

// Whether the fast kernel serves the maps of a head (its metric is not looked at).
inline bool is_plain(const HeadTransform& t) {
  return t.key.kind != MapKind::kDense && t.value.kind != MapKind::kDense && !t.key.transposed && !t.value.transposed;
}

// cudaErrorInvalidValue for a head dim that is not served; cudaErrorNotSupported where the device has too little shared
// memory for the general kernel.
cudaError_t launch_pack(const PackLaunch& launch, cudaStream_t stream);

// Raises the shared memory limits of all kernels on the current device; once, before the first launch (and outside a
// stream capture).
cudaError_t prepare_pack();

}  // namespace oscar::cuda
