// A small cache with tokens in it, frozen or collecting, for the fault tests: everything that const calls say of it, and
// what becomes of it when it goes on.
#pragma once
#include <memory>

#include "faults/call.h"
#include "property/self_calibration.h"

namespace test {

class World {
 public:
  explicit World(bool collecting, uint64_t n_tokens)
      : config_(collecting ? collecting_config(kGeometry, rope_) : config_of(kGeometry, "2bit")) {
    config_.capacity_bytes = 8u << 20;
    config_.max_tokens = 1024;
    config_.max_step_tokens = 512;
    cache_ = std::make_unique<Cache>(config_);
    seq_ = cache_->open();
    for (uint64_t first = 0; first < n_tokens; first += 200)
      feed(*cache_, kGeometry, seq_, range(first, std::min<uint64_t>(200, n_tokens - first)));
  }

  static constexpr Geometry kGeometry{2, 2, 1, 64, 64};

  oscar_cache* cache() const { return *cache_; }
  const oscar_cache_config& config() const { return config_; }
  oscar_seq seq() const { return seq_; }
  // Somebody else has destroyed it.
  void forget_cache() { cache_->forget(); }

  // Stats, and of every sequence its length, keys, values and scores.
  Bytes look(const std::vector<oscar_seq>& more = {}) const {
    Bytes bytes;
    put(bytes, cache_->stats());
    std::vector<oscar_seq> all = more;
    if (seq_) all.push_back(seq_);
    for (oscar_seq seq : all) {
      put(bytes, cache_->length(seq));
      if (cache_->length(seq) == 0) continue;
      const std::vector<float> rows = read_all(cache(), kGeometry, seq);
      std::vector<float> scores(cache_->length(seq));
      const oscar_tensor t = tensor(scores.data(), {static_cast<int64_t>(scores.size())});
      OSCAR_OK_(oscar_scores(cache(), seq, 1, 0, 0, scores.size(), &t));
      put(bytes, rows.data(), rows.size());
      put(bytes, scores.data(), scores.size());
    }
    return bytes;
  }

  // Goes on: a step of 150 tokens, one of 1, for a collecting cache its calibration, and what all that leaves behind.
  Bytes go_on(const std::vector<oscar_seq>& more = {}) {
    Bytes bytes = look(more);
    const oscar_seq seq = seq_ ? seq_ : cache_->open();
    for (uint64_t n : {150u, 1u}) {
      const LayerOutput out = run_step(cache(), kGeometry, seq, range(5000, n));
      put(bytes, out.out.data(), out.out.size());
    }
    if (cache_->stats().state == OSCAR_CACHE_COLLECTING) {
      feed(cache(), kGeometry, seq, range(7000, 300));
      Calibration calibration;
      OSCAR_OK_(oscar_cache_freeze(cache(), &calibration.handle));
      const Bytes file = calibration.save();
      put(bytes, file.data(), file.size());
    }
    const Bytes after = look(more);
    put(bytes, after.data(), after.size());
    return bytes;
  }

  // Another of its sequences is the one from now on.
  void use_seq(oscar_seq seq) { seq_ = seq; }
  // The sequence is closed, and nobody's.
  void forget_seq() { seq_ = 0; }

 private:
  Rope rope_;
  oscar_cache_config config_;
  std::unique_ptr<Cache> cache_;
  oscar_seq seq_ = 0;
};

using SharedWorld = std::shared_ptr<World>;

// A call that returns nothing but its status.
template <class Function>
Call changing(SharedWorld world, Function function) {
  Call call;
  call.make = [=] { return function(*world); };
  call.look = [=] { return world->look(); };
  call.result = [=] { return world->go_on(); };
  return call;
}

}  // namespace test
