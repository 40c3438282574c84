// The GPU packer against the CPU packer, byte for byte: random geometries, profiles, refined tokens, transforms and
// sources, with odd elements among the rows.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/pack.h"
#include "importance/choice.h"
#include "pack_scene.h"

using namespace oscar;
using namespace oscar::test;

namespace {

constexpr uint32_t kDims[] = {64, 80, 96, 128, 192, 256};
constexpr uint32_t kRefined[] = {0, 1, 2, 3, 4, 5, 8, 12, 16, 31, 64, 100, 127, 128};

uint64_t n_failures = 0;

// First difference of two sets of blocks, if any.
void compare(const PackScene& scene, const std::vector<uint8_t>& got, const std::vector<uint8_t>& want,
             const char* what) {
  for (size_t i = 0; i < want.size(); ++i)
    if (got[i] != want[i]) {
      const BlockLayout& l = scene.layout;
      const size_t at = i % l.bytes;
      const uint32_t starts[] = {l.key_codes, l.value_codes, l.key_mean,     l.key_scales, l.value_scales,
                                 l.header,    l.key_refine,  l.value_refine, l.ids};
      const char* names[] = {"key codes", "value codes",    "key mean",         "key scales", "value scales",
                             "header",    "key refinement", "value refinement", "ids"};
      size_t n = 0, part = 0;
      for (size_t k = 0; k < want.size(); ++k) n += got[k] != want[k];
      while (part + 1 < 9 && starts[part + 1] <= at) ++part;
      std::printf("FAIL %s: %s: block %zu, byte %zu (%s + %zu): got %02x, want %02x; %zu bytes differ\n", what,
                  scene.name().c_str(), i / l.bytes, at, names[part], at - starts[part], got[i], want[i], n);
      ++n_failures;
      return;
    }
}

void check_scene(const PackScene& scene) {
  const std::vector<uint8_t> want = scene.pack_on_cpu();
  DeviceScene device(scene);
  for (int repeat = 0; repeat < 2; ++repeat) {  // the second launch finds what the first one left in `arrivals`
    compare(scene, device.pack(scene.needs_general()), want, scene.needs_general() ? "general kernel" : "plain kernel");
    if (!scene.needs_general()) compare(scene, device.pack(true), want, "general kernel on plain maps");
  }
  const uint64_t n_counted = device.n_non_finite(), n_launches = scene.needs_general() ? 2 : 4;
  if (n_counted != n_launches * scene.count_non_finite()) {
    std::printf("FAIL %s: counted %llu non-finite elements in %llu launches, want %llu each\n", scene.name().c_str(),
                static_cast<unsigned long long>(n_counted), static_cast<unsigned long long>(n_launches),
                static_cast<unsigned long long>(scene.count_non_finite()));
    ++n_failures;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t n_rounds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 120;
  if (prepare_device() != cudaSuccess) {
    std::printf("no usable CUDA device\n");
    return 77;
  }
  std::mt19937_64 random(20260107);
  for (uint64_t round = 0; round < n_rounds; ++round) {
    SceneShape s;
    s.shape.key_dim = kDims[round % 6];
    s.shape.value_dim = round / 6 % 2 ? s.shape.key_dim : kDims[random() % 6];
    // Profiles in turn: plain 2 bit, 2 bit with refined tokens, 3 bit, 4 bit, k3v2, then anything.
    const uint32_t profile = static_cast<uint32_t>(round / 2 % 6);
    s.shape.n_refined = profile == 0   ? 0
                        : profile == 1 ? 4
                        : profile < 5  ? 128
                                       : kRefined[random() % std::size(kRefined)];
    s.shape.key_plane = profile == 5 ? random() % 3 : profile == 2 || profile == 4 ? 1 : 2;
    s.shape.value_plane = profile == 5 ? random() % 3 : profile == 4 ? 0 : profile == 2 ? 1 : 2;
    s.n_heads = 1 + random() % 3;
    s.n_jobs = 1 + random() % 3;
    s.transforms = static_cast<Transforms>(round / 3 % 5);
    s.rows = static_cast<RowKind>(random() % 4);
    s.spoiled = round % 3 != 0;
    s.tied_votes = random() % 3 == 0;
    check_scene(PackScene(s, random));
  }
  std::printf("%s: %llu rounds, %llu failures\n", n_failures ? "FAILED" : "passed",
              static_cast<unsigned long long>(n_rounds), static_cast<unsigned long long>(n_failures));
  return n_failures != 0;
}
