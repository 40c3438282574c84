// Launches of append.cuh.
#include "append.cuh"

#include "launch.cuh"

namespace oscar::cuda {

namespace {

uint32_t element_bytes(Dtype dtype) { return dtype == Dtype::kF32 ? 4 : 2; }

// Whether every 8 elements from a multiple of 8 on can be loaded 16 bytes at a time.
bool lies_on_16_bytes(const TensorView& t) {
  const int64_t bytes = element_bytes(t.dtype);
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.row_stride * bytes % 16 == 0 &&
         t.head_stride * bytes % 16 == 0;
}

}  // namespace

cudaError_t append_launch(const AppendArgs& args, bool dependent, cudaStream_t stream) {
  const ClassView& c = args.c;
  const uint64_t n_pieces = uint64_t{args.n_rows} * c.n_kv_heads * ((c.key_dim + c.value_dim) / kPiece);
  const uint64_t n_copy_ctas = (n_pieces + kAppendThreads - 1) / kAppendThreads;
  const uint64_t n_vote_ctas = c.has_votes ? uint64_t{args.n_parts} * c.n_kv_heads : 0;
  if (n_pieces > UINT32_MAX - kAppendThreads || n_copy_ctas + n_vote_ctas > INT32_MAX) return cudaErrorInvalidValue;
  const AppendLaunch l{args, static_cast<uint32_t>(n_copy_ctas), lies_on_16_bytes(args.k), lies_on_16_bytes(args.v)};
  return launch(append_kernel, dim3(static_cast<uint32_t>(n_copy_ctas + n_vote_ctas)), kAppendThreads, dependent,
                stream, l);
}

cudaError_t move_launch(const MoveArgs& args, cudaStream_t stream) {
  if (args.n == 0) return cudaSuccess;
  return launch(move_kernel, dim3(args.c.n_heads), kMoveThreads, false, stream, args);
}

}  // namespace oscar::cuda
