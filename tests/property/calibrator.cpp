// A calibrator through the public header: what it makes, the tensors it takes, and what it refuses.
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>

#include "property/cache_fixture.h"

using namespace test;

namespace {

constexpr int64_t kTokens = 300;

struct Rows {
  std::vector<float> q, k, v;
  explicit Rows(uint64_t seed) : q(kTokens * 4 * 64), k(kTokens * 2 * 64), v(kTokens * 2 * 64) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (auto* values : {&q, &k, &v})
      for (float& x : *values) x = normal(random);
  }
  oscar_calibrator_feed_args args(uint32_t layer) {
    oscar_calibrator_feed_args a{};
    a.struct_size = sizeof a;
    a.layer = layer;
    a.q = tensor(q.data(), {kTokens, 4, 64});
    a.k = tensor(k.data(), {kTokens, 2, 64});
    a.v = tensor(v.data(), {kTokens, 2, 64});
    return a;
  }
};

struct Frequencies {
  std::vector<float> values;
  Frequencies() : values(32) {
    for (size_t j = 0; j < values.size(); ++j) values[j] = std::pow(1e4f, -static_cast<float>(j) / 32);
  }
  oscar_calibrator_args args() {
    oscar_calibrator_args a{};
    a.struct_size = sizeof a;
    a.rope_frequencies = tensor(values.data(), {32});
    return a;
  }
};

struct Calibrator {
  oscar_calibrator* handle = nullptr;
  explicit Calibrator(const oscar_calibrator_args& args) {
    const oscar_cache_config config = config_of({}, "2bit");
    OSCAR_OK_(oscar_calibrator_create(&config, &args, &handle));
  }
  ~Calibrator() { oscar_calibrator_destroy(handle); }
};

uint64_t fingerprint_of(const oscar_calibrator* calibrator) {
  oscar_calibration* calibration = nullptr;
  OSCAR_OK_(oscar_calibrator_finish(calibrator, &calibration));
  oscar_calibration_info info{};
  info.struct_size = sizeof info;
  OSCAR_OK_(oscar_calibration_info_get(calibration, &info));
  oscar_calibration_destroy(calibration);
  CHECK(info.is_shaped == 1);
  return info.fingerprint;
}

}  // namespace

TEST_CASE("a calibration from fed tensors serves a cache, whatever the strides of what was fed") {
  Rows rows(1);
  Frequencies frequencies;
  Calibrator dense(frequencies.args()), strided(frequencies.args());
  const uint32_t n_layers = config_of({}, "2bit").n_layers;
  // [n_heads, n, dim] in memory, shown as [n, n_heads, dim].
  std::vector<float> turned(rows.k.size());
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t i = 0; i < 64; ++i)
        turned[static_cast<size_t>((h * kTokens + t) * 64 + i)] = rows.k[static_cast<size_t>((t * 2 + h) * 64 + i)];
  for (uint32_t l = 0; l < n_layers; ++l) {
    oscar_calibrator_feed_args args = rows.args(l);
    OSCAR_OK_(oscar_calibrator_feed(dense.handle, &args));
    args.k.data = turned.data();
    args.k.stride[0] = 64, args.k.stride[1] = kTokens * 64, args.k.stride[2] = 1;
    OSCAR_OK_(oscar_calibrator_feed(strided.handle, &args));
  }
  CHECK(fingerprint_of(dense.handle) == fingerprint_of(strided.handle));

  oscar_calibration* calibration = nullptr;
  OSCAR_OK_(oscar_calibrator_finish(dense.handle, &calibration));
  oscar_cache_config config = config_of({}, "2bit");
  config.calibration = calibration;
  config.writer = OSCAR_WRITER_SHAPED;
  oscar_cache* cache = nullptr;
  OSCAR_OK_(oscar_cache_create(&config, &cache));
  oscar_cache_destroy(cache);
  oscar_calibration_destroy(calibration);
}

TEST_CASE("wrong arguments of a calibrator are refused by name") {
  Frequencies frequencies;
  const auto create = [&](const std::function<void(oscar_cache_config&, oscar_calibrator_args&)>& change) {
    oscar_cache_config config = config_of({}, "2bit");
    oscar_calibrator_args args = frequencies.args();
    change(config, args);
    oscar_calibrator* calibrator = reinterpret_cast<oscar_calibrator*>(&config);
    const oscar_status status = oscar_calibrator_create(&config, &args, &calibrator);
    if (status != OSCAR_OK) CHECK(calibrator == nullptr);
    if (status == OSCAR_OK) oscar_calibrator_destroy(calibrator);
    return status;
  };
  CHECK(create([](auto&, auto&) {}) == OSCAR_OK);
  REFUSED(create([](auto&, auto& a) { a.struct_size = 0; }), OSCAR_E_INVALID, "args: struct_size is 0");
  REFUSED(create([](auto&, auto& a) { a.rope_pairing = 7; }), OSCAR_E_INVALID, "rope_pairing is 7");
  REFUSED(create([](auto&, auto& a) { a.value_basis = 7; }), OSCAR_E_INVALID, "value_basis is 7");
  REFUSED(create([](auto&, auto& a) { a.reserved = 1; }), OSCAR_E_INVALID, "reserved is 1");
  REFUSED(create([](auto&, auto& a) { a.n_positions = UINT64_MAX; }), OSCAR_E_INVALID, "n_positions is");
  REFUSED(create([](auto&, auto& a) { a.rope_frequencies.data = nullptr; }), OSCAR_E_INVALID, "data is NULL");
  REFUSED(create([](auto&, auto& a) { a.rope_frequencies.ndim = 4; }), OSCAR_E_INVALID, "ndim is 4");
  REFUSED(create([](auto&, auto& a) { a.rope_frequencies.shape[0] = 33; }), OSCAR_E_INVALID, "shape[0] is 33");
  REFUSED(create([](auto& c, auto&) { c.key_dim = 72; }), OSCAR_E_INVALID, "key_dim is 72");
  REFUSED(create([](auto& c, auto&) { c.n_q_heads = 5; }), OSCAR_E_INVALID, "n_q_heads is 5");
  const oscar_cache_config config = config_of({}, "2bit");
  const oscar_calibrator_args args = frequencies.args();
  oscar_calibrator* calibrator = nullptr;
  REFUSED(oscar_calibrator_create(nullptr, &args, &calibrator), OSCAR_E_INVALID, "config is NULL");
  REFUSED(oscar_calibrator_create(&config, nullptr, &calibrator), OSCAR_E_INVALID, "args is NULL");
  REFUSED(oscar_calibrator_create(&config, &args, nullptr), OSCAR_E_INVALID, "calibrator_out is NULL");
  oscar_calibrator_destroy(nullptr);
}

