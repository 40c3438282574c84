// Calls without a cache: what is said of the library, configurations, calibrations, calibrators, merging.
#include <memory>

#include "faults/call.h"
#include "property/self_calibration.h"
#include "unit/torch_file.h"

namespace test {

namespace {

const Geometry kSmall{2, 2, 1, 64, 64};

Bytes saved(const Calibration& calibration) { return calibration.save(); }

// A calibration that has matrices, moments, and two layers.
struct Matrices {
  std::vector<float> identity = std::vector<float>(64 * 64), moment = identity;
  oscar_calibration_layer layers[2] = {};
  Matrices() {
    for (size_t i = 0; i < 64; ++i) identity[i * 65] = 1.0f + static_cast<float>(i % 3), moment[i * 65] = 2.0f;
    for (oscar_calibration_layer& l : layers) {
      l.struct_size = sizeof l;
      l.n_kv_heads = 1;
      l.key_dim = l.value_dim = 64;
      l.key_transform = tensor(identity.data(), {1, 64, 64});
      l.query_moment = tensor(moment.data(), {1, 64, 64});
    }
    layers[1].value_transform = tensor(identity.data(), {1, 64, 64});
  }
};

// Functions that fill a struct or hand out a calibration, made from `Input`.
template <class Output, class Input, class Function>
Call filling(std::shared_ptr<Input> input, Function function) {
  auto output = std::make_shared<Output>();
  auto clean = [output] {
    std::memset(output.get(), 0xa5, sizeof(Output));
    output->struct_size = sizeof(Output);
  };
  Call call;
  call.make = [=] { return clean(), function(*input, output.get()); };
  call.outputs_are_empty = [output] {
    Output empty{};
    empty.struct_size = sizeof empty;
    return std::memcmp(&empty, output.get(), sizeof empty) == 0;
  };
  call.result = [output] {
    Bytes bytes;
    put(bytes, *output);
    return bytes;
  };
  return call;
}

template <class Input, class Function>
Call making(std::shared_ptr<Input> input, Function function) {
  auto output = std::make_shared<Calibration>();
  Call call;
  call.make = [=] {
    output->handle = reinterpret_cast<oscar_calibration*>(output.get());  // to be overwritten
    const oscar_status status = function(*input, &output->handle);
    return status;
  };
  call.outputs_are_empty = [output] { return output->handle == nullptr; };
  call.result = [output] { return saved(*output); };
  return call;
}

Call make_default() {
  return making(std::make_shared<oscar_cache_config>(config_of(kSmall, "2bit")),
                [](const oscar_cache_config& c, oscar_calibration** to) { return oscar_calibration_default(&c, to); });
}

Call make_identity() {
  return making(std::make_shared<oscar_cache_config>(config_of(kSmall, "2bit")),
                [](const oscar_cache_config& c, oscar_calibration** to) { return oscar_calibration_identity(&c, to); });
}

Call make_create() {
  return making(std::make_shared<Matrices>(),
                [](const Matrices& m, oscar_calibration** to) { return oscar_calibration_create(m.layers, 2, to); });
}

std::shared_ptr<Calibration> a_calibration() {
  auto calibration = std::make_shared<Calibration>();
  OSCAR_OK_(oscar_calibration_create(Matrices().layers, 2, &calibration->handle));
  return calibration;
}

Call make_load() {
  return making(std::make_shared<Bytes>(saved(*a_calibration())), [](const Bytes& bytes, oscar_calibration** to) {
    return oscar_calibration_load(bytes.data(), bytes.size(), to);
  });
}

Call make_slice() {
  return making(a_calibration(), [](const Calibration& c, oscar_calibration** to) {
    const oscar_calibration_part parts[] = {{1, 0, 1}, {0, 0, 1}};
    return oscar_calibration_slice(c.handle, parts, 2, to);
  });
}

Call make_import() {
  std::mt19937_64 random(1);
  using namespace oscar::test;
  const auto file = std::make_shared<Bytes>(
      torch_file(pickle_of({{0, square_note(0, 64)}, {1, square_note(1, 64)}}),
                 {storage_of(random_rotation(64, random)), storage_of(random_rotation(64, random))})
          .bytes);
  return making(file, [](const Bytes& bytes, oscar_calibration** to) {
    const oscar_cache_config config = config_of(kSmall, "2bit");
    oscar_calibration_import_args args{};
    args.struct_size = sizeof args;
    args.key_bytes = bytes.data();
    args.key_size = bytes.size();
    return oscar_calibration_import_torch(&config, &args, to);
  });
}

Call make_save() {
  const auto calibration = a_calibration();
  struct Output {
    uint64_t size = 99;
    Bytes bytes;
  };
  auto output = std::make_shared<Output>();
  output->bytes.resize(1u << 20);
  Call call;
  call.make = [=] {
    output->size = 99;
    return oscar_calibration_save(calibration->handle, output->bytes.data(), output->bytes.size(), &output->size);
  };
  call.outputs_are_empty = [output] { return output->size == 0; };
  call.look = [=] { return saved(*calibration); };
  call.result = [output] { return Bytes(output->bytes.begin(), output->bytes.begin() + output->size); };
  return call;
}

Call make_destroy() {
  const auto calibration = a_calibration();
  Call call;
  call.make = [=] {
    oscar_calibration_destroy(calibration->handle);
    calibration->handle = nullptr;
    return OSCAR_OK;
  };
  return call;
}

Call make_info() {
  return filling<oscar_calibration_info>(a_calibration(), [](const Calibration& c, oscar_calibration_info* to) {
    return oscar_calibration_info_get(c.handle, to);
  });
}

Call make_head() {
  return filling<oscar_calibration_head_info>(a_calibration(),
                                              [](const Calibration& c, oscar_calibration_head_info* to) {
                                                return oscar_calibration_head_get(c.handle, 1, 0, to);
                                              });
}

// ------------------------------------------------------------------------------------------------ calibrator ----

struct Calibrator {
  Geometry geometry;
  Rope rope = Rope(geometry.key_dim);
  oscar_cache_config config = config_of(geometry, "2bit");
  oscar_calibrator* handle = nullptr;
  explicit Calibrator(const Geometry& g = kSmall) : geometry(g) {
    OSCAR_OK_(oscar_calibrator_create(&config, &rope.args, &handle));
  }
  ~Calibrator() { oscar_calibrator_destroy(handle); }
  Calibrator(const Calibrator&) = delete;
  Calibrator& operator=(const Calibrator&) = delete;

