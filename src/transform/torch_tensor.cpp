#include "transform/torch_tensor.h"

#include <cstring>

#include "format/bf16.h"
#include "format/error.h"

namespace oscar {
namespace {

using Id = TorchPickle::Id;

constexpr size_t kMaxKeyBytes = 32;  // torch counts the storages: "0", "1", ...

[[noreturn]] void corrupt(const std::string& where, const char* what, const char* got, const char* wanted) {
  throw Error(Status::kCorrupt, "%s: %s is %s, wanted %s", where.c_str(), what, got, wanted);
}

uint64_t size_of(const TorchPickle& pickle, Id id, const std::string& where, const char* what) {
  if (pickle.kind(id) != PickleKind::kInt) corrupt(where, what, pickle.kind_name(id), "an integer");
  if (pickle.integer(id) < 0)
    throw Error(Status::kCorrupt, "%s: %s is %d, wanted at least 0", where.c_str(), what, pickle.integer(id));
  return static_cast<uint64_t>(pickle.integer(id));
}

uint32_t bytes_of(TorchName dtype) {
  switch (dtype) {
    case TorchName::kDouble: return 8;
    case TorchName::kFloat: return 4;
    case TorchName::kHalf:
    case TorchName::kBFloat16: return 2;
    default: return 0;
  }
}

}  // namespace

// torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata])
TorchTensor::TorchTensor(const TorchZip& zip, const TorchPickle& pickle, Id id, const std::string& where) {
  if (pickle.kind(id) != PickleKind::kTensor) corrupt(where, "the value", pickle.kind_name(id), "a tensor");
  const std::span<const Id> given = pickle.tuple(pickle.arguments(id));
  if (given.size() != 6 && given.size() != 7)
    throw Error(Status::kCorrupt, "%s: the tensor is made from %zu values, wanted 6 or 7", where.c_str(), given.size());
  read_storage(zip, pickle, given[0], where);
  offset_ = size_of(pickle, given[1], where, "the offset into the storage");
  for (const Id list : {given[2], given[3]})
    if (pickle.kind(list) != PickleKind::kTuple)
      corrupt(where, "the shape or stride", pickle.kind_name(list), "a tuple");
  const std::span<const Id> shape = pickle.tuple(given[2]), stride = pickle.tuple(given[3]);
  if (shape.size() != stride.size())
    throw Error(Status::kCorrupt, "%s: the tensor has %zu sizes and %zu strides", where.c_str(), shape.size(),
                stride.size());
  if (shape.size() > kMaxDims)
    throw Error(Status::kUnsupported, "%s: the tensor has %zu dimensions, served: at most %u", where.c_str(),
                shape.size(), kMaxDims);
  n_dims_ = static_cast<uint32_t>(shape.size());
  for (uint32_t i = 0; i < n_dims_; ++i) {
    shape_[i] = size_of(pickle, shape[i], where, "a size of the shape");
    stride_[i] = size_of(pickle, stride[i], where, "a stride");
  }
  check_reach(where);
}

// The persistent id ("storage", type, key, device, number of elements).
void TorchTensor::read_storage(const TorchZip& zip, const TorchPickle& pickle, Id id, const std::string& where) {
  if (pickle.kind(id) != PickleKind::kStorage) corrupt(where, "the storage", pickle.kind_name(id), "a storage");
  const std::span<const Id> given = pickle.tuple(pickle.arguments(id));
  if (given.size() != 5)
    throw Error(Status::kCorrupt, "%s: the storage's id has %zu values, wanted 5", where.c_str(), given.size());
  if (pickle.kind(given[0]) != PickleKind::kText || pickle.text(given[0]) != "storage")
    corrupt(where, "the storage's id", "another kind", "one that begins with \"storage\"");
  if (pickle.kind(given[1]) != PickleKind::kName) corrupt(where, "its type", pickle.kind_name(given[1]), "a name");
  if (pickle.kind(given[2]) != PickleKind::kText) corrupt(where, "its key", pickle.kind_name(given[2]), "a text");
  dtype_ = pickle.name(given[1]);
  const uint32_t element_bytes = bytes_of(dtype_);
  if (element_bytes == 0)
    throw Error(Status::kUnsupported, "%s: its elements are no float64, float32, float16 or bfloat16", where.c_str());
  n_elements_ = size_of(pickle, given[4], where, "the number of the storage's elements");
  if (pickle.text(given[2]).size() > kMaxKeyBytes) corrupt(where, "its key", "long", "a number");
  const std::string path = "data/" + std::string(pickle.text(given[2]));
  const auto storage = zip.find(path);
  if (!storage)
    throw Error(Status::kCorrupt, "%s: there is no \"%s\" in the zip", where.c_str(), printable(path).c_str());
  if (storage->size() != n_elements_ * element_bytes)
    throw Error(Status::kCorrupt, "%s: \"%s\" has %zu bytes, wanted %llu for %llu elements of %u", where.c_str(),
                printable(path).c_str(), storage->size(), static_cast<unsigned long long>(n_elements_ * element_bytes),
                static_cast<unsigned long long>(n_elements_), element_bytes);
  storage_ = *storage;
}

// All numbers are below 2^31 here: four products and their sum fit.
void TorchTensor::check_reach(const std::string& where) const {
  uint64_t last = offset_;
  for (uint32_t i = 0; i < n_dims_; ++i) {
    if (shape_[i] == 0) throw Error(Status::kCorrupt, "%s: shape[%u] is 0", where.c_str(), i);
    last += (shape_[i] - 1) * stride_[i];
  }
  if (last >= n_elements_)
    throw Error(Status::kCorrupt, "%s: the tensor reaches element %llu of a storage of %llu", where.c_str(),
                static_cast<unsigned long long>(last), static_cast<unsigned long long>(n_elements_));
}

double TorchTensor::roundoff() const {
  switch (dtype_) {
    case TorchName::kDouble: return 0x1p-53;
    case TorchName::kFloat: return 0x1p-24;
    case TorchName::kHalf: return 0x1p-11;
    default: return 0x1p-8;
  }
}

double TorchTensor::element(uint64_t index) const {
  const auto load = [&]<class T>(T value) {
    std::memcpy(&value, storage_.data() + index * sizeof value, sizeof value);
    return value;
  };
  switch (dtype_) {
    case TorchName::kDouble: return load(double{});
    case TorchName::kFloat: return static_cast<double>(load(float{}));
    case TorchName::kHalf: return static_cast<double>(f16_to_f32(load(uint16_t{})));
    default: return static_cast<double>(bf16_to_f32(load(uint16_t{})));
  }
}

void TorchTensor::read_matrix(uint64_t matrix, double* to) const {
  const uint32_t row = n_dims_ - 2, column = n_dims_ - 1;
  const uint64_t first = offset_ + (n_dims_ > 2 ? matrix * stride_[n_dims_ - 3] : 0);
  for (uint64_t i = 0; i < shape_[row]; ++i)
    for (uint64_t j = 0; j < shape_[column]; ++j) *to++ = element(first + i * stride_[row] + j * stride_[column]);
}

}  // namespace oscar
