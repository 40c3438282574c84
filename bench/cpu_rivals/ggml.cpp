// Time of one attention operator of ggml on the CPU, with the keys and values in one of its types: a rival in bench/cpu.py.
//
//   ggml_<name> TYPE N_Q_HEADS N_KV_HEADS DIM CONTEXT N_NEW N_THREADS
//
// The operator is ggml_flash_attn_ext over CONTEXT + N_NEW tokens (CONTEXT where N_NEW is 1), with a causal mask where
// there are several new ones. First its output is compared with attention in double precision over what ggml itself
// decodes of the rows, so `error` is that of the arithmetic and not of the type. Then, for each line read, it runs once
// on one of several copies of the cache, together larger than most processors' caches, and prints the milliseconds.
//
// Built by bench/cpu_rivals/prepare: against llama.cpp's ggml, or with -DIK_LLAMA against ik_llama.cpp's.
#include "ggml.h"
#if !defined(IK_LLAMA)
#include "ggml-cpu.h"
#endif

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

struct Setting {
  ggml_type type;
  int64_t n_q_heads, n_kv_heads, dim, context, n_new;
  int n_threads;
  int64_t n_tokens() const { return n_new == 1 ? context : context + n_new; }
};

ggml_type type_of(const std::string& name) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const char* known = ggml_type_name(static_cast<ggml_type>(i));
    if (known && name == known) return static_cast<ggml_type>(i);
  }
  std::fprintf(stderr, "this ggml has no type %s\n", name.c_str());
  std::exit(2);
}

void encode(ggml_type type, const std::vector<float>& row, void* to) {
#if defined(IK_LLAMA)
  ggml_quantize_chunk(type, row.data(), to, 0, 1, static_cast<int64_t>(row.size()), nullptr, nullptr);
#else
  ggml_quantize_chunk(type, row.data(), to, 0, 1, static_cast<int64_t>(row.size()), nullptr);
#endif
}

std::vector<float> decode(ggml_type type, const char* from, int64_t n) {
  std::vector<float> row(static_cast<size_t>(n));
#if defined(IK_LLAMA)
  ggml_internal_get_type_traits(type).to_float(from, row.data(), n);
#else
  ggml_get_type_traits(type)->to_float(from, row.data(), n);
#endif
  return row;
}

// One copy of keys and values, and the graph that attends to it.
struct Copy {
  ggml_tensor *k, *v, *out;
  ggml_cgraph* graph;
};

class Attention {
 public:
  explicit Attention(const Setting& s) : s_(s) {
    const size_t bytes = 2 * static_cast<size_t>(s.n_tokens() * s.n_kv_heads) * ggml_row_size(s.type, s.dim);
    const size_t n_copies = std::clamp<size_t>((size_t{256} << 20) / bytes, 1, 16);
    context_ = ggml_init({n_copies * bytes + (size_t{1} << 30), nullptr, false});
    q_ = ggml_new_tensor_4d(context_, GGML_TYPE_F32, s.dim, s.n_new, s.n_q_heads, 1);
    for (int64_t i = 0; i < ggml_nelements(q_); ++i) static_cast<float*>(q_->data)[i] = normal_(random_);
    make_mask();
    for (size_t i = 0; i < n_copies; ++i) add_copy();
  }

  size_t bytes() const { return ggml_nbytes(copies_[0].k) + ggml_nbytes(copies_[0].v); }

  double run_ms() {
    const Copy& copy = copies_[next_++ % copies_.size()];
#if defined(IK_LLAMA)
    ggml_cplan plan = ggml_graph_plan(copy.graph, s_.n_threads);
#else
    ggml_cplan plan = ggml_graph_plan(copy.graph, s_.n_threads, nullptr);
#endif
    if (work_.size() < plan.work_size) work_.resize(plan.work_size);
    plan.work_data = work_.data();
    const auto start = std::chrono::steady_clock::now();
    ggml_graph_compute(copy.graph, &plan);
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  }

  // Of the first and the last query head, first and last new token, of the first copy.
  double error() const {
    double error = 0.0, size = 0.0;
    for (const int64_t head : {int64_t{0}, s_.n_q_heads - 1})
      for (const int64_t token : {int64_t{0}, s_.n_new - 1}) {
        const std::vector<double> want = reference(head, token);
        const char* at = static_cast<const char*>(copies_[0].out->data) +
                         static_cast<size_t>(head) * copies_[0].out->nb[1] +
                         static_cast<size_t>(token) * copies_[0].out->nb[2];
        for (size_t d = 0; d < want.size(); ++d) {
          float got;
          std::memcpy(&got, at + d * sizeof got, sizeof got);
          error += (static_cast<double>(got) - want[d]) * (static_cast<double>(got) - want[d]);
          size += want[d] * want[d];
        }
      }
    return std::sqrt(error / size);
  }

