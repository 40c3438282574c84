// What is wrong is refused with a status and a text that names it, outputs are NULL or 0, and the cache goes on working.
#include <functional>
#include <string>

#include "backend_variable.h"
#include "property/self_calibration.h"

using namespace test;

namespace {

oscar_status create(const std::function<void(oscar_cache_config&)>& change) {
  oscar_cache_config c = config_of({}, "2bit");
  change(c);
  oscar_cache* cache = reinterpret_cast<oscar_cache*>(&c);
  const oscar_status status = oscar_cache_create(&c, &cache);
  if (status != OSCAR_OK) CHECK(cache == nullptr);
  if (status == OSCAR_OK) oscar_cache_destroy(cache);
  return status;
}

}  // namespace

TEST_CASE("a malformed configuration is refused by name") {
  REFUSED(create([](auto& c) { c.n_layers = 0; }), OSCAR_E_INVALID, "n_layers is 0");
  REFUSED(create([](auto& c) { c.n_q_heads = 5; }), OSCAR_E_INVALID, "n_q_heads is 5");
  REFUSED(create([](auto& c) { c.key_dim = 0; }), OSCAR_E_INVALID, "key_dim is 0");
  REFUSED(create([](auto& c) { c.key_dim = 72; }), OSCAR_E_UNSUPPORTED, "key_dim is 72, served: 64");
  REFUSED(create([](auto& c) { c.n_q_heads = 66; }), OSCAR_E_UNSUPPORTED, "at most 32");
  REFUSED(create([](auto& c) { c.n_refined = 129; }), OSCAR_E_INVALID, "n_refined is 129");
  REFUSED(create([](auto& c) { c.refined_key_bits = 5; }), OSCAR_E_INVALID, "allowed: 2, 3, 4, 8");
  REFUSED(create([](auto& c) {
            c.device_type = OSCAR_DEVICE_CUDA;
            c.n_refined = 128;
            c.refined_value_bits = 8;
          }),
          OSCAR_E_UNSUPPORTED, "8 bits are served on the CPU only");
  REFUSED(create([](auto& c) { c.max_rollback = 33; }), OSCAR_E_INVALID, "max_rollback is 33");
  REFUSED(create([](auto& c) { c.storage = 2; }), OSCAR_E_INVALID, "storage is 2");
  REFUSED(create([](auto& c) { c.writer = 3; }), OSCAR_E_INVALID, "writer is 3");
  REFUSED(create([](auto& c) { c.writer = OSCAR_WRITER_SHAPED; }), OSCAR_E_UNSUPPORTED, "query moments");
  REFUSED(create([](auto& c) { c.capacity_bytes = 1000; }), OSCAR_E_INVALID, "capacity_bytes is 1000");
  REFUSED(create([](auto& c) { c.n_layer_configs = 1; }), OSCAR_E_INVALID, "n_layer_configs is 1");
  REFUSED(create([](auto& c) { c.struct_size = 4; }), OSCAR_E_INVALID, "struct_size is 4");
  CHECK(create([](auto&) {}) == OSCAR_OK);
}

TEST_CASE("what layers share must be of one geometry, and a calibration is of the cache's layers, one at a time") {
  oscar_cache_config c = config_of({}, "2bit");
  oscar_cache* cache = nullptr;
  {
    std::vector<oscar_layer_config> layers = layers_of(c);
    layers[1].kv_source = 0;
    layers[1].window = 64;
    REFUSED(oscar_cache_create(&c, &cache), OSCAR_E_INVALID,
            "layer 1: geometry or window differs from its kv_source 0");
  }
  c = config_of({1, 4, 2, 64, 64}, "2bit");
  Calibration of_one_layer;
  OSCAR_OK_(oscar_calibration_default(&c, &of_one_layer.handle));
  REFUSED(create([&](auto& x) { x.calibration = of_one_layer.handle; }), OSCAR_E_INVALID,
          "the calibration has 1 layers, the cache 2");
  const Rope rope;
  REFUSED(create([&](auto& x) {
            x.calibration = of_one_layer.handle;
            x.self_calibrate = &rope.args;
          }),
          OSCAR_E_INVALID, "calibration and self_calibrate are both given");
}