TEST_CASE("a layer that attends to another's keys gives none, and has the geometry of that layer") {
  Rows rows(4);
  std::vector<float> frequencies(2 * 32, 0.5f);
  oscar_calibrator_args args = Frequencies().args();
  args.rope_frequencies = tensor(frequencies.data(), {2, 32});
  oscar_cache_config config = config_of({}, "2bit");
  std::vector<oscar_layer_config> layers = layers_of(config);
  layers[1].kv_source = 0;
  oscar_calibrator* calibrator = nullptr;
  layers[1].n_kv_heads = 1;
  REFUSED(oscar_calibrator_create(&config, &args, &calibrator), OSCAR_E_INVALID, "another geometry");
  layers[1].n_kv_heads = 2;
  OSCAR_OK_(oscar_calibrator_create(&config, &args, &calibrator));
  oscar_calibrator_feed_args feed = rows.args(1);
  REFUSED(oscar_calibrator_feed(calibrator, &feed), OSCAR_E_INVALID, "layer 1 attends to the keys of layer 0");
  feed.k = feed.v = oscar_tensor{};
  CHECK(oscar_calibrator_feed(calibrator, &feed) == OSCAR_OK);
  oscar_calibrator_destroy(calibrator);
}

TEST_CASE("wrong tokens are refused by name and count nothing; too few are refused at the end") {
  Rows rows(2);
  Frequencies frequencies;
  Calibrator calibrator(frequencies.args());
  oscar_calibration* calibration = reinterpret_cast<oscar_calibration*>(&rows);
  REFUSED(oscar_calibrator_finish(calibrator.handle, &calibration), OSCAR_E_STATE, "layer 0 has been fed nothing");
  CHECK(calibration == nullptr);
  REFUSED(oscar_calibrator_finish(nullptr, &calibration), OSCAR_E_INVALID, "calibrator is NULL");
  REFUSED(oscar_calibrator_finish(calibrator.handle, nullptr), OSCAR_E_INVALID, "calibration_out is NULL");
  const uint32_t n_layers = config_of({}, "2bit").n_layers;
  for (uint32_t l = 0; l < n_layers; ++l) {
    const oscar_calibrator_feed_args args = rows.args(l);
    OSCAR_OK_(oscar_calibrator_feed(calibrator.handle, &args));
  }
  const uint64_t before = fingerprint_of(calibrator.handle);
  const auto refused = [&](const std::function<void(oscar_calibrator_feed_args&)>& change, const char* text) {
    oscar_calibrator_feed_args args = rows.args(0);
    args.first_position = kTokens;
    change(args);
    REFUSED(oscar_calibrator_feed(calibrator.handle, &args), OSCAR_E_INVALID, text);
  };
  refused([](auto& a) { a.layer = 99; }, "layer is 99");
  refused([](auto& a) { a.q.ndim = 2; }, "q: ndim is 2, wanted 3");
  refused([](auto& a) { a.q.shape[0] = 0; }, "q: shape[0] is 0");
  refused([](auto& a) { a.k.shape[0] = 1; }, "k: shape[0] is 1, wanted 300");
  refused([](auto& a) { a.v.device_type = OSCAR_DEVICE_CUDA; }, "v: device is {type 2");
  refused([](auto& a) { a.v.data = nullptr; }, "v: data is NULL");
  refused([](auto& a) { a.first_position = UINT64_MAX; }, "first_position is");
  rows.v[70 * 128 + 64 + 3] = std::numeric_limits<float>::quiet_NaN();
  refused([](auto&) {}, "layer 0: v[70][1][3] is nan, wanted finite numbers");
  REFUSED(oscar_calibrator_feed(nullptr, nullptr), OSCAR_E_INVALID, "calibrator is NULL");
  REFUSED(oscar_calibrator_feed(calibrator.handle, nullptr), OSCAR_E_INVALID, "args is NULL");
  CHECK(fingerprint_of(calibrator.handle) == before);
}
