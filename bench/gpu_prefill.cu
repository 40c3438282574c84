// Time of one layer's prefill attention on the GPU: a chunk of new tokens over a packed prefix.
//
//   gpu_prefill [quick | all]      one JSON object a line, on stdout; exit status 1 where a result was wrong
//
// Each configuration is first checked against the double-precision oracle: the first, a middle and the last new token of
// two (sequence, KV head) pairs. Then the layers of a cache run one after the other in a CUDA graph; together they are
// larger than 270 MB, so that every launch finds a cold L2. us: median over replays of the time of a launch.
// tflop_per_s: 2 (key_dim + value_dim) for every query head, new token and token that it sees.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "attention/oracle.h"
#include "device_buffer.h"
#include "format/bf16.h"
#include "gpu_pool.h"
#include "prefill.h"

namespace oscar::bench {
namespace {

using testing::check_cuda;
using testing::DeviceBuffer;

constexpr double kTolerance = 1e-3;

struct Setting {
  const char* profile;
  BlockShape shape;
  uint32_t past, batch, n_new;  // past: tokens before the chunk; 0: exact rows only
  uint32_t n_kv_heads = 8, group = 4, n_sink = 64, n_recent = 256;
  bool exact = false;  // no blocks: all of the past in pages
};

// A cache of one class with every sequence of the same length; new tokens in the scratch.
class Bench {
 public:
  explicit Bench(const Setting& s) : s_(s), layout_(block_layout(s.shape)) {
    n_blocks_ = s.exact || s.past < s.n_sink + s.n_recent ? 0 : (s.past - s.n_sink - s.n_recent) / kBlockTokens;
    page_bytes_ = uint64_t{kPageTokens} * (s.shape.key_dim + s.shape.value_dim) * 2;
    const uint64_t layer_bytes = uint64_t{s.batch} * s.n_kv_heads *
                                 (uint64_t{n_blocks_} * layout_.bytes + s.past / kPageTokens * page_bytes_ * s.exact +
                                  uint64_t{s.n_new} * (s.shape.key_dim + s.shape.value_dim) * 2);
    n_layers_ = std::min<uint64_t>(16, 270000000 / layer_bytes + 1);
    heads_ = n_layers_ * s.n_kv_heads;
    block_unit_ = (heads_ * layout_.bytes + 63) / 64 * 64;
    page_unit_ = (heads_ * page_bytes_ + 63) / 64 * 64;
    make_tables();
    make_buffers();
  }

  double flops() const {
    const double seen = s_.n_new * (s_.past + (s_.n_new + 1) / 2.0);
    return 2.0 * (s_.shape.key_dim + s_.shape.value_dim) * s_.batch * s_.n_kv_heads * s_.group * seen;
  }
  uint32_t n_layers() const { return n_layers_; }

  void launch(uint32_t layer, cudaStream_t stream) {
    cuda::PrefillArgs a = args_;
    a.block_offset = uint64_t{layer} * s_.n_kv_heads * layout_.bytes;
    a.page_offset = uint64_t{layer} * s_.n_kv_heads * page_bytes_;
    check_cuda(cuda::prefill_launch(a, n_sm_, true, stream), "prefill_launch");
  }

  double error();
  double microseconds();

 private:
  void make_tables();
  void make_buffers();
  double error_of(uint32_t sequence, uint32_t head, uint32_t token, const std::vector<float>& out);

