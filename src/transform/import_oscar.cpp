#include "transform/import_oscar.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "format/error.h"
#include "transform/calibration_build.h"
#include "transform/torch_pickle.h"
#include "transform/torch_tensor.h"
#include "transform/torch_zip.h"

namespace oscar {
namespace {

using Id = TorchPickle::Id;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Rotations are computed in float64 and stored in another type: |R R^T - I| is then at most 2 u + u^2 by Cauchy and
// Schwarz, u the type's unit roundoff. The rest is for eigenvectors that were computed in float32.
constexpr double kMaxOrthogonalityError = 1e-4;
constexpr uint32_t kMaxKeys = 64;  // of the file's and of a layer's dictionary; published files have 4 and 3

class RotationFile {
 public:
  RotationFile(std::span<const uint8_t> bytes, const char* name);

  struct Layer {
    uint32_t id;
    Id entry;
  };
  std::span<const Layer> layers() const { return layers_; }  // by id
  std::string ids() const;
  // [n_kv_heads][dim][dim] of one layer.
  std::vector<float> read(const Layer& layer, uint32_t n_kv_heads, uint32_t dim) const;

 private:
  Id dictionary(Id id, const std::string& where) const;
  void check_format(Id root);
  void read_layers(Id dict);
  uint32_t layer_id(Id key) const;
  void check_shape(const TorchTensor& tensor, uint32_t n_kv_heads, uint32_t dim, const std::string& where) const;

