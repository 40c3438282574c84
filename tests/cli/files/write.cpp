// Writes the files that tests/cli/program.py gives to the program: write FOLDER
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "cli/filled_cache.h"
#include "cli/gguf_writer.h"
#include "library.h"
#include "unit/torch_file.h"

using namespace oscar;

namespace {

constexpr uint32_t kLayers = 2, kHeads = 2, kDim = 64;

void write(const std::filesystem::path& path, const std::vector<uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

// Diagonal matrices from 1 to `most`, for every head: their condition is `most`.
std::vector<float> diagonals(float most) {
  std::vector<float> all(kHeads * kDim * kDim);
  for (uint32_t h = 0; h < kHeads; ++h)
    for (uint32_t d = 0; d < kDim; ++d)
      all[(h * kDim + d) * kDim + d] = 1 + (most - 1) * static_cast<float>(d) / (kDim - 1);
  return all;
}

oscar_tensor matrices(const std::vector<float>& data) { return cli::host_tensor(data.data(), {kHeads, kDim, kDim}); }

std::vector<uint8_t> calibration() {
  const std::vector<float> key = diagonals(2), moment = diagonals(10), value = diagonals(3);
  auto layer = cli::sized<oscar_calibration_layer>();
  layer.n_kv_heads = kHeads;
  layer.key_dim = layer.value_dim = kDim;
  layer.key_transform = matrices(key);
  layer.query_moment = matrices(moment);
  oscar_calibration_layer layers[kLayers] = {layer, layer};
  layers[1].value_transform = matrices(value);
  oscar_calibration* created = nullptr;
  cli::call(oscar_calibration_create(layers, kLayers, &created));
  const cli::Calibration object(created);
  uint64_t size = 0;
  cli::call(oscar_calibration_save(created, nullptr, 0, &size));
  std::vector<uint8_t> bytes(size);
  cli::call(oscar_calibration_save(created, bytes.data(), size, &size));
  return bytes;
}

// A sequence of 400 tokens in layers of the calibration's geometry, the second with a window.
std::vector<uint8_t> sequence(const std::vector<uint8_t>& calibration) {
  cli::Model model;
  for (uint32_t i = 0; i < kLayers; ++i) {
    cli::ModelLayer layer;
    layer.n_q_heads = 4;
    layer.n_kv_heads = kHeads;
    layer.key_dim = layer.value_dim = kDim;
    if (i == 1) layer.attention = cli::Attention::kSliding, layer.window = 350;
    layer.source = i;
    model.layers.push_back(layer);
  }
  const cli::Calibration transforms = calibration.empty() ? nullptr : cli::load_calibration(calibration, "calibration");
  cli::Choice choice;
  choice.max_tokens = 1024;
  choice.n_recent = 32;
  choice.max_step_tokens = 50;
  choice.calibration = transforms.get();
  cli::test::FilledCache cache(model, choice, uint64_t{64} << 20);
  cache.fill(400);
  return cache.exported();
}

// Rotations of layers 5 and 6, as the authors of OSCAR publish them.
std::vector<uint8_t> rotations(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<test::LayerNote> layers;
  std::vector<test::Bytes> storages;
  for (uint32_t i = 0; i < kLayers; ++i) {
    layers.push_back({5 + i, test::square_note(i, kDim)});
    storages.push_back(test::storage_of(test::random_rotation(kDim, random)));
  }
  return test::torch_file(test::pickle_of(layers), storages).bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path folder(argv[1]);
  std::filesystem::create_directories(folder);
  write(folder / "smollm2.gguf", cli::test::smollm2_header());
  const std::vector<uint8_t> transforms = calibration();
  write(folder / "model.oscarcal", transforms);
  write(folder / "data-free.oscar", sequence({}));
  write(folder / "calibrated.oscar", sequence(transforms));
  write(folder / "keys.pt", rotations(1));
  write(folder / "values.pt", rotations(2));
  return 0;
}
