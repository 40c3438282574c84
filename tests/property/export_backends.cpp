// Exports know no backend: what one has written another one reads, as the same bytes, and attends to within the tolerances that
// backends have among themselves.
#include <memory>

#include "property/cpu_backends.h"
#include "property/exported.h"

using namespace test;

namespace {

const Geometry kGeometry{2, 4, 2, 64, 96};

// Each backend is within 1e-3 of the reference, a row's outputs relative to its norm, its log-sum-exp absolutely
// (tests/backends/differential.cpp): two of them are within twice that.
constexpr double kOutTolerance = 2e-3, kLseTolerance = 2e-3;

oscar_cache_config config(const char* profile) {
  oscar_cache_config c = config_of(kGeometry, profile);
  c.n_recent = 24;
  c.max_tokens = 2048;
  return c;
}

void check_near(const LayerOutput& a, const LayerOutput& b) {
  REQUIRE(a.out.size() == b.out.size());
  REQUIRE(a.lse.size() == b.lse.size());
  for (size_t row = 0; row < a.lse.size(); ++row) {
    double off = 0, norm = 0;
    for (size_t d = row * kGeometry.value_dim; d < (row + 1) * kGeometry.value_dim; ++d) {
      off += std::pow(static_cast<double>(a.out[d]) - b.out[d], 2);
      norm += std::pow(static_cast<double>(b.out[d]), 2);
    }
    REQUIRE(std::sqrt(off) <= kOutTolerance * std::sqrt(norm));
    REQUIRE(std::fabs(a.lse[row] - b.lse[row]) <= kLseTolerance);
  }
}

void fill(oscar_cache* cache, oscar_seq seq) {
  uint64_t length = 0;
  for (uint32_t n : {200u, 1u, 300u, 7u, 60u}) {
    run_step(cache, kGeometry, seq, range(length, n));
    length += n;
  }
}

}  // namespace

TEST_CASE("what one backend has exported, another imports, exports as the same bytes, and attends to as well") {
  const std::vector<std::string> names = cpu_backends();
  REQUIRE(names.size() >= 2);
  for (const char* profile : {"2bit", "k3v2", "4bit", "8bit", "exact"}) {
    for (const std::string& from : names) {
      const oscar_cache_config c = config(profile);
      const auto make = [&c](const std::string& name) {
        const BackendVariable backend(name.c_str());
        return std::make_unique<Cache>(c);
      };
      const auto here = make(from);
      const oscar_seq stays = here->open();
      fill(*here, stays);
      const ExportedBytes bytes = exported(*here, stays);
      // Three drafts see all that was exported, and leave no trace.
      const auto look = [](oscar_cache* cache, oscar_seq seq) {
        const LayerOutput out = run_step(cache, kGeometry, seq, range(9000, 3), 3);
        uint64_t length = 0;
        OSCAR_OK_(oscar_seq_length(cache, seq, &length));
        OSCAR_OK_(oscar_seq_truncate(cache, seq, length - 3));
        return out;
      };
      const LayerOutput seen = look(*here, stays);
      for (const std::string& to : names) {
        INFO(profile << ": " << from << " -> " << to);
        const auto there = make(to);
        const oscar_seq goes = imported(*there, bytes);
        CHECK(exported(*there, goes) == bytes);
        const LayerOutput got = look(*there, goes);
        check_near(got, seen);
        if (to == from) CHECK(same_bits(got.out, seen.out));
        CHECK(exported(*there, goes) == exported(*here, stays));
      }
    }
  }
}

TEST_CASE("where nothing has to be chosen, all backends export equal tokens as the same bytes") {
  for (const char* profile : {"2bit-plain", "k3v2", "4bit", "8bit"}) {
    ExportedBytes first;
    for (const std::string& name : cpu_backends()) {
      INFO(profile << ": " << name);
      const BackendVariable backend(name.c_str());
      Cache cache(config(profile));
      const oscar_seq seq = cache.open();
      fill(cache, seq);
      const ExportedBytes bytes = exported(cache, seq);
      if (first.empty()) first = bytes;
      CHECK(bytes == first);
    }
  }
}
