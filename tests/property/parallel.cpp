// Several caches in the place of one: ranks of tensor, pipeline and context parallelism, each with its share of the heads, the
// layers or the tokens, give what a single cache gives.
#include <memory>

#include "property/self_calibration.h"

using namespace test;

namespace {

const Geometry kWhole{2, 8, 4, 64, 64};

// Some heads or layers of the whole model's tensors.
struct Share {
  uint32_t first_layer, n_layers, first_kv_head, n_kv_heads;
  Geometry geometry() const { return {n_layers, 2 * n_kv_heads, n_kv_heads, 64, 64}; }
};

// The columns of some heads, of rows of `n_heads` heads.
std::vector<float> heads_of(const std::vector<float>& x, uint32_t n_heads, uint32_t first, uint32_t n) {
  std::vector<float> part;
  for (size_t row = 0; row < x.size() / (n_heads * 64); ++row) {
    const auto from = x.begin() + static_cast<std::ptrdiff_t>((row * n_heads + first) * 64);
    part.insert(part.end(), from, from + n * 64);
  }
  return part;
}

LayerInput share_of(const LayerInput& in, const Share& s) {
  return {heads_of(in.k, kWhole.n_kv_heads, s.first_kv_head, s.n_kv_heads),
          heads_of(in.v, kWhole.n_kv_heads, s.first_kv_head, s.n_kv_heads),
          heads_of(in.q, kWhole.n_q_heads, 2 * s.first_kv_head, 2 * s.n_kv_heads)};
}

// A step in the whole cache and in the shares': every share's output is the whole's, bit for bit.
void check_step(oscar_cache* whole, oscar_seq seq, const std::vector<std::unique_ptr<Cache>>& ranks,
                const std::vector<Share>& shares, const std::vector<oscar_seq>& seqs,
                const std::vector<uint64_t>& tokens) {
  const auto n = static_cast<uint32_t>(tokens.size());
  const oscar_step step = begin(whole, {{seq, n, 0}});
  std::vector<oscar_step> steps;
  for (size_t r = 0; r < ranks.size(); ++r) steps.push_back(begin(*ranks[r], {{seqs[r], n, 0}}));
  for (uint32_t layer = 0; layer < kWhole.n_layers; ++layer) {
    LayerInput in = make_input(kWhole, tokens, layer);
    const LayerOutput wanted = run_layer(whole, step, kWhole, layer, in);
    for (size_t r = 0; r < ranks.size(); ++r) {
      const Share& s = shares[r];
      if (layer < s.first_layer || layer >= s.first_layer + s.n_layers) continue;
      LayerInput part = share_of(in, s);
      const LayerOutput got = run_layer(*ranks[r], steps[r], s.geometry(), layer - s.first_layer, part);
      REQUIRE(same_bits(got.out, heads_of(wanted.out, kWhole.n_q_heads, 2 * s.first_kv_head, 2 * s.n_kv_heads)));
    }
  }
  OSCAR_OK_(oscar_step_end(whole, step));
  for (size_t r = 0; r < ranks.size(); ++r) OSCAR_OK_(oscar_step_end(*ranks[r], steps[r]));
}

void check_shares(const std::vector<Share>& shares) {
  // A calibration in which every head is another one, made by a cache of its own.
  const Rope rope;
  oscar_cache_config config = collecting_config(kWhole, rope);
  Calibration calibration;
  {
    Cache collecting(config);
    feed(collecting, kWhole, collecting.open(), range(20000, 400));
    OSCAR_OK_(oscar_cache_freeze(collecting, &calibration.handle));
  }
  config = config_of(kWhole, "2bit");
  config.calibration = calibration.handle;
  Cache whole(config);
  const oscar_seq seq = whole.open();
  std::vector<std::unique_ptr<Cache>> ranks;
  std::vector<oscar_seq> seqs;
  for (const Share& s : shares) {
    std::vector<oscar_calibration_part> parts;
    for (uint32_t layer = 0; layer < s.n_layers; ++layer)
      parts.push_back({s.first_layer + layer, s.first_kv_head, s.n_kv_heads});
    Calibration part;
    OSCAR_OK_(
        oscar_calibration_slice(calibration.handle, parts.data(), static_cast<uint32_t>(parts.size()), &part.handle));
    oscar_cache_config rank = config_of(s.geometry(), "2bit");
    rank.calibration = part.handle;
    ranks.push_back(std::make_unique<Cache>(rank));
    seqs.push_back(ranks.back()->open());
  }
  for (uint32_t n : {300u, 1u, 40u, 3u, 90u, 1u, 200u, 1u})
    check_step(whole, seq, ranks, shares, seqs, range(whole.length(seq), n));
  CHECK(whole.stats().n_packed_tokens == 512);
  uint64_t bytes = 0;
  for (const auto& rank : ranks) {
    CHECK(rank->stats().n_packed_tokens == 512);
    bytes += rank->stats().bytes_base + rank->stats().bytes_refined + rank->stats().bytes_exact;
  }
  const oscar_cache_stats s = whole.stats();
  CHECK(bytes == s.bytes_base + s.bytes_refined + s.bytes_exact);
}

// Attention over rows that were read back, in double precision; its log-sum-exp is of no interest.
std::vector<double> attention(const std::vector<float>& q, const std::vector<std::vector<float>>& keys,
                              const std::vector<std::vector<float>>& values) {
  std::vector<double> out(4 * 64, 0.0);
  for (uint32_t head = 0; head < 4; ++head) {
    const std::vector<float>&k = keys[head / 2], &v = values[head / 2];
    std::vector<double> logits;
    for (size_t t = 0; t < k.size() / 64; ++t) {
      double dot = 0;
      for (size_t d = 0; d < 64; ++d) dot += double{q[head * 64 + d]} * k[t * 64 + d];
      logits.push_back(dot / 8);
    }
    const double top = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double& x : logits) sum += x = std::exp(x - top);
    for (size_t t = 0; t < logits.size(); ++t)
      for (size_t d = 0; d < 64; ++d) out[head * 64 + d] += logits[t] / sum * v[t * 64 + d];
  }
  return out;
}

