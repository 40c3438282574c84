#include "transform/import_oscar.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "import_case.h"

using namespace oscar;
using namespace oscar::test;

namespace {

// A file of one layer, id 0, whose rotation is noted so.
ZipImage one_layer(const TensorNote& note, const std::vector<Bytes>& storages, int version = 1,
                   std::string_view grouping = "layer") {
  return torch_file(pickle_of({{0, note}}, version, grouping), storages);
}

#define REFUSED(call, wanted, says)                                                                                    \
  do {                                                                                                                 \
    const auto [status, text] = refusal([&] { call; });                                                                \
    INFO(text);                                                                                                        \
    CHECK(status == wanted);                                                                                           \
    CHECK(text.find(says) != std::string::npos);                                                                       \
  } while (0)

// The map is the matrix of these values, rounded to FP32.
bool is_matrix(const LinearMap& map, const std::vector<double>& values) {
  if (map.kind != MapKind::kDense) return false;
  for (size_t i = 0; i < values.size(); ++i)
    if (map.matrix[i] != static_cast<float>(values[i])) return false;
  return true;
}

std::vector<double> rounded(const Bytes& storage, std::string_view type) {
  std::vector<double> values(storage.size() / 2);
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, &storage[2 * i], 2);
    values[i] = static_cast<double>(type == "HalfStorage" ? f16_to_f32(bits) : bf16_to_f32(bits));
  }
  return values;
}

}  // namespace

TEST_CASE("a layer's rotation becomes the transform of each of its KV heads, bit for bit") {
  const ZipImage keys = file_of({0, 1}), values = file_of({0, 1});
  const std::vector<LayerGeometry> layers = {kLayer, {3, kDim, kDim}};
  const OscarFiles both{std::span<const uint8_t>(keys.bytes), std::span<const uint8_t>(values.bytes)};
  const Calibration c = import_oscar(both, layers, {});
  for (uint32_t l = 0; l < 2; ++l) {
    CHECK_FALSE(c.is_shaped(l));
    for (uint32_t h = 0; h < layers[l].n_kv_heads; ++h) {
      const HeadTransform& head = c.head(l, h);
      CHECK(is_matrix(head.key, rotation(l)));
      CHECK(is_matrix(head.value, rotation(l)));
      // R is orthogonal: queries turn by R itself, outputs are turned back by its transpose.
      for (uint32_t i = 0; i < kDim * kDim; ++i) {
        REQUIRE(std::abs(static_cast<double>(head.query.matrix[i]) - rotation(l)[i]) < 1e-6);
        REQUIRE(std::abs(static_cast<double>(head.value_inverse.matrix[i]) - rotation(l)[i % kDim * kDim + i / kDim]) <
                1e-6);
      }
    }
  }
  const Calibration keys_only = import_oscar({both.key, {}}, layers, {});
  const Calibration values_only = import_oscar({{}, both.value}, layers, {});
  CHECK(is_matrix(keys_only.head(1, 2).key, rotation(1)));
  CHECK(keys_only.head(1, 2).value.kind == MapKind::kHadamard);
  CHECK(is_matrix(values_only.head(1, 2).value, rotation(1)));
  CHECK(values_only.head(1, 2).key.kind == MapKind::kHadamard);
  REFUSED(import_oscar({}, layers, {}), Status::kInvalid, "neither a key file nor a value file");
}

