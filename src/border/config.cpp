// Profiles, defaults, and what a configuration costs.
#include "border/config.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "backend/backend.h"
#include "border/arguments.h"
#include "border/calibrator_config.h"
#include "border/guard.h"
#include "border/handles.h"
#include "cache/footprint.h"

namespace oscar::border {

namespace {

struct Profile {
  const char* name;
  uint32_t storage, n_refined, key_bits, value_bits;
};

// The first one is the default.
constexpr Profile kProfiles[] = {
    {"2bit", OSCAR_STORAGE_BLOCKS, 4, 4, 4},   {"2bit-plain", OSCAR_STORAGE_BLOCKS, 0, 2, 2},
    {"k3v2", OSCAR_STORAGE_BLOCKS, 128, 3, 2}, {"3bit", OSCAR_STORAGE_BLOCKS, 128, 3, 3},
    {"4bit", OSCAR_STORAGE_BLOCKS, 128, 4, 4}, {"8bit", OSCAR_STORAGE_BLOCKS, 128, 8, 8},
    {"exact", OSCAR_STORAGE_EXACT, 0, 2, 2},
};

const Profile& find_profile(const char* name) {
  if (!name) return kProfiles[0];
  std::string known;
  for (const Profile& p : kProfiles) {
    if (std::string(name) == p.name) return p;
    known += known.empty() ? p.name : std::string(", ") + p.name;
  }
  throw Error(Status::kInvalid, "profile is \"%.40s\", known: %s", name, known.c_str());
}

oscar_cache_config defaults(const Profile& profile) {
  oscar_cache_config c{};
  c.struct_size = sizeof c;
  c.value_dim = OSCAR_DEFAULT;
  c.storage = profile.storage;
  c.n_refined = profile.n_refined;
  c.refined_key_bits = profile.key_bits;
  c.refined_value_bits = profile.value_bits;
  c.writer = OSCAR_WRITER_AUTO;
  c.n_sink = 16;
  c.n_recent = 128;
  c.max_rollback = 8;
  c.max_sequences = 16;
  c.max_open_steps = 1;
  c.max_step_tokens = 2048;
  c.max_tokens = 131072;
  c.capacity_bytes = uint64_t{1} << 30;
  c.device_type = OSCAR_DEVICE_CPU;
  c.n_threads = 1;
  return c;
}

uint32_t or_default(uint32_t given, uint32_t fallback) { return given == OSCAR_DEFAULT ? fallback : given; }

bool is_exact(uint32_t storage, const char* where) {
  if (storage > OSCAR_STORAGE_EXACT)
    throw Error(Status::kInvalid, "%s: storage is %u, allowed: 0 (blocks), 1 (exact)", where, storage);
  return storage == OSCAR_STORAGE_EXACT;
}

// A missing kv_source would read as layer 0.
void check_layer_size(uint32_t size, const char* name) {
  if (size < sizeof(oscar_layer_config))
    throw Error(Status::kInvalid, "%s: struct_size is %u, wanted at least %zu", name, size, sizeof(oscar_layer_config));
}

// The layer entries are as far apart as their own struct_size says.
oscar_layer_config layer_at(const oscar_cache_config& c, uint32_t index) {
  const uint32_t size = c.layers->struct_size;
  const auto* bytes = reinterpret_cast<const unsigned char*>(c.layers) + uint64_t{index} * size;
  char name[32];
  std::snprintf(name, sizeof name, "layers[%u]", index);
  check_layer_size(size, name);
  check_same_size(bytes, size, alignof(oscar_layer_config), name);
  const oscar_layer_config layer = read_struct(reinterpret_cast<const oscar_layer_config*>(bytes), name);
  if (layer.reserved != 0) throw Error(Status::kInvalid, "%s: reserved is %u, wanted: 0", name, layer.reserved);
  return layer;
}

void apply_layer(LayerConfig& l, const oscar_layer_config& given) {
  l.n_q_heads = or_default(given.n_q_heads, l.n_q_heads);
  l.n_kv_heads = or_default(given.n_kv_heads, l.n_kv_heads);
  const uint32_t key_dim = or_default(given.key_dim, l.key_dim);
  // A layer with its own key_dim and no value_dim has values as wide as its keys.
  const bool own_dim = given.key_dim != OSCAR_DEFAULT;
  l.value_dim = given.value_dim == OSCAR_DEFAULT || given.value_dim == 0 ? (own_dim ? key_dim : l.value_dim)
                                                                         : given.value_dim;
  l.key_dim = key_dim;
  l.window = or_default(given.window, l.window);
  if (given.storage != OSCAR_DEFAULT) l.exact = is_exact(given.storage, "layers");
  l.n_refined = or_default(given.n_refined, l.n_refined);
  l.refined_key_bits = or_default(given.refined_key_bits, l.refined_key_bits);
  l.refined_value_bits = or_default(given.refined_value_bits, l.refined_value_bits);
  l.kv_source = or_default(given.kv_source, l.kv_source);
}

void check_allocator(const oscar_allocator& allocator, const char* name) {
  if (!allocator.allocate != !allocator.release)
    throw Error(Status::kInvalid, "%s: one of allocate and release is NULL, wanted both or none", name);
}

// 0, of a program that knows no devices, is the CPU.
Device device_of(const oscar_cache_config& c) {
  const bool on_cpu = c.device_type == 0 || c.device_type == OSCAR_DEVICE_CPU;
  if (!on_cpu && c.device_type != OSCAR_DEVICE_CUDA)
    throw Error(Status::kInvalid, "device_type is %u, allowed: 1 (CPU), 2 (CUDA)", c.device_type);
  if (c.device_id < 0 || (on_cpu && c.device_id != 0))
    throw Error(Status::kInvalid, "device_id is %d, wanted: %s", c.device_id, on_cpu ? "0" : "0 or more");
  return on_cpu ? Device::kCpu : Device::kCuda;
}

}  // namespace

CacheConfig resolve_config(const oscar_cache_config* given) {
  const oscar_cache_config c = read_struct(given, "config");
  const oscar_cache_config d = defaults(kProfiles[0]);
  if (c.n_layers == 0 || c.n_layers > 4096)
    throw Error(Status::kInvalid, "n_layers is %u, allowed: 1 .. 4096", c.n_layers);
  if (c.writer != OSCAR_DEFAULT && c.writer > OSCAR_WRITER_SHAPED)
    throw Error(Status::kInvalid, "writer is %u, allowed: 0 (auto), 1 (plain), 2 (shaped)", c.writer);
  if (c.batch_invariant > 1 && c.batch_invariant != OSCAR_DEFAULT)
    throw Error(Status::kInvalid, "batch_invariant is %u, allowed: 0, 1", c.batch_invariant);
  if (c.reserved != 0) throw Error(Status::kInvalid, "reserved is %u, wanted: 0", c.reserved);
  if (c.n_layer_configs != 0 && c.n_layer_configs != c.n_layers)
    throw Error(Status::kInvalid, "n_layer_configs is %u, allowed: 0 or n_layers = %u", c.n_layer_configs, c.n_layers);
  if (c.n_layer_configs > 0) require(c.layers, "layers");
  check_allocator(c.allocator, "allocator");
  check_allocator(c.device_allocator, "device_allocator");

  LayerConfig base;
  base.n_q_heads = c.n_q_heads;
  base.n_kv_heads = c.n_kv_heads;
  base.key_dim = c.key_dim;
  base.value_dim = c.value_dim == 0 ? c.key_dim : or_default(c.value_dim, c.key_dim);
  base.window = or_default(c.window, 0);
  base.exact = is_exact(or_default(c.storage, d.storage), "config");
  base.n_refined = or_default(c.n_refined, d.n_refined);
  base.refined_key_bits = or_default(c.refined_key_bits, d.refined_key_bits);
  base.refined_value_bits = or_default(c.refined_value_bits, d.refined_value_bits);

  CacheConfig config;
  for (uint32_t i = 0; i < c.n_layers; ++i) {
    LayerConfig layer = base;
    layer.kv_source = i;
    if (c.n_layer_configs > 0) apply_layer(layer, layer_at(c, i));
    config.layers.push_back(layer);
  }
  config.writer = static_cast<Writer>(or_default(c.writer, OSCAR_WRITER_AUTO));
  config.n_sink = or_default(c.n_sink, d.n_sink);
  config.n_recent = or_default(c.n_recent, d.n_recent);
  config.max_rollback = or_default(c.max_rollback, std::min(d.max_rollback, config.n_recent));
  config.max_sequences = or_default(c.max_sequences, d.max_sequences);
  config.max_open_steps = or_default(c.max_open_steps, d.max_open_steps);
  config.max_step_tokens = or_default(c.max_step_tokens, d.max_step_tokens);
  config.max_tokens = c.max_tokens;
  config.capacity_bytes = c.capacity_bytes;
  if (c.calibration) config.calibration = c.calibration->calibration;
  config.allocator = {c.allocator.user, c.allocator.allocate, c.allocator.release};
  config.device = device_of(c);
  config.device_id = c.device_id;
  config.device_allocator = {c.device_allocator.user, c.device_allocator.allocate, c.device_allocator.release};
  config.batch_invariant = or_default(c.batch_invariant, 0) != 0;
  config.n_threads = c.n_threads == 0 ? 1 : or_default(c.n_threads, 1);
  if (c.self_calibrate) config.self_calibration = calibrator_config(config, c.self_calibrate, "self_calibrate");
  return config;
}

namespace {

void fill_report(oscar_cache_report& report, const CachePlan& plan, const Backend& backend, uint64_t context) {
  const LayerClass& first = plan.classes[plan.layers[0].layer_class];
  const double elements = static_cast<double>(context) * static_cast<double>(plan.elements_per_token());
  report.served = 1;
  report.bytes_sequences = plan.sequence_bytes(context, 1);
  report.bytes_fixed = fixed_bytes(plan, backend, *plan.calibration());
  report.bytes_sequences_frozen = plan.frozen().sequence_bytes(context, 1);
  report.bytes_fixed_frozen = frozen_fixed_bytes(plan, backend, *plan.calibration());
  report.bytes_bf16 = context * plan.elements_per_token() * sizeof(uint16_t);
  report.bits_per_element = elements > 0 ? 8.0 * static_cast<double>(report.bytes_sequences) / elements : 0.0;
  report.block_bytes = first.exact ? 0 : first.layout.bytes;
  report.block_bits_per_element = first.exact
                                      ? 0.0
                                      : 8.0 * first.layout.bytes / (kBlockTokens * (first.key_dim + first.value_dim));
  std::snprintf(report.reason, sizeof report.reason, "%s", plan.advice.c_str());
  if (report.bytes_sequences > plan.config.capacity_bytes)
    std::snprintf(report.reason, sizeof report.reason,
                  "capacity_bytes %llu does not hold a sequence of %llu tokens (%llu bytes)",
                  static_cast<unsigned long long>(plan.config.capacity_bytes), static_cast<unsigned long long>(context),
                  static_cast<unsigned long long>(report.bytes_sequences));
}

}  // namespace
}  // namespace oscar::border