void check_context(const char* profile, double tolerance) {
  const Geometry g{1, 4, 2, 64, 64};
  oscar_cache_config config = config_of(g, profile);
  std::vector<std::unique_ptr<Cache>> ranks;
  std::vector<oscar_seq> seqs;
  const uint64_t shares[] = {350, 200, 410};
  uint64_t next = 0;
  for (uint64_t n : shares) {
    ranks.push_back(std::make_unique<Cache>(config));
    seqs.push_back(ranks.back()->open());
    run_step(*ranks.back(), g, seqs.back(), range(next, n));
    next += n;
  }
  Cache whole(config);
  const oscar_seq all = whole.open();
  for (uint64_t first = 0; first < next; first += 320) run_step(whole, g, all, range(first, 320));

  double worst = 0, worst_of_whole = 0;
  for (uint64_t token = next; token < next + 40; ++token) {
    const LayerInput in = make_input(g, {token}, 0);
    std::vector<float> outs, lses;
    for (size_t r = 0; r < 3; ++r) {
      // The last rank gets the new token.
      const LayerOutput part = run_entries(*ranks[r], g, {{seqs[r], 1, r == 2 ? 0 : OSCAR_QUERY_ONLY}}, {token});
      outs.insert(outs.end(), part.out.begin(), part.out.end());
      lses.insert(lses.end(), part.lse.begin(), part.lse.end());
    }
    std::vector<float> merged(4 * 64);
    const oscar_tensor outs_t = tensor(outs.data(), {3, 4, 64}), lses_t = tensor(lses.data(), {3, 4}),
                       out_t = tensor(merged.data(), {4, 64});
    OSCAR_OK_(oscar_merge(&outs_t, &lses_t, &out_t, nullptr, nullptr));

    std::vector<std::vector<float>> keys(2), values(2);
    for (size_t r = 0; r < 3; ++r)
      for (uint32_t head = 0; head < 2; ++head) {
        const uint64_t n = ranks[r]->length(seqs[r]);
        std::vector<float> k(n * 64), v(n * 64);
        const oscar_tensor kt = tensor(k.data(), {static_cast<int64_t>(n), 64}),
                           vt = tensor(v.data(), {static_cast<int64_t>(n), 64});
        OSCAR_OK_(oscar_read(*ranks[r], seqs[r], 0, head, 0, n, &kt, &vt));
        keys[head].insert(keys[head].end(), k.begin(), k.end());
        values[head].insert(values[head].end(), v.begin(), v.end());
      }
    const std::vector<double> wanted = attention(in.q, keys, values);
    for (size_t i = 0; i < wanted.size(); ++i) worst = std::max(worst, std::abs(merged[i] - wanted[i]));
    const LayerOutput single = run_step(whole, g, all, {token});
    for (size_t i = 0; i < wanted.size(); ++i)
      worst_of_whole = std::max(worst_of_whole, std::abs(double{single.out[i]} - merged[i]));
  }
  MESSAGE(std::string(profile) << ": merged parts are within " << worst << " of attention over the rows they hold");
  CHECK(worst < tolerance);
  // Only exact caches hold the same rows however the tokens are divided.
  if (std::string(profile) == "exact") CHECK(worst_of_whole < tolerance);
}

}  // namespace

TEST_CASE("tensor parallel: a rank's heads give the bits that they give in the single cache") {
  check_shares({{0, 2, 0, 2}, {0, 2, 2, 2}});
  check_shares({{0, 2, 0, 1}, {0, 2, 1, 3}});
}

TEST_CASE("pipeline parallel: a rank's layers give the bits that they give in the single cache") {
  check_shares({{0, 1, 0, 4}, {1, 1, 0, 4}});
}

TEST_CASE("both at once: four ranks, each with half of the layers and half of the heads") {
  check_shares({{0, 1, 0, 2}, {0, 1, 2, 2}, {1, 1, 0, 2}, {1, 1, 2, 2}});
}

// Values are of unit variance. Exact: additions in FP32, in another order. 2bit: beside that the 16-bit weights of values,
// as in tests/backends.
TEST_CASE("context parallel: parts of the tokens, joined by their log-sum-exp, are the whole") {
  check_context("exact", 2e-6);
  check_context("2bit", 3e-4);
}