TEST_CASE("check and create agree on the capacity, and array elements must agree on their size") {
  for (uint64_t capacity : {uint64_t{1000}, uint64_t{300} << 30}) {
    oscar_cache_config c = config_of({}, "2bit");
    c.capacity_bytes = capacity;
    oscar_cache_report report{};
    report.struct_size = sizeof report;
    const bool served = oscar_cache_check(&c, 100, &report) == OSCAR_OK && report.served;
    CHECK_FALSE(served);
    CHECK(create([capacity](auto& x) { x.capacity_bytes = capacity; }) != OSCAR_OK);
  }
  oscar_calibration_layer layers[2] = {};
  for (oscar_calibration_layer& l : layers) l.struct_size = sizeof l, l.n_kv_heads = 1, l.key_dim = l.value_dim = 64;
  layers[1].struct_size += 4096;
  oscar_calibration* calibration = nullptr;
  REFUSED(oscar_calibration_create(layers, 2, &calibration), OSCAR_E_INVALID, "the first element's is");
}

TEST_CASE("a calibration of more heads than there may be takes no memory for them") {
  oscar_cache_config c = config_of({}, "2bit");
  oscar_calibration* calibration = nullptr;
  c.n_q_heads = c.n_kv_heads = 1u << 30;
  const char* text = "n_kv_heads is 1073741824, wanted 1 to 1024";
  REFUSED(oscar_calibration_default(&c, &calibration), OSCAR_E_INVALID, text);
  REFUSED(oscar_calibration_identity(&c, &calibration), OSCAR_E_INVALID, text);
}

TEST_CASE("structs of older and newer headers are served, newer ones only where the unknown part is zero") {
  struct Longer {
    oscar_cache_config config;
    uint64_t unknown;
  } longer{config_of({}, "2bit"), 0};
  longer.config.struct_size = sizeof longer;
  oscar_cache* cache = nullptr;
  CHECK(oscar_cache_create(&longer.config, &cache) == OSCAR_OK);
  oscar_cache_destroy(cache);
  longer.unknown = 1;
  REFUSED(oscar_cache_create(&longer.config, &cache), OSCAR_E_INVALID, "is not 0");
  CHECK(cache == nullptr);

  Cache other(config_of({}, "2bit"));
  oscar_cache_stats stats;
  std::memset(&stats, 0xff, sizeof stats);
  stats.struct_size = 16;
  OSCAR_OK_(oscar_cache_stats_get(other, &stats));
  CHECK(stats.n_sequences == 0);
  CHECK(stats.n_tokens == UINT64_MAX);  // beyond what the caller said it has
}

