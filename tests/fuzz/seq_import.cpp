// oscar_seq_import: any bytes yield a status; what is imported is exported as bytes that come to the same, and goes on. The
// first byte's lowest bit puts both checksums right, which a fuzzer does not guess.
#include <vector>

#include "format/checksum.h"
#include "format/sequence_file.h"
#include "fuzz/input.h"
#include "oscar/oscar.h"

namespace {

using Bytes = std::vector<uint8_t>;

Bytes repaired(Bytes file) {
  const uint64_t header = oscar::sequence_header_bytes(1, 1);
  if (file.size() < header + 8) return file;
  for (uint64_t end : {header, uint64_t{file.size()}}) {
    oscar::Checksum checksum;
    checksum.update(file.data(), end - 8);
    const uint64_t value = checksum.value();
    std::memcpy(&file[end - 8], &value, sizeof value);
  }
  return file;
}

oscar_status read(void* user, void* bytes, uint64_t size) {
  auto& in = *static_cast<oscar::fuzz::Input*>(user);
  FUZZ_CHECK(size <= 4096 * 48);  // memory for a piece, whatever the bytes say
  if (size > in.n_rest()) return OSCAR_E_CORRUPT;
  for (uint64_t i = 0; i < size; ++i) static_cast<uint8_t*>(bytes)[i] = in.byte();
  return OSCAR_OK;
}

oscar_status write(void* user, const void* bytes, uint64_t size) {
  auto& to = *static_cast<Bytes*>(user);
  to.insert(to.end(), static_cast<const uint8_t*>(bytes), static_cast<const uint8_t*>(bytes) + size);
  return OSCAR_OK;
}

oscar_status import_bytes(oscar_cache* cache, const Bytes& bytes, oscar_seq* seq) {
  oscar::fuzz::Input in(bytes.data(), bytes.size());
  const oscar_import_args args{sizeof args, 0, &in, read};
  return oscar_seq_import(cache, &args, seq);
}

Bytes export_bytes(const oscar_cache* cache, oscar_seq seq) {
  Bytes bytes;
  const oscar_export_args args{sizeof args, 0, 0, &bytes, write};
  uint64_t size = 0;
  FUZZ_CHECK(oscar_seq_export(cache, seq, &args, &size) == OSCAR_OK && size == bytes.size());
  return bytes;
}

oscar_tensor tensor(float* data, int64_t n, int64_t heads) {
  oscar_tensor t{};
  t.data = data;
  t.device_type = OSCAR_DEVICE_CPU;
  t.dtype_code = OSCAR_DTYPE_FLOAT;
  t.dtype_bits = 32;
  t.dtype_lanes = 1;
  t.ndim = 3;
  const int64_t shape[] = {n, heads, 64};
  std::memcpy(t.shape, shape, sizeof shape);
  return t;
}

void go_on(oscar_cache* cache, oscar_seq seq, uint32_t n) {
  static std::vector<float> numbers(130 * 2 * 64, 0.5f), out(130 * 2 * 64);
  const oscar_step_entry entry{seq, n, 0};
  const oscar_step_args args{sizeof args, 1, &entry, 0, 0};
  oscar_step step = 0;
  const oscar_status status = oscar_step_begin(cache, &args, nullptr, &step);
  if (status == OSCAR_E_NO_SPACE) return;
  FUZZ_CHECK(status == OSCAR_OK);
  oscar_layer_args a{};
  a.struct_size = sizeof a;
  a.k = a.v = tensor(numbers.data(), n, 1);
  a.q = tensor(numbers.data(), n, 2);
  a.out = tensor(out.data(), n, 2);
  FUZZ_CHECK(oscar_layer(cache, step, &a, nullptr) == OSCAR_OK);
  FUZZ_CHECK(oscar_step_end(cache, step) == OSCAR_OK);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Bytes file(data + 1, data + size);
  if (data[0] & 1) file = repaired(std::move(file));
  oscar_cache_config c;
  FUZZ_CHECK(oscar_cache_config_init(&c, sizeof c, "2bit") == OSCAR_OK);
  c.n_layers = c.n_kv_heads = 1;
  c.n_q_heads = 2;
  c.key_dim = 64;
  c.window = data[0] & 2 ? 300 : 0;
  c.n_sink = 0;
  c.n_recent = 8;
  c.max_rollback = 2;
  c.max_sequences = 2;
  c.max_step_tokens = 130;
  c.max_tokens = 700;
  c.capacity_bytes = 1 << 20;
  oscar_cache* cache = nullptr;
  FUZZ_CHECK(oscar_cache_create(&c, &cache) == OSCAR_OK);
  oscar_seq seq = 7, again = 7;
  const oscar_status status = import_bytes(cache, file, &seq);
  if (status == OSCAR_OK) {
    const Bytes bytes = export_bytes(cache, seq);
    FUZZ_CHECK(bytes.size() == file.size());
    FUZZ_CHECK(import_bytes(cache, bytes, &again) == OSCAR_OK);
    FUZZ_CHECK(export_bytes(cache, again) == bytes);
    go_on(cache, seq, 1);
    go_on(cache, seq, 130);
    FUZZ_CHECK(oscar_seq_close(cache, seq) == OSCAR_OK);
    FUZZ_CHECK(oscar_seq_close(cache, again) == OSCAR_OK);
  } else {
    FUZZ_CHECK(status == OSCAR_E_CORRUPT || status == OSCAR_E_INVALID || status == OSCAR_E_NO_SPACE);
    FUZZ_CHECK(seq == 0 && oscar_last_error()[0] != 0);
  }
  oscar_cache_stats s{};
  s.struct_size = sizeof s;
  FUZZ_CHECK(oscar_cache_stats_get(cache, &s) == OSCAR_OK && s.bytes_sequences == 0 && s.n_sequences == 0);
  oscar_cache_destroy(cache);
  return 0;
}
