// A packing launch with random rows, votes and transforms, on the host and on the device.
#pragma once
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "attention/work.h"
#include "cuda/pack.h"
#include "device_buffer.h"
#include "importance/choice.h"

namespace oscar::avx2 {  // quant/pack.cpp
size_t pack_scratch_bytes(uint32_t key_dim, uint32_t value_dim);
void pack_block(const PackWork& work, void* scratch);
}  // namespace oscar::avx2

namespace oscar::test {

enum class Transforms { kHadamard, kIdentity, kTransposed, kDense, kShaped };
enum class RowKind { kPages, kChunk, kMixed, kStridedChunk };

struct SceneShape {
  BlockShape shape{};
  uint32_t n_heads = 1, n_jobs = 1;
  Transforms transforms = Transforms::kHadamard;
  RowKind rows = RowKind::kPages;
  bool spoiled = false, tied_votes = false;
};

class PackScene {
 public:
  SceneShape s;
  BlockLayout layout;
  uint64_t head_page_bytes, chunk_row_keys, chunk_row_values;  // elements between the tokens of a chunk
  std::vector<uint16_t> pages;                                 // [n_jobs][9][n_heads][16 * (dk + dv)]
  std::vector<uint16_t> chunk_keys, chunk_values;              // [n_jobs][128][row]
  std::vector<float> votes;                                    // [n_jobs][n_heads][n_votes]
  std::vector<uint32_t> page_offset, chunk_from, vote_first;
  static constexpr uint32_t kVoteRing = 200;
  std::vector<float> matrices;  // [n_heads][dk^2 + dv^2 + 2 dk^2]

  PackScene(const SceneShape& shape, std::mt19937_64& random) : s(shape), layout(block_layout(shape.shape)) {
    const uint32_t dk = s.shape.key_dim, dv = s.shape.value_dim;
    head_page_bytes = kPageTokens * 2ull * (dk + dv);
    const uint32_t pad = s.rows == RowKind::kStridedChunk ? 24 : 0;
    chunk_row_keys = uint64_t{s.n_heads} * dk + pad;
    chunk_row_values = uint64_t{s.n_heads} * dv + pad;
    pages = random_rows(size_t{s.n_jobs} * cuda::kMaxPackPages * s.n_heads * head_page_bytes / 2, random);
    if (s.rows != RowKind::kPages) {
      chunk_keys = random_rows(s.n_jobs * kBlockTokens * chunk_row_keys, random);
      chunk_values = random_rows(s.n_jobs * kBlockTokens * chunk_row_values, random);
    }
    for (uint32_t job = 0; job < s.n_jobs; ++job) {
      page_offset.push_back(random() % kPageTokens);
      chunk_from.push_back(s.rows == RowKind::kPages   ? kBlockTokens
                           : s.rows == RowKind::kMixed ? 1 + random() % (kBlockTokens - 1)
                                                       : 0);
      vote_first.push_back(random() % kVoteRing);
    }
    for (size_t i = 0; i < size_t{s.n_jobs} * s.n_heads * kVoteRing; ++i)
      votes.push_back(s.tied_votes ? 0.25f * static_cast<float>(random() % 4)
                                   : std::exp(normal_(random)) * (random() % 9 ? 1.0f : 0.0f));
    make_matrices(random);
  }

  bool needs_general() const { return s.transforms != Transforms::kHadamard && s.transforms != Transforms::kIdentity; }
  bool shaped() const { return s.transforms == Transforms::kShaped; }
  std::string name() const {
    static const char* kTransforms[] = {"Hadamard", "identity", "transposed", "dense", "shaped"};
    static const char* kRows[] = {"pages", "chunk", "mixed", "strided chunk"};
    return "d " + std::to_string(s.shape.key_dim) + "/" + std::to_string(s.shape.value_dim) + " h " +
           std::to_string(layout.h) + " planes " + std::to_string(layout.key_plane) + "," +
           std::to_string(layout.value_plane) + " " + kTransforms[static_cast<int>(s.transforms)] + ", " +
           kRows[static_cast<int>(s.rows)] + (s.spoiled ? ", spoiled" : "") + (s.tied_votes ? ", ties" : "");
  }

