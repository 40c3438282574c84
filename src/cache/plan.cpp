#include "cache/plan.h"

#include <algorithm>

#include "backend/device_engine.h"
#include "cache/pool.h"
#include "format/error.h"
#include "transform/calibration.h"

namespace oscar {

namespace {

constexpr uint32_t kServedDims[] = {64, 80, 96, 128, 192, 256};
constexpr uint32_t kMaxGroup = 32;
constexpr uint64_t kMaxContext = uint64_t{1} << 31;

uint64_t align_unit(uint64_t bytes) { return (bytes + kUnitAlignment - 1) / kUnitAlignment * kUnitAlignment; }

bool is_served_dim(uint32_t dim) {
  return std::find(std::begin(kServedDims), std::end(kServedDims), dim) != std::end(kServedDims);
}

void check_range(const char* name, uint64_t value, uint64_t least, uint64_t most) {
  if (value < least || value > most)
    throw Error(Status::kInvalid, "%s is %llu, allowed: %llu .. %llu", name, static_cast<unsigned long long>(value),
                static_cast<unsigned long long>(least), static_cast<unsigned long long>(most));
}

void check_limits(const CacheConfig& c) {
  check_range("n_layers", c.layers.size(), 1, 4096);
  check_range("n_recent", c.n_recent, 1, 1u << 20);
  check_range("n_sink", c.n_sink, 0, 1u << 20);
  check_range("max_rollback", c.max_rollback, 1, std::min<uint64_t>(c.n_recent, kMaxVoters));
  check_range("max_sequences", c.max_sequences, 1, 1u << 20);
  check_range("max_open_steps", c.max_open_steps, 1, 1024);
  check_range("max_step_tokens", c.max_step_tokens, 1, 1u << 20);
  check_range("n_threads", c.n_threads, 1, 1024);
  check_range("max_tokens", c.max_tokens, 1, kMaxContext);
}

void check_layer(uint32_t index, const LayerConfig& l) {
  auto refuse = [index](Status status, const char* field, uint32_t value, const char* wanted) {
    throw Error(status, "layer %u: %s is %u, %s", index, field, value, wanted);
  };
  if (l.n_kv_heads == 0 || l.n_kv_heads > 1024)
    refuse(Status::kInvalid, "n_kv_heads", l.n_kv_heads, "allowed: 1 .. 1024");
  if (l.n_q_heads == 0 || l.n_q_heads % l.n_kv_heads != 0)
    refuse(Status::kInvalid, "n_q_heads", l.n_q_heads, "wanted: a multiple of n_kv_heads");
  if (l.n_q_heads / l.n_kv_heads > kMaxGroup)
    refuse(Status::kUnsupported, "n_q_heads", l.n_q_heads, "served: at most 32 query heads per KV head");
  if (l.key_dim == 0) refuse(Status::kInvalid, "key_dim", l.key_dim, "wanted: the head_dim of queries and keys");
  if (!is_served_dim(l.key_dim))
    refuse(Status::kUnsupported, "key_dim", l.key_dim, "served: 64, 80, 96, 128, 192, 256");
  if (!is_served_dim(l.value_dim))
    refuse(Status::kUnsupported, "value_dim", l.value_dim, "served: 64, 80, 96, 128, 192, 256");
  if (l.n_refined > kBlockTokens) refuse(Status::kInvalid, "n_refined", l.n_refined, "allowed: 0 .. 128");
  for (uint32_t bits : {l.refined_key_bits, l.refined_value_bits})
    if ((bits < 2 || bits > 4) && bits != 8)
      refuse(Status::kInvalid, "refined_key_bits or refined_value_bits", bits, "allowed: 2, 3, 4, 8");
  if (l.kv_source > index) refuse(Status::kInvalid, "kv_source", l.kv_source, "wanted: an earlier layer");
}

// A window this short never pays for packing: its tokens leave before they have aged much.
bool is_exact_window(const LayerConfig& l, uint32_t n_recent) {
  return l.window > 0 && l.window <= n_recent + 2 * kBlockTokens;
}

LayerClass class_of(const LayerConfig& l, const CacheConfig& config) {
  LayerClass c;
  c.n_kv_heads = l.n_kv_heads;
  c.key_dim = l.key_dim;
  c.value_dim = l.value_dim;
  c.window = l.window;
  c.exact = l.exact || is_exact_window(l, config.n_recent);
  if (!c.exact) c.shape = {l.key_dim, l.value_dim, l.n_refined, l.refined_key_bits - 2, l.refined_value_bits - 2};
  return c;
}

void size_class(LayerClass& c, const CacheConfig& config) {
  c.n_sink = c.window > 0 || c.exact ? 0 : config.n_sink;
  c.head_page_bytes = uint64_t{kPageTokens} * (c.key_dim + c.value_dim) * sizeof(uint16_t);
  c.unit_bytes[static_cast<int>(UnitKind::kPage)] = align_unit(c.heads() * c.head_page_bytes);
  if (c.exact) return;
  c.layout = block_layout(c.shape);
  c.votes = c.layout.has_ids();
  c.unit_bytes[static_cast<int>(UnitKind::kBlocks)] = align_unit(c.heads() * c.layout.bytes);
  if (!c.votes) return;
  c.vote_layout = VoteLayout(config.n_recent, config.max_rollback);
  c.unit_bytes[static_cast<int>(UnitKind::kScores)] = align_unit(c.heads() * c.vote_layout.bytes());
}

bool is_all_shaped(const Calibration& calibration, uint32_t layer) {
  for (uint32_t h = 0; h < calibration.layers()[layer].n_kv_heads; ++h)
    if (!calibration.is_shaped(layer, h)) return false;
  return true;
}

void resolve_self_calibration(CachePlan& plan) {
  CalibratorConfig& calibrator = *plan.config.self_calibration;
  if (plan.config.calibration)
    throw Error(Status::kInvalid, "calibration and self_calibrate are both given, wanted one of them");
  if (plan.config.device != Device::kCpu)
    throw Error(Status::kUnsupported,
                "self_calibrate is served on the CPU only: give a CUDA cache a calibration that a calibrator or a CPU "
                "cache has made");
  if (plan.config.writer == Writer::kShaped)
    throw Error(Status::kUnsupported,
                "the shaped writer with self_calibrate: a KV head that stays data-free has no query moments; use auto");
  bool packs = false;
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    calibrator.layers[i].exact = plan.classes[plan.layers[i].layer_class].exact;
    packs = packs || !calibrator.layers[i].exact;
  }
  if (!packs) throw Error(Status::kInvalid, "self_calibrate is given, and every layer is exact: nothing is packed");
  if (!calibrator.knows_rope)
    plan.advice = "without rope_frequencies the cache can be frozen when a sequence has reached all of the " +
                  std::to_string(calibrator.n_positions) + " positions to be served";
  plan.collecting = true;
}

}  // namespace

