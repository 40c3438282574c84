// A naive model beside the cache: random opens, forks, steps, truncations, accepts, aborts and closes. After every step the
// attention that the cache computed must be that of a plain softmax over what oscar_read says the cache holds, and what it
// holds must be the tokens that were appended: exactly where they are exact, closely where they are packed.
//
// A run is a row of episodes, each of a cache of its own and a seed of its own: a failure prints the episode's seed and the
// command that repeats it alone. What an operation does depends on its seed and number, and on the state it meets, so
// that operations can be left out: tests/property/shrink.py looks for the few that still fail.
//   OSCAR_PROPERTY_OPERATIONS  operations of each model (2500)
//   OSCAR_PROPERTY_SEED        of the first episode (1)
//   OSCAR_PROPERTY_ONLY        e.g. "3-17,20": these operations of the one episode, and no others
#include <cstdlib>
#include <map>
#include <string>

#include "property/cache_fixture.h"
#include "property/number_list.h"

using namespace test;

namespace {

struct ModelSequence {
  std::vector<uint64_t> tokens;
};

struct Options {
  Geometry geometry;
  const char* profile = "2bit";
  uint32_t windowed_layer = UINT32_MAX;  // has a sliding window of `window`
  uint32_t window = 0;
  uint32_t exact_layer = UINT32_MAX;
  uint64_t spare_bytes = 896u << 10;  // beside one and a half sequences
};

// What make_input gives, at a fraction of its time: normal numbers from a table, from where token and layer say.
class TokenTable {
 public:
  LayerInput input(const Geometry& g, const std::vector<uint64_t>& tokens, uint32_t layer) const {
    LayerInput in;
    for (uint64_t token : tokens) {
      const size_t at = (token * 2654435761u + layer * 40503u) % (kNumbers - kMost);
      const auto take = [this, at, &in](std::vector<float>& to, size_t offset, size_t n) {
        to.insert(to.end(), &numbers_[at + offset], &numbers_[at + offset + n]);
      };
      const size_t n_k = g.n_kv_heads * g.key_dim, n_v = g.n_kv_heads * g.value_dim;
      take(in.k, 0, n_k);
      take(in.v, n_k, n_v);
      take(in.q, n_k + n_v, g.n_q_heads * g.key_dim);
      float* k = &in.k[in.k.size() - n_k];
      for (size_t d = 0; d < n_k; ++d)
        k[d] = k[d] * (d % 16 == 3 ? 4.0f : 1.0f) + (d % 32 == 5 ? 3.0f : 0.0f) +
               (token % 37 == 0 && d % 8 == 0 ? 2.0f : 0.0f);
    }
    return in;
  }

 private:
  static constexpr size_t kNumbers = 1u << 20, kMost = 4096;  // of one token
  std::vector<float> numbers_ = [] {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> numbers(kNumbers);
    for (float& x : numbers) x = normal(random);
    return numbers;
  }();
};

const TokenTable& token_table() {
  static const TokenTable table;
  return table;
}

class Model {
 public:
  Model(const Options& o, uint64_t seed)
      : options_(o), seed_(seed), layers_(o.geometry.n_layers), config_(make_config()), cache_(config_) {}

  void run(const std::vector<uint64_t>& operations) {
    for (uint64_t operation : operations) {
      INFO("operation " << operation);
      random_.seed(seed_ * 0x9e3779b97f4a7c15u + operation);
      next_token_ = 1 + operation * 1000;
      step_once();
    }
    while (!sequences_.empty()) close(sequences_.begin()->first);
    const oscar_cache_stats s = cache_.stats();
    CHECK(s.n_blocks == 0);
    CHECK(s.n_exact_pages == 0);
    CHECK(s.bytes_sequences == 0);
  }

  uint64_t n_checked_rows() const { return n_checked_rows_; }
  uint64_t n_refused() const { return n_refused_; }  // steps for which the pool had no room

 private:
  uint64_t pick(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(random_); }
  bool chance(uint32_t percent) { return pick(100) < percent; }