  // `base`: where `matrices` lie.
  HeadTransform transform(uint32_t head, const float* base) const {
    const uint32_t dk = s.shape.key_dim, dv = s.shape.value_dim;
    const float* m = base + head * matrices_per_head();
    const MapKind kind = s.transforms == Transforms::kIdentity ? MapKind::kIdentity
                         : s.transforms < Transforms::kDense   ? MapKind::kHadamard
                                                               : MapKind::kDense;
    const bool value_dense = kind == MapKind::kDense && head % 2 == 0;  // the odd heads: a dense key, a Hadamard value
    const uint32_t transposed = s.transforms == Transforms::kTransposed;
    HeadTransform t;
    t.key = {kind, dk, transposed, 0, kind == MapKind::kDense ? m : nullptr};
    t.value = {kind == MapKind::kDense && !value_dense ? MapKind::kHadamard : kind, dv, transposed, 0,
               value_dense ? m + dk * dk : nullptr};
    if (shaped()) {
      t.metric_root = m + dk * dk + dv * dv;
      t.metric_ratio = t.metric_root + dk * dk;
    }
    return t;
  }

  // 128 rows of one side.
  const uint16_t* row(uint32_t job, uint32_t head, bool key, uint32_t t) const {
    const uint32_t dk = s.shape.key_dim, dim = key ? dk : s.shape.value_dim;
    if (t >= chunk_from[job]) {
      const uint64_t stride = key ? chunk_row_keys : chunk_row_values;
      return (key ? chunk_keys : chunk_values).data() + (job * kBlockTokens + t - chunk_from[job]) * stride +
             head * dim;
    }
    const uint32_t at = page_offset[job] + t;
    return pages.data() + ((job * cuda::kMaxPackPages + at / kPageTokens) * s.n_heads + head) * (head_page_bytes / 2) +
           (key ? 0 : kPageTokens * dk) + at % kPageTokens * dim;
  }

  size_t job_bytes() const { return size_t{s.n_heads} * layout.bytes; }

  std::vector<uint8_t> pack_on_cpu() const {
    std::vector<uint8_t> blocks(s.n_jobs * job_bytes());
    for (uint32_t job = 0; job < s.n_jobs; ++job) pack_on_cpu(job, blocks.data() + job * job_bytes());
    return blocks;
  }

  void pack_on_cpu(uint32_t job, uint8_t* blocks) const {
    const size_t n_scratch = avx2::pack_scratch_bytes(s.shape.key_dim, s.shape.value_dim);
    std::unique_ptr<void, void (*)(void*)> scratch(std::aligned_alloc(64, (n_scratch + 63) / 64 * 64), std::free);
    std::unique_ptr<void, void (*)(void*)> block(std::aligned_alloc(64, (layout.bytes + 63) / 64 * 64), std::free);
    for (uint32_t head = 0; head < s.n_heads; ++head) {
      const HeadTransform transform_here = transform(head, matrices.data());
      float v[kBlockTokens];
      for (uint32_t t = 0; t < kBlockTokens; ++t)
        v[t] = votes[(job * s.n_heads + head) * kVoteRing + (vote_first[job] + t) % kVoteRing];
      PackWork w{};
      w.layout = &layout;
      w.transform = &transform_here;
      w.key_dim = s.shape.key_dim;
      w.value_dim = s.shape.value_dim;
      w.shaped = shaped();
      for (uint32_t t = 0; t < kBlockTokens; ++t)
        w.key[t] = row(job, head, true, t), w.value[t] = row(job, head, false, t);
      slot_order(v, layout.h, w.order);
      w.block = static_cast<uint8_t*>(block.get());
      avx2::pack_block(w, scratch.get());
      std::memcpy(blocks + head * size_t{layout.bytes}, block.get(), layout.bytes);
    }
  }

