// Host side of the attention of any step: cuts it in tiles, chooses the kernel and launches it.
#include "prefill.h"

#include "prefill_kernel.cuh"
#include "prefill_merge.cuh"
#include "prefill_wide.h"

namespace oscar::cuda {
namespace {

struct KernelRow {
  uint32_t value_dim;
  PrefillKernel kernel;
};
const KernelRow kKernels[] = {{64, prefill_kernel<64>},   {80, prefill_kernel<80>},   {96, prefill_kernel<96>},
                              {128, prefill_kernel<128>}, {192, prefill_kernel<192>}, {256, prefill_kernel<256>}};

bool is_head_dim(uint32_t dim) {
  for (const KernelRow& row : kKernels)
    if (row.value_dim == dim) return true;
  return false;
}

constexpr uint32_t kMostGroup = 32;

// The kernel for long chunks of head_dim 128: tiles at least half full on average (batch-invariant steps do not ask: the
// average is other sequences' matter), no window and no soft cap.
bool wide_serves(const PrefillArgs& a) {
  return a.is_hopper && a.key_dim == kWideDim && a.value_dim == kWideDim && a.window == 0 && !(a.softcap > 0.0f) &&
         (a.batch_invariant || uint64_t{a.n_rows} * a.group * 2 >= uint64_t{kWideTileRows} * a.n_parts);
}

cudaError_t launch(PrefillKernel kernel, dim3 grid, uint32_t n_threads, uint32_t shared_bytes, bool dependent,
                   cudaStream_t stream, const PrefillLaunch& p) {
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(n_threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = dependent ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, p);
}

}  // namespace

bool prefill_serves(const PrefillShape& shape, uint32_t shared_bytes) {
  return TileMemory(shape.key_dim, shape.value_dim).bytes <= shared_bytes && is_head_dim(shape.key_dim) &&
         is_head_dim(shape.value_dim) && shape.n_kv_heads > 0 && shape.n_q_heads % shape.n_kv_heads == 0 &&
         shape.n_q_heads / shape.n_kv_heads - 1 < kMostGroup;
}

// Launches that do not split need nothing.
uint64_t prefill_workspace_bytes(const PrefillShape& shape, uint32_t n_multiprocessors) {
  return partial_bytes(uint64_t{kSplitRowsPerMultiprocessor} * n_multiprocessors, shape.value_dim);
}

cudaError_t prefill_prepare(bool is_hopper) {
  int device = 0, limit = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  for (const KernelRow& row : kKernels) {
    const int bytes = static_cast<int>(TileMemory(kMaxHeadDim, row.value_dim).bytes);
    if (error == cudaSuccess)
      error = cudaFuncSetAttribute(reinterpret_cast<const void*>(row.kernel),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, bytes < limit ? bytes : limit);
  }
  return error == cudaSuccess && is_hopper ? wide_prepare() : error;
}

cudaError_t prefill_launch(const PrefillArgs& args, uint32_t n_multiprocessors, bool dependent, cudaStream_t stream) {
  PrefillKernel kernel = nullptr;
  for (const KernelRow& row : kKernels)
    if (row.value_dim == args.value_dim) kernel = row.kernel;
  if (!kernel || !is_head_dim(args.key_dim) || args.group - 1 >= kMostGroup) return cudaErrorInvalidValue;
  if (args.n_rows == 0 || args.n_parts == 0) return cudaSuccess;
  const bool is_wide = wide_serves(args);
  PrefillLaunch p{};
  p.args = args;
  p.tile_rows = is_wide ? kWideTileRows : kTileRows;
  p.n_tiles = n_tile_numbers(args.n_rows, args.n_parts, args.group, p.tile_rows);
  p.n_splits = args.batch_invariant ? 1 : prefill_splits(p.n_tiles, args.n_kv_heads, p.tile_rows, n_multiprocessors);
  if (p.n_splits > 1) {
    p.partial_sums = static_cast<float2*>(args.workspace);
    p.partial_out = reinterpret_cast<float*>(p.partial_sums +
                                             uint64_t{p.n_tiles} * args.n_kv_heads * p.n_splits * p.tile_rows);
  }
  const dim3 grid(p.n_tiles, args.n_kv_heads, p.n_splits);
  cudaError_t error;
  if (is_wide) {
    const WideInstance wide = wide_instance(args.layout.h == kBlockTokens);
    error = launch(wide.kernel, grid, wide.n_threads, wide.shared_bytes, dependent, stream, p);
  } else {
    error = launch(kernel, grid, kPrefillThreads, TileMemory(args.key_dim, args.value_dim).bytes, dependent, stream, p);
  }
  if (error != cudaSuccess || p.n_splits == 1) return error;
  return launch(merge_splits_kernel, dim3(p.n_tiles, args.n_kv_heads, p.tile_rows / (kMergeThreads / 32)),
                kMergeThreads, 0, args.is_hopper, stream, p);
}

}  // namespace oscar::cuda