 private:
  int64_t seen_by(int64_t token) const { return s_.n_tokens() - s_.n_new + token + 1; }

  void make_mask() {
#if !defined(IK_LLAMA)
    if (s_.n_new == 1) return;  // ik_llama.cpp's kernels want one always
#endif
    const int64_t rows = (s_.n_new + 63) / 64 * 64;
    mask_ = ggml_new_tensor_2d(context_, GGML_TYPE_F16, s_.n_tokens(), rows);
    auto* mask = static_cast<ggml_fp16_t*>(mask_->data);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < s_.n_tokens(); ++i)
        mask[row * s_.n_tokens() + i] = ggml_fp32_to_fp16(i < seen_by(std::min(row, s_.n_new - 1)) ? 0.0f : -INFINITY);
  }

  void add_copy() {
    Copy c;
    c.k = ggml_new_tensor_4d(context_, s_.type, s_.dim, s_.n_tokens(), s_.n_kv_heads, 1);
    c.v = ggml_new_tensor_4d(context_, s_.type, s_.dim, s_.n_tokens(), s_.n_kv_heads, 1);
    for (ggml_tensor* x : {c.k, c.v}) fill(x);
    c.out = ggml_flash_attn_ext(context_, q_, c.k, c.v, mask_, 1.0f / std::sqrt(static_cast<float>(s_.dim)), 0.0f,
                                0.0f);
    c.graph = ggml_new_graph(context_);
    ggml_build_forward_expand(c.graph, c.out);
    copies_.push_back(c);
  }

  // 4,096 different rows, over and over: what they are does not change the time.
  void fill(ggml_tensor* x) {
    const size_t row_bytes = ggml_row_size(s_.type, s_.dim), n_rows = ggml_nbytes(x) / row_bytes;
    char* data = static_cast<char*>(x->data);
    std::vector<float> row(static_cast<size_t>(s_.dim));
    for (size_t i = 0; i < n_rows; ++i) {
      if (i >= 4096) {
        std::memcpy(data + i * row_bytes, data + i * 2654435761u % 4096 * row_bytes, row_bytes);
        continue;
      }
      for (float& value : row) value = normal_(random_);
      encode(s_.type, row, data + i * row_bytes);
    }
  }

  std::vector<double> reference(int64_t head, int64_t token) const {
    const Copy& c = copies_[0];
    const size_t kv_head = static_cast<size_t>(head / (s_.n_q_heads / s_.n_kv_heads));
    const float* q = static_cast<const float*>(q_->data) + (head * s_.n_new + token) * s_.dim;
    std::vector<double> p(static_cast<size_t>(seen_by(token))), out(static_cast<size_t>(s_.dim));
    double largest = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < p.size(); ++i) {
      const std::vector<float> key = decode(
          s_.type, static_cast<const char*>(c.k->data) + kv_head * c.k->nb[2] + i * c.k->nb[1], s_.dim);
      for (size_t d = 0; d < key.size(); ++d) p[i] += static_cast<double>(key[d]) * static_cast<double>(q[d]);
      p[i] /= std::sqrt(static_cast<double>(s_.dim));
      largest = std::max(largest, p[i]);
    }
    for (double& x : p) sum += x = std::exp(x - largest);
    for (size_t i = 0; i < p.size(); ++i) {
      const std::vector<float> value = decode(
          s_.type, static_cast<const char*>(c.v->data) + kv_head * c.v->nb[2] + i * c.v->nb[1], s_.dim);
      for (size_t d = 0; d < value.size(); ++d) out[d] += p[i] / sum * static_cast<double>(value[d]);
    }
    return out;
  }

  Setting s_;
  ggml_context* context_;
  ggml_tensor *q_, *mask_ = nullptr;
  std::vector<Copy> copies_;
  std::vector<uint8_t> work_;
  size_t next_ = 0;
  std::mt19937 random_{1};
  std::normal_distribution<float> normal_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr, "usage: %s TYPE N_Q_HEADS N_KV_HEADS DIM CONTEXT N_NEW N_THREADS\n", argv[0]);
    return 2;
  }
  const auto number = [&](int i) { return std::atoll(argv[i]); };
  Attention attention({type_of(argv[1]), number(2), number(3), number(4), number(5), number(6), std::atoi(argv[7])});
  attention.run_ms();
  std::printf("{\"bytes\": %zu, \"error\": %.2e}\n", attention.bytes(), attention.error());
  std::fflush(stdout);
  for (char line[64]; std::fgets(line, sizeof line, stdin);) {
    std::printf("%.4f\n", attention.run_ms());
    std::fflush(stdout);
  }
}