  uint64_t count_non_finite() const {
    uint64_t n = 0;
    for (uint32_t job = 0; job < s.n_jobs; ++job)
      for (uint32_t head = 0; head < s.n_heads; ++head)
        for (uint32_t t = 0; t < kBlockTokens; ++t)
          for (const bool key : {true, false})
            for (uint32_t i = 0; i < (key ? s.shape.key_dim : s.shape.value_dim); ++i)
              n += (row(job, head, key, t)[i] & 0x7f80) == 0x7f80;
    return n;
  }

 private:
  size_t matrices_per_head() const {
    const size_t dk = s.shape.key_dim, dv = s.shape.value_dim;
    return 3 * dk * dk + dv * dv;
  }

  static uint16_t bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }

  // Gaussian rows with a common shift, at a random power of two; spoiled: odd elements and whole odd runs among them.
  std::vector<uint16_t> random_rows(size_t n, std::mt19937_64& random) {
    static const uint16_t kOdd[] = {0x7fc0, 0xffc1, 0x7f80, 0xff80, 0x0000, 0x8000,
                                    0x0001, 0x807f, 0x7f7f, 0xff7f, 0x0080};
    const float size = std::ldexp(1.0f, s.spoiled ? static_cast<int>(random() % 120) - 60 : 0);
    const float shift = normal_(random);
    std::vector<uint16_t> rows(n);
    const size_t n_drawn = n < kDrawn ? n : kDrawn;  // a benchmark's rows repeat
    for (size_t i = 0; i < n_drawn; ++i) rows[i] = bf16(size * (normal_(random) + shift));
    for (size_t i = n_drawn; i < n; ++i) rows[i] = rows[i - n_drawn + i / n_drawn % 64];
    if (!s.spoiled) return rows;
    const size_t n_kinds = random() % 2 ? std::size(kOdd) : 8;  // sometimes without the huge ones
    for (size_t i = 0; i < n; i += 1 + random() % 701) rows[i] = kOdd[random() % n_kinds];
    for (size_t i = 0; i + 256 < n; i += 2048 + random() % 4096)
      std::fill_n(rows.begin() + static_cast<std::ptrdiff_t>(i), 256, kOdd[4 + random() % 4]);
    return rows;
  }

  // Near-identity transforms; R upper triangular with a spread spectrum, ratio from it.
  void make_matrices(std::mt19937_64& random) {
    if (s.transforms < Transforms::kDense) return;
    matrices.assign(s.n_heads * matrices_per_head(), 0.0f);
    const uint32_t dims[] = {s.shape.key_dim, s.shape.value_dim};
    for (uint32_t head = 0; head < s.n_heads; ++head) {
      float* m = matrices.data() + head * matrices_per_head();
      for (const uint32_t d : dims)
        for (uint32_t i = 0; i < d * d; ++i)
          *m++ = 0.3f * normal_(random) / std::sqrt(static_cast<float>(d)) + (i / d == i % d ? 1.0f : 0.0f);
      const uint32_t d = dims[0];
      float *root = m, *ratio = m + d * d;
      for (uint32_t i = 0; i < d; ++i)
        for (uint32_t j = i; j < d; ++j)
          root[i * d + j] = i == j ? 0.2f + 1.0f / static_cast<float>(1 + i)
                                   : 0.1f * normal_(random) / std::sqrt(static_cast<float>(d));
      for (uint32_t i = 0; i < d; ++i)
        for (uint32_t j = 0; j < i; ++j) ratio[i * d + j] = root[j * d + i] / root[i * d + i];
    }
  }

  static constexpr size_t kDrawn = size_t{1} << 20;
  std::normal_distribution<float> normal_;
};

using testing::check_cuda;
using testing::DeviceBuffer;

inline cudaError_t prepare_device() {
  int n = 0;
  const cudaError_t error = cudaGetDeviceCount(&n);
  return error != cudaSuccess ? error : n == 0 ? cudaErrorNoDevice : cuda::prepare_pack();
}