TEST_CASE("tensors of the wrong shape, dtype, stride or device are refused, and the step stays usable") {
  const Geometry g;
  Cache cache(config_of(g, "2bit"));
  const oscar_seq seq = cache.open();
  const oscar_step step = begin(cache, {{seq, 2, 0}});
  LayerInput in = make_input(g, {1, 2}, 0);
  std::vector<float> out(2 * 4 * 64);
  oscar_layer_args good{};
  good.struct_size = sizeof good;
  good.k = tensor(in.k.data(), {2, 2, 64});
  good.v = tensor(in.v.data(), {2, 2, 64});
  good.q = tensor(in.q.data(), {2, 4, 64});
  good.out = tensor(out.data(), {2, 4, 64});
  auto refused = [&](const std::function<void(oscar_layer_args&)>& change, oscar_status status, const char* text) {
    oscar_layer_args a = good;
    change(a);
    REFUSED(oscar_layer(cache, step, &a, nullptr), status, text);
  };
  refused([](auto& a) { a.k.shape[2] = 128; }, OSCAR_E_INVALID, "oscar_layer: k: shape[2] is 128, wanted 64");
  refused([](auto& a) { a.q.ndim = 2; }, OSCAR_E_INVALID, "q: ndim is 2, wanted 3");
  refused([](auto& a) { a.v.dtype_bits = 64; }, OSCAR_E_INVALID, "v: dtype code 2, 64 bits");
  refused([](auto& a) { a.out.data = nullptr; }, OSCAR_E_INVALID, "out: data is NULL");
  refused([](auto& a) { a.q.device_type = OSCAR_DEVICE_CUDA; }, OSCAR_E_INVALID,
          "q: device is {type 2, id 0}, wanted {1, 0}");
  refused([](auto& a) { a.k.stride[0] = 128, a.k.stride[1] = 64, a.k.stride[2] = 2; }, OSCAR_E_INVALID,
          "must be dense");
  refused([](auto& a) { a.out.stride[0] = 0, a.out.stride[1] = 64, a.out.stride[2] = 1; }, OSCAR_E_INVALID, "overlap");
  // Rows 100 apart that are 256 long; heads that lie within a row of others; both the same way round.
  refused([](auto& a) { a.out.stride[0] = 100, a.out.stride[1] = 64, a.out.stride[2] = 1; }, OSCAR_E_INVALID,
          "out: stride[0] is 100, wanted at least 256");
  refused([](auto& a) { a.out.stride[0] = 64, a.out.stride[1] = 65, a.out.stride[2] = 1; }, OSCAR_E_INVALID,
          "out: stride[1] is 65, wanted at least 128");
  refused([](auto& a) { a.out.stride[0] = -255, a.out.stride[1] = 64, a.out.stride[2] = 1; }, OSCAR_E_INVALID,
          "out: stride[0] is -255");
  refused([](auto& a) { a.out.stride[0] = 256, a.out.stride[1] = INT64_MIN, a.out.stride[2] = 1; }, OSCAR_E_INVALID,
          "more than memory can hold");
  refused([](auto& a) { a.k.data = static_cast<char*>(a.k.data) + 1; }, OSCAR_E_INVALID, "not aligned");
  refused([](auto& a) { a.layer = 2; }, OSCAR_E_INVALID, "layer is 2");
  refused([](auto& a) { a.scale = -1.0f; }, OSCAR_E_INVALID, "scale is -1");
  refused([](auto& a) { a.softcap = INFINITY; }, OSCAR_E_INVALID, "softcap");
  REFUSED(oscar_step_end(cache, step), OSCAR_E_STATE, "layer 0 has not been given");
  REFUSED(oscar_attend(cache, step, nullptr, nullptr), OSCAR_E_INVALID, "args is NULL");
  OSCAR_OK_(oscar_layer(cache, step, &good, nullptr));
  REFUSED(oscar_layer(cache, step, &good, nullptr), OSCAR_E_STATE, "attended");
  good.layer = 1;
  OSCAR_OK_(oscar_layer(cache, step, &good, nullptr));
  OSCAR_OK_(oscar_step_end(cache, step));
  CHECK(cache.length(seq) == 2);
}

TEST_CASE("an output may lie in any order in memory, heads first or backwards, as long as nothing overlaps") {
  const Geometry g;
  Cache dense(config_of(g, "2bit")), strided(config_of(g, "2bit"));
  const oscar_step sa = begin(dense, {{dense.open(), 3, 0}}), sb = begin(strided, {{strided.open(), 3, 0}});
  LayerInput in = make_input(g, range(0, 3), 0);
  const LayerOutput want = run_layer(dense, sa, g, 0, in);
  std::vector<float> out(4 * 3 * 64);
  oscar_layer_args a{};
  a.struct_size = sizeof a;
  a.k = tensor(in.k.data(), {3, 2, 64});
  a.v = tensor(in.v.data(), {3, 2, 64});
  a.q = tensor(in.q.data(), {3, 4, 64});
  a.out = tensor(out.data() + 2 * 64, {3, 4, 64});  // [heads][tokens, last first][dim]
  a.out.stride[0] = -64, a.out.stride[1] = 3 * 64, a.out.stride[2] = 1;
  OSCAR_OK_(oscar_layer(strided, sb, &a, nullptr));
  for (size_t t = 0; t < 3; ++t)
    for (size_t h = 0; h < 4; ++h)
      for (size_t d = 0; d < 64; ++d) REQUIRE(out[(h * 3 + 2 - t) * 64 + d] == want.out[(t * 4 + h) * 64 + d]);
}

