// The matrices of a calibration file, by docs/format.md. The library hands out transforms to caches only; who looks into a
// file reads them here, after oscar_calibration_load has accepted all of its bytes.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace oscar::cli {

struct CalibrationHead {
  uint32_t layer = 0, head = 0, key_dim = 0, value_dim = 0;
  uint32_t key_kind = 0, value_kind = 0;  // 0 identity, 1 Hadamard, 2 a matrix
  std::vector<float> key, moment, value;  // row-major; empty where there is none
};

struct CalibrationLayer {
  uint32_t n_kv_heads = 0, key_dim = 0, value_dim = 0;
};

struct CalibrationContents {
  std::vector<CalibrationLayer> layers;
  std::vector<CalibrationHead> heads;
};

bool is_calibration(std::span<const uint8_t> bytes);

// `bytes` must be what oscar_calibration_load has accepted.
CalibrationContents read_calibration(std::span<const uint8_t> bytes);

// Singular values of a square matrix, largest first.
std::vector<double> singular_values(const std::vector<float>& matrix, uint32_t dim);

}  // namespace oscar::cli
