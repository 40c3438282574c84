// 10,000 sequences come and go: the bytes in use are at every moment those of the sequences that are there, refusals say what
// is missing, and capacity says what fits.
#include <map>

#include "property/exported.h"

using namespace test;

namespace {

const Geometry kGeometry{1, 2, 1, 64, 64};

oscar_cache_config config() {
  oscar_cache_config c = config_of(kGeometry, "2bit");
  c.n_recent = 16;
  c.max_sequences = 24;
  c.max_tokens = 1024;
  c.capacity_bytes = 3u << 20;
  return c;
}

bool append(oscar_cache* cache, oscar_seq seq, uint32_t n) {
  static std::vector<float> numbers(512 * 64, 0.5f);
  const oscar_step_entry entry{seq, n, 0};
  const oscar_step_args args{sizeof args, 1, &entry, 0, 0};
  oscar_step step = 0;
  const oscar_status status = oscar_step_begin(cache, &args, nullptr, &step);
  if (status != OSCAR_OK) {
    REQUIRE(status == OSCAR_E_NO_SPACE);
    REQUIRE((says(" bytes short, ") || says("max_tokens")));
    return false;
  }
  oscar_append_args a{};
  a.struct_size = sizeof a;
  a.k = a.v = tensor(numbers.data(), {n, 1, 64});
  OSCAR_OK_(oscar_append(cache, step, &a, nullptr));
  OSCAR_OK_(oscar_step_end(cache, step));
  return true;
}

}  // namespace

TEST_CASE("10,000 sequences opened, forked, grown, cut, saved, restored and closed at random leave no byte behind") {
  const char* text = std::getenv("OSCAR_PROPERTY_ROUNDS");
  const uint64_t n_sequences = text ? std::strtoull(text, nullptr, 10) : 10000;
  Cache cache(config());
  const oscar_cache_stats empty = cache.stats();
  uint64_t whole = 0;
  OSCAR_OK_(oscar_cache_capacity(cache, &whole));
  std::mt19937 random(3);
  std::vector<oscar_seq> open;
  uint64_t n_opened = 0, n_refused = 0, most = 0;
  while (n_opened < n_sequences) {
    INFO("after " << n_opened << " sequences");
    const uint32_t what = random() % 12;
    const auto any = [&] { return open[random() % open.size()]; };
    oscar_seq seq = 0;
    if (open.empty() || what == 0) {
      if (oscar_seq_open(cache, &seq) == OSCAR_OK) open.push_back(seq), ++n_opened;
    } else if (what < 3) {
      const oscar_seq parent = any();
      if (oscar_seq_fork(cache, parent, random() % (cache.length(parent) + 1), &seq) == OSCAR_OK)
        open.push_back(seq), ++n_opened;
    } else if (what == 3) {
      const ExportedBytes bytes = exported(cache, any());
      ByteReader reader{bytes};
      if (try_import(cache, reader, &seq) == OSCAR_OK) open.push_back(seq), ++n_opened;
    } else if (what < 7) {
      const size_t i = random() % open.size();
      OSCAR_OK_(oscar_seq_close(cache, open[i]));
      open[i] = open.back();
      open.pop_back();
    } else if (what == 7) {
      const oscar_seq cut = any();
      OSCAR_OK_(oscar_seq_truncate(cache, cut, random() % (cache.length(cut) + 1)));
    } else if (!append(cache, any(), 1 + random() % 200)) {
      ++n_refused;
    }
    const oscar_cache_stats s = cache.stats();
    most = std::max(most, s.bytes_sequences);
    REQUIRE(s.bytes_base + s.bytes_refined + s.bytes_exact + s.bytes_scores + s.bytes_tables == s.bytes_sequences);
    REQUIRE(s.bytes_slabs + s.bytes_free == empty.bytes_free);
    REQUIRE(s.bytes_fixed == empty.bytes_fixed);
    REQUIRE(s.n_sequences == open.size());
    if (!open.empty()) continue;
    REQUIRE(s.bytes_sequences == 0);
    REQUIRE(s.bytes_free == empty.bytes_free);
  }
  MESSAGE(n_opened << " sequences, at most " << most << " bytes; " << n_refused << " steps refused");
  CHECK(n_refused > 10);
  for (oscar_seq seq : open) OSCAR_OK_(oscar_seq_close(cache, seq));
  const oscar_cache_stats after = cache.stats();
  CHECK(after.bytes_sequences == 0);
  CHECK(after.bytes_free == empty.bytes_free);
  CHECK(after.n_block_references == 0);
  uint64_t capacity = 0;
  OSCAR_OK_(oscar_cache_capacity(cache, &capacity));
  CHECK(capacity == whole);
}

TEST_CASE(
    "a refusal says how many bytes are short: with that much more the step is served, with a slab less it is not") {
  // Sizes of slabs do not depend on the capacity.
  oscar_cache_config c = config();
  c.capacity_bytes = 1u << 20;
  uint64_t n_steps = 0, missing = 0;
  const auto fill = [&n_steps](oscar_cache* cache, uint64_t most) {
    oscar_seq seq = 0;
    for (n_steps = 0; n_steps < most; ++n_steps) {
      if (n_steps % 3 == 0) OSCAR_OK_(oscar_seq_open(cache, &seq));
      if (!append(cache, seq, 300)) return false;
    }
    return true;
  };
  {
    Cache cache(c);
    REQUIRE(!fill(cache, 60));
    REQUIRE(std::sscanf(oscar_last_error(), "oscar_step_begin: the pool has no room for this step: %lu", &missing) ==
            1);
  }
  const uint64_t until = n_steps + 1;
  c.capacity_bytes += missing;
  CHECK(fill(Cache(c), until));
  c.capacity_bytes -= 1 << 18;
  CHECK(!fill(Cache(c), until));
}