  oscar_status feed(uint32_t layer, uint64_t first, LayerInput& in) const {
    const Geometry& g = geometry;
    const auto n = static_cast<int64_t>(in.k.size() / (g.n_kv_heads * g.key_dim));
    oscar_calibrator_feed_args args{};
    args.struct_size = sizeof args;
    args.layer = layer;
    args.first_position = first;
    args.q = tensor(in.q.data(), {n, g.n_q_heads, g.key_dim});
    args.k = tensor(in.k.data(), {n, g.n_kv_heads, g.key_dim});
    args.v = tensor(in.v.data(), {n, g.n_kv_heads, g.value_dim});
    return oscar_calibrator_feed(handle, &args);
  }
  void feed_all(uint64_t first, uint64_t n) const {
    for (uint32_t layer = 0; layer < geometry.n_layers; ++layer) {
      LayerInput in = make_input(geometry, range(first, n), layer);
      OSCAR_OK_(feed(layer, first, in));
    }
  }
  Bytes finished() const {
    Calibration calibration;
    OSCAR_OK_(oscar_calibrator_finish(handle, &calibration.handle));
    return saved(calibration);
  }
};

Call make_calibrator() {
  auto input = std::make_shared<Calibrator>();  // its configuration
  auto made = std::make_shared<oscar_calibrator*>(nullptr);
  Call call;
  call.make = [=] {
    *made = input->handle;
    return oscar_calibrator_create(&input->config, &input->rope.args, made.get());
  };
  call.outputs_are_empty = [made] { return *made == nullptr; };
  call.result = [=] {
    std::swap(input->handle, *made);
    oscar_calibrator_destroy(*made);
    input->feed_all(0, 300);
    return input->finished();
  };
  return call;
}

// Fed in pieces that end within a block, at its end and beyond: tokens that were counted twice, or half, would show.
Call make_feed(const Geometry& g, uint64_t first, uint64_t n) {
  auto calibrator = std::make_shared<Calibrator>(g);
  calibrator->feed_all(0, first);
  const uint32_t layer = g.n_layers - 1;
  auto in = std::make_shared<LayerInput>(make_input(g, range(first, n), layer));
  Call call;
  call.make = [=] { return calibrator->feed(layer, first, *in); };
  call.look = [=] { return calibrator->finished(); };
  call.result = call.look;
  return call;
}

Call make_finish() {
  auto calibrator = std::make_shared<Calibrator>();
  calibrator->feed_all(0, 300);
  return making(calibrator,
                [](const Calibrator& c, oscar_calibration** to) { return oscar_calibrator_finish(c.handle, to); });
}

Call make_calibrator_destroy() {
  auto calibrator = std::make_shared<Calibrator>();
  Call call;
  call.make = [=] {
    oscar_calibrator_destroy(calibrator->handle);
    calibrator->handle = nullptr;
    return OSCAR_OK;
  };
  return call;
}

// ------------------------------------------------------------------------------------------------- the rest ----

struct Nothing {};

Call make_config_init() {
  return filling<oscar_cache_config>(std::make_shared<Nothing>(), [](const Nothing&, oscar_cache_config* to) {
    return oscar_cache_config_init(to, sizeof *to, "exact");
  });
}

Call make_layer_init() {
  return filling<oscar_layer_config>(std::make_shared<Nothing>(), [](const Nothing&, oscar_layer_config* to) {
    return oscar_layer_config_init(to, sizeof *to);
  });
}

Call make_backend_get() {
  return filling<oscar_backend_info>(std::make_shared<Nothing>(),
                                     [](const Nothing&, oscar_backend_info* to) { return oscar_backend_get(0, to); });
}

struct CheckInput {
  Rope rope;
  oscar_cache_config config = collecting_config(kSmall, rope);
  std::vector<oscar_layer_config> layers = layers_of(config);
};

Call make_check() {
  return filling<oscar_cache_report>(std::make_shared<CheckInput>(), [](const CheckInput& in, oscar_cache_report* to) {
    return oscar_cache_check(&in.config, 1000, to);
  });
}

Call make_merge() {
  struct Parts {
    std::vector<float> outs, lses, out, lse;
  };
  auto p = std::make_shared<Parts>(Parts{{1, 2, 3, 4, 5, 6, 7, 8}, {0, 1, 2, 3}, std::vector<float>(4), {0, 0}});
  Call call;
  call.make = [p] {
    const oscar_tensor outs = tensor(p->outs.data(), {2, 2, 2}), lses = tensor(p->lses.data(), {2, 2}),
                       out = tensor(p->out.data(), {2, 2}), lse = tensor(p->lse.data(), {2});
    return oscar_merge(&outs, &lses, &out, &lse, nullptr);
  };
  call.result = [p] {
    Bytes bytes;
    put(bytes, p->out.data(), p->out.size());
    put(bytes, p->lse.data(), p->lse.size());
    return bytes;
  };
  return call;
}

// Calls that cannot fail, and take nothing.
Call saying(const std::function<const char*()>& what) {
  auto text = std::make_shared<const char*>("");
  Call call;
  call.make = [=] { return *text = what(), OSCAR_OK; };
  call.result = [text] { return Bytes(*text, *text + std::strlen(*text)); };
  return call;
}

}  // namespace

std::vector<CallKind> calibration_calls() {
  return {
      {"oscar_version", "", [] { return saying(oscar_version); }, true},
      {"oscar_abi_version", "", [] { return saying([] { return oscar_abi_version() == 1 ? "1" : ""; }); }, true},
      {"oscar_status_name", "", [] { return saying([] { return oscar_status_name(OSCAR_E_STATE); }); }, true},
      {"oscar_last_error", "", [] { return saying([] { return oscar_last_error() ? "text" : ""; }); }, true},
      {"oscar_backend_get", "", make_backend_get},
      {"oscar_cache_config_init", "", make_config_init},
      {"oscar_layer_config_init", "", make_layer_init},
      {"oscar_cache_check", "", make_check},
      {"oscar_calibration_default", "", make_default},
      {"oscar_calibration_identity", "", make_identity},
      {"oscar_calibration_create", "", make_create},
      {"oscar_calibration_save", "", make_save},
      {"oscar_calibration_load", "", make_load},
      {"oscar_calibration_import_torch", "", make_import},
      {"oscar_calibration_info_get", "", make_info},
      {"oscar_calibration_head_get", "", make_head},
      {"oscar_calibration_slice", "", make_slice},
      {"oscar_calibration_destroy", "", make_destroy, true},
      {"oscar_calibrator_create", "", make_calibrator},
      {"oscar_calibrator_feed", "within a block", [] { return make_feed(kSmall, 200, 20); }},
      {"oscar_calibrator_feed", "several blocks", [] { return make_feed(kSmall, 200, 300); }},
      {"oscar_calibrator_feed", "wide heads",
       [] {
         return make_feed({1, 2, 1, 256, 192}, 300, 140);
       }},
      {"oscar_calibrator_finish", "", make_finish},
      {"oscar_calibrator_destroy", "", make_calibrator_destroy, true},
      {"oscar_merge", "", make_merge},
  };
}

}  // namespace test