using namespace oscar;
using namespace oscar::border;

extern "C" {

oscar_status oscar_cache_config_init(oscar_cache_config* config_out, uint32_t size, const char* profile) {
  return guarded("oscar_cache_config_init", [&] {
    require(config_out, "config_out");
    check_struct_size(size, sizeof *config_out, "size");
    config_out->struct_size = size;
    write_struct(config_out, oscar_cache_config{}, "config_out");
    const oscar_cache_config full = defaults(find_profile(profile));
    write_struct(config_out, full, "config_out");
  });
}

oscar_status oscar_layer_config_init(oscar_layer_config* layer_out, uint32_t size) {
  return guarded("oscar_layer_config_init", [&] {
    require(layer_out, "layer_out");
    check_struct_size(size, sizeof *layer_out, "size");
    check_layer_size(size, "size");
    constexpr uint32_t d = OSCAR_DEFAULT;
    const oscar_layer_config full{sizeof full, d, d, d, d, d, d, d, d, d, d, 0};
    layer_out->struct_size = size;
    write_struct(layer_out, full, "layer_out");
  });
}

oscar_status oscar_cache_check(const oscar_cache_config* config, uint64_t context, oscar_cache_report* report_out) {
  return guarded("oscar_cache_check", [&] {
    require(report_out, "report_out");
    oscar_cache_report report{};
    write_struct(report_out, report, "report_out");
    report.context = context;
    try {
      CacheConfig resolved = resolve_config(config);
      if (context > resolved.max_tokens)
        throw Error(Status::kInvalid, "context is %llu, max_tokens %llu", static_cast<unsigned long long>(context),
                    static_cast<unsigned long long>(resolved.max_tokens));
      char error[256];
      const Backend* backend = backend_select(error, sizeof error);
      if (!backend) throw Error(Status::kBackend, "%s", error);
      fill_report(report, CachePlan(std::move(resolved)), *backend, context);
    } catch (const Error& e) {
      if (e.status() != Status::kUnsupported) throw;
      std::snprintf(report.reason, sizeof report.reason, "%s", e.what());
    }
    write_struct(report_out, report, "report_out");
  });
}

}  // extern "C"
