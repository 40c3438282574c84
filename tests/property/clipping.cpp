// Clipped elements are counted as the formula says, layer by layer, alike by every backend; a calibration that was made from
// another distribution is seen.
#include "property/cpu_backends.h"
#include "property/self_calibration.h"

using namespace test;

namespace {

const Geometry kGeometry{2, 1, 1, 64, 64};

oscar_layer_stats layer_stats(oscar_cache* cache, uint32_t layer) {
  oscar_layer_stats s{};
  s.struct_size = sizeof s;
  OSCAR_OK_(oscar_layer_stats_get(cache, layer, &s));
  return s;
}

double share(uint64_t part, uint64_t whole) { return static_cast<double>(part) / static_cast<double>(whole); }

using Elements = std::vector<float>;  // [tokens][dim]

// The same keys and values for both layers, in steps of 128 tokens.
void feed(oscar_cache* cache, Elements& keys, Elements& values) {
  oscar_seq seq;
  OSCAR_OK_(oscar_seq_open(cache, &seq));
  const int64_t dim = kGeometry.key_dim, n_tokens = static_cast<int64_t>(keys.size()) / dim;
  for (int64_t first = 0; first < n_tokens; first += 128) {
    const int64_t n = std::min<int64_t>(128, n_tokens - first);
    const oscar_step step = begin(cache, {{seq, static_cast<uint32_t>(n), 0}});
    for (uint32_t layer = 0; layer < 2; ++layer) {
      oscar_append_args a{};
      a.struct_size = sizeof a;
      a.layer = layer;
      a.k = tensor(keys.data() + first * dim, {n, 1, dim});
      a.v = tensor(values.data() + first * dim, {n, 1, dim});
      OSCAR_OK_(oscar_append(cache, step, &a, nullptr));
    }
    OSCAR_OK_(oscar_step_end(cache, step));
  }
}

// Elements of deviation `scale(d)` in the coordinate d of the basis that a rotation by `turn` in the planes (d, d + 32) leads
// to: a model whose keys vary much in some directions.
template <class Scale>
Elements rows(uint32_t n, uint32_t seed, double turn, Scale&& scale) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Elements all;
  for (uint32_t i = 0; i < n; ++i) {
    double x[64];
    for (int d = 0; d < 64; ++d) x[d] = normal(random) * scale(d);
    float y[64];
    for (int d = 0; d < 32; ++d) {
      y[d] = static_cast<float>(std::cos(turn) * x[d] - std::sin(turn) * x[d + 32]);
      y[d + 32] = static_cast<float>(std::sin(turn) * x[d] + std::cos(turn) * x[d + 32]);
    }
    all.insert(all.end(), y, y + 64);
  }
  return all;
}

oscar_cache_config config(const char* profile = "2bit-plain") {
  oscar_cache_config c = config_of(kGeometry, profile);
  c.n_sink = 0;
  c.n_recent = 16;
  c.max_tokens = 8192;
  return c;
}

}  // namespace

TEST_CASE("clipped elements are those that the formula counts") {
  // In the identity basis, with values that have no block mean: the scale is the token's root mean square on the grid of the
  // scale bytes, and the range two steps of 0.9957 of it (docs/numerics.md).
  oscar_cache_config c = config();
  oscar_calibration* identity = nullptr;
  OSCAR_OK_(oscar_calibration_identity(&c, &identity));
  c.calibration = identity;
  Cache cache(c);
  oscar_calibration_destroy(identity);
  Elements keys(400 * 64, 0.0f), values = rows(400, 1, 0.0, [](int) { return 1.0; });
  for (float& v : values) v = to_bf16(v);
  feed(cache, keys, values);
  const oscar_layer_stats s = layer_stats(cache, 0);
  REQUIRE(s.n_value_elements % (128 * 64) == 0);
  REQUIRE(s.n_value_elements > 0);
  CHECK(s.n_key_elements == s.n_value_elements);
  CHECK(s.n_keys_clipped == 0);  // zeros
  uint64_t surely = 0, perhaps = 0;
  for (uint64_t t = 0; t < s.n_value_elements / 64; ++t) {
    double sum = 0;
    for (int d = 0; d < 64; ++d) sum += values[t * 64 + d] * static_cast<double>(values[t * 64 + d]);
    const double reach = 2 * 0.9957 * std::sqrt(sum / 64), grid = 1.1;  // steps of the grid are less than this apart
    for (int d = 0; d < 64; ++d) {
      const double x = std::fabs(values[t * 64 + d]);
      surely += x > reach * grid, perhaps += x > reach / grid;
    }
  }
  CHECK(s.n_values_clipped >= surely);
  CHECK(s.n_values_clipped <= perhaps);
  CHECK(surely > 0);
  CHECK(s.n_blocks == s.n_value_elements / (128 * 64));
  CHECK(s.n_keys_worse + s.n_values_worse == 0);  // the identity keeps norms
  CHECK(share(s.n_values_clipped, s.n_value_elements) > 0.03);
  const oscar_layer_stats other = layer_stats(cache, 1);
  CHECK(std::memcmp(&s, &other, sizeof s) == 0);
}