TEST_CASE("merge refuses what is not dense or not of one shape, the lse of a single row included") {
  float outs[2 * 3 * 4] = {}, lses[2 * 3] = {}, out[3 * 4], lse[3];
  const oscar_tensor parts = tensor(outs, {2, 3, 4}), part_lses = tensor(lses, {2, 3}), merged = tensor(out, {3, 4});
  auto merge = [&](const oscar_tensor& o, const oscar_tensor& ls, const oscar_tensor& to, const oscar_tensor& lse_to) {
    return oscar_merge(&o, &ls, &to, &lse_to, nullptr);
  };
  OSCAR_OK_(merge(parts, part_lses, merged, tensor(lse, {3})));
  REFUSED(merge(parts, part_lses, merged, tensor(lse, {2})), OSCAR_E_INVALID, "lse: shape[0] is 2, wanted 3");
  REFUSED(merge(parts, tensor(lses, {3, 2}), merged, tensor(lse, {3})), OSCAR_E_INVALID, "lses: shape[0] is 3");
  oscar_tensor strided = merged;
  strided.stride[1] = 1;  // rows 0 apart
  REFUSED(merge(parts, part_lses, strided, tensor(lse, {3})), OSCAR_E_INVALID, "out: stride[0] is 0");
  const oscar_tensor row = tensor(outs, {2, 4}), row_lses = tensor(lses, {2}), row_out = tensor(out, {4});
  OSCAR_OK_(merge(row, row_lses, row_out, tensor(lse, {1})));
  CHECK(lse[0] == doctest::Approx(std::log(2.0)));
  REFUSED(merge(row, row_lses, row_out, tensor(lse, {3})), OSCAR_E_INVALID, "lse: shape[0] is 3, wanted 1");
  REFUSED(merge(row, row_lses, row_out, tensor(lse, {1, 1})), OSCAR_E_INVALID, "lse: ndim is 2, wanted 1");
}

TEST_CASE("a layer entry starts with every field at the cache's value, and a shorter one is refused") {
  oscar_layer_config layer;
  std::memset(&layer, 0, sizeof layer);
  REFUSED(oscar_layer_config_init(&layer, sizeof layer - 4), OSCAR_E_INVALID, "wanted at least 48");
  REFUSED(oscar_layer_config_init(nullptr, sizeof layer), OSCAR_E_INVALID, "layer_out is NULL");
  struct Longer {
    oscar_layer_config layer;
    uint32_t unknown;
  } longer;
  std::memset(&longer, 0xff, sizeof longer);
  OSCAR_OK_(oscar_layer_config_init(&longer.layer, sizeof longer));
  CHECK(longer.layer.struct_size == sizeof longer);
  CHECK(longer.unknown == 0);
  // A cache whose layers are all such entries is the cache without them.
  oscar_cache_config plain = config_of({}, "2bit"), listed = plain;
  const std::vector<oscar_layer_config> layers = layers_of(listed);
  oscar_cache_report reports[2] = {};
  for (oscar_cache_report& r : reports) r.struct_size = sizeof r;
  OSCAR_OK_(oscar_cache_check(&plain, 1000, &reports[0]));
  OSCAR_OK_(oscar_cache_check(&listed, 1000, &reports[1]));
  CHECK(std::memcmp(&reports[0], &reports[1], sizeof reports[0]) == 0);
}

TEST_CASE("tokens that a window has dropped are neither read nor scored") {
  const Geometry g{1, 2, 1, 64, 64};
  oscar_cache_config config = config_of(g, "2bit");
  config.window = 400;  // long enough for blocks
  Cache cache(config);
  const oscar_seq seq = cache.open();
  run_step(cache, g, seq, range(0, 500));
  run_step(cache, g, seq, range(500, 200));
  float row[64];
  const uint64_t kept_from = 700 - 400 - config.max_rollback;
  const oscar_tensor key = tensor(row, {1, 64}), score = tensor(row, {1});
  REFUSED(oscar_read(cache, seq, 0, 0, kept_from - 1, 1, &key, nullptr), OSCAR_E_STATE,
          "dropped the tokens before 292");
  REFUSED(oscar_scores(cache, seq, 0, 0, kept_from - 1, 1, &score), OSCAR_E_STATE, "dropped the tokens before 292");
  OSCAR_OK_(oscar_read(cache, seq, 0, 0, kept_from, 1, &key, nullptr));
  OSCAR_OK_(oscar_scores(cache, seq, 0, 0, kept_from, 1, &score));
}

