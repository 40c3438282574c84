// A small world for one call, and for every function of the header the arguments of a call that succeeds in it.
#pragma once
#include <memory>
#include <vector>

#include "border_frames.h"
#include "faults/world.h"

namespace test {

class Scene {
 public:
  Scene();
  ~Scene();
  Scene(const Scene&) = delete;

  // What const calls say of it, and all that shows when it goes on.
  Bytes look() const;
  void set_matrices();

  static constexpr Geometry kGeometry{2, 2, 1, 64, 64};
  World frozen{false, 150}, collecting{true, 330};
  oscar_seq stepped = 0;        // of the frozen cache, in the open step
  oscar_step step = 0;          // of two tokens; layer 0 has got its keys and values
  oscar_step padding_step = 0;  // of the collecting cache, where a call wants one
  oscar_calibration* calibration = nullptr;
  oscar_calibrator* calibrator = nullptr;
  Rope rope;
  oscar_calibrator_args self_calibrate{};
  Bytes calibration_file, rotation_file, exported;
  uint64_t n_read = 0;  // of the exported sequence
  std::vector<oscar_layer_config> layers;
  oscar_calibration_layer matrices[2] = {};
  std::vector<float> identity;
  // Memory for tensors: each with more room than any of them needs.
  std::vector<float> memory[8];
  std::vector<uint8_t> mask;
  uint32_t indices[4] = {};
  oscar_calibration_part parts[2] = {};
  oscar_step_entry entries[2] = {};
};

// good(scene, frame) for every Frame_<function>.
#define OSCAR_DECLARE_GOOD(function) void good(Scene& scene, Frame_##function& frame);
OSCAR_FRAMES(OSCAR_DECLARE_GOOD)
#undef OSCAR_DECLARE_GOOD

}  // namespace test
