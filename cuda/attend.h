// Decode attention of one layer on the GPU: all sequences and KV heads of a step in one launch (and a small one before
// it where the query map is not fused). Pure launches: nothing here allocates, synchronises or touches the host's state.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "format/block.h"
#include "step_plan.h"
#include "transform/transform.h"

namespace oscar::cuda {

enum class Dtype : uint32_t { kF32, kF16, kBF16 };

// [row][head][dim], dim dense; strides in elements. Row: of the step's tensors.
struct TensorView {
  void* data;
  int64_t row_stride, head_stride;
  Dtype dtype;
};

// The same kind of map for all KV heads of a layer. kDense: matrix[n_kv_heads][dim][dim], y = x M.
// kHadamard is served for powers of two; other orders come as kDense.
struct MapView {
  MapKind kind;
  const float* matrix;
};

struct AttendArgs {
  const uint8_t* pool;
  uint64_t block_offset, page_offset;  // bytes: of this layer's KV head 0 inside a unit of blocks (of pages)
  const SpanEntry* spans;
  const SequenceWork* sequences;
  const CtaStart* starts;       // [attend_ctas], of the plan function that the shape asks for
  const SegmentCtas* segments;  // [sequence][KV head], of plan_step; batch-invariant: not read
  uint32_t n_kv_heads, group;
  uint32_t n_rows;  // rows of the step's tensors, for the launch of a dense query map

  TensorView q, out;
  float* lse;  // or null; [row][query head], natural log
  int64_t lse_row_stride;
  const float* sink_logits;  // [query head] or null
  const uint8_t* mask;       // [row][new token] or null: the chain
  int64_t mask_row_stride;
  float scale, softcap;
  uint32_t window;  // 0: everything
  MapView query, value_inverse;

  void* workspace;        // attend_workspace_bytes; its counters start as zeros and are zeros again after each launch
  uint32_t n_segments;    // capacity of the counters: (sequences of the table) * n_kv_heads
  float* mapped_queries;  // [n_rows][query head][key_dim], for a dense query map only
};

// What the kernel is chosen by: known when a launch is captured, the same at every replay.
struct AttendShape {
  BlockShape block;
  uint32_t max_queries;  // of any sequence: rows of one KV head, <= attend_max_queries
  uint32_t n_segments;   // about: sequences with items * KV heads. Many: 8 consumer warps a CTA; few: 16
  // A row's bits depend on nothing beside it: kernels of one arithmetic for all shapes of a profile, plans from
  // plan_step_invariant.
  bool batch_invariant = false;
};

// Rows that a segment of the step may have. Longer steps are several segments over the same spans.
constexpr uint32_t attend_max_queries(const AttendShape& shape) {
  return shape.batch_invariant ? kInvariantQueries : kMaxQueries;
}

// Whether a kernel for this shape was built.
bool attend_serves(const AttendShape& shape);

// CTAs of a launch (the size of `starts`), on a device with n_multiprocessors.
uint32_t attend_ctas(const AttendShape& shape, uint32_t n_multiprocessors);

// Counters first, then partial results: as many as CTAs can have, or batch-invariant as there are chunks (n_chunks: the
// most that plan_step_invariant may make; see chunk_limit).
uint64_t attend_workspace_bytes(const AttendShape& shape, uint32_t n_multiprocessors, uint32_t n_segments,
                                uint64_t n_chunks = 0);

// Raises the shared-memory limits of all kernels on the current device. Once per device.
cudaError_t attend_prepare();

// dependent: the launch may start while the kernel before it on the stream still runs (programmatic dependent launch).
// Blocks, tables and the plan must then be older than that kernel; exact rows, queries and the workspace need not be.
cudaError_t attend_launch(const AttendShape& shape, const AttendArgs& args, uint32_t n_multiprocessors, bool dependent,
                          cudaStream_t stream);

}  // namespace oscar::cuda
