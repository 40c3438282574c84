// Host side of decode attention: chooses the kernel of a shape and launches it.
#include "attend.h"

#include "attend_instance.cuh"
#include "map_queries.cuh"

namespace oscar::cuda {

#undef OSCAR_ATTEND
#define OSCAR_ATTEND(dk, dv, h, kp, vp)                                                                                \
  template <>                                                                                                          \
  const AttendInstance AttendInstances<dk, dv, h, kp, vp>::table[kInstanceSizes][2];                                   \
  template <>                                                                                                          \
  const AttendInstance AttendInstances<dk, dv, h, kp, vp>::invariant[2];
#include "instances.inc"
#undef OSCAR_ATTEND

namespace {

struct Row {
  BlockShape shape;
  const AttendInstance (*table)[2];
  const AttendInstance* invariant;
};

#define OSCAR_ATTEND(dk, dv, h, kp, vp)                                                                                \
  {{dk, dv, h, kp, vp}, AttendInstances<dk, dv, h, kp, vp>::table, AttendInstances<dk, dv, h, kp, vp>::invariant},
const Row kRows[] = {
#include "instances.inc"
};
#undef OSCAR_ATTEND

// Planes of no slots, and slots without planes, are the same as none (block_layout).
BlockShape canonical(const BlockShape& shape) {
  const BlockLayout l = block_layout(shape);
  return {shape.key_dim, shape.value_dim, l.h, l.h ? l.key_plane : 0, l.h ? l.value_plane : 0};
}

// From here on 8 consumer warps an SM do better than 16, which take longer to go from one segment to the next (H100,
// 2bit: 512 segments of 4K tokens 9 %; 128 segments of 100K the same, 64 and fewer 16 warps).
constexpr uint32_t kManySegments = 192;

const AttendInstance* find(const AttendShape& shape) {
  if (shape.max_queries == 0 || shape.max_queries > attend_max_queries(shape)) return nullptr;
  const BlockShape wanted = canonical(shape.block);
  const uint32_t n = shape.max_queries, size = n <= 4 ? 0 : n <= 8 ? 1 : n <= 16 ? 2 : 3;
  for (const Row& row : kRows)
    if (row.shape == wanted)
      return &(shape.batch_invariant ? row.invariant : row.table[size])[shape.n_segments < kManySegments];
  return nullptr;
}

cudaLaunchConfig_t launch_config(dim3 grid, int n_threads, int shared_bytes, bool dependent, cudaStream_t stream,
                                 cudaLaunchAttribute* attribute) {
  attribute->id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute->val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(n_threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = attribute;
  config.numAttrs = dependent ? 1 : 0;
  return config;
}

}  // namespace

bool attend_serves(const AttendShape& shape) { return find(shape) != nullptr; }

uint32_t attend_ctas(const AttendShape& shape, uint32_t n_multiprocessors) {
  const AttendInstance* instance = find(shape);
  return instance ? n_multiprocessors * static_cast<uint32_t>(instance->ctas_per_sm) : 0;
}

uint64_t attend_workspace_bytes(const AttendShape& shape, uint32_t n_multiprocessors, uint32_t n_segments,
                                uint64_t n_chunks) {
  const AttendInstance* instance = find(shape);
  if (!instance) return 0;
  const uint64_t n_places = shape.batch_invariant ? n_chunks : 4 * uint64_t{attend_ctas(shape, n_multiprocessors)};
  return counter_bytes(n_segments) + instance->partial_bytes * n_places;
}

cudaError_t attend_prepare() {
  for (const Row& row : kRows)
    for (int i = 0; i < 2 * kInstanceSizes + 2; ++i) {
      const AttendInstance& instance = (i / 2 < kInstanceSizes ? row.table[i / 2] : row.invariant)[i % 2];
      const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(instance.kernel),
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     instance.shared_bytes);
      if (error != cudaSuccess) return error;
    }
  return cudaSuccess;
}

cudaError_t attend_launch(const AttendShape& shape, const AttendArgs& args, uint32_t n_multiprocessors, bool dependent,
                          cudaStream_t stream) {
  const AttendInstance* instance = find(shape);
  if (!instance) return cudaErrorInvalidValue;
  cudaLaunchAttribute attribute;
  if (args.query.kind == MapKind::kDense) {
    const dim3 grid(args.n_kv_heads, (args.n_rows * args.group + kMapRows - 1) / kMapRows, shape.block.key_dim / 32);
    const cudaLaunchConfig_t config = launch_config(grid, kMapWarps * 32, 0, dependent, stream, &attribute);
    const cudaError_t error = cudaLaunchKernelEx(&config, map_queries_kernel, args,
                                                 static_cast<int>(shape.block.key_dim));
    if (error != cudaSuccess) return error;
    dependent = true;  // the map kernel waits before it writes: what follows may start early
  }
  const dim3 grid(attend_ctas(shape, n_multiprocessors));
  const cudaLaunchConfig_t config = launch_config(grid, instance->n_threads, instance->shared_bytes, dependent, stream,
                                                  &attribute);
  return cudaLaunchKernelEx(&config, instance->kernel, args);
}

}  // namespace oscar::cuda