class DeviceScene {
 public:
  explicit DeviceScene(const PackScene& scene)
      : scene_(scene), pages_(scene.pages), keys_(scene.chunk_keys), values_(scene.chunk_values), votes_(scene.votes),
        matrices_(scene.matrices), blocks_(size_t{scene.s.n_jobs} * scene.s.n_heads * scene.layout.bytes),
        arrivals_(scene.s.n_jobs * scene.s.n_heads), counter_(1), jobs_(make_jobs()), transforms_(make_transforms()) {
    arrivals_.fill(0);
    counter_.fill(0);
  }

  cuda::PackLaunch launch(bool general) const {
    const SceneShape& s = scene_.s;
    cuda::PackLaunch p{};
    p.layout = scene_.layout;
    p.key_dim = s.shape.key_dim;
    p.value_dim = s.shape.value_dim;
    p.n_heads = s.n_heads;
    p.n_jobs = s.n_jobs;
    p.shaped = scene_.shaped();
    p.general = general;
    p.head_page_bytes = scene_.head_page_bytes;
    p.jobs = jobs_.get();
    p.transforms = transforms_.get();
    p.arrivals = arrivals_.get();
    p.n_non_finite = counter_.get();
    return p;
  }

  // Blocks are poisoned first.
  std::vector<uint8_t> pack(bool general) {
    blocks_.fill(0xa5);
    check_cuda(cuda::launch_pack(launch(general), nullptr), "launch");
    check_cuda(cudaDeviceSynchronize(), "packing");
    return blocks_.download();
  }
  uint64_t n_non_finite() const { return counter_.download()[0]; }

 private:
  std::vector<cuda::PackJob> make_jobs() const {
    const SceneShape& s = scene_.s;
    std::vector<cuda::PackJob> jobs(s.n_jobs);
    for (uint32_t i = 0; i < s.n_jobs; ++i) {
      cuda::PackJob& j = jobs[i];
      j = {};
      j.blocks = blocks_.get() + size_t{i} * s.n_heads * scene_.layout.bytes;
      j.page_offset = scene_.page_offset[i];
      j.chunk_from = scene_.chunk_from[i];
      for (uint32_t p = 0; p < cuda::kMaxPackPages; ++p)
        if (j.chunk_from && p * kPageTokens < j.page_offset + j.chunk_from)  // the others are never read
          j.pages[p] = reinterpret_cast<const uint8_t*>(pages_.get()) +
                       (size_t{i} * cuda::kMaxPackPages + p) * s.n_heads * scene_.head_page_bytes;
      j.chunk_keys = keys_.get() + i * kBlockTokens * scene_.chunk_row_keys;
      j.chunk_values = values_.get() + i * kBlockTokens * scene_.chunk_row_values;
      j.key_token_stride = static_cast<int64_t>(scene_.chunk_row_keys);
      j.key_head_stride = s.shape.key_dim;
      j.value_token_stride = static_cast<int64_t>(scene_.chunk_row_values);
      j.value_head_stride = s.shape.value_dim;
      j.votes = votes_.get() + size_t{i} * s.n_heads * PackScene::kVoteRing;
      j.vote_head_stride = PackScene::kVoteRing;
      j.vote_first = scene_.vote_first[i];
      j.n_votes = PackScene::kVoteRing;
    }
    return jobs;
  }
  std::vector<HeadTransform> make_transforms() const {
    std::vector<HeadTransform> t;
    for (uint32_t head = 0; head < scene_.s.n_heads; ++head) t.push_back(scene_.transform(head, matrices_.get()));
    return t;
  }

  const PackScene& scene_;
  DeviceBuffer<uint16_t> pages_, keys_, values_;
  DeviceBuffer<float> votes_, matrices_;
  DeviceBuffer<uint8_t> blocks_;
  DeviceBuffer<uint32_t> arrivals_;
  DeviceBuffer<unsigned long long> counter_;
  DeviceBuffer<cuda::PackJob> jobs_;
  DeviceBuffer<HeadTransform> transforms_;
};

}  // namespace oscar::test