CachePlan::CachePlan(CacheConfig given) : config(std::move(given)) {
  check_limits(config);
  n_recent = config.n_recent;
  max_rollback = config.max_rollback;
  max_sequences = config.max_sequences;
  max_open_steps = config.max_open_steps;
  max_step_tokens = config.max_step_tokens;
  max_tokens = config.max_tokens;
  plain_writer = config.writer == Writer::kPlain;
  batch_invariant = config.batch_invariant;
  n_threads = config.n_threads;
  for (uint32_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& l = config.layers[i];
    check_layer(i, l);
    LayerPlan plan;
    plan.n_q_heads = l.n_q_heads;
    plan.kv_source = l.kv_source;
    plan.owns = l.kv_source == i;
    plan.last_consumer = i;
    if (plan.owns) {
      const LayerClass mine = class_of(l, config);
      auto it = std::find_if(classes.begin(), classes.end(),
                             [&](const LayerClass& c) { return c.same_geometry(mine); });
      if (it == classes.end()) it = classes.insert(it, mine);
      plan.layer_class = static_cast<uint32_t>(it - classes.begin());
      plan.index_in_class = it->n_layers++;
    } else {
      LayerPlan& source = layers[l.kv_source];
      const LayerConfig& s = config.layers[l.kv_source];
      if (!source.owns) throw Error(Status::kInvalid, "layer %u: kv_source %u has no keys of its own", i, l.kv_source);
      if (s.n_kv_heads != l.n_kv_heads || s.key_dim != l.key_dim || s.value_dim != l.value_dim || s.window != l.window)
        throw Error(Status::kInvalid, "layer %u: geometry or window differs from its kv_source %u", i, l.kv_source);
      plan.layer_class = source.layer_class;
      plan.index_in_class = source.index_in_class;
      source.last_consumer = i;
      if (source.scratch == 0) source.scratch = n_scratch++;
      plan.scratch = source.scratch;
    }
    layers.push_back(plan);
  }
  for (LayerClass& c : classes) size_class(c, config);
  if (config.self_calibration) resolve_self_calibration(*this);
  Pool::slab_count(pool_units(), main_kind(), config.capacity_bytes);
  if (config.calibration) {
    const auto given_layers = config.calibration->layers();
    if (given_layers.size() != config.layers.size())
      throw Error(Status::kInvalid, "the calibration has %zu layers, the cache %zu", given_layers.size(),
                  config.layers.size());
    for (uint32_t i = 0; i < config.layers.size(); ++i) {
      const LayerConfig& l = config.layers[i];
      if (given_layers[i] != LayerGeometry{l.n_kv_heads, l.key_dim, l.value_dim})
        throw Error(Status::kInvalid, "layer %u: the calibration is for %u heads of %u/%u, the cache has %u of %u/%u",
                    i, given_layers[i].n_kv_heads, given_layers[i].key_dim, given_layers[i].value_dim, l.n_kv_heads,
                    l.key_dim, l.value_dim);
    }
  }
  for (uint32_t i = 0; i < config.layers.size(); ++i) {
    const bool packs = layers[i].owns && !classes[layers[i].layer_class].exact;
    if (packs && config.writer == Writer::kShaped && (!config.calibration || !is_all_shaped(*config.calibration, i)))
      throw Error(Status::kUnsupported, "the shaped writer needs a calibration with query moments; layer %u has none",
                  i);
  }
  if (config.device == Device::kCuda && n_threads > 1)
    throw Error(Status::kUnsupported, "n_threads is %u: a CUDA cache works on its device, with no threads", n_threads);
  for (const LayerClass& c : classes)
    if (config.device == Device::kCuda && !c.exact && (c.layout.key_plane > 2 || c.layout.value_plane > 2))
      throw Error(Status::kUnsupported,
                  "refined keys or values of 8 bits are served on the CPU only, not on CUDA devices");
  if (config.device == Device::kCuda) cuda_check_plan(*this, config.device_id);
  for (uint32_t dim : {config.layers[0].key_dim, config.layers[0].value_dim})
    if (dim % kDimUnit != 0)
      advice = "head_dim " + std::to_string(dim) + " is stored padded to " + std::to_string(round_up(dim, kDimUnit)) +
               "; the bytes reported include it";
}