  oscar_cache_config make_config() {
    oscar_cache_config c = config_of(options_.geometry, options_.profile);
    for (uint32_t i = 0; i < c.n_layers; ++i) {
      oscar_layer_config& l = layers_[i];
      OSCAR_OK_(oscar_layer_config_init(&l, sizeof l));
      if (i == options_.windowed_layer) l.window = options_.window;
      if (i == options_.exact_layer) l.storage = OSCAR_STORAGE_EXACT;
    }
    c.layers = layers_.data();
    c.n_layer_configs = c.n_layers;
    c.max_tokens = 800;
    // Not enough for two of the longest sequences: NO_SPACE is part of the game, and run_model asks for it.
    oscar_cache_report report{};
    report.struct_size = sizeof report;
    OSCAR_OK_(oscar_cache_check(&c, c.max_tokens, &report));
    c.capacity_bytes = report.bytes_sequences * 3 / 2 + options_.spare_bytes;
    return c;
  }

  oscar_seq any() {
    auto it = sequences_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(pick(sequences_.size())));
    return it->first;
  }

  void step_once() {
    if (sequences_.empty() || (sequences_.size() < 6 && chance(4))) return open();
    const uint64_t dice = pick(100);
    if (dice < 5) return fork();
    if (dice < 8) return truncate();
    if (dice < 10) return close(any());
    if (dice < 12) return stale();
    step();
  }

  void open() {
    oscar_seq seq = 0;
    const oscar_status status = oscar_seq_open(cache_, &seq);
    if (status == OSCAR_E_NO_SPACE) return;
    REQUIRE(status == OSCAR_OK);
    REQUIRE(!sequences_.contains(seq));
    sequences_[seq];
  }

  void close(oscar_seq seq) {
    OSCAR_OK_(oscar_seq_close(cache_, seq));
    sequences_.erase(seq);
    stale_.push_back(seq);
  }

  void stale() {
    if (stale_.empty()) return;
    const oscar_seq seq = stale_[pick(stale_.size())];
    uint64_t n = 7;
    CHECK(oscar_seq_length(cache_, seq, &n) == OSCAR_E_NOT_FOUND);
    CHECK(n == 0);
    CHECK(oscar_seq_close(cache_, seq) == OSCAR_E_NOT_FOUND);
  }

  // A sliding window refuses cuts that would need tokens it has dropped; the sequence is then unchanged.
  bool refused_by_window(oscar_status status) { return status == OSCAR_E_STATE && options_.window > 0; }

  void fork() {
    const oscar_seq parent = any();
    const uint64_t n = pick(sequences_[parent].tokens.size() + 1);
    oscar_seq child = 99;
    const oscar_status status = oscar_seq_fork(cache_, parent, n, &child);
    if (status == OSCAR_E_NO_SPACE || refused_by_window(status)) {
      CHECK(child == 0);
      return;
    }
    OSCAR_OK_(status);
    sequences_[child].tokens.assign(sequences_[parent].tokens.begin(),
                                    sequences_[parent].tokens.begin() + static_cast<std::ptrdiff_t>(n));
    check_contents(child);
  }

  void truncate() {
    const oscar_seq seq = any();
    auto& tokens = sequences_[seq].tokens;
    const uint64_t n = chance(50) ? pick(tokens.size() + 1)
                                  : tokens.size() - std::min<uint64_t>(tokens.size(), pick(9));
    const oscar_status status = oscar_seq_truncate(cache_, seq, n);
    if (refused_by_window(status)) return;
    OSCAR_OK_(status);
    tokens.resize(n);
    CHECK(cache_.length(seq) == n);
    check_contents(seq);
  }

