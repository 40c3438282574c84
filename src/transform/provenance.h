// Where a calibration comes from and what it was made for. It travels in the file and changes no transform: it is no part
// of a fingerprint.
#pragma once
#include <cstdint>
#include <string>

namespace oscar {

enum class CalibrationSource : uint32_t {
  kMatrices = 0,
  kDataFree = 1,
  kIdentity = 2,
  kImported = 3,
  kCalibrator = 4,
  kCache = 5,  // a cache that calibrated itself
};

inline constexpr uint32_t kMaxNameLength = 63, kMaxNoteLength = 127;  // bytes of a text, of which a file has one more

struct Provenance {
  CalibrationSource source = CalibrationSource::kMatrices;
  bool knows_rope = false;    // moments are averaged over the positions to be served
  uint64_t n_tokens = 0;      // whose keys counted, in the layer that has the fewest
  uint64_t n_positions = 0;   // positions 0 .. n_positions - 1 are to be served
  uint64_t end_position = 0;  // tokens came from the positions before this one
  uint32_t n_refined = 0, refined_key_bits = 0, refined_value_bits = 0;  // the profile it was made for
  std::string objective;    // what the transforms minimise; at most kMaxNameLength bytes, like the model's name
  std::string model, note;  // the caller's words; a note has at most kMaxNoteLength bytes
  bool operator==(const Provenance&) const = default;
};

}  // namespace oscar
