// Any sequence of calls with any arguments: a status of the header's, a failed call that changes nothing, lengths that
// are those of a naive count, and a cache that is empty when everything is closed. (What attention computes is the
// business of tests/property/model.cpp.)
#include <map>
#include <vector>

#include "fuzz/input.h"
#include "oscar/oscar.h"

namespace {

using oscar::fuzz::Input;

constexpr uint32_t kDim = 64, kMaxNew = 160;

oscar_tensor tensor(float* data, int64_t n, int64_t heads, int64_t dim) {
  oscar_tensor t{};
  t.data = data;
  t.device_type = OSCAR_DEVICE_CPU;
  t.dtype_code = OSCAR_DTYPE_FLOAT;
  t.dtype_bits = 32;
  t.dtype_lanes = 1;
  t.ndim = 3;
  const int64_t shape[] = {n, heads, dim};
  std::memcpy(t.shape, shape, sizeof shape);
  return t;
}

class Session {
 public:
  explicit Session(Input& input) : in_(input) {
    for (size_t i = 0; i < numbers_.size(); ++i)
      numbers_[i] = static_cast<float>(static_cast<int32_t>(i * 2654435761u)) * 0x1p-31f;
    create();
  }
  ~Session() {
    oscar_cache_destroy(cache_);
    oscar_calibration_destroy(calibration_);
  }
  Session(const Session&) = delete;

  void run() {
    if (!cache_) return;
    for (int i = 0; i < 200 && !in_.empty(); ++i) {
      call();
      check_lengths();
    }
    finish();
  }

 private:
  void create() {
    oscar_cache_config c;
    const char* const profiles[] = {"2bit", "2bit-plain", "k3v2", "exact"};
    FUZZ_CHECK(oscar_cache_config_init(&c, sizeof c, in_.pick(profiles)) == OSCAR_OK);
    const uint8_t bits = in_.byte();
    c.n_layers = n_layers_ = 1 + (bits & 1);
    c.n_q_heads = n_q_heads_ = 2;
    c.n_kv_heads = 1;
    c.key_dim = kDim;
    c.n_sink = in_.below(8);
    c.n_recent = 8 + in_.below(40);
    c.max_rollback = 8;
    c.window = bits & 2 ? in_.below(400) : 0;
    c.max_sequences = 4;
    c.max_open_steps = 1 + (bits >> 2 & 1);
    c.max_step_tokens = kMaxNew;
    c.max_tokens = 700;
    c.capacity_bytes = 500'000 + 4000 * uint64_t{in_.byte()};
    oscar_calibrator_args args{};
    args.struct_size = sizeof args;
    args.value_basis = bits >> 4 & 1;
    if (bits & 8) c.self_calibrate = &args;
    const oscar_status status = oscar_cache_create(&c, &cache_);
    FUZZ_CHECK((status == OSCAR_OK) == (cache_ != nullptr));
  }

  oscar_cache_stats stats() {
    oscar_cache_stats s{};
    s.struct_size = sizeof s;
    FUZZ_CHECK(oscar_cache_stats_get(cache_, &s) == OSCAR_OK);
    return s;
  }

  // Ids that exist, existed, or never did.
  uint64_t id(const std::vector<uint64_t>& known) {
    const uint8_t b = in_.byte();
    if (b >= 250 || known.empty()) return in_.take<uint64_t>();
    return known[b % known.size()];
  }

  bool ok(oscar_status status, const oscar_cache_stats& before) {
    if (status == OSCAR_OK) return true;
    FUZZ_CHECK(status < 0 && status >= OSCAR_E_DEVICE && status != OSCAR_E_INTERNAL && status != OSCAR_E_NO_MEMORY);
    const oscar_cache_stats after = stats();
    FUZZ_CHECK(std::memcmp(&before, &after, sizeof before) == 0);
    return false;
  }

