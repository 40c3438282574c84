// The arguments of oscar_calibration_import_torch: what is wrong is refused by name, and the output is NULL.
#include <string>

#include "property/cache_fixture.h"

using namespace test;

namespace {

void refused(const oscar_cache_config* config, const oscar_calibration_import_args* args, oscar_status wanted,
             const char* says) {
  auto* calibration = reinterpret_cast<oscar_calibration*>(&wanted);
  const oscar_status status = oscar_calibration_import_torch(config, args, &calibration);
  INFO("last error: " << oscar_last_error());
  CHECK(status == wanted);
  CHECK(calibration == nullptr);
  CHECK(std::string(oscar_last_error()).find(says) != std::string::npos);
}

}  // namespace

TEST_CASE("arguments of an import that are wrong are refused by name") {
  const oscar_cache_config config = config_of({}, "2bit");
  const std::vector<uint32_t> ids(config.n_layers + 1, OSCAR_DEFAULT);
  const char bytes[] = "no zip at all, but more than twenty-two bytes";
  oscar_calibration_import_args args{};
  args.struct_size = sizeof args;
  CHECK(oscar_calibration_import_torch(&config, &args, nullptr) == OSCAR_E_INVALID);
  refused(nullptr, &args, OSCAR_E_INVALID, "config is NULL");
  refused(&config, nullptr, OSCAR_E_INVALID, "args is NULL");
  refused(&config, &args, OSCAR_E_INVALID, "neither a key file nor a value file");
  args.key_size = 1;
  refused(&config, &args, OSCAR_E_INVALID, "args.key_bytes is NULL, but its size is 1");
  args.key_size = 0;
  args.value_size = 1;
  refused(&config, &args, OSCAR_E_INVALID, "args.value_bytes is NULL, but its size is 1");
  args.value_bytes = bytes;
  refused(&config, &args, OSCAR_E_CORRUPT, "value file: there are 1 bytes, wanted a zip");
  args.value_size = sizeof bytes;
  refused(&config, &args, OSCAR_E_CORRUPT, "value file: byte 24 of the zip: there is no end record");
  args.n_layer_ids = config.n_layers;
  refused(&config, &args, OSCAR_E_INVALID, "args.layer_ids is NULL and args.n_layer_ids");
  args.layer_ids = ids.data();
  refused(&config, &args, OSCAR_E_CORRUPT, "there is no end record");
  args.n_layer_ids = config.n_layers + 1;
  refused(&config, &args, OSCAR_E_INVALID, "wanted 0 or n_layers");
  args.n_layer_ids = 0;
  refused(&config, &args, OSCAR_E_INVALID, "args.layer_ids is given and args.n_layer_ids 0");
  args.struct_size = 2;
  refused(&config, &args, OSCAR_E_INVALID, "struct_size is 2");
}
