// Damaged and hostile exports: a status, never a crash; what is imported all the same is a sequence that goes on.
#include "format/checksum.h"
#include "format/sequence_file.h"
#include "property/exported.h"
#include "support/scale.h"

using namespace test;

namespace {

const Geometry kSmall{2, 2, 1, 64, 64};

struct Setup {
  oscar_cache_config config = config_of(kSmall, "2bit");
  std::vector<oscar_layer_config> layers = layers_of(config);
  Setup() {
    layers[1].window = 300;
    config.n_recent = 16;
    config.max_rollback = 4;
    config.max_sequences = 3;
    config.max_tokens = 1024;
    config.capacity_bytes = 2u << 20;
  }
};

uint64_t header_bytes() { return oscar::sequence_header_bytes(2, 2); }

// Puts both checksums right, which no damage does.
void repair(ExportedBytes& bytes) {
  const uint64_t header = header_bytes();
  if (bytes.size() < header + 8) return;
  for (uint64_t end : {header, uint64_t{bytes.size()}}) {
    oscar::Checksum checksum;
    checksum.update(bytes.data(), end - 8);
    const uint64_t value = checksum.value();
    std::memcpy(bytes.data() + end - 8, &value, 8);
  }
}

// Some bytes changed: in the header more often than their share, to values that are near, extreme or anything.
void damage(ExportedBytes& bytes, std::mt19937_64& random) {
  const uint64_t n = 1 + random() % 3;
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t at = random() % (random() % 2 ? bytes.size() : header_bytes());
    switch (random() % 4) {
      case 0: bytes[at] = static_cast<uint8_t>(bytes[at] + (random() % 2 ? 1 : -1)); break;
      case 1: bytes[at] ^= static_cast<uint8_t>(1u << random() % 8); break;
      case 2: bytes[at] = random() % 2 ? 0xff : 0; break;
      default: bytes[at] = static_cast<uint8_t>(random());
    }
  }
  if (random() % 20 == 0) bytes.resize(random() % bytes.size());
}

}  // namespace

TEST_CASE("every truncation and every changed byte of an export is refused") {
  Setup setup;
  Cache cache(setup.config);
  const oscar_seq seq = cache.open();
  run_step(cache, kSmall, seq, range(0, 210));
  const ExportedBytes bytes = exported(cache, seq);
  const oscar_cache_stats before = cache.stats();
  oscar_seq got = 0;
  for (uint64_t at = 0; at < bytes.size(); at += at < 600 ? 1 : 97) {
    ExportedBytes changed = bytes;
    changed[at] ^= 0x10;
    ByteReader reader{changed};
    INFO("byte " << at);
    REQUIRE(try_import(cache, reader, &got) == OSCAR_E_CORRUPT);
    REQUIRE(got == 0);
    changed = ExportedBytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
    ByteReader shorter{changed};
    REQUIRE(try_import(cache, shorter, &got) == OSCAR_E_CORRUPT);
  }
  const oscar_cache_stats after = cache.stats();
  CHECK(std::memcmp(&before, &after, sizeof before) == 0);
}

TEST_CASE(
    "10,000 exports changed at random, most of them under right checksums: a status, no memory beyond a piece's") {
  Setup setup;
  Cache cache(setup.config);
  std::vector<ExportedBytes> sources;
  for (uint64_t length : {3u, 200u, 430u, 900u}) {
    const oscar_seq seq = cache.open();
    for (uint64_t first = 0; first < length; first += 300)
      run_step(cache, kSmall, seq, range(first, std::min<uint64_t>(300, length - first)));
    sources.push_back(exported(cache, seq));
    OSCAR_OK_(oscar_seq_close(cache, seq));
  }
  const uint64_t seed = oscar_test::seeded(1), n_rounds = oscar_test::scaled(10000);
  std::mt19937_64 random(seed);
  uint64_t n_imported = 0, n_refused[11] = {};
  for (uint64_t round = 0; round < n_rounds; ++round) {
    INFO("seed " << seed << ", round " << round);
    ExportedBytes bytes = sources[random() % sources.size()];
    damage(bytes, random);
    if (random() % 8) repair(bytes);
    ByteReader reader{bytes};
    oscar_seq seq = 0;
    const oscar_status status = try_import(cache, reader, &seq);
    REQUIRE(reader.largest <= 4096 * 48);
    if (status != OSCAR_OK) {
      REQUIRE((status == OSCAR_E_CORRUPT || status == OSCAR_E_INVALID || status == OSCAR_E_NO_SPACE));
      REQUIRE(seq == 0);
      ++n_refused[-status];
      continue;
    }
    ++n_imported;
    // It is used in every way, and what the votes say is followed.
    const uint64_t length = cache.length(seq);
    if (length + 200 <= 1024) {
      run_step(cache, kSmall, seq, range(7000, 1));
      run_step(cache, kSmall, seq, range(7000, 199));
    }
    std::vector<float> rows(1024 * 64);
    const oscar_tensor t = tensor(rows.data(), {1, 64});
    if (length > 0) OSCAR_OK_(oscar_read(cache, seq, 0, 0, length - 1, 1, &t, nullptr));
    exported(cache, seq);
    OSCAR_OK_(oscar_seq_close(cache, seq));
  }
  MESSAGE(n_imported << " imported, refused: " << n_refused[7] << " corrupt, " << n_refused[1] << " of another cache, "
                     << n_refused[3] << " too large");
  CHECK(n_imported > n_rounds / 10);
  CHECK(n_refused[7] > n_rounds / 10);
  CHECK(n_refused[1] > 0);
  CHECK(n_refused[3] > 0);
  CHECK(cache.stats().bytes_sequences == 0);
  CHECK(cache.stats().n_sequences == 0);
}
