// Export and import: a sequence that has been away goes on bit for bit as if it had stayed, whatever cache it comes to;
// what does not fit is refused with the reason; what fails changes nothing.
#include <functional>

#include "property/exported.h"

using namespace test;

namespace {

// What layers there are.
struct Kind {
  const char* name;
  const char* profile;
  std::function<void(std::vector<oscar_layer_config>&)> change;
};

const Geometry kGeometry{3, 4, 2, 64, 96};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"2bit", "2bit", [](auto&) {}},
      {"2bit-plain", "2bit-plain", [](auto&) {}},
      {"k3v2", "k3v2", [](auto&) {}},
      {"4bit", "4bit", [](auto&) {}},
      {"exact", "exact", [](auto&) {}},
      {"a short window, a long one and a full layer", "2bit",
       [](auto& layers) { layers[0].window = 40, layers[1].window = 400; }},
      {"an exact layer, a wider one and one that borrows its keys", "2bit",
       [](auto& layers) {
         layers[0].storage = OSCAR_STORAGE_EXACT;
         layers[1].n_refined = 12;
         layers[2].kv_source = 1;
         layers[2].n_refined = 12;
       }},
  };
  return all;
}

struct Setup {
  oscar_cache_config config;
  std::vector<oscar_layer_config> layers;
  explicit Setup(const Kind& kind) : config(config_of(kGeometry, kind.profile)), layers(layers_of(config)) {
    kind.change(layers);
    config.n_recent = 24;
    config.max_tokens = 2048;
  }
};

// A step of a cache with any layers: those that borrow keys get none.
LayerOutput step_of(oscar_cache* cache, const Setup& setup, oscar_seq seq, const std::vector<uint64_t>& tokens,
                    uint32_t n_draft = 0) {
  const oscar_step step = begin(cache, {{seq, static_cast<uint32_t>(tokens.size()), n_draft}});
  LayerOutput all;
  for (uint32_t layer = 0; layer < kGeometry.n_layers; ++layer) {
    LayerInput in = make_input(kGeometry, tokens, layer);
    LayerOutput one;
    if (setup.layers[layer].kv_source == OSCAR_DEFAULT) {
      one = run_layer(cache, step, kGeometry, layer, in);
    } else {
      const int64_t n = static_cast<int64_t>(tokens.size());
      one.out.assign(tokens.size() * kGeometry.n_q_heads * kGeometry.value_dim, NAN);
      oscar_attend_args a{};
      a.struct_size = sizeof a;
      a.layer = layer;
      a.q = tensor(in.q.data(), {n, kGeometry.n_q_heads, kGeometry.key_dim});
      a.out = tensor(one.out.data(), {n, kGeometry.n_q_heads, kGeometry.value_dim});
      OSCAR_OK_(oscar_attend(cache, step, &a, nullptr));
    }
    all.out.insert(all.out.end(), one.out.begin(), one.out.end());
  }
  OSCAR_OK_(oscar_step_end(cache, step));
  return all;
}

// A life with steps of all lengths, drafts that are rejected, and cuts.
void live(oscar_cache* cache, const Setup& setup, oscar_seq seq, std::mt19937& random, uint64_t n_steps) {
  for (uint64_t i = 0; i < n_steps; ++i) {
    uint64_t length = 0;
    OSCAR_OK_(oscar_seq_length(cache, seq, &length));
    if (length > 1400) return;
    const uint32_t n = i % 3 == 0 ? 1 + random() % 300 : 1 + random() % 6;
    const uint32_t n_draft = std::min<uint32_t>(n, random() % 4);
    step_of(cache, setup, seq, range(length + 10000 * i, n), n_draft);
    if (n_draft > 0) OSCAR_OK_(oscar_seq_truncate(cache, seq, length + n - random() % (n_draft + 1)));
    if (random() % 6 == 0) oscar_seq_truncate(cache, seq, length + n - std::min<uint64_t>(length + n, random() % 60));
  }
}

}  // namespace