  void call() {
    const oscar_cache_stats before = stats();
    switch (in_.byte() % 14) {
      case 0: {
        oscar_seq seq = 1;
        if (ok(oscar_seq_open(cache_, &seq), before)) add(seq, 0);
        break;
      }
      case 1: {
        const oscar_seq seq = id(seqs_);
        if (ok(oscar_seq_close(cache_, seq), before)) lengths_.erase(seq);
        break;
      }
      case 2: {
        oscar_seq child = 1;
        const uint64_t n = in_.take<uint16_t>() % 800;
        if (ok(oscar_seq_fork(cache_, id(seqs_), n, &child), before)) add(child, n);
        break;
      }
      case 3: {
        const oscar_seq seq = id(seqs_);
        const uint64_t n = in_.take<uint16_t>() % 800;
        if (ok(oscar_seq_truncate(cache_, seq, n), before)) lengths_[seq] = n;
        break;
      }
      case 4: accept(before); break;
      case 5:
      case 6:
      case 7: begin(before); break;
      case 8: layer(before); break;
      case 9: whole_step(); break;
      case 10: {
        const oscar_step step = id(steps_);
        if (ok(oscar_step_end(cache_, step), before)) {
          for (const auto& [seq, n] : open_[step]) lengths_[seq] += n;
          open_.erase(step);
        }
        break;
      }
      case 11: {
        const oscar_step step = id(steps_);
        if (ok(oscar_step_abort(cache_, step), before)) open_.erase(step);
        break;
      }
      case 12: look(before); break;
      default: {
        oscar_calibration* calibration = nullptr;
        if (ok(oscar_cache_freeze(cache_, in_.byte() & 1 ? &calibration : nullptr), before)) {
          oscar_calibration_destroy(calibration_);
          calibration_ = calibration;
        }
      }
    }
  }

  void add(oscar_seq seq, uint64_t n) {
    FUZZ_CHECK(seq != 0 && !lengths_.contains(seq));
    lengths_[seq] = n;
    seqs_.push_back(seq);
  }

  void accept(const oscar_cache_stats& before) {
    const oscar_seq seq = id(seqs_);
    const uint64_t back = in_.below(12), length = lengths_.contains(seq) ? lengths_[seq] : 5;
    const uint64_t base = back > length ? in_.take<uint64_t>() : length - back;
    uint32_t indices[6];
    const uint32_t n = in_.below(7);
    for (uint32_t i = 0; i < n; ++i) indices[i] = in_.below(12);
    if (ok(oscar_seq_accept(cache_, seq, base, n, n ? indices : nullptr), before)) lengths_[seq] = base + n;
  }

  oscar_step begin(const oscar_cache_stats& before) {
    oscar_step_entry entries[3];
    oscar_step_args args{};
    args.struct_size = sizeof args;
    args.n_entries = in_.below(4);
    args.entries = entries;
    uint32_t n_rows = 0;
    for (uint32_t i = 0; i < args.n_entries; ++i) {
      const uint8_t b = in_.byte();
      entries[i] = {b < 20 ? 0 : id(seqs_), b % 4 ? 1u : in_.below(kMaxNew + 2), b % 3 ? 0u : in_.below(9)};
      n_rows += entries[i].n_new;
    }
    oscar_step step = 1;
    if (!ok(oscar_step_begin(cache_, &args, nullptr, &step), before)) {
      FUZZ_CHECK(step == 0);
      return 0;
    }
    FUZZ_CHECK(step != 0 || n_rows > 0);
    auto& entries_of = open_[step];
    for (uint32_t i = 0; i < args.n_entries; ++i)
      if (entries[i].seq) entries_of.emplace_back(entries[i].seq, entries[i].n_new);
    rows_[step] = n_rows;
    steps_.push_back(step);
    return step;
  }