TEST_CASE("a rotation for every KV head is served, with any strides and offset, and storages may be shared") {
  std::vector<double> three(5, 0.0);  // an offset of 5 elements
  for (size_t i = 0; i < 3; ++i) three.insert(three.end(), rotation(i).begin(), rotation(i).end());
  const auto n = static_cast<int64_t>(three.size());
  TensorNote note{"0", "FloatStorage", n, 5, {3, kDim, kDim}, {kDim * kDim, kDim, 1}};
  const std::vector<LayerGeometry> layers = {{3, kDim, kDim}, {3, kDim, kDim}};
  TensorNote transposed = note, broadcast = note;
  std::swap(transposed.stride[1], transposed.stride[2]);
  broadcast.stride[0] = 0;
  for (const auto& [version, grouping] : {std::pair{2, "kv_group"}, {2, "kv_head"}, {1, "kv_group"}}) {
    const ZipImage file = torch_file(pickle_of({{0, note}, {1, transposed}}, version, grouping), {storage_of(three)});
    const Calibration c = import_keys(file, layers);
    for (uint32_t h = 0; h < 3; ++h) {
      CHECK(is_matrix(c.head(0, h).key, rotation(h)));
      for (uint32_t i = 0; i < kDim * kDim; ++i)
        REQUIRE(c.head(1, h).key.matrix[i] == static_cast<float>(rotation(h)[i % kDim * kDim + i / kDim]));
    }
  }
  const Calibration same = import_keys(one_layer(broadcast, {storage_of(three)}, 2, "kv_group"), {layers[0]});
  CHECK(is_matrix(same.head(0, 2).key, rotation(0)));
  // A rotation per layer that is given per KV head, or the other way round, is what the file says it is not.
  REFUSED(import_keys(one_layer(note, {storage_of(three)}, 1, "layer"), {layers[0]}), Status::kCorrupt,
          "the rotation's shape is [3, 64, 64], wanted [d, d]");
  REFUSED(import_keys(one_layer(square_note(0, kDim), {storage(0)}, 2, "kv_group"), {kLayer}), Status::kCorrupt,
          "the rotation's shape is [64, 64], wanted [heads, d, d]");
  REFUSED(import_keys(one_layer(note, {storage_of(three)}, 2, "kv_group"), {kLayer}), Status::kInvalid,
          "the rotation's shape is [3, 64, 64], the configuration has 2 KV heads");
}

TEST_CASE("rotations of other float types are served to their precision") {
  for (const char* type : {"DoubleStorage", "HalfStorage", "BFloat16Storage"}) {
    TensorNote note = square_note(0, kDim);
    note.type = type;
    const Bytes bytes = storage_of(rotation(0), type);
    const Calibration c = import_keys(one_layer(note, {bytes}), {kLayer});
    CHECK(is_matrix(c.head(0, 1).key, std::string(type) == "DoubleStorage" ? rotation(0) : rounded(bytes, type)));
  }
  TensorNote note = square_note(0, kDim);
  note.type = "LongStorage";
  REFUSED(import_keys(one_layer(note, {storage(0)}), {kLayer}), Status::kUnsupported, "no float64, float32");
  // What BF16 may be wrong by is too much for FP32.
  std::vector<double> rough = rounded(storage_of(rotation(0), "BFloat16Storage"), "BFloat16Storage");
  REFUSED(import_keys(one_layer(square_note(0, kDim), {storage_of(rough)}), {kLayer}), Status::kCorrupt,
          "R R^T differs from the unit matrix");
}

TEST_CASE("layer ids may have gaps, and may be chosen") {
  const ZipImage file = file_of({7, 3, 11});
  const std::vector<LayerGeometry> layers(3, kLayer);
  const Calibration c = import_keys(file, layers);
  CHECK(is_matrix(c.head(0, 0).key, rotation(1)));
  CHECK(is_matrix(c.head(1, 0).key, rotation(0)));
  CHECK(is_matrix(c.head(2, 0).key, rotation(2)));
  const Calibration chosen = import_keys(file, layers, {11, kNoRotation, 3});
  CHECK(is_matrix(chosen.head(0, 1).key, rotation(2)));
  CHECK(chosen.head(1, 1).key.kind == MapKind::kHadamard);
  CHECK(is_matrix(chosen.head(2, 1).key, rotation(1)));
  REFUSED(import_keys(file, {kLayer, kLayer}), Status::kInvalid,
          "key file: it has 3 layers, 3 .. 11, the configuration has 2");
  REFUSED(import_keys(file, layers, {3, 7, 8}), Status::kInvalid, "layer_ids[2] is 8, the key file has no such layer");
  const ZipImage other = file_of({3, 7, 12});
  const OscarFiles both{std::span<const uint8_t>(file.bytes), std::span<const uint8_t>(other.bytes)};
  REFUSED(import_oscar(both, layers, {}), Status::kInvalid, "the value file 3 layers, 3 .. 12, and not the same");
  REFUSED(import_oscar(both, layers, std::vector<uint32_t>{3, 7, 11}), Status::kInvalid, "the value file has no such");
  CHECK_NOTHROW(import_oscar(both, std::vector{kLayer, kLayer}, std::vector<uint32_t>{3, 7}));
}