TEST_CASE("16-bit tensors and strided views give what dense F32 gives") {
  const Geometry g;
  const oscar_cache_config config = config_of(g, "2bit");
  Cache dense(config), strided(config);
  const oscar_seq a = dense.open(), b = strided.open();
  const std::vector<uint64_t> tokens = range(0, 5);
  LayerInput in = make_input(g, tokens, 0);
  for (auto* x : {&in.k, &in.v, &in.q})
    for (float& value : *x) value = to_bf16(value);
  const oscar_step sa = begin(dense, {{a, 5, 0}}), sb = begin(strided, {{b, 5, 0}});
  const LayerOutput want = run_layer(dense, sa, g, 0, in);
  // BF16 keys laid out [heads][tokens][dim], and a F16 output in every second row of a larger buffer.
  std::vector<uint16_t> keys(in.k.size()), half(5 * 2 * 4 * 64);
  for (size_t t = 0; t < 5; ++t)
    for (size_t h = 0; h < 2; ++h)
      for (size_t d = 0; d < 64; ++d) {
        uint32_t bits;
        std::memcpy(&bits, &in.k[(t * 2 + h) * 64 + d], 4);
        keys[(h * 5 + t) * 64 + d] = static_cast<uint16_t>(bits >> 16);
      }
  oscar_layer_args args{};
  args.struct_size = sizeof args;
  args.k = tensor(reinterpret_cast<float*>(keys.data()), {5, 2, 64});
  args.k.dtype_code = OSCAR_DTYPE_BFLOAT;
  args.k.dtype_bits = 16;
  args.k.stride[0] = 64, args.k.stride[1] = 5 * 64, args.k.stride[2] = 1;
  args.v = tensor(in.v.data(), {5, 2, 64});
  args.q = tensor(in.q.data(), {5, 4, 64});
  args.out = tensor(reinterpret_cast<float*>(half.data()), {5, 4, 64});
  args.out.dtype_bits = 16;
  args.out.stride[0] = 2 * 4 * 64, args.out.stride[1] = 64, args.out.stride[2] = 1;
  OSCAR_OK_(oscar_layer(strided, sb, &args, nullptr));
  double worst = 0;
  for (size_t t = 0; t < 5; ++t)
    for (size_t i = 0; i < 4 * 64; ++i) {
      _Float16 got;
      std::memcpy(&got, &half[t * 2 * 4 * 64 + i], 2);
      worst = std::max(worst, std::abs(static_cast<double>(got) - want.out[t * 4 * 64 + i]));
    }
  CHECK(worst < 2e-3);
}

TEST_CASE("steps are refused as a whole") {
  const Geometry g;
  oscar_cache_config config = config_of(g, "2bit");
  config.max_tokens = 600;
  Cache cache(config);
  const oscar_seq seq = cache.open();
  auto refused = [&](std::vector<oscar_step_entry> entries, oscar_status status, const char* text) {
    const oscar_step_args a{sizeof a, static_cast<uint32_t>(entries.size()), entries.data(), 0, 0};
    oscar_step step = 9;
    REFUSED(oscar_step_begin(cache, &a, nullptr, &step), status, text);
    CHECK(step == 0);
  };
  refused({}, OSCAR_E_INVALID, "n_entries is 0");
  refused({{seq, 0, 0}}, OSCAR_E_INVALID, "n_new is 0");
  refused({{seq, 513, 0}}, OSCAR_E_INVALID, "max_step_tokens = 512");
  refused({{seq, 3, 4}}, OSCAR_E_INVALID, "n_draft is 4");
  refused({{seq, 9, 8}}, OSCAR_E_INVALID, "less than max_rollback = 8");
  refused({{seq, 1, 0}, {seq, 1, 0}}, OSCAR_E_INVALID, "name the same sequence");
  refused({{seq + 1, 1, 0}}, OSCAR_E_NOT_FOUND, "does not exist");
  const oscar_step_entry one{seq, 1, 0};
  const oscar_step_args replay{sizeof replay, 1, &one, 1, 0};
  oscar_step replayed = 9;
  REFUSED(oscar_step_begin(cache, &replay, nullptr, &replayed), OSCAR_E_INVALID, "the CPU has no graphs");
  CHECK(replayed == 0);
  run_step(cache, g, seq, range(0, 400));
  refused({{seq, 201, 0}}, OSCAR_E_NO_SPACE, "exceed max_tokens = 600");
  const oscar_step step = begin(cache, {{seq, 1, 0}});
  refused({{cache.open(), 1, 0}}, OSCAR_E_STATE, "max_open_steps");
  REFUSED(oscar_seq_close(cache, seq), OSCAR_E_STATE, "in an open step");
  REFUSED(oscar_seq_truncate(cache, seq, 3), OSCAR_E_STATE, "in an open step");
  OSCAR_OK_(oscar_step_abort(cache, step));
  REFUSED(oscar_step_abort(cache, step), OSCAR_E_NOT_FOUND, "has ended");
  const uint32_t descending[] = {3, 2}, beyond[] = {2, 500};
  REFUSED(oscar_seq_accept(cache, seq, 396, 2, descending), OSCAR_E_INVALID, "ascending");
  REFUSED(oscar_seq_accept(cache, seq, 10, 2, beyond), OSCAR_E_INVALID, "indices[1]");
  const uint32_t first[] = {0};
  REFUSED(oscar_seq_accept(cache, seq, 10, 1, first), OSCAR_E_STATE, "no drafts");
  CHECK(cache.length(seq) == 400);
}

