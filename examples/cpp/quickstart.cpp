// The quick start of README.md in C++17: owners that free themselves, statuses as exceptions. The header is plain C, and
// everything here is the program's own.
#include <oscar/oscar.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>

namespace {

void check(oscar_status status) {
  if (status != OSCAR_OK) throw std::runtime_error(oscar_last_error());
}

struct Destroy {
  void operator()(oscar_cache* cache) const { oscar_cache_destroy(cache); }
};
using Cache = std::unique_ptr<oscar_cache, Destroy>;

Cache create(const oscar_cache_config& config) {
  oscar_cache* cache = nullptr;
  check(oscar_cache_create(&config, &cache));
  return Cache(cache);
}

// A step that is left without end() is aborted.
class Step {
 public:
  Step(oscar_cache* cache, const oscar_step_entry& entry) : cache_(cache) {
    oscar_step_args args{};
    args.struct_size = sizeof args;
    args.n_entries = 1;
    args.entries = &entry;
    check(oscar_step_begin(cache, &args, nullptr, &step_));
  }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  ~Step() { oscar_step_abort(cache_, step_); }  // not found once it has ended, which is fine

  void layer(const oscar_layer_args& args) { check(oscar_layer(cache_, step_, &args, nullptr)); }
  void end() { check(oscar_step_end(cache_, step_)); }

 private:
  oscar_cache* cache_;
  oscar_step step_{};
};

using Rows = std::array<float, 2 * 64>;  // [2 tokens, 1 head, 64]

oscar_tensor tensor(Rows& rows) {
  oscar_tensor t{};
  t.data = rows.data();
  t.device_type = OSCAR_DEVICE_CPU;
  t.dtype_code = OSCAR_DTYPE_FLOAT;
  t.dtype_bits = 32;
  t.dtype_lanes = 1;
  t.ndim = 3;
  t.shape[0] = 2, t.shape[1] = 1, t.shape[2] = 64;
  return t;
}

float attend() {
  oscar_cache_config config;
  check(oscar_cache_config_init(&config, sizeof config, "2bit"));
  config.n_layers = config.n_q_heads = config.n_kv_heads = 1;
  config.key_dim = 64;
  const Cache cache = create(config);
  oscar_seq sequence;
  check(oscar_seq_open(cache.get(), &sequence));

  // To the query of token 1, key 0 has logit 0 and key 1 has logit ln 3: it sees 1/4 and 3/4 of the values.
  Rows q{}, k{}, v{}, out{};
  q[64] = std::log(3.0f), k[64] = 1, v[64] = 1;

  Step step(cache.get(), {sequence, 2, 0});
  oscar_layer_args layer{};
  layer.struct_size = sizeof layer;
  layer.scale = 1;
  layer.k = tensor(k), layer.v = tensor(v), layer.q = tensor(q), layer.out = tensor(out);
  step.layer(layer);
  step.end();
  return out[64];
}

}  // namespace

int main() {
  try {
    std::printf("token 1 sees %.3f\n", static_cast<double>(attend()));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
