// Exact rows and votes: what a step writes beside attention. Pure launches.
#pragma once
#include <cuda_runtime_api.h>

#include "attend.h"
#include "step_part.h"

namespace oscar::cuda {

struct AppendArgs {
  ClassView c;
  ScratchView scratch;  // pointers null where no step is long
  const PartWork* parts;
  uint32_t n_parts, n_rows;
  uint32_t first_head;  // class head of the layer's KV head 0
  TensorView k, v;      // [row][KV head][dim]
};

// Keys and values of a layer, rounded to BF16, to pages and scratch; votes of the new tokens start at 0
// (HostEngine::append_part and clear_votes).
cudaError_t append_launch(const AppendArgs& args, bool dependent, cudaStream_t stream);

struct VoteArgs {
  ClassView c;
  ScratchView scratch;
  const PartWork* parts;
  uint32_t n_parts, n_rows;
  uint32_t first_head, group;
  TensorView q;      // [row][query head][key_dim]
  const float* lse;  // [row][query head], natural log, sink included
  int64_t lse_row_stride;
  const uint8_t* mask;
  int64_t mask_row_stride;
  float scale, softcap;
  uint32_t window;
};

// After the attention of the layer: its queries' votes for undecided tokens (HostEngine::describe and add_votes).
cudaError_t votes_launch(const VoteArgs& args, bool dependent, cudaStream_t stream);

// CountJob and SideJob of backend/engine.h; every job for all heads of the class.
struct CountWork {
  uint32_t scores, side, from, until, first;
};
struct SideWork {
  uint32_t scores, side, first, last;
};
cudaError_t count_launch(const ClassView& c, const CountWork* jobs, uint32_t n_jobs, cudaStream_t stream);
cudaError_t side_launch(const ClassView& c, const SideWork* jobs, uint32_t n_jobs, cudaStream_t stream);

// Rows and votes of base + indices[i] move to base + i, in every head of the class (HostEngine::move_accepted).
struct MoveArgs {
  ClassView c;
  uint32_t page_begin, base, scores, side;
  const uint32_t* indices;  // device, ascending
  uint32_t n;
};
cudaError_t move_launch(const MoveArgs& args, cudaStream_t stream);

}  // namespace oscar::cuda