  oscar_status attend_layer(oscar_step step, uint32_t layer, uint32_t what) {
    const int64_t n = rows_.contains(step) ? rows_[step] : 1;
    float* from = numbers_.data() + in_.byte() * 64;
    oscar_layer_args all{};
    all.struct_size = sizeof all;
    all.layer = layer;
    all.k = tensor(from, n, 1, kDim);
    all.v = tensor(from + 128, n, 1, kDim);
    all.q = tensor(from + 256, n, n_q_heads_, kDim);
    all.out = tensor(out_.data(), n, n_q_heads_, kDim);
    if (what == 0) return oscar_layer(cache_, step, &all, nullptr);
    if (what == 1) {
      const oscar_append_args append{sizeof append, layer, all.k, all.v};
      return oscar_append(cache_, step, &append, nullptr);
    }
    oscar_attend_args attend{};
    attend.struct_size = sizeof attend;
    attend.layer = layer;
    attend.q = all.q;
    attend.out = all.out;
    return oscar_attend(cache_, step, &attend, nullptr);
  }

  void layer(const oscar_cache_stats& before) {
    const oscar_step step = id(steps_);
    const uint32_t what = in_.below(3), number = in_.below(3);
    ok(attend_layer(step, number, what), before);
  }

  // Fuzzers seldom guess a step that comes to its end.
  void whole_step() {
    const oscar_step step = begin(stats());
    if (!step) return;
    for (uint32_t l = 0; l < n_layers_; ++l) FUZZ_CHECK(attend_layer(step, l, 0) == OSCAR_OK);
    FUZZ_CHECK(oscar_step_end(cache_, step) == OSCAR_OK);
    for (const auto& [seq, n] : open_[step]) lengths_[seq] += n;
    open_.erase(step);
  }

  void look(const oscar_cache_stats& before) {
    const uint64_t first = in_.take<uint16_t>() % 800, n = in_.below(kMaxNew);
    const oscar_seq seq = id(seqs_);
    oscar_tensor rows = tensor(out_.data(), static_cast<int64_t>(n), kDim, 0), scores = rows;
    rows.ndim = 2;
    scores.ndim = 1;
    uint64_t capacity = 0;
    if (in_.byte() & 1)
      ok(oscar_read(cache_, seq, in_.below(3), in_.below(2), first, n, &rows, nullptr), before);
    else
      ok(oscar_scores(cache_, seq, in_.below(3), in_.below(2), first, n, &scores), before);
    FUZZ_CHECK(oscar_cache_capacity(cache_, &capacity) == OSCAR_OK);
  }

  void check_lengths() {
    for (const auto& [seq, length] : lengths_) {
      uint64_t n = 0;
      FUZZ_CHECK(oscar_seq_length(cache_, seq, &n) == OSCAR_OK && n == length);
    }
  }

  void finish() {
    for (const auto& [step, entries] : open_) FUZZ_CHECK(oscar_step_abort(cache_, step) == OSCAR_OK);
    for (const auto& [seq, length] : lengths_) FUZZ_CHECK(oscar_seq_close(cache_, seq) == OSCAR_OK);
    const oscar_cache_stats s = stats();
    FUZZ_CHECK(s.bytes_sequences == 0 && s.n_blocks == 0 && s.n_exact_pages == 0 && s.n_tokens == 0);
  }

  Input& in_;
  oscar_cache* cache_ = nullptr;
  oscar_calibration* calibration_ = nullptr;
  uint32_t n_layers_ = 0, n_q_heads_ = 0;
  std::map<oscar_seq, uint64_t> lengths_;                                   // of those that are open
  std::map<oscar_step, std::vector<std::pair<oscar_seq, uint32_t>>> open_;  // steps: who gets how many tokens
  std::map<oscar_step, uint32_t> rows_;
  std::vector<uint64_t> seqs_, steps_;  // all there ever were
  std::vector<float> numbers_ = std::vector<float>(256 * 64 + 256 + kMaxNew * 2 * kDim);
  std::vector<float> out_ = std::vector<float>(kMaxNew * 2 * kDim);
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  Session(input).run();
  return 0;
}