  void step() {
    std::vector<oscar_step_entry> entries;
    std::vector<uint64_t> new_tokens;
    std::map<oscar_seq, bool> used;
    const uint64_t n_entries = 1 + pick(3);
    bool has_room = true;
    for (uint64_t i = 0; i < n_entries; ++i) {
      oscar_step_entry e{chance(5) ? 0 : any(), 1, 0};
      if (e.seq != 0 && used[e.seq]) continue;
      used[e.seq] = true;
      if (chance(30)) e.n_new = static_cast<uint32_t>(1 + pick(12));
      if (chance(6)) e.n_new = static_cast<uint32_t>(100 + pick(60));
      if (e.seq != 0 && e.n_new > 1 && chance(50)) e.n_draft = static_cast<uint32_t>(pick(std::min(e.n_new, 7u)) + 1);
      e.n_draft = std::min(e.n_draft, 7u);
      has_room &= e.seq == 0 || sequences_[e.seq].tokens.size() + e.n_new <= config_.max_tokens;
      for (uint32_t t = 0; t < e.n_new; ++t) new_tokens.push_back(next_token_++);
      entries.push_back(e);
    }
    oscar_step_args a{sizeof a, static_cast<uint32_t>(entries.size()), entries.data(), 0, 0};
    oscar_step step = 5;
    const oscar_cache_stats before = cache_.stats();
    const oscar_status status = oscar_step_begin(cache_, &a, nullptr, &step);
    if (status == OSCAR_E_NO_SPACE) {
      const oscar_cache_stats after = cache_.stats();
      CHECK(step == 0);
      n_refused_ += has_room;
      CHECK(std::memcmp(&before, &after, sizeof before) == 0);
      if (!has_room || chance(50)) close(any());
      return;
    }
    INFO(oscar_last_error());
    REQUIRE(status == OSCAR_OK);
    REQUIRE(has_room);
    CHECK(oscar_seq_close(cache_, entries[0].seq) != OSCAR_OK);

    const bool aborts = chance(10);
    const uint32_t checked_layer = static_cast<uint32_t>(pick(options_.geometry.n_layers));
    const uint32_t n_layers = aborts ? static_cast<uint32_t>(pick(options_.geometry.n_layers + 1))
                                     : options_.geometry.n_layers;
    LayerInput checked_in;
    LayerOutput checked_out;
    for (uint32_t layer = 0; layer < n_layers; ++layer) {
      LayerInput in = token_table().input(options_.geometry, new_tokens, layer);
      LayerOutput out = run_layer(cache_, step, options_.geometry, layer, in);
      if (layer == checked_layer) checked_in = in, checked_out = out;
    }
    if (aborts) {
      OSCAR_OK_(oscar_step_abort(cache_, step));
    } else {
      // What a row saw: read back before end, with the step's own tokens added.
      uint32_t row = 0;
      const bool deep = chance(25);
      for (const oscar_step_entry& e : entries) {
        if (deep) check_attention(e, row, checked_layer, checked_in, checked_out);
        row += e.n_new;
      }
      OSCAR_OK_(oscar_step_end(cache_, step));
      row = 0;
      for (const oscar_step_entry& e : entries) {
        if (e.seq != 0) {
          auto& tokens = sequences_[e.seq].tokens;
          tokens.insert(tokens.end(), new_tokens.begin() + row, new_tokens.begin() + row + e.n_new);
          if (e.n_draft > 0) reject(e);
        }
        row += e.n_new;
      }
    }
    CHECK(oscar_step_end(cache_, step) == OSCAR_E_NOT_FOUND);
    for (const oscar_step_entry& e : entries)
      if (e.seq != 0) CHECK(cache_.length(e.seq) == sequences_[e.seq].tokens.size());
    if (chance(5)) check_contents(any());
  }

  // Keeps a random subset of the drafts, through accept or truncate.
  void reject(const oscar_step_entry& e) {
    auto& tokens = sequences_[e.seq].tokens;
    const uint64_t base = tokens.size() - e.n_draft;
    std::vector<uint32_t> kept;
    for (uint32_t i = 0; i < e.n_draft; ++i)
      if (chance(60)) kept.push_back(i);
    OSCAR_OK_(oscar_seq_accept(cache_, e.seq, base, static_cast<uint32_t>(kept.size()), kept.data()));
    for (size_t i = 0; i < kept.size(); ++i) tokens[base + i] = tokens[base + kept[i]];
    tokens.resize(base + kept.size());
  }

