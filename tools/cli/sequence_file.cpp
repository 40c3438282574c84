#include "sequence_file.h"

#include <cstring>

#include "fit.h"
#include "text.h"

namespace oscar::cli {

namespace {

// docs/export.md, "The bytes"
constexpr char kMagic[9] = "OSCARSEQ";
constexpr size_t kHeaderBytes = 64, kChecksumBytes = 8;
constexpr uint32_t kVersion = 1, kMostSequenceLayers = 4096;
static_assert(sizeof(SequenceLayer) == 48 && sizeof(SequenceClass) == 64);

template <class T>
T at(std::span<const uint8_t> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <class T>
std::vector<T> records(std::span<const uint8_t> bytes, size_t offset, uint32_t n) {
  std::vector<T> all(n);
  std::memcpy(all.data(), bytes.data() + offset, n * sizeof(T));
  return all;
}

std::vector<oscar_layer_config> layer_configs(const SequenceHeader& header) {
  std::vector<oscar_layer_config> layers;
  for (uint32_t i = 0; i < header.layers.size(); ++i) {
    const SequenceLayer& from = header.layers[i];
    oscar_layer_config& to = layers.emplace_back();
    call(oscar_layer_config_init(&to, sizeof to));
    to.n_q_heads = from.n_q_heads, to.n_kv_heads = from.n_kv_heads;
    to.key_dim = from.key_dim, to.value_dim = from.value_dim;
    to.window = from.window;
    if (from.kv_source != i) to.kv_source = from.kv_source;
    to.storage = from.exact ? OSCAR_STORAGE_EXACT : OSCAR_STORAGE_BLOCKS;
    if (from.exact) continue;
    to.n_refined = from.n_refined;
    to.refined_key_bits = 2 + from.key_plane, to.refined_value_bits = 2 + from.value_plane;
  }
  return layers;
}

oscar_cache_config cache_config(const SequenceHeader& header, const std::vector<oscar_layer_config>& layers,
                                const oscar_calibration* calibration) {
  oscar_cache_config config;
  call(oscar_cache_config_init(&config, sizeof config, "2bit"));
  config.n_layers = config.n_layer_configs = static_cast<uint32_t>(layers.size());
  config.layers = layers.data();
  config.n_q_heads = layers[0].n_q_heads, config.n_kv_heads = layers[0].n_kv_heads;
  config.key_dim = layers[0].key_dim, config.value_dim = layers[0].value_dim;
  config.n_sink = header.n_sink, config.n_recent = header.n_recent, config.max_rollback = header.max_rollback;
  config.max_tokens = header.n_tokens + 1;
  config.max_sequences = config.max_open_steps = config.max_step_tokens = 1;
  config.calibration = calibration;
  return config;
}

struct Reader {
  std::span<const uint8_t> rest;
};

oscar_status read_piece(void* user, void* bytes, uint64_t size) {
  auto* reader = static_cast<Reader*>(user);
  if (size > reader->rest.size()) return OSCAR_E_CORRUPT;
  std::memcpy(bytes, reader->rest.data(), size);
  reader->rest = reader->rest.subspan(size);
  return OSCAR_OK;
}

}  // namespace

bool is_sequence(std::span<const uint8_t> bytes) {
  return bytes.size() >= 8 && std::memcmp(bytes.data(), kMagic, 8) == 0;
}

SequenceHeader read_sequence_header(std::span<const uint8_t> bytes, const std::string& path) {
  const std::string file = printable(path);
  if (bytes.size() < kHeaderBytes) bad_input(file + ": the exported sequence is cut off");
  if (const auto version = at<uint32_t>(bytes, 8); version != kVersion)
    bad_input(text("%s: an exported sequence of version %u, read is %u", file.c_str(), version, kVersion));
  const auto n_layers = at<uint32_t>(bytes, 40), n_classes = at<uint32_t>(bytes, 44);
  if (n_layers == 0 || n_layers > kMostSequenceLayers || n_classes == 0 || n_classes > n_layers)
    bad_input(text("%s: an exported sequence of %u layers in %u classes", file.c_str(), n_layers, n_classes));
  const size_t classes_at = kHeaderBytes + n_layers * sizeof(SequenceLayer);
  const size_t size = classes_at + n_classes * sizeof(SequenceClass) + kChecksumBytes;
  if (bytes.size() < size) bad_input(file + ": the exported sequence is cut off");
  if (at<uint32_t>(bytes, 12) != size) bad_input(file + ": the header's size is not that of its records");
  SequenceHeader header;
  header.file_bytes = at<uint64_t>(bytes, 16);
  header.fingerprint = at<uint64_t>(bytes, 24);
  header.n_tokens = at<uint64_t>(bytes, 32);
  header.n_sink = at<uint32_t>(bytes, 48), header.n_recent = at<uint32_t>(bytes, 52);
  header.max_rollback = at<uint32_t>(bytes, 56);
  header.layers = records<SequenceLayer>(bytes, kHeaderBytes, n_layers);
  header.classes = records<SequenceClass>(bytes, classes_at, n_classes);
  for (const SequenceLayer& layer : header.layers)
    if (layer.layer_class >= n_classes) bad_input(file + ": a layer is of a class that is not there");
  return header;
}

std::string import_problem(const SequenceHeader& header, std::span<const uint8_t> bytes,
                           const oscar_calibration* calibration) {
  if (header.file_bytes != bytes.size())
    return text("the header says %s bytes, the file has %s", grouped(header.file_bytes).c_str(),
                grouped(bytes.size()).c_str());
  // Sequences of more tokens than files are looked for have tables that nobody has memory for.
  if (header.n_tokens >= kMostFitTokens) return text("it says that it has %s tokens", grouped(header.n_tokens).c_str());
  const std::vector<oscar_layer_config> layers = layer_configs(header);
  oscar_cache_config config = cache_config(header, layers, calibration);
  config.capacity_bytes = kMostCapacity;
  auto report = sized<oscar_cache_report>();
  if (oscar_cache_check(&config, config.max_tokens, &report) != OSCAR_OK) return oscar_last_error();
  if (!report.served) return std::string("its layers are not served: ") + report.reason;
  // Slabs hold units of one kind each, and a prefix's last block may be whole where its tokens are not.
  config.capacity_bytes = 2 * (report.bytes_sequences + bytes.size()) + (uint64_t{64} << 20);
  oscar_cache* created = nullptr;
  const oscar_status made = oscar_cache_create(&config, &created);
  if (made == OSCAR_E_INVALID) return oscar_last_error();
  call(made);
  const Cache cache(created);
  Reader reader{bytes};
  auto args = sized<oscar_import_args>();
  args.user = &reader;
  args.read = read_piece;
  oscar_seq seq = 0;
  const oscar_status status = oscar_seq_import(created, &args, &seq);
  if (status == OSCAR_E_NO_MEMORY || status == OSCAR_E_NO_SPACE) call(status);
  return status == OSCAR_OK ? "" : oscar_last_error();
}

}  // namespace oscar::cli