  const char* name_;
  TorchZip zip_;
  TorchPickle pickle_;
  std::vector<Layer> layers_;
  bool is_per_layer_ = true, is_per_kv_head_ = true;  // what source_grouping allows
};

std::span<const uint8_t> pickle_of(const TorchZip& zip) { return *zip.find("data.pkl"); }

RotationFile::RotationFile(std::span<const uint8_t> bytes, const char* name)
    : name_(name), zip_(bytes, name), pickle_(pickle_of(zip_), name) {
  if (const auto order = zip_.find("byteorder"))
    if (const std::string_view text(reinterpret_cast<const char*>(order->data()), order->size()); text != "little")
      throw Error(Status::kUnsupported, "%s: its byte order is \"%s\", served: little", name, printable(text).c_str());
  const Id root = dictionary(pickle_.root(), "the file");
  if (pickle_.dict_size(root) > kMaxKeys)
    throw Error(Status::kCorrupt, "%s: the file's dictionary has %u keys, wanted at most %u", name,
                pickle_.dict_size(root), kMaxKeys);
  check_format(root);
  const auto layers = pickle_.find(root, "layers");
  if (!layers) throw Error(Status::kCorrupt, "%s: it has no \"layers\": these are no rotations of OSCAR", name);
  read_layers(dictionary(*layers, "\"layers\""));
}

Id RotationFile::dictionary(Id id, const std::string& where) const {
  if (pickle_.kind(id) != PickleKind::kDict)
    throw Error(Status::kCorrupt, "%s: %s is %s, wanted a dictionary", name_, where.c_str(), pickle_.kind_name(id));
  return id;
}

// The writers' "format_version" is 1, or "identity-v1" of a file of unit matrices; 2 is for rotations per KV head.
// "source_grouping", or "grouping", says what a rotation belongs to; absent, the tensor's dimensions do.
void RotationFile::check_format(Id root) {
  if (const auto version = pickle_.find(root, "format_version")) {
    const bool is_text = pickle_.kind(*version) == PickleKind::kText;
    if (!is_text && pickle_.kind(*version) != PickleKind::kInt)
      throw Error(Status::kCorrupt, "%s: format_version is %s, wanted 1 or 2", name_, pickle_.kind_name(*version));
    const std::string shown = is_text ? printable(pickle_.text(*version)) : std::to_string(pickle_.integer(*version));
    if (shown != "1" && shown != "2" && shown != "identity-v1")
      throw Error(Status::kUnsupported, "%s: format_version is %s, served: 1, 2 and identity-v1", name_, shown.c_str());
  }
  auto grouping = pickle_.find(root, "source_grouping");
  if (!grouping) grouping = pickle_.find(root, "grouping");
  if (!grouping) return;
  if (pickle_.kind(*grouping) != PickleKind::kText)
    throw Error(Status::kCorrupt, "%s: source_grouping is %s, wanted a text", name_, pickle_.kind_name(*grouping));
  const std::string_view text = pickle_.text(*grouping);
  is_per_layer_ = text == "layer" || text == "identity";
  is_per_kv_head_ = text == "kv_group" || text == "kv_head";
  if (!is_per_layer_ && !is_per_kv_head_)
    throw Error(Status::kUnsupported, "%s: source_grouping is \"%s\", served: layer, identity, kv_group and kv_head",
                name_, printable(text).c_str());
}

// Ids are integers, or texts of decimal digits where the file went through JSON.
uint32_t RotationFile::layer_id(Id key) const {
  if (pickle_.kind(key) == PickleKind::kInt && pickle_.integer(key) >= 0)
    return static_cast<uint32_t>(pickle_.integer(key));
  if (pickle_.kind(key) == PickleKind::kText) {
    const std::string_view text = pickle_.text(key);
    const bool is_number = !text.empty() && text.size() <= 6 && (text == "0" || text[0] != '0') &&
                           text.find_first_not_of("0123456789") == std::string_view::npos;
    if (is_number) return static_cast<uint32_t>(std::stoul(std::string(text)));
    throw Error(Status::kCorrupt, "%s: a layer's id is \"%s\", wanted a number", name_, printable(text).c_str());
  }
  throw Error(Status::kCorrupt, "%s: a layer's id is %s, wanted an integer of at least 0", name_,
              pickle_.kind_name(key));
}

void RotationFile::read_layers(Id dict) {
  if (const uint32_t n = pickle_.dict_size(dict); n == 0 || n > kMaxCalibrationLayers)
    throw Error(Status::kCorrupt, "%s: it has %u layers, wanted 1 to %u", name_, n, kMaxCalibrationLayers);
  pickle_.for_each(dict, [&](Id key, Id value) {
    const uint32_t id = layer_id(key);
    const std::string where = "layer " + std::to_string(id);
    dictionary(value, where);
    if (pickle_.dict_size(value) > kMaxKeys)
      throw Error(Status::kCorrupt, "%s: %s has %u keys, wanted at most %u", name_, where.c_str(),
                  pickle_.dict_size(value), kMaxKeys);
    if (const auto own = pickle_.find(value, "layer_id"); own && layer_id(*own) != id)
      throw Error(Status::kCorrupt, "%s: %s says that its layer_id is %u", name_, where.c_str(), layer_id(*own));
    layers_.push_back({id, value});
  });
  std::sort(layers_.begin(), layers_.end(), [](const Layer& a, const Layer& b) { return a.id < b.id; });
  for (size_t i = 1; i < layers_.size(); ++i)
    if (layers_[i].id == layers_[i - 1].id)
      throw Error(Status::kCorrupt, "%s: layer %u is there twice", name_, layers_[i].id);
}

std::string RotationFile::ids() const {
  return std::to_string(layers_.size()) + " layers, " + std::to_string(layers_.front().id) + " .. " +
         std::to_string(layers_.back().id);
}

void RotationFile::check_shape(const TorchTensor& tensor, uint32_t n_kv_heads, uint32_t dim,
                               const std::string& where) const {
  const std::span<const uint64_t> shape = tensor.shape();
  std::string shown;
  for (const uint64_t size : shape) shown += (shown.empty() ? "" : ", ") + std::to_string(size);
  const bool fits_grouping = shape.size() == 2 ? is_per_layer_ : shape.size() == 3 && is_per_kv_head_;
  if (!fits_grouping)
    throw Error(Status::kCorrupt, "%s: the rotation's shape is [%s], wanted %s", where.c_str(), shown.c_str(),
                is_per_layer_ ? (is_per_kv_head_ ? "[d, d] or [heads, d, d]" : "[d, d]") : "[heads, d, d]");
  const std::span<const uint64_t> matrix = shape.last(2);
  if (matrix[0] != matrix[1])
    throw Error(Status::kCorrupt, "%s: the rotation's shape is [%s], wanted a square matrix", where.c_str(),
                shown.c_str());
  if (matrix[0] != dim)
    throw Error(Status::kInvalid, "%s: the rotation's shape is [%s], the configuration's head_dim is %u", where.c_str(),
                shown.c_str(), dim);
  if (shape.size() == 3 && shape[0] != n_kv_heads)
    throw Error(Status::kInvalid, "%s: the rotation's shape is [%s], the configuration has %u KV heads", where.c_str(),
                shown.c_str(), n_kv_heads);
}

// The matrix in FP32. Throws unless it is orthogonal.
void check_rotation(const Matrix& r, double roundoff, const std::string& where, float* to) {
  for (Eigen::Index i = 0; i < r.rows(); ++i)
    for (Eigen::Index j = 0; j < r.cols(); ++j) {
      if (!(std::abs(r(i, j)) <= 1.01))  // a NaN is not, either
        throw Error(Status::kCorrupt, "%s: entry [%d][%d] is %g, wanted numbers of size 1 at most", where.c_str(),
                    static_cast<int>(i), static_cast<int>(j), r(i, j));
      *to++ = static_cast<float>(r(i, j));
    }
  const double error = (r * r.transpose() - Matrix::Identity(r.rows(), r.rows())).cwiseAbs().maxCoeff();
  const double allowed = kMaxOrthogonalityError + 2 * roundoff + roundoff * roundoff;
  if (!(error <= allowed))
    throw Error(Status::kCorrupt, "%s: R R^T differs from the unit matrix by %.3g, wanted at most %.3g: no rotation",
                where.c_str(), error, allowed);
}

std::vector<float> RotationFile::read(const Layer& layer, uint32_t n_kv_heads, uint32_t dim) const {
  const std::string where = std::string(name_) + ": layer " + std::to_string(layer.id);
  const auto id = pickle_.find(layer.entry, "rotation");
  if (!id) throw Error(Status::kCorrupt, "%s has no \"rotation\"", where.c_str());
  const TorchTensor tensor(zip_, pickle_, *id, where);
  check_shape(tensor, n_kv_heads, dim, where);
  const bool is_shared = tensor.shape().size() == 2;
  const uint64_t size = uint64_t{dim} * dim;
  std::vector<float> matrices(n_kv_heads * size);
  Matrix matrix(dim, dim);
  for (uint32_t head = 0; head < n_kv_heads; ++head) {
    float* const to = matrices.data() + head * size;
    if (is_shared && head > 0) {
      std::copy_n(matrices.data(), size, to);
      continue;
    }
    tensor.read_matrix(head, matrix.data());
    check_rotation(matrix, tensor.roundoff(), is_shared ? where : where + ", head " + std::to_string(head), to);
  }
  return matrices;
}

// For every layer of the calibration the file's one; null: none.
std::vector<const RotationFile::Layer*> assign(const RotationFile& file, const char* name, size_t n_layers,
                                               std::span<const uint32_t> layer_ids) {
  const std::span<const RotationFile::Layer> there = file.layers();
  std::vector<const RotationFile::Layer*> assigned(n_layers, nullptr);
  if (layer_ids.empty() && there.size() != n_layers)
    throw Error(Status::kInvalid, "%s: it has %s, the configuration has %zu: say by layer_ids which belong to it", name,
                file.ids().c_str(), n_layers);
  for (size_t l = 0; l < n_layers; ++l) {
    if (layer_ids.empty()) {
      assigned[l] = &there[l];
    } else if (layer_ids[l] != kNoRotation) {
      const auto found = std::lower_bound(there.begin(), there.end(), layer_ids[l],
                                          [](const RotationFile::Layer& a, uint32_t id) { return a.id < id; });
      if (found == there.end() || found->id != layer_ids[l])
        throw Error(Status::kInvalid, "layer_ids[%zu] is %u, the %s has no such layer: it has %s", l, layer_ids[l],
                    name, file.ids().c_str());
      assigned[l] = &*found;
    }
  }
  return assigned;
}

void check_same_ids(const RotationFile& key, const RotationFile& value) {
  const auto same = [](const RotationFile::Layer& a, const RotationFile::Layer& b) { return a.id == b.id; };
  if (!std::equal(key.layers().begin(), key.layers().end(), value.layers().begin(), value.layers().end(), same))
    throw Error(Status::kInvalid, "the key file has %s, the value file %s, and not the same ones: give layer_ids",
                key.ids().c_str(), value.ids().c_str());
}

}  // namespace

Calibration import_oscar(const OscarFiles& files, std::span<const LayerGeometry> layers,
                         std::span<const uint32_t> layer_ids) {
  if (!files.key && !files.value)
    throw Error(Status::kInvalid, "neither a key file nor a value file is given: the default calibration has no files");
  CalibrationBuilder::check_geometry(layers, Status::kInvalid);
  std::optional<RotationFile> key, value;
  if (files.key) key.emplace(*files.key, "key file");
  if (files.value) value.emplace(*files.value, "value file");
  if (key && value && layer_ids.empty()) check_same_ids(*key, *value);
  std::vector<LayerMatrices> matrices;
  for (const LayerGeometry& geometry : layers) matrices.push_back({geometry, {}, {}, {}});
  const auto read = [&](const RotationFile& file, const char* name, auto take) {
    const std::vector<const RotationFile::Layer*> assigned = assign(file, name, layers.size(), layer_ids);
    for (size_t l = 0; l < layers.size(); ++l)
      if (assigned[l]) take(matrices[l], *assigned[l]);
  };
  if (key)
    read(*key, "key file", [&](LayerMatrices& to, const RotationFile::Layer& from) {
      to.key_transform = key->read(from, to.geometry.n_kv_heads, to.geometry.key_dim);
    });
  if (value)
    read(*value, "value file", [&](LayerMatrices& to, const RotationFile::Layer& from) {
      to.value_transform = value->read(from, to.geometry.n_kv_heads, to.geometry.value_dim);
    });
  Provenance provenance;
  provenance.source = CalibrationSource::kImported;
  return Calibration::from_matrices(matrices, provenance);
}

}  // namespace oscar