TEST_CASE(
    "an imported sequence goes on bit for bit, in a cache of another capacity, and is exported as the same bytes") {
  uint32_t seed = 0;
  for (const Kind& kind : kinds()) {
    for (int round = 0; round < 4; ++round) {
      INFO(kind.name << ", seed " << seed);
      std::mt19937 random(++seed);
      Setup setup(kind);
      Cache here(setup.config);
      setup.config.capacity_bytes = 24u << 20;
      setup.config.max_sequences = 3;
      setup.config.max_tokens = 2048 + 16 * (random() % 8);
      setup.config.n_threads = 1 + round % 2;
      Cache there(setup.config);
      const oscar_seq other = there.open();  // what lies in the pool is not what lay in the other
      live(there, setup, other, random, 3);
      OSCAR_OK_(oscar_seq_close(there, other));

      const oscar_seq stays = here.open();
      live(here, setup, stays, random, 1 + random() % 9);
      const ExportedBytes bytes = exported(here, stays);
      const oscar_seq goes = imported(there, bytes);
      REQUIRE(there.length(goes) == here.length(stays));
      CHECK(exported(there, goes) == bytes);
      CHECK(there.stats().bytes_sequences == here.stats().bytes_sequences);
      CHECK(there.stats().n_packed_tokens == here.stats().n_packed_tokens);
      for (uint32_t n : {1u, 3u, 200u, 1u, 130u, 2u}) {
        const uint64_t length = here.length(stays);
        const LayerOutput a = step_of(here, setup, stays, range(length, n));
        const LayerOutput b = step_of(there, setup, goes, range(length, n));
        REQUIRE(same_bits(a.out, b.out));
      }
      CHECK(exported(there, goes) == exported(here, stays));
      OSCAR_OK_(oscar_seq_close(there, goes));
      CHECK(there.stats().bytes_sequences == 0);
    }
  }
}

TEST_CASE("a prefix is exported as the fork of that length would be, and any prefix that a window allows") {
  for (const Kind& kind : kinds()) {
    std::mt19937 random(11);
    const Setup setup(kind);
    Cache cache(setup.config);
    const oscar_seq parent = cache.open();
    live(cache, setup, parent, random, 7);
    const uint64_t length = cache.length(parent);
    const ExportedBytes whole = exported(cache, parent);
    uint64_t n_refused = 0;
    for (uint64_t n = 1; n <= length; n += 1 + random() % 40) {
      INFO(kind.name << ", " << n << " of " << length);
      oscar_seq child = 0;
      const oscar_status status = oscar_seq_fork(cache, parent, n, &child);
      oscar_export_args args{sizeof args, 0, n, nullptr, nullptr};
      uint64_t size = 77;
      if (status != OSCAR_OK) {
        REQUIRE(status == OSCAR_E_STATE);
        REFUSED(oscar_seq_export(cache, parent, &args, &size), OSCAR_E_STATE, "a sliding window of");
        CHECK(size == 0);
        ++n_refused;
        continue;
      }
      const ExportedBytes prefix = exported(cache, parent, n);
      CHECK(prefix == exported(cache, child));
      const oscar_seq goes = imported(cache, prefix);
      for (uint32_t m : {2u, 150u, 1u})
        REQUIRE(same_bits(step_of(cache, setup, child, range(5000 + m, m)).out,
                          step_of(cache, setup, goes, range(5000 + m, m)).out));
      OSCAR_OK_(oscar_seq_close(cache, child));
      OSCAR_OK_(oscar_seq_close(cache, goes));
    }
    CHECK((n_refused > 0) == (setup.layers[0].window == 40));
    CHECK(exported(cache, parent) == whole);
  }
}

TEST_CASE("an empty sequence, and one shorter than its sinks, come and go as well") {
  const Setup setup(kinds()[0]);
  Cache cache(setup.config);
  const oscar_seq empty = cache.open();
  for (uint64_t n : {0u, 1u, 3u}) {
    if (n > 0) step_of(cache, setup, empty, range(cache.length(empty), n - cache.length(empty)));
    const oscar_seq goes = imported(cache, exported(cache, empty));
    CHECK(cache.length(goes) == n);
    CHECK(same_bits(step_of(cache, setup, goes, range(50, 9)).out, [&] {
      oscar_seq child = 0;
      OSCAR_OK_(oscar_seq_fork(cache, empty, n, &child));
      return step_of(cache, setup, child, range(50, 9)).out;
    }()));
    OSCAR_OK_(oscar_seq_close(cache, goes));
  }
}