TEST_CASE("NaN reaches only the rows that see it, and is stored as 0 and counted when packed") {
  const Geometry g{1, 2, 1, 64, 64};
  Cache cache(config_of(g, "2bit"));
  const oscar_seq seq = cache.open(), clean = cache.open();
  run_step(cache, g, clean, range(0, 10));
  LayerInput in = make_input(g, range(0, 200), 0);
  in.k[20 * 64 + 3] = NAN;
  in.v[21 * 64 + 4] = INFINITY;
  const oscar_step step = begin(cache, {{seq, 200, 0}});
  const LayerOutput out = run_layer(cache, step, g, 0, in);
  OSCAR_OK_(oscar_step_end(cache, step));
  CHECK(std::isfinite(out.out[19 * 128]));
  CHECK(std::isnan(out.out[20 * 128]));
  CHECK(cache.stats().n_non_finite == 2);
  for (float x : run_step(cache, g, clean, range(10, 1)).out) REQUIRE(std::isfinite(x));
  for (float x : run_step(cache, g, seq, range(500, 1)).out) REQUIRE(std::isfinite(x));
}

TEST_CASE("an unknown backend is refused with the list of what is there") {
  {
    const BackendVariable backend("abacus");
    REFUSED(create([](auto&) {}), OSCAR_E_BACKEND, "abacus");
    CHECK(says("scalar"));
  }
  {
    const BackendVariable backend("scalar");
    CHECK(create([](auto&) {}) == OSCAR_OK);
  }
  const BackendVariable backend(nullptr);
  oscar_backend_info info{};
  info.struct_size = sizeof info;
  uint32_t n = 0, selected = 0;
  while (oscar_backend_get(n, &info) == OSCAR_OK) {
    selected += info.selected;
    CHECK((info.available == 1) == (std::string(info.reason).empty()));
    ++n;
  }
  CHECK(n >= 2);
  CHECK(selected == 1);
}

TEST_CASE("the caller's allocator gives all host memory, and a failing one leaves nothing behind") {
  struct Counter {
    int64_t held = 0, n = 0, fail_at = -1;
  } counter;
  oscar_cache_config config = config_of({}, "2bit");
  config.allocator.user = &counter;
  config.allocator.allocate = [](void* user, uint64_t size, uint64_t alignment) -> void* {
    Counter& c = *static_cast<Counter*>(user);
    if (c.n++ == c.fail_at) return nullptr;
    c.held += static_cast<int64_t>(size);
    return std::aligned_alloc(alignment < 16 ? 16 : alignment, (size + 4095) / 4096 * 4096);
  };
  config.allocator.release = [](void* user, void* memory, uint64_t size, uint64_t) {
    static_cast<Counter*>(user)->held -= static_cast<int64_t>(size);
    std::free(memory);
  };
  {
    Cache cache(config);
    CHECK(counter.held > 0);
    const int64_t n = counter.n;
    const oscar_seq seq = cache.open();
    run_step(cache, {}, seq, range(0, 300));
    CHECK(counter.n == n);  // nothing is allocated after create
  }
  CHECK(counter.held == 0);
  const int64_t n_calls = counter.n;
  for (int64_t fail_at = 0; fail_at < n_calls; ++fail_at) {
    counter = {0, 0, fail_at};
    oscar_cache* cache = nullptr;
    REQUIRE(oscar_cache_create(&config, &cache) == OSCAR_E_NO_MEMORY);
    REQUIRE(cache == nullptr);
    REQUIRE(counter.held == 0);
  }
}
