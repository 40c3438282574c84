// The pool is full at every point at which it can be: one story is told to caches of every capacity, from one that is too
// small for its first step to one that never runs out. A refused call changes nothing; what goes on gives the bits that a
// cache with room for everything gives; and closing a sequence makes room.
#include <doctest/doctest.h>

#include <map>

#include "faults/world.h"

using namespace test;

namespace {

constexpr Geometry kGeometry{2, 2, 1, 64, 64};

oscar_cache_config config(uint64_t capacity_bytes) {
  oscar_cache_config c = config_of(kGeometry, "2bit");
  c.max_tokens = 700;
  c.max_step_tokens = 256;
  c.max_sequences = 200;  // never the reason
  c.capacity_bytes = capacity_bytes;
  return c;
}

// A cache of some capacity, and one of plenty that is told what the first has accepted.
class Story {
 public:
  explicit Story(uint64_t capacity_bytes) : small_(config(capacity_bytes)), large_(config(64u << 20)) {}

  // How often each kind of call was refused.
  const std::map<std::string, int>& refused() const { return refused_; }

  void tell() {
    constexpr uint32_t kSteps[] = {1, 30, 200, 1, 1, 128, 17, 256, 5, 129, 1, 90, 200, 256, 256, 3};
    if (!open()) return;
    for (uint32_t i = 0; i < 14; ++i) {
      if (i % 2 == 0) fork(main_, i % 3);
      if (i % 3 == 1) open();
      for (size_t s = 0; s < seqs_.size(); ++s)
        if (!step(s, kSteps[(i + s) % std::size(kSteps)]) && s == main_) return;
    }
    if (!refused_.empty()) fill();
  }

 private:
  struct Pair {
    oscar_seq small, large;
  };

  Bytes look() const {
    Bytes bytes;
    put(bytes, small_.stats());
    for (const Pair& seq : seqs_) {
      if (small_.length(seq.small) == 0) continue;
      const std::vector<float> rows = read_all(small_, kGeometry, seq.small);
      put(bytes, rows.data(), rows.size());
    }
    return bytes;
  }

  // Until not even an empty sequence finds room, without giving any back.
  void fill() {
    oscar_seq seq = 0;
    while (oscar_seq_fork(small_, seqs_[main_].small, small_.length(seqs_[main_].small), &seq) == OSCAR_OK) {
    }
    for (;;) {
      const Bytes before = look();
      const oscar_status status = oscar_seq_open(small_, &seq);
      if (status == OSCAR_OK) continue;
      REQUIRE(status == OSCAR_E_NO_SPACE);
      REQUIRE(says("the pool has no room"));
      REQUIRE(seq == 0);
      REQUIRE(look() == before);
      ++refused_["open"];
      return;
    }
  }

  // Makes a call that may need room, for sequence number `own`. A refusal changes nothing; then the youngest sequence makes
  // room, and so on, as long as it is another one.
  template <class Call>
  bool with_room(const char* kind, size_t own, const Call& call, const uint64_t& output) {
    for (;;) {
      const Bytes before = look();
      const oscar_status status = call();
      if (status == OSCAR_OK) return true;
      INFO(kind << ": " << oscar_last_error());
      REQUIRE(status == OSCAR_E_NO_SPACE);
      REQUIRE(output == 0);
      REQUIRE(look() == before);
      ++refused_[kind];
      if (seqs_.size() <= own + 1) return false;
      OSCAR_OK_(oscar_seq_close(small_, seqs_.back().small));
      OSCAR_OK_(oscar_seq_close(large_, seqs_.back().large));
      seqs_.pop_back();
    }
  }

  bool open() {
    Pair made{9, 9};
    if (!with_room(
            "open", main_, [&] { return oscar_seq_open(small_, &made.small); }, made.small))
      return false;
    OSCAR_OK_(oscar_seq_open(large_, &made.large));
    seqs_.push_back(made);
    return true;
  }

  void fork(size_t parent, uint64_t back) {
    const uint64_t n = small_.length(seqs_[parent].small) - std::min(back, small_.length(seqs_[parent].small));
    Pair made{9, 9};
    const auto call = [&] { return oscar_seq_fork(small_, seqs_[parent].small, n, &made.small); };
    if (!with_room("fork", parent, call, made.small)) return;
    OSCAR_OK_(oscar_seq_fork(large_, seqs_[parent].large, n, &made.large));
    seqs_.push_back(made);
  }

  bool step(size_t index, uint32_t n) {
    const oscar_step_entry entry{seqs_[index].small, n, 0};
    oscar_step_args args{};
    args.struct_size = sizeof args;
    args.n_entries = 1;
    args.entries = &entry;
    oscar_step small = 9;
    const uint64_t length = small_.length(entry.seq);
    if (length + n > 700) return true;
    if (!with_room(
            "begin", index, [&] { return oscar_step_begin(small_, &args, nullptr, &small); }, small))
      return false;
    const oscar_step large = begin(large_, {{seqs_[index].large, n, 0}});
    for (uint32_t layer = 0; layer < kGeometry.n_layers; ++layer) {
      LayerInput in = make_input(kGeometry, range(1000 * index + length, n), layer);
      const LayerOutput got = run_layer(small_, small, kGeometry, layer, in);
      REQUIRE(same_bits(got.out, run_layer(large_, large, kGeometry, layer, in).out));
    }
    OSCAR_OK_(oscar_step_end(small_, small));
    OSCAR_OK_(oscar_step_end(large_, large));
    return true;
  }

  Cache small_, large_;
  std::vector<Pair> seqs_;
  std::map<std::string, int> refused_;
  static constexpr size_t main_ = 0;
};

}  // namespace

TEST_CASE("a pool of any capacity refuses whole calls, changes nothing, and goes on") {
  std::map<std::string, int> refused;
  bool has_finished = false;
  constexpr uint64_t kSlab = 256u << 10;
  for (uint64_t slabs = 2; !has_finished; slabs += 1 + slabs / 8) {
    REQUIRE(slabs < 100);
    INFO("capacity of about " << slabs << " slabs");
    Story story(slabs * kSlab);
    story.tell();
    has_finished = story.refused().empty();
    for (const auto& [kind, n] : story.refused()) refused[kind] += n;
  }
  for (const char* kind : {"open", "fork", "begin"}) {
    INFO(kind);
    CHECK(refused[kind] > 0);
  }
}