  Setting s_;
  BlockLayout layout_;
  uint32_t n_blocks_, n_layers_, heads_, n_sm_ = 0;
  uint64_t page_bytes_, block_unit_, page_unit_, n_pages_ = 0;
  std::vector<cuda::SpanEntry> spans_;
  std::vector<cuda::PartWork> parts_;
  std::unique_ptr<DeviceBuffer<uint8_t>> pool_, workspace_;
  std::unique_ptr<DeviceBuffer<uint16_t>> q_, out_, keys_, values_;
  std::unique_ptr<DeviceBuffer<cuda::SpanEntry>> device_spans_;
  std::unique_ptr<DeviceBuffer<cuda::PartWork>> device_parts_;
  cuda::PrefillArgs args_{};
};

void Bench::make_tables() {
  const uint32_t packed_begin = n_blocks_ ? s_.n_sink : 0, packed_end = packed_begin + n_blocks_ * kBlockTokens;
  const uint64_t page_base = uint64_t{s_.batch} * n_blocks_ * block_unit_;
  for (uint32_t s = 0; s < s_.batch; ++s) {
    cuda::PartWork w{};
    w.row = s * s_.n_new;
    w.n_new = s_.n_new;
    w.base = s_.past;
    w.span_begin = static_cast<uint32_t>(spans_.size());
    w.n_blocks = n_blocks_;
    w.uses_scratch = 1;
    for (uint32_t b = 0; b < n_blocks_; ++b)
      spans_.push_back({static_cast<uint32_t>((uint64_t{b} * s_.batch + s) * block_unit_ / 64),
                        packed_begin + b * kBlockTokens, 0, kBlockTokens, 0});
    for (uint32_t begin = 0; begin < s_.past; begin += kPageTokens) {
      if (begin >= packed_begin && begin + kPageTokens <= packed_end) continue;
      const uint32_t first = begin >= packed_begin && begin < packed_end ? packed_end - begin : 0;
      spans_.push_back({static_cast<uint32_t>((page_base + n_pages_++ * page_unit_) / 64), begin,
                        static_cast<uint16_t>(first), static_cast<uint16_t>(std::min(kPageTokens, s_.past - begin)),
                        0});
      ++w.n_pages;
    }
    parts_.push_back(w);
  }
}

void Bench::make_buffers() {
  int n_sm = 0;
  check_cuda(cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
  n_sm_ = static_cast<uint32_t>(n_sm);
  const uint32_t dk = s_.shape.key_dim, dv = s_.shape.value_dim, n_q_heads = s_.n_kv_heads * s_.group;
  const uint32_t n_rows = s_.batch * s_.n_new;
  const uint64_t n_block_units = uint64_t{s_.batch} * n_blocks_;
  pool_ = std::make_unique<DeviceBuffer<uint8_t>>(n_block_units * block_unit_ + n_pages_ * page_unit_);
  if (n_block_units) fill_blocks(pool_->get(), n_block_units, block_unit_, heads_, layout_);
  fill_bf16(reinterpret_cast<uint16_t*>(pool_->get() + n_block_units * block_unit_), n_pages_ * page_unit_ / 2);
  q_ = std::make_unique<DeviceBuffer<uint16_t>>(uint64_t{n_rows} * n_q_heads * dk);
  out_ = std::make_unique<DeviceBuffer<uint16_t>>(uint64_t{n_rows} * n_q_heads * dv * 2);
  keys_ = std::make_unique<DeviceBuffer<uint16_t>>(uint64_t{n_rows} * s_.n_kv_heads * dk);
  values_ = std::make_unique<DeviceBuffer<uint16_t>>(uint64_t{n_rows} * s_.n_kv_heads * dv);
  fill_bf16_queries(q_->get(), q_->size(), 1);
  fill_bf16_queries(keys_->get(), keys_->size(), 2);
  fill_bf16_queries(values_->get(), values_->size(), 3);
  device_spans_ = std::make_unique<DeviceBuffer<cuda::SpanEntry>>(spans_);
  device_parts_ = std::make_unique<DeviceBuffer<cuda::PartWork>>(parts_);
  const cuda::PrefillShape shape{dk, dv, n_q_heads, s_.n_kv_heads, n_rows};
  workspace_ = std::make_unique<DeviceBuffer<uint8_t>>(cuda::prefill_workspace_bytes(shape, n_sm_));

  args_.pool = pool_->get();
  args_.head_page_bytes = page_bytes_;
  args_.spans = device_spans_->get();
  args_.parts = device_parts_->get();
  args_.n_parts = s_.batch;
  args_.n_rows = n_rows;
  args_.n_kv_heads = s_.n_kv_heads;
  args_.group = s_.group;
  args_.key_dim = dk;
  args_.value_dim = dv;
  args_.layout = layout_;
  args_.scratch_keys = keys_->get();
  args_.scratch_values = values_->get();
  args_.q = {q_->get(), int64_t{n_q_heads} * dk, dk, cuda::Dtype::kBF16};
  args_.out = {out_->get(), int64_t{n_q_heads} * dv, dv, cuda::Dtype::kBF16};
  args_.scale = 1.0f / std::sqrt(static_cast<float>(dk));
  const auto kind = [](uint32_t d) { return d & (d - 1) ? MapKind::kIdentity : MapKind::kHadamard; };
  args_.query = {kind(dk), nullptr};
  args_.value_inverse = {kind(dv), nullptr};
  args_.workspace = workspace_->get();
  args_.is_hopper = true;
}

double Bench::error_of(uint32_t sequence, uint32_t head, uint32_t token, const std::vector<float>& out) {
  const uint32_t dk = s_.shape.key_dim, dv = s_.shape.value_dim, n_q_heads = s_.n_kv_heads * s_.group;
  const cuda::PartWork& w = parts_[sequence];
  const uint64_t in_class = uint64_t{n_layers_ - 1} * s_.n_kv_heads + head;
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<BlockSpan> blocks;
  std::vector<RowSpan> rows;
  for (uint32_t k = 0; k < w.n_blocks + w.n_pages; ++k) {
    const cuda::SpanEntry& e = spans_[w.span_begin + k];
    const bool is_page = k >= w.n_blocks;
    bytes.emplace_back(is_page ? page_bytes_ : layout_.bytes);
    check_cuda(cudaMemcpy(bytes.back().data(), pool_->get() + uint64_t{e.unit} * 64 + in_class * bytes.back().size(),
                          bytes.back().size(), cudaMemcpyDeviceToHost),
               "download");
    if (!is_page) {
      blocks.push_back({bytes.back().data(), e.start, e.first, e.last});
    } else {
      const auto* page = reinterpret_cast<const uint16_t*>(bytes.back().data());
      rows.push_back({page + e.first * dk, page + kPageTokens * dk + e.first * dv, e.start + e.first,
                      static_cast<uint32_t>(e.last - e.first), dk, dv});
    }
  }
  const std::vector<uint16_t> q16 = q_->download(), keys = keys_->download(), values = values_->download();
  const uint64_t first = uint64_t{w.row} * s_.n_kv_heads + head;
  rows.push_back({keys.data() + first * dk, values.data() + first * dv, w.base, token + 1, s_.n_kv_heads * dk,
                  s_.n_kv_heads * dv});
  const uint64_t q_row = (uint64_t{w.row} + token) * n_q_heads + head * s_.group;
  std::vector<float> q(s_.group * dk), ref(s_.group * dv), lse(s_.group);
  for (uint32_t i = 0; i < q.size(); ++i) q[i] = bf16_to_f32(q16[q_row * dk + i]);
  HeadTransform transform;
  transform.key = transform.query = {args_.query.kind, dk, 0, 0, nullptr};
  transform.value = {args_.value_inverse.kind, dv, 0, 0, nullptr};
  transform.value_inverse = {args_.value_inverse.kind, dv, 1, 0, nullptr};
  AttendWork work{};
  work.layout = &layout_;
  work.transform = &transform;
  work.key_dim = dk;
  work.value_dim = dv;
  work.group = s_.group;
  work.n_new = 1;
  work.n_tile_rows = s_.group;
  work.first_position = w.base + token;
  work.scale = args_.scale;
  work.blocks = blocks.data();
  work.n_blocks = static_cast<uint32_t>(blocks.size());
  work.rows = rows.data();
  work.n_rows = static_cast<uint32_t>(rows.size());
  work.q = q.data();
  work.out = ref.data();
  work.lse = lse.data();
  attend_oracle(work);
  double worst = 0.0;
  for (uint32_t g = 0; g < s_.group; ++g) {
    double error = 0.0, norm = 0.0;
    for (uint32_t d = 0; d < dv; ++d) {
      const double x = static_cast<double>(ref[g * dv + d]), e = static_cast<double>(out[(q_row + g) * dv + d]) - x;
      error += e * e;
      norm += x * x;
    }
    const double relative = std::sqrt(error / norm);
    if (!(relative <= worst)) worst = relative;
  }
  return worst;
}

// With FP32 outputs.
double Bench::error() {
  const cuda::TensorView out = args_.out;
  args_.out.dtype = cuda::Dtype::kF32;
  out_->fill(0xff);
  launch(n_layers_ - 1, nullptr);
  check_cuda(cudaDeviceSynchronize(), "prefill");
  args_.out = out;
  const std::vector<uint16_t> halves = out_->download();
  std::vector<float> x(halves.size() / 2);
  std::memcpy(x.data(), halves.data(), halves.size() * 2);
  double worst = 0.0;
  for (const auto& [sequence, head, token] : {std::tuple{0u, 0u, 0u}, std::tuple{0u, s_.n_kv_heads / 2, s_.n_new / 2},
                                              std::tuple{s_.batch - 1, s_.n_kv_heads - 1, s_.n_new - 1}}) {
    const double e = error_of(sequence, head, token, x);
    if (!(e <= worst)) worst = e;
  }
  return worst;
}

double Bench::microseconds() {
  constexpr int kReplays = 7;
  const uint32_t n_launches = std::max(n_layers_, 4u);
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaEvent_t begin, end;
  check_cuda(cudaStreamCreate(&stream), "stream");
  check_cuda(cudaEventCreate(&begin), "event");
  check_cuda(cudaEventCreate(&end), "event");
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  for (uint32_t n = 0; n < n_launches; ++n) launch(n % n_layers_, stream);
  check_cuda(cudaStreamEndCapture(stream, &graph), "capture");
  check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  std::vector<double> us;
  for (int k = 0; k < kReplays + 1; ++k) {
    check_cuda(cudaEventRecord(begin, stream), "record");
    check_cuda(cudaGraphLaunch(exec, stream), "replay");
    check_cuda(cudaEventRecord(end, stream), "record");
    check_cuda(cudaEventSynchronize(end), "replay");
    float ms = 0.0f;
    check_cuda(cudaEventElapsedTime(&ms, begin, end), "elapsed");
    if (k > 0) us.push_back(static_cast<double>(ms) * 1e3 / n_launches);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaStreamDestroy(stream);
  std::sort(us.begin(), us.end());
  return us[us.size() / 2];
}

std::vector<Setting> settings(bool all) {
  const BlockShape two{128, 128, 4, 2, 2};
  std::vector<Setting> list{{"2bit", two, 32768, 1, 2048}, {"2bit", two, 4096, 4, 512}, {"2bit", two, 32768, 1, 16}};
  Setting exact{"exact", two, 8192, 1, 2048};
  exact.exact = true;
  list.push_back(exact);
  if (!all) return list;
  for (uint32_t n_new : {1u, 64u, 128u, 512u, 8192u}) list.push_back({"2bit", two, 32768, 1, n_new});
  list.push_back({"2bit", two, 0, 1, 2048});
  list.push_back({"2bit", two, 102400, 1, 2048});
  list.push_back({"2bit-plain", {128, 128, 0, 0, 0}, 32768, 1, 2048});
  list.push_back({"4bit", {128, 128, 128, 2, 2}, 32768, 1, 2048});
  for (uint32_t dim : {64u, 96u, 192u, 256u}) list.push_back({"2bit", {dim, dim, 4, 2, 2}, 32768, 1, 2048});
  for (uint32_t dim : {80u, 96u, 256u}) list.push_back({"2bit", {dim, dim, 4, 2, 2}, 32768, 16, 1});
  return list;
}

int run(bool all) {
  check_cuda(cuda::prefill_prepare(true), "prefill_prepare");
  cudaDeviceProp device;
  check_cuda(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  bool ok = true;
  for (const Setting& s : settings(all)) {
    Bench bench(s);
    const double error = bench.error(), us = bench.microseconds();
    ok = ok && error <= kTolerance;
    std::printf("{\"bench\":\"gpu_prefill\",\"device\":\"%s\",\"profile\":\"%s\",\"key_dim\":%u,\"value_dim\":%u,"
                "\"q_heads\":%u,\"kv_heads\":%u,\"past\":%u,\"batch\":%u,\"q_len\":%u,\"sink\":%u,\"recent\":%u,"
                "\"layers\":%u,\"us\":%.1f,\"tflop_per_s\":%.1f,\"worst_row_error\":%.2e}\n",
                device.name, s.profile, s.shape.key_dim, s.shape.value_dim, s.n_kv_heads * s.group, s.n_kv_heads,
                s.past, s.batch, s.n_new, s.n_sink, s.n_recent, bench.n_layers(), us, bench.flops() / us * 1e-6, error);
    std::fflush(stdout);
  }
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace oscar::bench

int main(int argc, char** argv) { return oscar::bench::run(argc > 1 && std::strcmp(argv[1], "all") == 0); }