TEST_CASE("matrices that are no rotations are refused, with their place") {
  const auto with = [](size_t at, float value) {
    Bytes bytes = storage(0);
    std::memcpy(&bytes[4 * at], &value, 4);
    return one_layer(square_note(0, kDim), {bytes});
  };
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1.5f, -1e30f})
    REFUSED(import_keys(with(2 * kDim + 3, bad), {kLayer}), Status::kCorrupt, "key file: layer 0: entry [2][3] is");
  REFUSED(import_keys(with(0, 0.9f), {kLayer}), Status::kCorrupt, "layer 0: R R^T differs from the unit matrix by");
  REFUSED(import_keys(one_layer(square_note(0, kDim), {Bytes(4 * kDim * kDim)}), {kLayer}), Status::kCorrupt, "by 1,");
  TensorNote doubles = square_note(0, kDim);
  doubles.type = "DoubleStorage";
  std::vector<double> values = rotation(0);
  values[5] = 1e300;  // no float
  REFUSED(import_keys(one_layer(doubles, {storage_of(values, "DoubleStorage")}), {kLayer}), Status::kCorrupt, "1e+300");
  REFUSED(import_keys(one_layer(square_note(0, kDim), {storage(0)}), {{2, 128, kDim}}), Status::kInvalid,
          "the rotation's shape is [64, 64], the configuration's head_dim is 128");
}

TEST_CASE("tensors that reach beyond their storage, or that nothing backs, are refused") {
  const auto refused = [](const std::function<void(TensorNote&)>& change, const char* says,
                          Status wanted = Status::kCorrupt) {
    TensorNote note = square_note(0, kDim);
    change(note);
    REFUSED(import_keys(one_layer(note, {storage(0)}), {kLayer}), wanted, says);
  };
  constexpr int64_t kMost = INT32_MAX;
  refused([](TensorNote& t) { t.offset = 1; }, "reaches element 4096 of a storage of 4096");
  refused([](TensorNote& t) { t.offset = kMost; }, "of a storage of 4096");
  refused([](TensorNote& t) { t.offset = -1; }, "the offset into the storage is -1");
  refused([](TensorNote& t) { t.stride = {kDim, 2}; }, "reaches element 4158");
  refused([](TensorNote& t) { t.stride = {kMost, kMost}; }, "of a storage of 4096");
  refused([](TensorNote& t) { t.stride = {-kDim, 1}; }, "a stride is -64");
  refused([](TensorNote& t) { t.shape = {kMost, kMost}, t.stride = {kMost, kMost}; }, "of a storage of 4096");
  refused(
      [](TensorNote& t) {
        t.shape = {kMost, kMost, kMost, kMost}, t.stride = t.shape, t.offset = kMost;
      },
      "of a storage");
  refused(
      [](TensorNote& t) {
        t.shape = {kMost, kMost}, t.stride = {0, 0};
      },
      "the configuration's head_dim is 64", Status::kInvalid);
  refused([](TensorNote& t) { t.shape = {0, 0}; }, "shape[0] is 0");
  refused([](TensorNote& t) { t.shape = {kDim, 32}; }, "wanted a square matrix");
  refused([](TensorNote& t) { t.shape = {kDim}, t.stride = {1}; }, "the rotation's shape is [64], wanted [d, d]");
  refused([](TensorNote& t) { t.shape = {}, t.stride = {}; }, "the rotation's shape is []");
  refused([](TensorNote& t) { t.stride = {1}; }, "2 sizes and 1 strides");
  refused([](TensorNote& t) { t.shape = t.stride = {1, 1, 1, 1, 1}; }, "5 dimensions", Status::kUnsupported);
  refused([](TensorNote& t) { t.n_elements = 4097; }, "\"data/0\" has 16384 bytes, wanted 16388");
  refused([](TensorNote& t) { t.n_elements = -1; }, "the number of the storage's elements is -1");
  refused([](TensorNote& t) { t.key = "1"; }, "there is no \"data/1\"");
  refused([](TensorNote& t) { t.key = "../data.pkl"; }, "there is no \"data/../data.pkl\"");
  refused([](TensorNote& t) { t.key = std::string(100, '0'); }, "its key is long");
  refused([](TensorNote& t) { t.type = "HalfStorage"; }, "wanted 8192 for 4096 elements of 2");
}

