#include "calibration_file.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.h"

namespace oscar::cli {

namespace {

constexpr size_t kLayersAt = 336;  // docs/format.md, "Calibration file"
constexpr char kMagic[9] = "OSCARCAL";

template <class T>
T read(std::span<const uint8_t> bytes, size_t at) {
  if (at > bytes.size() || bytes.size() - at < sizeof(T))
    bad_input("the calibration file is not laid out as docs/format.md says");
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::vector<float> read_matrix(std::span<const uint8_t> bytes, size_t& at, uint32_t dim) {
  const size_t n = size_t{dim} * dim;
  if (at > bytes.size() || bytes.size() - at < n * sizeof(float))
    bad_input("the calibration file is not laid out as docs/format.md says");
  std::vector<float> matrix(n);
  std::memcpy(matrix.data(), bytes.data() + at, n * sizeof(float));
  at += n * sizeof(float);
  return matrix;
}

}  // namespace

bool is_calibration(std::span<const uint8_t> bytes) {
  return bytes.size() >= 8 && std::memcmp(bytes.data(), kMagic, 8) == 0;
}

CalibrationContents read_calibration(std::span<const uint8_t> bytes) {
  CalibrationContents contents;
  const auto header_bytes = read<uint32_t>(bytes, 12), n_layers = read<uint32_t>(bytes, 16);
  size_t record = kLayersAt + size_t{12} * n_layers, matrix = header_bytes;
  for (uint32_t l = 0; l < n_layers; ++l) {
    const size_t at = kLayersAt + size_t{12} * l;
    const CalibrationLayer layer{read<uint32_t>(bytes, at), read<uint32_t>(bytes, at + 4),
                                 read<uint32_t>(bytes, at + 8)};
    contents.layers.push_back(layer);
    for (uint32_t h = 0; h < layer.n_kv_heads; ++h, record += 4) {
      CalibrationHead head{
          l,  h, layer.key_dim, layer.value_dim, read<uint8_t>(bytes, record), read<uint8_t>(bytes, record + 1), {},
          {}, {}};
      if (head.key_kind == 2) head.key = read_matrix(bytes, matrix, layer.key_dim);
      if (read<uint8_t>(bytes, record + 2) == 1) head.moment = read_matrix(bytes, matrix, layer.key_dim);
      if (head.value_kind == 2) head.value = read_matrix(bytes, matrix, layer.value_dim);
      contents.heads.push_back(std::move(head));
    }
  }
  return contents;
}

std::vector<double> singular_values(const std::vector<float>& matrix, uint32_t dim) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::MatrixXd m = Eigen::Map<const Matrix>(matrix.data(), dim, dim).cast<double>();
  // The roots of the eigenvalues of M^T M, in double precision: right to about 1e-8 of the largest. The library refuses
  // matrices of a condition beyond 1e7.
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(m.transpose() * m, Eigen::EigenvaluesOnly);
  std::vector<double> values;
  for (Eigen::Index i = solver.eigenvalues().size(); i-- > 0;)
    values.push_back(std::sqrt(std::max(0.0, solver.eigenvalues()[i])));
  return values;
}

}  // namespace oscar::cli
