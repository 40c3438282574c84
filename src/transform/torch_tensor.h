// One tensor of a torch.save file, its strides checked against the bytes of its storage.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "transform/torch_pickle.h"
#include "transform/torch_zip.h"

namespace oscar {

class TorchTensor {
 public:
  static constexpr uint32_t kMaxDims = 4;

  // `where` begins error texts. Throws Error: CORRUPT where the value is no tensor or reaches beyond its storage;
  // UNSUPPORTED for elements that are no floating-point numbers, and for more than kMaxDims dimensions.
  TorchTensor(const TorchZip& zip, const TorchPickle& pickle, TorchPickle::Id id, const std::string& where);

  std::span<const uint64_t> shape() const { return {shape_.data(), n_dims_}; }
  // Unit roundoff of the element type: the largest relative error of rounding to it.
  double roundoff() const;
  // The last two dimensions as a dense matrix, index `matrix` of the dimension before them (0 where there is none).
  void read_matrix(uint64_t matrix, double* to) const;

 private:
  void read_storage(const TorchZip& zip, const TorchPickle& pickle, TorchPickle::Id id, const std::string& where);
  void check_reach(const std::string& where) const;
  double element(uint64_t index) const;

  TorchName dtype_;
  std::span<const uint8_t> storage_;
  uint64_t n_elements_ = 0, offset_ = 0;  // of the storage; in elements
  uint32_t n_dims_ = 0;
  std::array<uint64_t, kMaxDims> shape_{}, stride_{};
};

}  // namespace oscar
