// Import of calibrations that others have written.
#include "border/arguments.h"
#include "border/config.h"
#include "border/guard.h"
#include "border/handles.h"
#include "transform/import_oscar.h"

using namespace oscar;
using namespace oscar::border;

namespace {

std::optional<std::span<const uint8_t>> bytes_of(const void* bytes, uint64_t size, const char* name) {
  if (!bytes && size != 0)
    throw Error(Status::kInvalid, "%s is NULL, but its size is %llu", name, static_cast<unsigned long long>(size));
  if (!bytes) return std::nullopt;
  return std::span(static_cast<const uint8_t*>(bytes), size);
}

Calibration import_torch(const oscar_cache_config* config, const oscar_calibration_import_args* given) {
  const oscar_calibration_import_args args = read_struct(given, "args");
  std::vector<LayerGeometry> layers;
  for (const LayerConfig& l : resolve_config(config).layers) layers.push_back({l.n_kv_heads, l.key_dim, l.value_dim});
  if (args.n_layer_ids != 0 && args.n_layer_ids != layers.size())
    throw Error(Status::kInvalid, "args.n_layer_ids is %u, wanted 0 or n_layers, which is %zu", args.n_layer_ids,
                layers.size());
  if ((args.n_layer_ids != 0) != (args.layer_ids != nullptr))
    throw Error(Status::kInvalid, "args.layer_ids is %s and args.n_layer_ids %u", args.layer_ids ? "given" : "NULL",
                args.n_layer_ids);
  const OscarFiles files{bytes_of(args.key_bytes, args.key_size, "args.key_bytes"),
                         bytes_of(args.value_bytes, args.value_size, "args.value_bytes")};
  return import_oscar(files, layers, std::span(args.layer_ids, args.n_layer_ids));
}

}  // namespace

static_assert(kNoRotation == OSCAR_DEFAULT);

extern "C" oscar_status oscar_calibration_import_torch(const oscar_cache_config* config,
                                                       const oscar_calibration_import_args* args,
                                                       oscar_calibration** calibration_out) {
  return guarded("oscar_calibration_import_torch", [&] {
    require(calibration_out, "calibration_out");
    *calibration_out = nullptr;
    *calibration_out = new oscar_calibration{std::make_shared<const Calibration>(import_torch(config, args))};
  });
}
