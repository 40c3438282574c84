// Time of one layer's decode attention on the GPU, against the rate of a kernel that only reads.
//
//   gpu_decode [quick | all]      one JSON object a line, on stdout; exit status 1 where a result was wrong
//
// Each configuration is first checked against the double-precision oracle on two (sequence, KV head) pairs. Then a CUDA
// graph runs the layers of a cache one after the other; together they are larger than 270 MB, so that every launch finds
// a cold L2. us: median over replays of the time a launch takes in the graph. Bytes: blocks and exact rows, once each.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "attend.h"
#include "attention/oracle.h"
#include "device_buffer.h"
#include "format/bf16.h"
#include "gpu_pool.h"
#include "step_plan.h"

namespace oscar::bench {
namespace {

using testing::check_cuda;
using testing::DeviceBuffer;

constexpr double kTolerance = 1e-3;

struct Setting {
  const char* profile;
  BlockShape shape;
  uint32_t context, batch, n_new;
  uint32_t n_kv_heads = 8, group = 4, n_sink = 64, n_recent = 256, min_layers = 1;
  bool dense = false, invariant = false;
};

// A cache of one class with every sequence of the same length.
class Bench {
 public:
  explicit Bench(const Setting& s) : s_(s), layout_(block_layout(s.shape)) {
    n_past_ = s.context - s.n_new;
    n_blocks_ = (n_past_ - s.n_sink - s.n_recent) / kBlockTokens;
    const uint64_t layer_bytes = bytes();
    n_layers_ = std::max<uint32_t>(s.min_layers, static_cast<uint32_t>(270000000 / layer_bytes) + 1);
    heads_ = n_layers_ * s.n_kv_heads;
    page_bytes_ = uint64_t{kPageTokens} * (s.shape.key_dim + s.shape.value_dim) * 2;
    block_unit_ = (heads_ * layout_.bytes + 63) / 64 * 64;
    page_unit_ = (heads_ * page_bytes_ + 63) / 64 * 64;
    make_tables();
    make_buffers();
  }

  // What one launch must read.
  uint64_t bytes() const {
    const uint64_t exact = s_.context - uint64_t{n_blocks_} * kBlockTokens;
    return uint64_t{s_.batch} * s_.n_kv_heads *
           (uint64_t{n_blocks_} * layout_.bytes + exact * (s_.shape.key_dim + s_.shape.value_dim) * 2);
  }
  uint32_t n_layers() const { return n_layers_; }

  void launch(uint32_t layer, bool dependent, cudaStream_t stream) {
    cuda::AttendArgs a = args_;
    a.block_offset = uint64_t{layer} * s_.n_kv_heads * layout_.bytes;
    a.page_offset = uint64_t{layer} * s_.n_kv_heads * page_bytes_;
    check_cuda(cuda::attend_launch(shape(), a, n_sm_, dependent, stream), "attend_launch");
  }

  // Worst relative error of a row in the first and the last (sequence, KV head).
  double error();
  double microseconds(bool dependent);

 private:
  cuda::AttendShape shape() const {
    return {s_.shape, std::min(most_queries(), s_.n_new * s_.group), s_.batch * s_.n_kv_heads, s_.invariant};
  }
  uint32_t most_queries() const { return s_.invariant ? cuda::kInvariantQueries : cuda::kMaxQueries; }
  void make_tables();
  void make_buffers();
  double error_of(uint32_t sequence, uint32_t head, uint32_t layer, const std::vector<float>& out);

