#include "dump.h"

#include "text.h"

namespace oscar::cli {

namespace {

const TensorEntry& find(const TensorEntries& tensors, const char* name, const std::string& file) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) bad_input(file + ": there is no tensor " + name + ", wanted q, k and v");
  if (found->second.shape.size() != 4)
    bad_input(text("%s: %s has %zu dimensions, wanted [n_layers, n_tokens, n_heads, dim]", file.c_str(), name,
                   found->second.shape.size()));
  return found->second;
}

uint32_t extent(const TensorEntry& entry, size_t index, uint64_t most, const char* what, const std::string& file) {
  const uint64_t n = entry.shape[index];
  if (n == 0 || n > most)
    bad_input(text("%s: %s is %llu, wanted 1 to %llu", file.c_str(), what, static_cast<unsigned long long>(n),
                   static_cast<unsigned long long>(most)));
  return static_cast<uint32_t>(n);
}

// Elements must lie on multiples of their size, which a zip archive does not see to: then they are copied.
void align(TensorEntry& entry, std::vector<std::vector<uint8_t>>& copies) {
  if (reinterpret_cast<uintptr_t>(entry.data.data()) % (entry.dtype_bits / 8) == 0) return;
  copies.emplace_back(entry.data.begin(), entry.data.end());
  entry.data = copies.back();
}

}  // namespace

Dump::Dump(const std::string& path)
    : file_(std::make_unique<MappedFile>(path)), tensors_(read_tensors(file_->bytes(), path)) {
  const std::string file = printable(path);
  q_ = find(tensors_, "q", file), k_ = find(tensors_, "k", file), v_ = find(tensors_, "v", file);
  n_layers = extent(q_, 0, kMostLayers, "the number of layers", file);
  n_tokens = extent(q_, 1, 1u << 20, "the number of tokens", file);
  n_q_heads = extent(q_, 2, kMostHeads, "the number of query heads", file);
  key_dim = extent(q_, 3, kMostDim, "the dimension of queries", file);
  n_kv_heads = extent(k_, 2, kMostHeads, "the number of KV heads", file);
  value_dim = extent(v_, 3, kMostDim, "the dimension of values", file);
  for (const TensorEntry* entry : {&k_, &v_})
    if (entry->shape[0] != n_layers || entry->shape[1] != n_tokens || entry->shape[2] != n_kv_heads)
      bad_input(file + ": q, k and v differ in layers, tokens or KV heads");
  if (k_.shape[3] != key_dim) bad_input(file + ": q and k differ in their last dimension");
  if (n_q_heads % n_kv_heads != 0) bad_input(file + ": the query heads are no multiple of the KV heads");
  for (TensorEntry* entry : {&q_, &k_, &v_}) align(*entry, copies_);
  check_elements(model(), path);
  if (const auto found = tensors_.find("rope_frequencies"); found != tensors_.end()) {
    TensorEntry& f = found->second;
    if (f.dtype_code != OSCAR_DTYPE_FLOAT || f.dtype_bits != 32 || f.shape.empty() || f.shape.size() > 2)
      bad_input(file + ": rope_frequencies are not F32 of [n_pairs] or [n_layers, n_pairs]");
    align(f, copies_);
  }
}

oscar_tensor Dump::rows(const TensorEntry& entry, uint32_t layer, uint32_t first, uint32_t n) {
  const uint64_t row = entry.shape[2] * entry.shape[3] * (entry.dtype_bits / 8);
  return host_tensor(entry.data.data() + (layer * entry.shape[1] + first) * row, entry.dtype_code, entry.dtype_bits,
                     {n, entry.shape[2], entry.shape[3]});
}

oscar_tensor Dump::rope_frequencies() const {
  const auto found = tensors_.find("rope_frequencies");
  if (found == tensors_.end()) return {};
  const TensorEntry& f = found->second;
  const auto* data = reinterpret_cast<const float*>(f.data.data());
  return f.shape.size() == 1 ? host_tensor(data, {f.shape[0]}) : host_tensor(data, {f.shape[0], f.shape[1]});
}

Model Dump::model() const {
  Model model;
  for (uint32_t i = 0; i < n_layers; ++i) {
    ModelLayer layer;
    layer.n_q_heads = n_q_heads;
    layer.n_kv_heads = n_kv_heads;
    layer.key_dim = key_dim;
    layer.value_dim = value_dim;
    layer.source = i;
    model.layers.push_back(layer);
  }
  return model;
}

Model Dump::one_layer() const {
  Model one = model();
  one.layers.resize(1);
  return one;
}

}  // namespace oscar::cli