namespace {

double uneven(int d) { return d == 3 ? 12.0 : d < 32 && d % 8 == 1 ? 3.0 : 0.4; }

// What the calibrator makes of keys and values that are turned so.
void calibrate(const oscar_cache_config& c, double turn, Calibration& made) {
  oscar_calibrator_args args{};
  args.struct_size = sizeof args;
  args.n_positions = 4096;
  std::vector<float> still(32, 0.0f);
  args.rope_frequencies = tensor(still.data(), {32});
  oscar_calibrator* calibrator = nullptr;
  OSCAR_OK_(oscar_calibrator_create(&c, &args, &calibrator));
  Elements k = rows(1024, 5, turn, uneven), v = rows(1024, 6, turn, uneven);
  // Queries look where these keys are small: those of a distribution turned by a right angle are large there.
  Elements q = rows(1024, 7, turn, [](int d) { return d >= 32 ? 4.0 : d == 3 ? 0.2 : 1.0; });
  for (uint32_t layer = 0; layer < 2; ++layer) {
    oscar_calibrator_feed_args f{};
    f.struct_size = sizeof f;
    f.layer = layer;
    f.q = tensor(q.data(), {1024, 1, 64});
    f.k = tensor(k.data(), {1024, 1, 64});
    f.v = tensor(v.data(), {1024, 1, 64});
    OSCAR_OK_(oscar_calibrator_feed(calibrator, &f));
  }
  OSCAR_OK_(oscar_calibrator_finish(calibrator, &made.handle));
  oscar_calibrator_destroy(calibrator);
}

// Matrices that make the elements of rows with these deviations even, by themselves.
template <class Scale>
void flatten(Scale&& scale, Calibration& made) {
  std::vector<float> factors;
  for (int d = 0; d < 64; ++d) factors.push_back(static_cast<float>(1.0 / scale(d)));
  scale_elements(factors, made);
}

// The counts of layer 1, which are the same on every backend.
template <class Make>
oscar_layer_stats counts(Make&& make, Elements& keys, Elements& values, const char* profile = "2bit-plain") {
  oscar_layer_stats first{};
  for (const std::string& name : cpu_backends()) {
    INFO(name);
    const BackendVariable backend(name.c_str());
    oscar_cache_config c = config(profile);
    Calibration calibration;
    make(c, calibration);
    c.calibration = calibration.handle;
    Cache cache(c);
    feed(cache, keys, values);
    const oscar_layer_stats s = layer_stats(cache, 1);
    REQUIRE(s.n_blocks > 10);
    if (first.n_blocks == 0) first = s;
    CHECK(std::memcmp(&first, &s, sizeof s) == 0);
  }
  return first;
}

}  // namespace