  // What the next query sees is kept; a cut may go just as far.
  uint64_t first_readable(uint32_t layer, uint64_t length) const {
    if (layer != options_.windowed_layer) return 0;
    return length + 1 > options_.window ? length + 1 - options_.window : 0;
  }

  struct Rows {
    std::vector<float> k, v;
  };

  Rows read(oscar_seq seq, uint32_t layer, uint32_t head, uint64_t first, uint64_t n) {
    const Geometry& g = options_.geometry;
    Rows rows{std::vector<float>(n * g.key_dim), std::vector<float>(n * g.value_dim)};
    if (n == 0) return rows;
    const oscar_tensor k = tensor(rows.k.data(), {static_cast<int64_t>(n), g.key_dim});
    const oscar_tensor v = tensor(rows.v.data(), {static_cast<int64_t>(n), g.value_dim});
    OSCAR_OK_(oscar_read(cache_, seq, layer, head, first, n, &k, &v));
    return rows;
  }

  // What the cache holds against what was appended.
  void check_contents(oscar_seq seq) {
    const Geometry& g = options_.geometry;
    const auto& tokens = sequences_[seq].tokens;
    const uint32_t layer = static_cast<uint32_t>(pick(g.n_layers)), head = static_cast<uint32_t>(pick(g.n_kv_heads));
    const uint64_t first = first_readable(layer, tokens.size()), n = tokens.size() - first;
    if (n == 0) return;
    const LayerInput truth = token_table().input(g, {tokens.begin() + static_cast<std::ptrdiff_t>(first), tokens.end()},
                                                 layer);
    const Rows rows = read(seq, layer, head, first, n);
    double error[2] = {}, energy[2] = {};
    for (uint64_t t = 0; t < n; ++t) {
      const bool must_be_exact = layer == options_.exact_layer || (layer != options_.windowed_layer && first + t < 4);
      auto compare = [&](int side, uint32_t dim, const std::vector<float>& wanted, const std::vector<float>& read) {
        for (uint32_t d = 0; d < dim; ++d) {
          const float want = to_bf16(wanted[(t * g.n_kv_heads + head) * dim + d]), got = read[t * dim + d];
          if (must_be_exact) REQUIRE(got == want);
          error[side] += (got - want) * (got - want);
          energy[side] += want * want;
        }
      };
      compare(0, g.key_dim, truth.k, rows.k);
      compare(1, g.value_dim, truth.v, rows.v);
    }
    CHECK(error[0] < 0.2 * energy[0]);
    CHECK(error[1] < 0.2 * energy[1]);
  }

