// Calibrators.
#include "transform/calibrator.h"

#include <memory>

#include "border/arguments.h"
#include "border/calibrator_config.h"
#include "border/config.h"
#include "border/guard.h"
#include "border/handles.h"

using namespace oscar;
using namespace oscar::border;

namespace {

constexpr uint64_t kMaxPositions = uint64_t{1} << 31;

RowLoader loader(const TensorView& view, uint32_t dim) {
  return [view, dim](uint64_t row, uint32_t head, float* to) { load_row(view, row, head, dim, to); };
}

void feed(Calibrator& calibrator, const oscar_calibrator_feed_args& args) {
  if (args.layer >= calibrator.n_layers())
    throw Error(Status::kInvalid, "layer is %u, the configuration has %u layers", args.layer, calibrator.n_layers());
  const CalibratorLayer& layer = calibrator.layer(args.layer);
  const LayerGeometry& g = layer.geometry;
  const int64_t n = args.q.ndim == 3 ? args.q.shape[0] : 1;
  if (n < 1) throw Error(Status::kInvalid, "q: shape[0] is %lld, wanted at least 1", static_cast<long long>(n));
  const uint64_t n_tokens = static_cast<uint64_t>(n);
  if (args.first_position > kMaxPositions || n_tokens > kMaxPositions - args.first_position)
    throw Error(Status::kInvalid, "first_position is %llu and there are %lld tokens, allowed: positions below 2^31",
                static_cast<unsigned long long>(args.first_position), static_cast<long long>(n));
  FedTokens tokens{args.first_position, n_tokens, {}, {}, {}};
  tokens.q = loader(check_tensor(args.q, {"q", {n, layer.n_q_heads, g.key_dim}, kFloats}), g.key_dim);
  if (layer.kv_source == args.layer) {
    tokens.k = loader(check_tensor(args.k, {"k", {n, g.n_kv_heads, g.key_dim}, kFloats}), g.key_dim);
    tokens.v = loader(check_tensor(args.v, {"v", {n, g.n_kv_heads, g.value_dim}, kFloats}), g.value_dim);
  } else if (args.k.data || args.v.data) {
    throw Error(Status::kInvalid, "layer %u attends to the keys of layer %u: wanted absent k and v", args.layer,
                layer.kv_source);
  }
  calibrator.feed(args.layer, tokens);
}

}  // namespace

extern "C" {

oscar_status oscar_calibrator_create(const oscar_cache_config* config, const oscar_calibrator_args* args,
                                     oscar_calibrator** calibrator_out) {
  return guarded("oscar_calibrator_create", [&] {
    require(calibrator_out, "calibrator_out");
    *calibrator_out = nullptr;
    *calibrator_out = new oscar_calibrator{Calibrator(calibrator_config(resolve_config(config), args, "args"))};
  });
}

oscar_status oscar_calibrator_feed(oscar_calibrator* calibrator, const oscar_calibrator_feed_args* args) {
  return guarded("oscar_calibrator_feed", [&] {
    require(calibrator, "calibrator");
    feed(calibrator->calibrator, read_struct(args, "args"));
  });
}

oscar_status oscar_calibrator_finish(const oscar_calibrator* calibrator, oscar_calibration** calibration_out) {
  return guarded("oscar_calibrator_finish", [&] {
    require(calibration_out, "calibration_out");
    *calibration_out = nullptr;
    require(calibrator, "calibrator");
    *calibration_out = new oscar_calibration{std::make_shared<const Calibration>(calibrator->calibrator.finish())};
  });
}

void oscar_calibrator_destroy(oscar_calibrator* calibrator) { delete calibrator; }

}  // extern "C"