  Setting s_;
  BlockLayout layout_;
  uint32_t n_past_, n_blocks_, n_layers_, heads_, n_sm_ = 0;
  uint64_t page_bytes_, block_unit_, page_unit_, n_pages_ = 0;
  std::vector<cuda::SpanEntry> spans_;
  std::vector<cuda::SequenceWork> sequences_;
  std::unique_ptr<DeviceBuffer<uint8_t>> pool_, workspace_;
  std::unique_ptr<DeviceBuffer<uint16_t>> q_;
  std::unique_ptr<DeviceBuffer<float>> out_, mapped_, matrix_;
  std::unique_ptr<DeviceBuffer<cuda::SpanEntry>> device_spans_;
  std::unique_ptr<DeviceBuffer<cuda::SequenceWork>> device_sequences_;
  std::unique_ptr<DeviceBuffer<cuda::CtaStart>> device_starts_;
  std::unique_ptr<DeviceBuffer<cuda::SegmentCtas>> device_segments_;
  cuda::AttendArgs args_{};
};

void Bench::make_tables() {
  const uint32_t packed_end = s_.n_sink + n_blocks_ * kBlockTokens;
  const uint64_t page_base = uint64_t{s_.batch} * n_blocks_ * block_unit_;
  for (uint32_t s = 0; s < s_.batch; ++s) {
    cuda::SequenceWork w{};
    w.span_begin = static_cast<uint32_t>(spans_.size());
    w.n_blocks = n_blocks_;
    w.first_row = s * s_.n_new;
    w.first_position = n_past_;
    for (uint32_t b = 0; b < n_blocks_; ++b) {  // sequences that grow together interleave in the pool
      const uint64_t at = (uint64_t{b} * s_.batch + s) * block_unit_;
      spans_.push_back({static_cast<uint32_t>(at / 64), s_.n_sink + b * kBlockTokens, 0, kBlockTokens, 0});
    }
    for (uint32_t begin = 0; begin < s_.context; begin += kPageTokens) {
      if (begin >= s_.n_sink && begin + kPageTokens <= packed_end) continue;
      const uint32_t first = begin >= s_.n_sink && begin < packed_end ? packed_end - begin : 0;
      const uint32_t last = std::min(kPageTokens, s_.context - begin);
      const uint64_t at = page_base + n_pages_++ * page_unit_;
      spans_.push_back(
          {static_cast<uint32_t>(at / 64), begin, static_cast<uint16_t>(first), static_cast<uint16_t>(last), 0});
      ++w.n_pages;
    }
    for (uint32_t r = 0; r < s_.n_new * s_.group; r += most_queries()) {
      w.query_begin = r;
      w.n_queries = std::min(most_queries(), s_.n_new * s_.group - r);
      sequences_.push_back(w);
    }
  }
}

void Bench::make_buffers() {
  int n_sm = 0;
  check_cuda(cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
  n_sm_ = static_cast<uint32_t>(n_sm);
  const uint32_t n_ctas = cuda::attend_ctas(shape(), n_sm_), n_q_heads = s_.n_kv_heads * s_.group;
  const uint32_t n_rows = s_.batch * s_.n_new, n_segments = static_cast<uint32_t>(sequences_.size()) * s_.n_kv_heads;
  std::vector<cuda::CtaStart> starts(n_ctas);
  std::vector<cuda::SegmentCtas> segments(n_segments);
  const uint32_t n_sequences = static_cast<uint32_t>(sequences_.size());
  uint64_t n_items = 0;
  for (const cuda::SequenceWork& w : sequences_) n_items += uint64_t{w.n_blocks + w.n_pages} * s_.n_kv_heads;
  const uint64_t n_chunks = cuda::chunk_limit(n_items, n_segments);
  if (!(s_.invariant ? cuda::plan_step_invariant(sequences_.data(), n_sequences, spans_.data(), s_.n_kv_heads, n_ctas,
                                                 n_chunks, starts.data())
                     : cuda::plan_step(sequences_.data(), n_sequences, spans_.data(), s_.n_kv_heads, n_ctas,
                                       cuda::PlanCosts{}, starts.data(), segments.data())))
    std::exit(1);
  const uint64_t n_block_units = uint64_t{s_.batch} * n_blocks_;
  pool_ = std::make_unique<DeviceBuffer<uint8_t>>(n_block_units * block_unit_ + n_pages_ * page_unit_);
  fill_blocks(pool_->get(), n_block_units, block_unit_, heads_, layout_);
  fill_bf16(reinterpret_cast<uint16_t*>(pool_->get() + n_block_units * block_unit_), n_pages_ * page_unit_ / 2);
  q_ = std::make_unique<DeviceBuffer<uint16_t>>(uint64_t{n_rows} * n_q_heads * s_.shape.key_dim);
  fill_bf16_queries(q_->get(), q_->size(), 1);
  out_ = std::make_unique<DeviceBuffer<float>>(uint64_t{n_rows} * n_q_heads * s_.shape.value_dim);
  mapped_ = std::make_unique<DeviceBuffer<float>>(uint64_t{n_rows} * n_q_heads * s_.shape.key_dim);
  workspace_ = std::make_unique<DeviceBuffer<uint8_t>>(
      cuda::attend_workspace_bytes(shape(), n_sm_, n_segments, n_chunks));
  workspace_->fill(0);
  device_spans_ = std::make_unique<DeviceBuffer<cuda::SpanEntry>>(spans_);
  device_sequences_ = std::make_unique<DeviceBuffer<cuda::SequenceWork>>(sequences_);
  device_starts_ = std::make_unique<DeviceBuffer<cuda::CtaStart>>(starts);
  device_segments_ = std::make_unique<DeviceBuffer<cuda::SegmentCtas>>(segments);
  // A dense map: the identity matrix as if it were any other. The oracle then uses the identity.
  std::vector<float> matrix(uint64_t{s_.n_kv_heads} * s_.shape.key_dim * s_.shape.key_dim, 0.0f);
  for (uint64_t h = 0; h < s_.n_kv_heads; ++h)
    for (uint64_t d = 0; d < s_.shape.key_dim; ++d) matrix[(h * s_.shape.key_dim + d) * s_.shape.key_dim + d] = 1.0f;
  matrix_ = std::make_unique<DeviceBuffer<float>>(matrix);

  args_.pool = pool_->get();
  args_.spans = device_spans_->get();
  args_.sequences = device_sequences_->get();
  args_.starts = device_starts_->get();
  args_.segments = device_segments_->get();
  args_.n_kv_heads = s_.n_kv_heads;
  args_.group = s_.group;
  args_.n_rows = n_rows;
  args_.q = {q_->get(), int64_t{n_q_heads} * s_.shape.key_dim, s_.shape.key_dim, cuda::Dtype::kBF16};
  args_.out = {out_->get(), int64_t{n_q_heads} * s_.shape.value_dim, s_.shape.value_dim, cuda::Dtype::kF32};
  args_.scale = 1.0f / std::sqrt(static_cast<float>(s_.shape.key_dim));
  args_.query = args_.value_inverse = {s_.dense ? MapKind::kDense : MapKind::kHadamard, matrix_->get()};
  args_.workspace = workspace_->get();
  args_.n_segments = n_segments;
  args_.mapped_queries = mapped_->get();
}

double Bench::error_of(uint32_t sequence, uint32_t head, uint32_t layer, const std::vector<float>& out) {
  const uint32_t dk = s_.shape.key_dim, dv = s_.shape.value_dim, n_q_heads = s_.n_kv_heads * s_.group;
  const cuda::SequenceWork& w = sequences_[sequence * (sequences_.size() / s_.batch)];
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<BlockSpan> blocks;
  std::vector<RowSpan> rows;
  const uint64_t in_class = uint64_t{layer} * s_.n_kv_heads + head;
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
  const std::vector<uint16_t> q16 = q_->download();
  const uint32_t n = s_.n_new * s_.group;
  std::vector<float> q(n * dk), ref(n * dv), lse(n);
  const auto row_of = [&](uint32_t r) {
    return (uint64_t{w.first_row} + r / s_.group) * n_q_heads + head * s_.group + r % s_.group;
  };
  for (uint32_t r = 0; r < n; ++r)
    for (uint32_t d = 0; d < dk; ++d) q[r * dk + d] = bf16_to_f32(q16[row_of(r) * dk + d]);
  const MapKind kind = s_.dense ? MapKind::kIdentity : MapKind::kHadamard;
  HeadTransform transform;
  transform.key = transform.query = {kind, dk, 0, 0, nullptr};
  transform.value = {kind, dv, 0, 0, nullptr};
  transform.value_inverse = {kind, dv, 1, 0, nullptr};
  AttendWork work{};
  work.layout = &layout_;
  work.transform = &transform;
  work.key_dim = dk;
  work.value_dim = dv;
  work.group = s_.group;
  work.n_new = s_.n_new;
  work.n_tile_rows = s_.n_new * s_.group;
  work.first_position = n_past_;
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
  for (uint32_t r = 0; r < n; ++r) {
    double error = 0.0, norm = 0.0;
    for (uint32_t d = 0; d < dv; ++d) {
      const double x = static_cast<double>(ref[r * dv + d]), e = static_cast<double>(out[row_of(r) * dv + d]) - x;
      error += e * e;
      norm += x * x;
    }
    const double relative = std::sqrt(error / norm);
    if (!(relative <= worst)) worst = relative;
  }
  return worst;
}

double Bench::error() {
  const uint32_t layer = n_layers_ - 1;
  out_->fill(0xff);
  launch(layer, false, nullptr);
  check_cuda(cudaDeviceSynchronize(), "attend");
  const std::vector<float> out = out_->download();
  return std::max(error_of(0, 0, layer, out), error_of(s_.batch - 1, s_.n_kv_heads - 1, layer, out));
}

double Bench::microseconds(bool dependent) {
  constexpr int kReplays = 15;
  const uint32_t n_launches = std::max(n_layers_, 2u) * (n_layers_ < 20 ? 20 / n_layers_ + 1 : 1);
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaEvent_t begin, end;
  check_cuda(cudaStreamCreate(&stream), "stream");
  check_cuda(cudaEventCreate(&begin), "event");
  check_cuda(cudaEventCreate(&end), "event");
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  for (uint32_t n = 0; n < n_launches; ++n) launch(n % n_layers_, dependent, stream);
  check_cuda(cudaStreamEndCapture(stream, &graph), "capture");
  check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  std::vector<double> us;
  for (int k = 0; k < kReplays + 3; ++k) {
    check_cuda(cudaEventRecord(begin, stream), "record");
    check_cuda(cudaGraphLaunch(exec, stream), "replay");
    check_cuda(cudaEventRecord(end, stream), "record");
    check_cuda(cudaEventSynchronize(end), "replay");
    float ms = 0.0f;
    check_cuda(cudaEventElapsedTime(&ms, begin, end), "elapsed");
    if (k >= 3) us.push_back(static_cast<double>(ms) * 1e3 / n_launches);
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
  std::vector<Setting> list{{"2bit", two, 102400, 1, 1}, {"2bit", two, 102400, 16, 1}};
  Setting dense{"2bit", two, 102400, 1, 1};
  dense.dense = true;
  list.push_back(dense);
  list.push_back({"2bit", two, 102400, 4, 1});
  for (uint32_t batch : {1u, 4u, 16u}) {
    Setting invariant{"2bit", two, 102400, batch, 1};
    invariant.invariant = true;
    list.push_back(invariant);
  }
  Setting stress{"2bit", two, 102400, 1, 1};
  stress.n_sink = 4;
  stress.n_recent = 32;
  list.push_back(stress);
  list.push_back({"2bit", two, 4096, 1, 1});
  if (!all) return list;
  Setting whole_model{"2bit", two, 102400, 1, 1};
  whole_model.min_layers = 36;
  list.push_back(whole_model);
  for (uint32_t batch : {1u, 16u, 64u})
    for (uint32_t context : {4096u, 16384u, 32768u})
      if (batch > 1 || context > 4096) list.push_back({"2bit", two, context, batch, 1});
  for (uint32_t n_new : {4u, 8u, 16u}) list.push_back({"2bit", two, 32768, 1, n_new});
  list.push_back({"2bit", two, 32768, 16, 4});
  for (uint32_t batch : {1u, 16u}) {
    list.push_back({"2bit-plain", {128, 128, 0, 0, 0}, 102400, batch, 1});
    list.push_back({"k3v2", {128, 128, 128, 1, 0}, 102400, batch, 1});
    list.push_back({"3bit", {128, 128, 128, 1, 1}, 102400, batch, 1});
    list.push_back({"4bit", {128, 128, 128, 2, 2}, 102400, batch, 1});
    list.push_back({"2bit", {64, 64, 4, 2, 2}, 102400, batch, 1});
  }
  for (uint32_t dim : {96u, 192u, 256u}) {
    Setting other{"2bit", {dim, dim, 4, 2, 2}, 32768, 16, 1};
    other.dense = (dim & (dim - 1)) != 0;
    list.push_back(other);
  }
  return list;
}

int run(bool all) {
  check_cuda(cuda::attend_prepare(), "attend_prepare");
  cudaDeviceProp device;
  check_cuda(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  double rate = 0.0;
  {
    constexpr uint64_t kBytes = uint64_t{4} << 30;
    DeviceBuffer<uint8_t> data(kBytes);
    fill_bf16(reinterpret_cast<uint16_t*>(data.get()), kBytes / 2);
    rate = read_rate(data.get(), kBytes);
  }
  bool ok = true;
  for (const Setting& s : settings(all)) {
    Bench bench(s);
    const double error = bench.error(), plain = bench.microseconds(false), dependent = bench.microseconds(true);
    const double gb = static_cast<double>(bench.bytes()) * 1e-3;
    ok = ok && error <= kTolerance;
    std::printf("{\"bench\":\"gpu_decode\",\"device\":\"%s\",\"profile\":\"%s\",\"key_dim\":%u,\"value_dim\":%u,"
                "\"q_heads\":%u,\"kv_heads\":%u,\"context\":%u,\"batch\":%u,\"q_len\":%u,\"sink\":%u,\"recent\":%u,"
                "\"map\":\"%s\",\"batch_invariant\":%d,\"layers\":%u,\"mbytes\":%.2f,\"us\":%.2f,\"us_dependent\":%.2f,"
                "\"gb_per_s\":%.0f,"
                "\"read_gb_per_s\":%.0f,\"share\":%.3f,\"share_dependent\":%.3f,\"worst_row_error\":%.2e}\n",
                device.name, s.profile, s.shape.key_dim, s.shape.value_dim, s.n_kv_heads * s.group, s.n_kv_heads,
                s.context, s.batch, s.n_new, s.n_sink, s.n_recent, s.dense ? "dense" : "hadamard", s.invariant,
                bench.n_layers(), gb * 1e-3, plain, dependent, gb / plain, rate, gb / plain / rate,
                gb / dependent / rate, error);
    std::fflush(stdout);
  }
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace oscar::bench

int main(int argc, char** argv) { return oscar::bench::run(argc > 1 && std::strcmp(argv[1], "all") == 0); }