  void check_attention(const oscar_step_entry& e, uint32_t row0, uint32_t layer, const LayerInput& in,
                       const LayerOutput& out) {
    const Geometry& g = options_.geometry;
    const uint32_t i = static_cast<uint32_t>(pick(e.n_new)), q_head = static_cast<uint32_t>(pick(g.n_q_heads));
    const uint32_t row = row0 + i, head = q_head / (g.n_q_heads / g.n_kv_heads);
    const float* got = out.out.data() + (uint64_t{row} * g.n_q_heads + q_head) * g.value_dim;
    const float got_lse = out.lse[row * g.n_q_heads + q_head];
    if (e.seq == 0) {
      CHECK(got[0] == 0.0f);
      CHECK(std::isinf(got_lse));
      return;
    }
    const uint64_t base = sequences_[e.seq].tokens.size(), position = base + i;
    const uint64_t window = layer == options_.windowed_layer ? options_.window : UINT64_MAX;
    const uint64_t first = position + 1 > window ? position + 1 - window : 0;
    Rows rows = read(e.seq, layer, head, std::min(first, base), base - std::min(first, base));
    for (uint32_t t = 0; t <= i; ++t) {
      for (uint32_t d = 0; d < g.key_dim; ++d)
        rows.k.push_back(to_bf16(in.k[(uint64_t{row0 + t} * g.n_kv_heads + head) * g.key_dim + d]));
      for (uint32_t d = 0; d < g.value_dim; ++d)
        rows.v.push_back(to_bf16(in.v[(uint64_t{row0 + t} * g.n_kv_heads + head) * g.value_dim + d]));
    }
    const float* q = in.q.data() + (uint64_t{row} * g.n_q_heads + q_head) * g.key_dim;
    const uint64_t n = rows.k.size() / g.key_dim, skip = first > base ? first - base : 0;
    std::vector<double> logits;
    double largest = -1e300, sum = 0, error = 0, norm = 0;
    for (uint64_t t = skip; t < n; ++t) {
      double dot = 0;
      for (uint32_t d = 0; d < g.key_dim; ++d) dot += double{q[d]} * rows.k[t * g.key_dim + d];
      logits.push_back(dot / std::sqrt(double{static_cast<double>(g.key_dim)}));
      largest = std::max(largest, logits.back());
    }
    std::vector<double> want(g.value_dim, 0.0);
    for (uint64_t t = skip; t < n; ++t) {
      const double p = std::exp(logits[t - skip] - largest);
      sum += p;
      for (uint32_t d = 0; d < g.value_dim; ++d) want[d] += p * rows.v[t * g.value_dim + d];
    }
    for (uint32_t d = 0; d < g.value_dim; ++d) {
      error += std::pow(got[d] - want[d] / sum, 2);
      norm += std::pow(want[d] / sum, 2);
    }
    INFO("layer " << layer << " row " << row << " position " << position << " tokens " << n);
    CHECK(std::sqrt(error / norm) < 2e-3);
    CHECK(std::abs(got_lse - (largest + std::log(sum))) < 2e-3);
    ++n_checked_rows_;
  }

  Options options_;
  uint64_t seed_;
  std::mt19937_64 random_;  // of the operation
  std::vector<oscar_layer_config> layers_;
  oscar_cache_config config_;
  Cache cache_;
  std::map<oscar_seq, ModelSequence> sequences_;
  std::vector<oscar_seq> stale_;
  uint64_t next_token_ = 1, n_checked_rows_ = 0, n_refused_ = 0;
};

uint64_t from_environment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : fallback;
}

constexpr uint64_t kEpisode = 10000;

void run_model(const Options& options) {
  const uint64_t n = from_environment("OSCAR_PROPERTY_OPERATIONS", 2500),
                 seed = from_environment("OSCAR_PROPERTY_SEED", 1);
  if (const char* only = std::getenv("OSCAR_PROPERTY_ONLY")) return Model(options, seed).run(number_list(only));
  uint64_t n_checked_rows = 0, n_refused = 0;
  for (uint64_t done = 0, episode = 0; done < n; ++episode) {
    const uint64_t length = std::min(n - done, kEpisode);
    INFO("this episode alone: OSCAR_PROPERTY_OPERATIONS=" << length << " OSCAR_PROPERTY_SEED=" << seed + episode
                                                          << ", and tests/property/shrink.py makes it shorter");
    Model model(options, seed + episode);
    model.run(range(0, length));
    n_checked_rows += model.n_checked_rows();
    n_refused += model.n_refused();
    done += length;
  }
  CHECK(n_checked_rows > n / 8);
  CHECK(n_refused > n / 500);
}

}  // namespace

TEST_CASE("the cache behaves as a naive model: 2-bit blocks with refined tokens") {
  Options o;
  run_model(o);
}

TEST_CASE("the cache behaves as a naive model: grouped heads, Dv != Dk, an exact layer") {
  Options o;
  o.geometry = {3, 8, 2, 128, 64};
  o.exact_layer = 1;
  run_model(o);
}

TEST_CASE("the cache behaves as a naive model: 3-bit blocks and a short sliding window") {
  Options o;
  o.profile = "3bit";
  o.geometry = {2, 2, 1, 96, 96};
  o.windowed_layer = 0;
  o.window = 50;
  o.spare_bytes = 640u << 10;
  run_model(o);
}

TEST_CASE("the cache behaves as a naive model: a long sliding window, in blocks") {
  Options o;
  o.geometry = {2, 3, 1, 64, 80};
  o.windowed_layer = 1;
  o.window = 400;
  run_model(o);
}