TEST_CASE("a calibration from another distribution is worse than none for blocks of values, on every backend alike") {
  constexpr double kServed = 0.5;
  Elements keys = rows(2000, 8, kServed, uneven), values = rows(2000, 9, kServed, uneven);
  for (const char* profile : {"2bit", "2bit-plain", "4bit"}) {
    INFO(std::string(profile));
    const auto of = [&](double turn) {
      return counts([turn](const oscar_cache_config& c, Calibration& made) { calibrate(c, turn, made); }, keys, values,
                    profile);
    };
    const oscar_layer_stats fits = of(kServed), drifted = of(kServed + M_PI / 2);
    MESSAGE(std::string(profile) << ": worse for keys " << fits.n_keys_worse << " and " << drifted.n_keys_worse
                                 << " of " << fits.n_blocks << " blocks, for values " << fits.n_values_worse << " and "
                                 << drifted.n_values_worse << "; clipped keys "
                                 << 100 * share(fits.n_keys_clipped, fits.n_key_elements) << "% and "
                                 << 100 * share(drifted.n_keys_clipped, drifted.n_key_elements) << "%");
    CHECK(fits.n_keys_worse == 0);
    CHECK(fits.n_values_worse == 0);
    CHECK(drifted.n_values_worse == drifted.n_blocks);
  }
  const oscar_layer_stats none = counts(
      [](const oscar_cache_config& c, Calibration& made) { OSCAR_OK_(oscar_calibration_default(&c, &made.handle)); },
      keys, values);
  CHECK(none.n_keys_worse + none.n_values_worse == 0);
}

TEST_CASE("a transform made for other keys is worse than none for all blocks, whatever the keys have in common") {
  const auto wide = [](int d) { return d < 32 ? 4.0 : 0.25; };
  Elements keys = rows(2000, 8, 0.0, wide), values = rows(2000, 9, 0.0, [](int) { return 1.0; });
  for (float& k : keys) k += 20.0f;
  const auto of = [&](const auto& served) {
    const auto root = [&served](int d) { return std::sqrt(served(d)); };
    return counts([&](const oscar_cache_config&, Calibration& made) { flatten(root, made); }, keys, values);
  };
  CHECK(of(wide).n_keys_worse == 0);
  const oscar_layer_stats drifted = of([](int d) { return d < 32 ? 0.25 : 4.0; });
  CHECK(drifted.n_keys_worse == drifted.n_blocks);
}

TEST_CASE("transforms that make elements even clip as many as of a Gaussian; those of another distribution clip more") {
  const auto scale = [](int d) { return d % 4 == 0 ? 2.0 : 1.0; };
  const auto other = [](int d) { return d % 4 == 1 ? 2.0 : 1.0; };
  Elements keys = rows(2000, 8, 0.0, scale), values = keys;
  const auto of = [&](const auto& of_what) {
    return counts([&](const oscar_cache_config&, Calibration& made) { flatten(of_what, made); }, keys, values);
  };
  const oscar_layer_stats fits = of(scale), drifted = of(other);
  const double even = share(fits.n_values_clipped, fits.n_value_elements),
               more = share(drifted.n_values_clipped, drifted.n_value_elements);
  MESSAGE("clipped values: " << 100 * even << "% where the transforms fit, " << 100 * more << "% where not");
  CHECK(std::fabs(even - 0.0464) < 0.01);  // 2 Q(2 x 0.9957); the scale is the sample's own rms
  CHECK(more > even + 0.01);
  CHECK(share(drifted.n_keys_clipped, drifted.n_key_elements) > share(fits.n_keys_clipped, fits.n_key_elements) + 0.01);
}

TEST_CASE("a layer that packs nothing counts nothing, one that is not there is refused") {
  oscar_cache_config c = config();
  std::vector<oscar_layer_config> layers = layers_of(c);
  layers[0].storage = OSCAR_STORAGE_EXACT;
  Cache cache(c);
  Elements keys = rows(400, 1, 0.0, [](int) { return 1.0; });
  feed(cache, keys, keys);
  const oscar_layer_stats none = layer_stats(cache, 0);
  CHECK(none.n_key_elements == 0);
  CHECK(none.n_values_clipped == 0);
  CHECK(layer_stats(cache, 1).n_key_elements > 0);
  oscar_layer_stats s{};
  s.struct_size = sizeof s;
  REFUSED(oscar_layer_stats_get(cache, 2, &s), OSCAR_E_INVALID, "layer is 2, the cache has 2");
}
