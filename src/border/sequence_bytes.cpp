// Sequences as bytes: the caller's callbacks as the two ends of a stream.
#include "border/arguments.h"
#include "border/guard.h"
#include "border/handles.h"
#include "border/log.h"

using namespace oscar;
using namespace oscar::border;

namespace {

// What a callback gave becomes what the call gives.
void check_callback(const char* name, oscar_status status, uint64_t n_bytes) {
  if (status == OSCAR_OK) return;
  const bool is_known = status < 0 && status >= OSCAR_E_DEVICE;
  throw Error(is_known ? static_cast<Status>(status) : Status::kInvalid, "args.%s gave %d (%s) after %llu bytes", name,
              status, oscar_status_name(status), static_cast<unsigned long long>(n_bytes));
}

class CallbackSink final : public ByteSink {
 public:
  explicit CallbackSink(const oscar_export_args& args) : args_(args) {}
  void write(const void* bytes, uint64_t size) override {
    check_callback("write", args_.write(args_.user, bytes, size), n_bytes_);
    n_bytes_ += size;
  }

 private:
  const oscar_export_args& args_;
  uint64_t n_bytes_ = 0;
};

class CallbackSource final : public ByteSource {
 public:
  explicit CallbackSource(const oscar_import_args& args) : args_(args) {}
  void read(void* bytes, uint64_t size) override {
    check_callback("read", args_.read(args_.user, bytes, size), n_bytes_);
    n_bytes_ += size;
  }

 private:
  const oscar_import_args& args_;
  uint64_t n_bytes_ = 0;
};

void check_reserved(uint32_t reserved) {
  if (reserved != 0) throw Error(Status::kInvalid, "args.reserved is %u, wanted 0", reserved);
}

}  // namespace

extern "C" {

oscar_status oscar_seq_export(const oscar_cache* cache, oscar_seq seq, const oscar_export_args* args,
                              uint64_t* size_out) {
  return guarded("oscar_seq_export", [&] {
    require(size_out, "size_out");
    *size_out = 0;
    require(cache, "cache");
    const oscar_export_args a = read_struct(args, "args");
    check_reserved(a.reserved);
    CallbackSink sink(a);
    *size_out = cache->cache.export_sequence(seq, a.n_tokens, a.write ? &sink : nullptr);
  });
}

oscar_status oscar_seq_import(oscar_cache* cache, const oscar_import_args* args, oscar_seq* seq_out) {
  return guarded_room("oscar_seq_import", cache, [&] {
    require(seq_out, "seq_out");
    *seq_out = 0;
    require(cache, "cache");
    const oscar_import_args a = read_struct(args, "args");
    check_reserved(a.reserved);
    if (!a.read) throw Error(Status::kInvalid, "args.read is NULL");
    CallbackSource source(a);
    *seq_out = cache->cache.import_sequence(source);
  });
}

}  // extern "C"
