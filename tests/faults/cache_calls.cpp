// Creating, freezing and destroying caches, and what concerns sequences.
#include "faults/world.h"

namespace test {

namespace {

SharedWorld frozen(uint64_t n_tokens = 350) { return std::make_shared<World>(false, n_tokens); }
SharedWorld collecting(uint64_t n_tokens = 350) { return std::make_shared<World>(true, n_tokens); }

Call make_create(SharedWorld world) {
  auto made = std::make_shared<oscar_cache*>(nullptr);
  Call call;
  call.make = [=] {
    *made = world->cache();
    return oscar_cache_create(&world->config(), made.get());
  };
  call.outputs_are_empty = [made] { return *made == nullptr; };
  call.result = [=] {
    const std::unique_ptr<oscar_cache, void (*)(oscar_cache*)> cache(*made, oscar_cache_destroy);
    oscar_seq seq = 0;
    OSCAR_OK_(oscar_seq_open(cache.get(), &seq));
    const LayerOutput out = run_step(cache.get(), World::kGeometry, seq, range(0, 200));
    Bytes bytes;
    put(bytes, out.out.data(), out.out.size());
    return bytes;
  };
  return call;
}

Call make_destroy() {
  auto world = frozen();
  Call call;
  call.make = [=] {
    oscar_cache_destroy(world->cache());
    world->forget_cache();
    return OSCAR_OK;
  };
  return call;
}

Call make_freeze() {
  auto world = collecting();
  auto got = std::make_shared<Calibration>();
  Call call;
  call.make = [=] {
    got->handle = reinterpret_cast<oscar_calibration*>(world.get());
    return oscar_cache_freeze(world->cache(), &got->handle);
  };
  call.outputs_are_empty = [got] { return got->handle == nullptr; };
  call.look = [=] { return world->look(); };
  call.result = [=] {
    Bytes bytes = got->save();
    const Bytes rest = world->go_on();
    put(bytes, rest.data(), rest.size());
    return bytes;
  };
  return call;
}

// Calls with one number as output.
template <class Function>
Call numbering(SharedWorld world, Function function) {
  auto number = std::make_shared<uint64_t>(77);
  Call call;
  call.make = [=] { return *number = 77, function(*world, number.get()); };
  call.outputs_are_empty = [number] { return *number == 0; };
  call.look = [=] { return world->look(); };
  call.result = [=] {
    Bytes bytes;
    put(bytes, *number);
    return bytes;
  };
  return call;
}

// The same where the number is a new sequence.
template <class Function>
Call opening(SharedWorld world, Function function) {
  auto seq = std::make_shared<uint64_t>(77);
  Call call = numbering(world, [=](const World& w, uint64_t* to) {
    const oscar_status status = function(w, to);
    *seq = *to;
    return status;
  });
  call.result = [=] { return world->go_on({*seq}); };
  return call;
}

Call make_open(SharedWorld world) {
  return opening(world, [](const World& w, oscar_seq* to) { return oscar_seq_open(w.cache(), to); });
}

Call make_fork(SharedWorld world) {
  return opening(world, [](const World& w, oscar_seq* to) { return oscar_seq_fork(w.cache(), w.seq(), 345, to); });
}

Call make_close(SharedWorld world) {
  Call call = changing(world, [](World& w) {
    const oscar_status status = oscar_seq_close(w.cache(), w.seq());
    if (status == OSCAR_OK) w.forget_seq();
    return status;
  });
  return call;
}

Call make_truncate(SharedWorld world) {
  return changing(world, [](const World& w) { return oscar_seq_truncate(w.cache(), w.seq(), 300); });
}

Call make_accept(SharedWorld world) {
  const oscar_step step = begin(world->cache(), {{world->seq(), 6, 6}});
  for (uint32_t layer = 0; layer < 2; ++layer) {
    LayerInput in = make_input(World::kGeometry, range(900, 6), layer);
    run_layer(world->cache(), step, World::kGeometry, layer, in);
  }
  OSCAR_OK_(oscar_step_end(world->cache(), step));
  return changing(world, [](const World& w) {
    const uint32_t kept[] = {0, 2, 5};
    return oscar_seq_accept(w.cache(), w.seq(), 350, 3, kept);
  });
}

// Bytes that take no memory while they are written or read.
struct Exported {
  Bytes bytes;
  uint64_t at = 0;
  static oscar_status write(void* user, const void* from, uint64_t size) {
    auto* to = static_cast<Exported*>(user);
    if (size > to->bytes.size() - to->at) return OSCAR_E_NO_SPACE;
    std::memcpy(to->bytes.data() + to->at, from, size);
    to->at += size;
    return OSCAR_OK;
  }
  static oscar_status read(void* user, void* to, uint64_t size) {
    auto* from = static_cast<Exported*>(user);
    if (size > from->bytes.size() - from->at) return OSCAR_E_CORRUPT;
    std::memcpy(to, from->bytes.data() + from->at, size);
    from->at += size;
    return OSCAR_OK;
  }
};

oscar_status export_to(const World& w, Exported& to, uint64_t* size) {
  to.at = 0;
  const oscar_export_args args{sizeof args, 0, 340, &to, Exported::write};
  return oscar_seq_export(w.cache(), w.seq(), &args, size);
}

Call make_export() {
  auto world = frozen();
  auto to = std::make_shared<Exported>();
  to->bytes.resize(1u << 20);
  Call call = numbering(world, [to](const World& w, uint64_t* size) { return export_to(w, *to, size); });
  call.result = [to] { return Bytes(to->bytes.begin(), to->bytes.begin() + static_cast<std::ptrdiff_t>(to->at)); };
  return call;
}

Call make_import() {
  auto world = frozen();
  auto from = std::make_shared<Exported>();
  from->bytes.resize(1u << 20);
  uint64_t size = 0;
  OSCAR_OK_(export_to(*world, *from, &size));
  return opening(world, [from](const World& w, oscar_seq* seq) {
    from->at = 0;
    const oscar_import_args args{sizeof args, 0, from.get(), Exported::read};
    return oscar_seq_import(w.cache(), &args, seq);
  });
}

// A call that fills a struct.
template <class Stats, class Get>
Call filling(Get get) {
  auto world = frozen();
  auto stats = std::make_shared<Stats>();
  Call call;
  call.make = [=] {
    stats->struct_size = sizeof *stats;
    return get(*world, stats.get());
  };
  call.look = [=] { return world->look(); };
  call.result = [=] {
    Bytes bytes;
    put(bytes, *stats);
    return bytes;
  };
  return call;
}

Call make_layer_stats() {
  return filling<oscar_layer_stats>(
      [](const World& w, oscar_layer_stats* stats) { return oscar_layer_stats_get(w.cache(), 1, stats); });
}
Call make_stats() {
  return filling<oscar_cache_stats>(
      [](const World& w, oscar_cache_stats* stats) { return oscar_cache_stats_get(w.cache(), stats); });
}

Call make_log() {
  return changing(frozen(), [](const World& w) {
    const oscar_log_args args{sizeof args, 0, nullptr, [](void*, const oscar_log_record*) {}};
    return oscar_cache_log_set(w.cache(), &args);
  });
}

Call make_length() {
  return numbering(frozen(), [](const World& w, uint64_t* n) { return oscar_seq_length(w.cache(), w.seq(), n); });
}
Call make_capacity() {
  return numbering(frozen(), [](const World& w, uint64_t* n) { return oscar_cache_capacity(w.cache(), n); });
}

struct Rows {
  std::vector<float> k = std::vector<float>(350 * 64), v = k;
};

Call reading(const std::function<oscar_status(const World&, const oscar_tensor&, const oscar_tensor&)>& function,
             const std::vector<int64_t>& shape) {
  auto world = frozen();
  auto rows = std::make_shared<Rows>();
  Call call;
  call.make = [=] {
    oscar_tensor k = tensor(rows->k.data(), {350}), v = tensor(rows->v.data(), {350});
    k.ndim = v.ndim = static_cast<int32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), k.shape);
    std::copy(shape.begin(), shape.end(), v.shape);
    return function(*world, k, v);
  };
  call.look = [=] { return world->look(); };
  call.result = [=] {
    Bytes bytes;
    put(bytes, rows->k.data(), rows->k.size());
    put(bytes, rows->v.data(), rows->v.size());
    return bytes;
  };
  return call;
}

