// The packing kernel for every transform (dense, Hadamard either way, identity) and for shaped rounding. Bound by FP32
// arithmetic: a dense map is D^2 multiply-adds a token, shaped rounding another 2 D^2 (four trials), its norms about
// 1.3 D^2.
//
// Grid: keys of every (job, head), then values; a CTA of 128 threads packs one side of one block. Shared memory:
// cuda/pack_columns.cuh.
#pragma once
#include "cuda/pack_columns.cuh"
#include "cuda/pack_multiply.cuh"
#include "cuda/pack_planes.cuh"
#include "cuda/pack_shaped.cuh"
#include "cuda/pack_side.cuh"

namespace oscar::cuda {

template <uint32_t D>
__global__ void __launch_bounds__(kPackThreads, D <= 128 ? 2 : 1)
    pack_general_kernel(const __grid_constant__ PackLaunch p, const __grid_constant__ bool values_only) {
  extern __shared__ __align__(16) uint8_t shared[];
  const GeneralMemory<D> m(shared);
  const Side s(p, blockIdx.x, values_only);
  const HeadTransform& transform = p.transforms[p.first_head + s.head];
  const LinearMap& map = s.is_key ? transform.key : transform.value;

  const RowScan scan = gather_columns<D>(p, s, m);
  const float factor = power_of_two(scan.exponent);
  float mean_scale = 0.0f;
  if (s.is_key) {
    mean_of_columns<D>(m, factor, m.mean + D);
    map_row<D>(map, m.mean + D, m.mean);
    mean_scale = quantize_mean<D>(m.mean, scan.exponent, s.block + p.layout.key_mean, m.scratch);
  }
  if (map.kind == MapKind::kDense)
    multiply_rows<D>(map.matrix, m, factor);
  else
    map_columns<D>(map, m, factor);
  const uint32_t plane = s.is_key ? p.layout.key_plane : p.layout.value_plane;
  const SlotLevels levels(threadIdx.x < p.layout.h ? plane : 0);
  const float norm = subtract_and_norm<D>(m, s.is_key), rms = rms_of<D>(norm);
  __syncthreads();  // x is done with
  float scale;
  if (s.is_key && p.shaped && transform.metric_root) {
    scale = shaped_scale<D>(transform, m, rms, levels);
  } else {
    float uu;
    const float zu = round_plain<D>(m, rms, levels, uu);
    scale = s.is_key ? __fsqrt_rn(ratio_or_zero(norm, uu)) : ratio_or_zero(norm, zu);
  }
  const float base = write_scales(rms > 0.0f ? scale : 0.0f, p.layout.h, plane, scan.exponent,
                                  s.block + (s.is_key ? p.layout.key_scales : p.layout.value_scales), m.scratch);
  write_header(p, s, mean_scale, base, scan.n_non_finite, m.order);
  const CodeRows codes = {m.codes, GeneralShape<D>::kCodePitch, D / 4, nullptr, p.layout.h, plane};
  write_planes<D>(p.layout, s.is_key, codes, s.block);
}

}  // namespace oscar::cuda