std::shared_ptr<const Calibration> CachePlan::calibration() const {
  if (config.calibration) return config.calibration;
  std::vector<LayerGeometry> geometry;
  for (const LayerConfig& l : config.layers) geometry.push_back({l.n_kv_heads, l.key_dim, l.value_dim});
  return std::make_shared<const Calibration>(Calibration::data_free(geometry));
}

std::vector<uint64_t> CachePlan::pool_units() const {
  std::vector<uint64_t> units;
  for (const LayerClass& c : classes) units.insert(units.end(), std::begin(c.unit_bytes), std::end(c.unit_bytes));
  return units;
}

uint32_t CachePlan::main_kind() const {
  for (uint32_t i = 0; i < classes.size(); ++i)
    if (!classes[i].exact) return kind(i, UnitKind::kBlocks);
  return kind(0, UnitKind::kPage);
}

uint64_t CachePlan::keep_from(const LayerClass& c, uint64_t n_tokens) const {
  // The next query is at n_tokens at the earliest, or max_rollback before it after a rollback.
  const uint64_t behind = uint64_t{c.window} + config.max_rollback;
  return c.window > 0 && n_tokens > behind ? n_tokens - behind : 0;
}

uint64_t CachePlan::aged_blocks(const LayerClass& c, uint64_t packed_end, uint64_t n_tokens) const {
  if (c.exact || n_tokens < packed_end + config.n_recent) return 0;
  return (n_tokens - config.n_recent - packed_end) / kBlockTokens;
}

std::vector<uint64_t> CachePlan::units_for(uint64_t n_tokens, uint64_t n_new) const {
  std::vector<uint64_t> units(classes.size() * 3, 0);
  for (uint32_t i = 0; i < classes.size(); ++i) {
    const LayerClass& c = classes[i];
    const uint64_t kept = keep_from(c, n_tokens), n_blocks = aged_blocks(c, c.n_sink, n_tokens);
    const uint64_t packed_end = c.n_sink + n_blocks * kBlockTokens, end = n_tokens + n_new;
    const uint64_t gone = kept > c.n_sink ? std::min((kept - c.n_sink) / kBlockTokens, n_blocks) : 0;
    const uint64_t tail = c.exact || collecting ? kept : std::max<uint64_t>(packed_end, kept);
    const uint64_t n_pages = (end + kPageTokens - 1) / kPageTokens;
    const uint64_t first_tail_page = std::min(tail / kPageTokens, n_pages);
    const uint64_t sink_pages = std::min<uint64_t>((c.n_sink + kPageTokens - 1) / kPageTokens, first_tail_page);
    units[kind(i, UnitKind::kBlocks)] = n_blocks - gone;
    units[kind(i, UnitKind::kPage)] = sink_pages + n_pages - first_tail_page;
    units[kind(i, UnitKind::kScores)] = c.votes ? 1 : 0;
  }
  return units;
}

uint64_t CachePlan::sequence_bytes(uint64_t n_tokens, uint64_t n_new) const {
  const std::vector<uint64_t> units = units_for(n_tokens, n_new), unit_bytes = pool_units();
  uint64_t bytes = 0;
  for (size_t k = 0; k < units.size(); ++k) bytes += units[k] * unit_bytes[k];
  for (uint32_t i = 0; i < classes.size(); ++i)
    bytes += units[kind(i, UnitKind::kBlocks)] * sizeof(BlockEntry) + units[kind(i, UnitKind::kPage)] * sizeof(Unit);
  return bytes;
}

CachePlan CachePlan::frozen() const {
  CachePlan plan = *this;
  plan.collecting = false;
  return plan;
}

bool CachePlan::has_window() const {
  return std::any_of(classes.begin(), classes.end(), [](const LayerClass& c) { return c.window > 0; });
}

uint64_t CachePlan::elements_per_token() const {
  uint64_t elements = 0;
  for (const LayerClass& c : classes) elements += c.heads() * (c.key_dim + c.value_dim);
  return elements;
}

}  // namespace oscar
