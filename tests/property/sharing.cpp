// Prefix sharing: what a fork costs is what a formula says, to the byte.
#include "property/cache_fixture.h"

using namespace test;

namespace {

uint64_t align(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// Bytes of units over all layers and heads, by docs/export.md's formula; written down here from docs/format.md.
struct Costs {
  uint64_t block, page, scores;
};

Costs costs_of(const Geometry& g, const oscar_cache_config& c, uint64_t block_bytes) {
  const uint64_t heads = uint64_t{g.n_layers} * g.n_kv_heads;
  const uint64_t n_scores = c.n_recent + 256 + c.max_rollback, n_line = (c.n_recent + 2 * c.max_rollback + 1) / 2 * 2;
  return {align(heads * block_bytes), align(heads * 16 * 2 * (g.key_dim + g.value_dim)),
          align(heads * (8 * n_scores + 3 * c.max_rollback * n_line * 2))};
}

// Pages of a sequence of `length`, packed up to packed_end.
uint64_t n_pages(uint64_t n_sink, uint64_t packed_end, uint64_t length) {
  return (n_sink + 15) / 16 + (length + 15) / 16 - packed_end / 16;
}

}  // namespace

TEST_CASE("1,000 forks of a 32K prompt cost their exact rows and scores; each then pays for its own blocks alone") {
  const Geometry g{2, 4, 1, 64, 64};
  constexpr uint64_t kPrompt = 32768, kForks = 1000;
  oscar_cache_config config = config_of(g, "2bit");
  config.max_sequences = kForks + 1;
  config.max_tokens = kPrompt + 512;
  config.max_step_tokens = 2048;
  config.capacity_bytes = 256u << 20;
  oscar_cache_report report{};
  report.struct_size = sizeof report;
  OSCAR_OK_(oscar_cache_check(&config, kPrompt, &report));
  const Costs costs = costs_of(g, config, report.block_bytes);

  Cache cache(config);
  const oscar_seq parent = cache.open();
  for (uint64_t n = 0; n < kPrompt; n += 2048) feed_same(cache, g, parent, 2048);
  const oscar_cache_stats alone = cache.stats();
  // A long step packs what has aged by its end: whole blocks from the sinks up to n_recent before it.
  const uint64_t n_blocks = (kPrompt - 4 - 32) / 128, packed_end = 4 + 128 * n_blocks;
  CHECK(alone.n_blocks == n_blocks);
  CHECK(alone.n_blocks_packed == n_blocks);
  CHECK(alone.bytes_shared == 0);
  CHECK(alone.n_block_references == n_blocks);

  std::vector<oscar_seq> children(kForks);
  for (oscar_seq& child : children) OSCAR_OK_(oscar_seq_fork(cache, parent, kPrompt, &child));
  const oscar_cache_stats forked = cache.stats();
  const uint64_t pages = n_pages(4, packed_end, kPrompt);
  const uint64_t tables = n_blocks * 16 + pages * 4;
  CHECK(forked.bytes_sequences - alone.bytes_sequences == kForks * (pages * costs.page + costs.scores + tables));
  CHECK(forked.n_blocks == n_blocks);
  CHECK(forked.n_shared_blocks == n_blocks);
  CHECK(forked.n_block_references == (kForks + 1) * n_blocks);
  CHECK(forked.bytes_shared == kForks * n_blocks * costs.block);
  CHECK(forked.n_blocks_packed == n_blocks);
  MESSAGE("a fork of " << kPrompt << " tokens costs " << (forked.bytes_sequences - alone.bytes_sequences) / kForks
                       << " bytes, " << alone.bytes_sequences << " if it were a copy");

  // Each goes its own way: what it packs from then on is its own, at most the recent window and a block of the prompt.
  constexpr uint64_t kOwn = 200;
  for (oscar_seq child : children) feed_same(cache, g, child, kOwn);
  const uint64_t all_blocks = (kPrompt + kOwn - 4 - 32) / 128, own_blocks = all_blocks - n_blocks;
  const uint64_t own_pages = n_pages(4, 4 + 128 * all_blocks, kPrompt + kOwn);
  const oscar_cache_stats grown = cache.stats();
  CHECK(own_blocks * 128 <= kOwn + 32 + 128);
  CHECK(grown.n_blocks == n_blocks + kForks * own_blocks);
  CHECK(grown.n_shared_blocks == n_blocks);
  CHECK(grown.bytes_sequences - alone.bytes_sequences ==
        kForks * (own_pages * costs.page + own_blocks * costs.block + costs.scores + all_blocks * 16 + own_pages * 4));

  // The prompt lives as long as the last of them.
  OSCAR_OK_(oscar_seq_close(cache, parent));
  CHECK(cache.stats().n_blocks == n_blocks + kForks * own_blocks);
  for (uint64_t i = 0; i + 1 < kForks; ++i) OSCAR_OK_(oscar_seq_close(cache, children[i]));
  CHECK(cache.stats().n_blocks == all_blocks);
  CHECK(cache.stats().bytes_shared == 0);
  CHECK(cache.stats().n_shared_blocks == 0);
  CHECK(cache.length(children.back()) == kPrompt + kOwn);
  OSCAR_OK_(oscar_seq_close(cache, children.back()));
  CHECK(cache.stats().bytes_sequences == 0);
  CHECK(cache.stats().n_block_references == 0);
}

TEST_CASE("a fork inside a block shares that block, too; forks of forks count every holder") {
  const Geometry g{1, 2, 1, 64, 64};
  Cache cache(config_of(g, "2bit"));
  const oscar_seq parent = cache.open();
  feed_same(cache, g, parent, 500);
  const uint64_t n_blocks = cache.stats().n_blocks;
  REQUIRE(n_blocks == 3);
  oscar_seq child = 0, grandchild = 0;
  OSCAR_OK_(oscar_seq_fork(cache, parent, 4 + 128 + 50, &child));
  CHECK(cache.stats().n_block_references == 3 + 2);
  CHECK(cache.stats().n_shared_blocks == 2);
  OSCAR_OK_(oscar_seq_fork(cache, child, 4 + 20, &grandchild));
  CHECK(cache.stats().n_block_references == 3 + 2 + 1);
  CHECK(cache.stats().n_shared_blocks == 2);
  OSCAR_OK_(oscar_seq_close(cache, parent));
  CHECK(cache.stats().n_blocks == 2);
  CHECK(cache.stats().n_shared_blocks == 1);
  OSCAR_OK_(oscar_seq_truncate(cache, child, 0));
  CHECK(cache.stats().n_shared_blocks == 0);
  CHECK(cache.stats().n_block_references == 1);
  CHECK(cache.stats().n_rollbacks == 1);
  CHECK(cache.stats().n_tokens_forgotten == 182);
}

TEST_CASE("bytes by what they are for add up, in every mixture of layers") {
  const Geometry g{3, 4, 2, 64, 96};
  for (const char* profile : {"2bit", "2bit-plain", "4bit", "exact"}) {
    INFO(profile);
    oscar_cache_config config = config_of(g, profile);
    std::vector<oscar_layer_config> layers = layers_of(config);
    layers[0].window = 400;
    layers[1].storage = OSCAR_STORAGE_EXACT;
    Cache cache(config);
    const oscar_seq seq = cache.open();
    feed_same(cache, g, seq, 500);
    feed_same(cache, g, seq, 100);
    oscar_seq child = 0;
    OSCAR_OK_(oscar_seq_fork(cache, seq, 600, &child));
    const oscar_cache_stats s = cache.stats();
    CHECK(s.bytes_base + s.bytes_refined + s.bytes_exact + s.bytes_scores + s.bytes_tables == s.bytes_sequences);
    const bool packs = std::string(profile) != "exact", refines = packs && std::string(profile) != "2bit-plain";
    CHECK((s.bytes_base > 0) == packs);
    CHECK((s.bytes_refined > 0) == refines);
    CHECK((s.bytes_scores > 0) == (std::string(profile) == "2bit"));
    CHECK(s.bytes_exact > 0);
    CHECK((s.bytes_shared > 0) == packs);
    CHECK(s.n_steps == 2);
  }
}
