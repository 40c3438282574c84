// Attention of any step and any shape on the GPU: many queries of a sequence over (packed prefix + exact rows), and what
// the decode kernel (attend.h) was not built for. Pure launches.
#pragma once
#include <cuda_runtime_api.h>

#include "attend.h"
#include "step_part.h"

namespace oscar::cuda {

struct PrefillArgs {
  const uint8_t* pool;
  uint64_t block_offset, page_offset;  // bytes: of this layer's KV head 0 inside a unit of blocks (of pages)
  uint64_t head_page_bytes;
  const SpanEntry* spans;
  const PartWork* parts;
  uint32_t n_parts, n_rows;
  uint32_t n_kv_heads, group;
  uint32_t key_dim, value_dim;
  BlockLayout layout;
  const uint16_t* scratch_keys;    // [row][KV head][key_dim]; read where a part uses_scratch
  const uint16_t* scratch_values;  // [row][KV head][value_dim]

  TensorView q, out;
  float* lse;  // or null; [row][query head], natural log
  int64_t lse_row_stride;
  const float* sink_logits;  // [query head] or null
  const uint8_t* mask;       // [row][new token] or null: the chain
  int64_t mask_row_stride;
  float scale, softcap;
  uint32_t window;  // 0: everything
  MapView query, value_inverse;
  bool batch_invariant;  // how a row is computed depends on its own part alone
  bool is_hopper;        // the wide kernel may be chosen

  void* workspace;  // prefill_workspace_bytes
};

struct PrefillShape {
  uint32_t key_dim, value_dim;
  uint32_t n_q_heads, n_kv_heads;
  uint32_t max_rows;  // of any step
};

// Head dims 64, 80, 96, 128, 192, 256 of keys and values, any group up to 32; large head dims need more shared memory than
// some devices have.
bool prefill_serves(const PrefillShape& shape, uint32_t shared_bytes);
uint64_t prefill_workspace_bytes(const PrefillShape& shape, uint32_t n_multiprocessors);
// Raises the shared-memory limits of the kernels on the current device. Once per device.
cudaError_t prefill_prepare(bool is_hopper);
cudaError_t prefill_launch(const PrefillArgs& args, uint32_t n_multiprocessors, bool dependent, cudaStream_t stream);

}  // namespace oscar::cuda
