// What is told of packing: elements that were not finite, and layers whose keys or values no longer look like those that the
// calibration was made from.
#include "cache/cache.h"
#include "format/error.h"

namespace oscar {

namespace {

// A look at a layer's drift is over at least so many blocks of KV heads.
constexpr uint64_t kLeastBlocks = 16;

}  // namespace

// A drift: most blocks are worse off with their transform than with none.
void Cache::watch_side(uint32_t layer, const char* side, const SideCounts& now, DriftWatch& watch) {
  const uint64_t n_blocks = now.n_blocks - watch.seen.n_blocks, n_worse = now.n_worse - watch.seen.n_worse;
  if (n_blocks < kLeastBlocks) return;
  watch.seen = now;
  const bool drifts = 2 * n_worse > n_blocks;
  if (drifts && !watch.drifts)
    log_.write(LogLevel::kWarning, LogEvent::kDrift, layer,
               "layer %u: for the %s of %llu of the %llu blocks packed last, the calibration is expected to do worse "
               "than none: it was made from another distribution",
               layer, side, static_cast<unsigned long long>(n_worse), static_cast<unsigned long long>(n_blocks));
  watch.drifts = drifts;
}

// A drift that goes on is news to a log that begins.
void Cache::set_log(const Log::Target& target) {
  log_.set(target);
  for (LayerWatch& watch : watches_) watch.keys.drifts = watch.values.drifts = false;
}

// After a call that may have packed. A device's counts would have to be waited for.
void Cache::report_packing() {
  if (plan_.config.device != Device::kCpu) return;
  for (uint32_t l = 0; l < plan_.layers.size(); ++l) {
    if (!plan_.layers[l].owns || class_of(l).exact) continue;
    const PackCounts now = engine_->packed(l);
    LayerWatch& watch = watches_[l];
    if (now.n_non_finite > watch.n_non_finite)
      log_.write(LogLevel::kWarning, LogEvent::kNonFinite, l,
                 "layer %u: %llu elements of its keys and values were NaN or infinite and are stored as 0", l,
                 static_cast<unsigned long long>(now.n_non_finite - watch.n_non_finite));
    watch.n_non_finite = now.n_non_finite;
    watch_side(l, "keys", now.keys, watch.keys);
    watch_side(l, "values", now.values, watch.values);
  }
}

PackCounts Cache::layer_stats(uint32_t layer) const {
  if (plan_.config.device != Device::kCpu)
    throw Error(Status::kUnsupported, "what is packed of a layer is not counted on a device: its kernels pack there");
  return plan_.layers[layer].owns ? engine_->packed(layer) : PackCounts{};
}

void Cache::report_freeze(const std::vector<Fallbacks>& fallbacks) const {
  uint32_t n_heads = 0, n_data_free = 0;
  for (uint32_t l = 0; l < fallbacks.size(); ++l) {
    const Fallbacks& f = fallbacks[l];
    if (!plan_.layers[l].owns || class_of(l).exact) continue;
    for (uint32_t h = 0; h < class_of(l).n_kv_heads; ++h, ++n_heads) n_data_free += calibration_->is_data_free(l, h);
    if (f.none()) continue;
    log_.write(
        LogLevel::kWarning, LogEvent::kDataFree, l,
        "layer %u of %u KV heads: keys of %u and values of %u stay data-free, as no transform can be made for them; "
        "keys of %u and values of %u, as theirs is no better on tokens that were held out",
        l, class_of(l).n_kv_heads, f.keys_unsolved, f.values_unsolved, f.keys_no_better, f.values_no_better);
  }
  log_.write(LogLevel::kInfo, LogEvent::kFreeze, kAllLayers,
             "frozen: %u of %u KV heads have transforms of their own, from %llu tokens or more", n_heads - n_data_free,
             n_heads, static_cast<unsigned long long>(calibration_->provenance().n_tokens));
}

}  // namespace oscar