TEST_CASE("dictionaries that are no file of rotations are refused") {
  const auto refused = [](const std::string& pickle, Status wanted, const char* says) {
    REFUSED(import_keys(torch_file(pickle, {storage(0)}), {kLayer}), wanted, says);
  };
  const auto file = [](const std::function<void(PickleWriter&)>& fill) {
    PickleWriter p;
    p.raw(kPickleStart).raw("}(");
    fill(p);
    return p.raw("u.").done();
  };
  const auto layers = [&](const std::function<void(PickleWriter&)>& fill) {
    return file([&](PickleWriter& p) {
      p.text("layers").raw("}(");
      fill(p);
      p.raw("u");
    });
  };
  const LayerNote layer{0, square_note(0, kDim)};
  refused(std::string(kPickleStart) + "N.", Status::kCorrupt, "the file is None, wanted a dictionary");
  refused(file([](PickleWriter&) {}), Status::kCorrupt, "no \"layers\"");
  refused(file([](PickleWriter& p) { p.text("layers").integer(3); }), Status::kCorrupt, "\"layers\" is an integer");
  refused(layers([](PickleWriter&) {}), Status::kCorrupt, "it has 0 layers");
  refused(layers([](PickleWriter& p) { p.integer(-1).raw("}"); }), Status::kCorrupt, "a layer's id is an integer");
  refused(layers([](PickleWriter& p) { p.text("01").raw("}"); }), Status::kCorrupt, "a layer's id is \"01\"");
  refused(layers([](PickleWriter& p) { p.text("9999999").raw("}"); }), Status::kCorrupt, "a layer's id is \"9999999\"");
  refused(layers([](PickleWriter& p) { p.raw("N}"); }), Status::kCorrupt, "a layer's id is None");
  refused(layers([](PickleWriter& p) { p.integer(0).raw("]"); }), Status::kCorrupt, "layer 0 is a list");
  refused(layers([](PickleWriter& p) { p.integer(0).raw("}"); }), Status::kCorrupt, "layer 0 has no \"rotation\"");
  refused(layers([](PickleWriter& p) { p.integer(0).raw("}").text("0").raw("}"); }), Status::kCorrupt,
          "layer 0 is there twice");
  refused(layers([](PickleWriter& p) { p.integer(0).raw("}(").text("layer_id").integer(1).raw("u"); }),
          Status::kCorrupt, "layer 0 says that its layer_id is 1");
  refused(layers([](PickleWriter& p) { p.integer(0).raw("}(").text("rotation").integer(1).raw("u"); }),
          Status::kCorrupt, "layer 0: the value is an integer, wanted a tensor");
  refused(layers([](PickleWriter& p) {
            for (int i = 0; i <= 4096; ++i) p.integer(i).raw("}");
          }),
          Status::kCorrupt, "it has 4097 layers");
  refused(file([](PickleWriter& p) {
            for (int i = 0; i <= 64; ++i) p.integer(i).raw("N");
          }),
          Status::kCorrupt, "65 keys");
  refused(layers([](PickleWriter& p) {
            p.integer(0).raw("}(");
            for (int i = 0; i <= 64; ++i) p.integer(i).raw("N");
            p.raw("u");
          }),
          Status::kCorrupt, "layer 0 has 65 keys");
  refused(file([](PickleWriter& p) { p.text("layers").raw("}").text("layers").raw("}"); }), Status::kCorrupt, "twice");
  refused(pickle_of({layer}, 3), Status::kUnsupported, "format_version is 3, served: 1, 2");
  refused(pickle_of({layer}, 1, "head"), Status::kUnsupported, "source_grouping is \"head\", served");
  // A layer that is the dictionary of all layers, or the file: nobody walks in circles.
  refused(std::string(kPickleStart) + std::string("}q\0(X\6\0\0\0layersh\0u.", 19), Status::kCorrupt,
          "a layer's id is \"layers\"");
  refused(layers([](PickleWriter& p) {
            p.integer(0).raw("}q").little(5, 1).raw("(").text("rotation").raw("h").little(5, 1).raw("u");
          }),
          Status::kCorrupt, "layer 0: the value is a dictionary, wanted a tensor");
  CHECK_NOTHROW(import_keys(torch_file(layers([&](PickleWriter& p) {
                                         p.text("0").name("collections", "OrderedDict").raw(")R(").text("rotation");
                                         put_tensor(p, layer.rotation);
                                         p.raw("u");
                                       }),
                                       {storage(0)}),
                            {kLayer}));
  REFUSED(import_keys(zip_of({{"r/data.pkl", bytes_of(pickle_of({layer}))},
                              {"r/data/0", storage(0)},
                              {"r/byteorder", bytes_of("big")}}),
                      {kLayer}),
          Status::kUnsupported, "its byte order is \"big\"");
}