TEST_CASE("an export says nothing of what was forgotten or belongs to others") {
  Setup setup(kinds()[0]);
  setup.config.capacity_bytes = 2u << 20;  // a pool that is used again and again
  Cache one(setup.config), other(setup.config);
  std::mt19937 random(5);
  const oscar_seq before = one.open();
  live(one, setup, before, random, 4);
  OSCAR_OK_(oscar_seq_close(one, before));
  const oscar_seq a = one.open(), b = other.open();
  for (uint32_t n : {200u, 150u}) {
    step_of(one, setup, a, range(n, n));
    step_of(other, setup, b, range(n, n));
  }
  step_of(one, setup, a, range(9000, 5), 5);  // drafts
  OSCAR_OK_(oscar_seq_truncate(one, a, 350));
  CHECK(exported(one, a) == exported(other, b));
}

TEST_CASE("a sequence of another geometry, profile, window or calibration is refused, and the text says which") {
  Setup setup(kinds()[0]);
  Cache cache(setup.config);
  const oscar_seq seq = cache.open();
  step_of(cache, setup, seq, range(0, 300));
  const ExportedBytes bytes = exported(cache, seq);
  const auto refused = [&bytes](const Setup& other, oscar_status status, const char* text) {
    Cache to(other.config);
    ByteReader reader{bytes};
    oscar_seq got = 0;
    REFUSED(try_import(to, reader, &got), status, text);
    CHECK(got == 0);
    CHECK(to.stats().n_sequences == 0);
    CHECK(to.stats().bytes_sequences == 0);
    CHECK(reader.largest <= sizeof(uint64_t) * 1024);
  };
  const auto changed = [](const std::function<void(Setup&)>& change) {
    Setup other(kinds()[0]);
    change(other);
    return other;
  };
  refused(changed([](Setup& s) { s.layers[1].n_q_heads = 2; }), OSCAR_E_INVALID,
          "layer 1: the exported sequence's n_q_heads is 4, the cache's 2");
  refused(changed([](Setup& s) { s.layers[2].value_dim = 64; }), OSCAR_E_INVALID,
          "layer 2: the exported sequence's value_dim is 96, the cache's 64");
  refused(changed([](Setup& s) { s.layers[0].window = 500; }), OSCAR_E_INVALID,
          "layer 0: the exported sequence's window is 0, the cache's 500");
  refused(changed([](Setup& s) { s.layers[0].n_refined = 8; }), OSCAR_E_INVALID,
          "layer 0: the exported sequence's n_refined is 4, the cache's 8");
  refused(changed([](Setup& s) { s.layers[1].storage = OSCAR_STORAGE_EXACT; }), OSCAR_E_INVALID,
          "layer 1: the exported sequence's exact is 0, the cache's 1");
  refused(changed([](Setup& s) { s.config.n_layers = s.config.n_layer_configs = 2; }), OSCAR_E_INVALID,
          "the exported sequence's number of layers is 3, the cache's 2");
  refused(changed([](Setup& s) { s.config.n_sink = 8; }), OSCAR_E_INVALID, "n_sink is 4, the cache's 8");
  refused(changed([](Setup& s) { s.config.n_recent = 40; }), OSCAR_E_INVALID, "n_recent is 24, the cache's 40");
  refused(changed([](Setup& s) { s.config.max_rollback = 4; }), OSCAR_E_INVALID, "max_rollback is 8, the cache's 4");
  refused(changed([](Setup& s) { s.config.max_tokens = 299; }), OSCAR_E_NO_SPACE,
          "the exported sequence has 300 tokens, max_tokens is 299");
  refused(changed([](Setup& s) { s.config.capacity_bytes = 300'000; }), OSCAR_E_NO_SPACE,
          "no room for the imported sequence: ");

  oscar_calibration* identity = nullptr;
  OSCAR_OK_(oscar_calibration_identity(&setup.config, &identity));
  Setup other(kinds()[0]);
  other.config.calibration = identity;
  refused(other, OSCAR_E_INVALID, "calibration has the fingerprint");
  oscar_calibration_destroy(identity);

  oscar_calibrator_args self{};
  self.struct_size = sizeof self;
  refused(changed([&self](Setup& s) { s.config.self_calibrate = &self; }), OSCAR_E_STATE, "oscar_cache_freeze");
}

TEST_CASE("a callback that fails ends the call with its status, at any piece, and changes nothing") {
  const Setup setup(kinds()[5]);
  Cache cache(setup.config);
  const oscar_seq seq = cache.open();
  step_of(cache, setup, seq, range(0, 500));
  const ExportedBytes bytes = exported(cache, seq);
  struct Failing {
    int left;
    ByteReader reader;
    oscar_status status;
    static oscar_status write(void* user, const void*, uint64_t) {
      auto* f = static_cast<Failing*>(user);
      return f->left-- > 0 ? OSCAR_OK : f->status;
    }
    static oscar_status read(void* user, void* to, uint64_t size) {
      auto* f = static_cast<Failing*>(user);
      return f->left-- > 0 ? ByteReader::read(&f->reader, to, size) : f->status;
    }
  };
  const oscar_cache_stats before = cache.stats();
  int n = 0;
  for (bool is_done = false; !is_done; ++n) {
    Failing failing{n, {bytes}, OSCAR_E_NO_SPACE};
    const oscar_export_args args{sizeof args, 0, 0, &failing, Failing::write};
    uint64_t size = 77;
    const oscar_status status = oscar_seq_export(cache, seq, &args, &size);
    is_done = status == OSCAR_OK;
    if (!is_done) {
      CHECK(size == 0);
      CHECK(status == OSCAR_E_NO_SPACE);
      CHECK(says("args.write gave -3 (OSCAR_E_NO_SPACE) after "));
    }
  }
  CHECK(n > 10);
  n = 0;
  for (bool is_done = false; !is_done; ++n) {
    Failing failing{n, {bytes}, n % 2 ? 7 : OSCAR_E_DEVICE};
    const oscar_import_args args{sizeof args, 0, &failing, Failing::read};
    oscar_seq got = 77;
    const oscar_status status = oscar_seq_import(cache, &args, &got);
    is_done = status == OSCAR_OK;
    if (is_done) {
      OSCAR_OK_(oscar_seq_close(cache, got));
    } else {
      CHECK(got == 0);
      CHECK(status == (n % 2 ? OSCAR_E_INVALID : OSCAR_E_DEVICE));
      CHECK(says("args.read gave "));
    }
    const oscar_cache_stats after = cache.stats();
    CHECK(std::memcmp(&before, &after, sizeof before) == 0);
  }
  CHECK(n > 10);
}

TEST_CASE("a sequence in an open step, or in a collecting cache, is not exported") {
  Setup setup(kinds()[0]);
  const oscar_export_args args{sizeof args, 0, 0, nullptr, nullptr};
  uint64_t size = 77;
  {
    Cache cache(setup.config);
    const oscar_seq seq = cache.open();
    const oscar_step step = begin(cache, {{seq, 1, 0}});
    REFUSED(oscar_seq_export(cache, seq, &args, &size), OSCAR_E_STATE, "is in an open step");
    OSCAR_OK_(oscar_step_abort(cache, step));
    OSCAR_OK_(oscar_seq_export(cache, seq, &args, &size));
    OSCAR_OK_(oscar_seq_close(cache, seq));
    REFUSED(oscar_seq_export(cache, seq, &args, &size), OSCAR_E_NOT_FOUND, "does not exist");
    const oscar_export_args more{sizeof more, 0, 5, nullptr, nullptr};
    REFUSED(oscar_seq_export(cache, cache.open(), &more, &size), OSCAR_E_INVALID, "n_tokens is 5, the sequence has 0");
  }
  oscar_calibrator_args self{};
  self.struct_size = sizeof self;
  setup.config.self_calibrate = &self;
  Cache cache(setup.config);
  REFUSED(oscar_seq_export(cache, cache.open(), &args, &size), OSCAR_E_STATE, "oscar_cache_freeze");
}