Call make_read() {
  return reading([](const World& w, const oscar_tensor& k,
                    const oscar_tensor& v) { return oscar_read(w.cache(), w.seq(), 1, 0, 0, 350, &k, &v); },
                 {350, 64});
}
Call make_scores() {
  return reading([](const World& w, const oscar_tensor& k,
                    const oscar_tensor&) { return oscar_scores(w.cache(), w.seq(), 1, 0, 0, 350, &k); },
                 {350});
}

}  // namespace

std::vector<CallKind> cache_calls() {
  return {
      {"oscar_cache_create", "", [] { return make_create(frozen(0)); }},
      {"oscar_cache_create", "that calibrates itself", [] { return make_create(collecting(0)); }},
      {"oscar_cache_destroy", "", make_destroy, true},
      {"oscar_cache_stats_get", "", make_stats},
      {"oscar_layer_stats_get", "", make_layer_stats},
      {"oscar_cache_log_set", "", make_log},
      {"oscar_cache_freeze", "", make_freeze},
      {"oscar_cache_capacity", "", make_capacity},
      {"oscar_seq_open", "", [] { return make_open(frozen()); }},
      {"oscar_seq_open", "collecting", [] { return make_open(collecting()); }},
      {"oscar_seq_close", "", [] { return make_close(frozen()); }},
      {"oscar_seq_close", "collecting", [] { return make_close(collecting()); }},
      {"oscar_seq_fork", "", [] { return make_fork(frozen()); }},
      {"oscar_seq_fork", "collecting", [] { return make_fork(collecting()); }},
      {"oscar_seq_truncate", "", [] { return make_truncate(frozen()); }},
      {"oscar_seq_truncate", "collecting", [] { return make_truncate(collecting()); }},
      {"oscar_seq_accept", "", [] { return make_accept(frozen()); }},
      {"oscar_seq_length", "", make_length},
      {"oscar_seq_export", "", make_export},
      {"oscar_seq_import", "", make_import},
      {"oscar_read", "", make_read},
      {"oscar_scores", "", make_scores},
  };
}

}  // namespace test
