#include "border/scene.h"

#include "unit/torch_file.h"

namespace test {

namespace {

constexpr size_t kRoom = 1u << 16;

Bytes make_rotation_file() {
  using namespace oscar::test;
  std::mt19937_64 random(1);
  return torch_file(pickle_of({{0, square_note(0, 64)}, {1, square_note(1, 64)}}),
                    {storage_of(random_rotation(64, random)), storage_of(random_rotation(64, random))})
      .bytes;
}

oscar_cache_config small_config() {
  oscar_cache_config c = config_of(Scene::kGeometry, "2bit");
  c.max_sequences = 4;
  c.max_step_tokens = 256;
  c.max_tokens = 1024;
  c.capacity_bytes = 4u << 20;
  return c;
}

// A call that was refused may have left a wrong element.
void set(Padded<oscar_cache_config>& to, Scene& s) {
  for (oscar_layer_config& l : s.layers) OSCAR_OK_(oscar_layer_config_init(&l, sizeof l));
  to.value = small_config();
  to.value.layers = s.layers.data();
  to.value.n_layer_configs = 2;
}

}  // namespace

Scene::Scene() : layers(2), identity(64 * 64) {
  for (auto& m : memory) {
    m.resize(kRoom);
    for (size_t i = 0; i < kRoom; ++i) m[i] = static_cast<float>(static_cast<int32_t>(i * 2654435761u)) * 0x1p-31f;
  }
  mask.assign(kRoom, 1);
  stepped = frozen.seq();
  oscar_seq idle = 0;
  OSCAR_OK_(oscar_seq_fork(frozen.cache(), stepped, 150, &idle));
  frozen.use_seq(idle);
  step = begin(frozen.cache(), {{stepped, 2, 0}});
  oscar_append_args append{};
  append.struct_size = sizeof append;
  append.k = tensor(memory[0].data(), {2, 1, 64});
  append.v = tensor(memory[1].data(), {2, 1, 64});
  OSCAR_OK_(oscar_append(frozen.cache(), step, &append, nullptr));

  set_matrices();
  OSCAR_OK_(oscar_calibration_create(matrices, 2, &calibration));
  uint64_t size = 0;
  OSCAR_OK_(oscar_calibration_save(calibration, nullptr, 0, &size));
  calibration_file.resize(size);
  OSCAR_OK_(oscar_calibration_save(calibration, calibration_file.data(), size, &size));
  rotation_file = make_rotation_file();

  Frame_oscar_seq_export to_bytes;
  good(*this, to_bytes);
  OSCAR_OK_(to_bytes.call());

  const oscar_cache_config config = small_config();
  OSCAR_OK_(oscar_calibrator_create(&config, &rope.args, &calibrator));
  for (uint32_t layer = 0; layer < 2; ++layer) {
    Frame_oscar_calibrator_feed feed;
    good(*this, feed);
    feed.args_store.value.layer = layer;
    OSCAR_OK_(feed.call());
  }
}

Scene::~Scene() {
  oscar_calibrator_destroy(calibrator);
  oscar_calibration_destroy(calibration);
}

void Scene::set_matrices() {
  std::fill(identity.begin(), identity.end(), 0.0f);
  for (size_t i = 0; i < 64; ++i) identity[i * 65] = 1.0f + static_cast<float>(i % 2);
  for (oscar_calibration_layer& l : matrices) {
    l.struct_size = sizeof l;
    l.n_kv_heads = 1;
    l.key_dim = l.value_dim = 64;
    l.key_transform = l.query_moment = l.value_transform = tensor(identity.data(), {1, 64, 64});
  }
}

Bytes Scene::look() const {
  Bytes bytes = frozen.look({stepped}), more = collecting.look();
  put(bytes, more.data(), more.size());
  uint64_t size = 0;
  OSCAR_OK_(oscar_calibration_save(calibration, nullptr, 0, &size));
  more.resize(size);
  OSCAR_OK_(oscar_calibration_save(calibration, more.data(), size, &size));
  put(bytes, more.data(), more.size());
  return bytes;
}

// ------------------------------------------------------------------------------- arguments, function by function ----

void good(Scene&, Frame_oscar_backend_get&) {}

void good(Scene&, Frame_oscar_layer_config_init& f) { f.size = sizeof(oscar_layer_config); }

void good(Scene&, Frame_oscar_cache_config_init& f) {
  f.size = sizeof(oscar_cache_config);
  f.profile = "4bit";
}

void good(Scene& s, Frame_oscar_cache_check& f) {
  set(f.config_store, s);
  s.self_calibrate = s.rope.args;
  f.config_store.value.self_calibrate = &s.self_calibrate;
  f.context = 300;
}

void good(Scene& s, Frame_oscar_calibration_default& f) { set(f.config_store, s); }
void good(Scene& s, Frame_oscar_calibration_identity& f) { set(f.config_store, s); }

void good(Scene& s, Frame_oscar_calibration_create& f) {
  s.set_matrices();
  f.layers = s.matrices;
  f.n_layers = 2;
}

void good(Scene& s, Frame_oscar_calibration_save& f) {
  f.calibration = s.calibration;
  f.bytes = s.memory[0].data();
  f.capacity = kRoom * sizeof(float);
}

void good(Scene& s, Frame_oscar_calibration_load& f) {
  f.bytes = s.calibration_file.data();
  f.size = s.calibration_file.size();
}

void good(Scene& s, Frame_oscar_calibration_import_torch& f) {
  set(f.config_store, s);
  oscar_calibration_import_args& a = f.args_store.value;
  a.key_bytes = a.value_bytes = s.rotation_file.data();
  a.key_size = a.value_size = s.rotation_file.size();
  s.indices[0] = 1;
  s.indices[1] = 0;
  a.layer_ids = s.indices;
  a.n_layer_ids = 2;
}

void good(Scene& s, Frame_oscar_calibration_info_get& f) { f.calibration = s.calibration; }

void good(Scene& s, Frame_oscar_calibration_head_get& f) {
  f.calibration = s.calibration;
  f.layer = 1;
}

void good(Scene& s, Frame_oscar_calibration_slice& f) {
  f.calibration = s.calibration;
  s.parts[0] = {1, 0, 1};
  s.parts[1] = {0, 0, 1};
  f.parts = s.parts;
  f.n_parts = 2;
}

void good(Scene& s, Frame_oscar_calibrator_create& f) {
  set(f.config_store, s);
  f.args_store.value = s.rope.args;
}

void good(Scene& s, Frame_oscar_calibrator_feed& f) {
  f.calibrator = s.calibrator;
  oscar_calibrator_feed_args& a = f.args_store.value;
  a.layer = 1;
  a.q = tensor(s.memory[2].data(), {200, 2, 64});
  a.k = tensor(s.memory[3].data(), {200, 1, 64});
  a.v = tensor(s.memory[4].data(), {200, 1, 64});
}

void good(Scene& s, Frame_oscar_calibrator_finish& f) { f.calibrator = s.calibrator; }

void good(Scene& s, Frame_oscar_cache_create& f) {
  set(f.config_store, s);
  f.config_store.value.calibration = s.calibration;
}

void good(Scene& s, Frame_oscar_cache_stats_get& f) { f.cache = s.frozen.cache(); }
void good(Scene& s, Frame_oscar_layer_stats_get& f) {
  f.cache = s.frozen.cache();
  f.layer = 1;
}

void good(Scene& s, Frame_oscar_cache_log_set& f) {
  f.cache = s.frozen.cache();
  f.args_store.value.min_level = OSCAR_LOG_WARNING;
  f.args_store.value.user = &s;
  f.args_store.value.write = [](void*, const oscar_log_record*) {};
}

void good(Scene& s, Frame_oscar_cache_freeze& f) { f.cache = s.collecting.cache(); }
void good(Scene& s, Frame_oscar_cache_capacity& f) { f.cache = s.frozen.cache(); }
void good(Scene& s, Frame_oscar_seq_open& f) { f.cache = s.frozen.cache(); }

void good(Scene& s, Frame_oscar_seq_close& f) {
  f.cache = s.frozen.cache();
  f.seq = s.frozen.seq();
}

void good(Scene& s, Frame_oscar_seq_fork& f) {
  f.cache = s.frozen.cache();
  f.parent = s.frozen.seq();
  f.n_tokens = 140;
}

void good(Scene& s, Frame_oscar_seq_truncate& f) {
  f.cache = s.frozen.cache();
  f.seq = s.frozen.seq();
  f.n_tokens = 140;
}

void good(Scene& s, Frame_oscar_seq_accept& f) {
  f.cache = s.frozen.cache();
  f.seq = s.frozen.seq();
  f.base = 147;
  f.n = 2;
  s.indices[0] = 0;
  s.indices[1] = 2;
  f.indices = s.indices;
}

void good(Scene& s, Frame_oscar_seq_length& f) {
  f.cache = s.frozen.cache();
  f.seq = s.frozen.seq();
}

void good(Scene& s, Frame_oscar_seq_export& f) {
  f.cache = s.frozen.cache();
  f.seq = s.frozen.seq();
  f.args_store.value.n_tokens = 140;
  s.exported.clear();
  f.args_store.value.user = &s.exported;
  f.args_store.value.write = [](void* user, const void* bytes, uint64_t size) -> oscar_status {
    put(*static_cast<Bytes*>(user), static_cast<const uint8_t*>(bytes), size);
    return OSCAR_OK;
  };
}

void good(Scene& s, Frame_oscar_seq_import& f) {
  f.cache = s.frozen.cache();
  s.n_read = 0;
  f.args_store.value.user = &s;
  f.args_store.value.read = [](void* user, void* bytes, uint64_t size) -> oscar_status {
    auto* scene = static_cast<Scene*>(user);
    if (size > scene->exported.size() - scene->n_read) return OSCAR_E_CORRUPT;
    std::memcpy(bytes, scene->exported.data() + scene->n_read, size);
    scene->n_read += size;
    return OSCAR_OK;
  };
}

void good(Scene& s, Frame_oscar_step_begin& f) {
  f.cache = s.collecting.cache();
  s.entries[0] = {s.collecting.seq(), 3, 1};
  s.entries[1] = {0, 1, 0};
  f.args_store.value.entries = s.entries;
  f.args_store.value.n_entries = 2;
}

void good(Scene& s, Frame_oscar_step_end& f) {
  // A step that may end: of padding alone, in the other cache.
  f.cache = s.collecting.cache();
  if (!s.padding_step) s.padding_step = begin(f.cache, {{0, 2, 0}});
  f.step = s.padding_step;
}

void good(Scene& s, Frame_oscar_step_abort& f) {
  f.cache = s.frozen.cache();
  f.step = s.step;
}

void good(Scene& s, Frame_oscar_append& f) {
  f.cache = s.frozen.cache();
  f.step = s.step;
  f.args_store.value.k = tensor(s.memory[0].data(), {2, 1, 64});
  f.args_store.value.v = tensor(s.memory[1].data(), {2, 1, 64});
}

template <class Args>
void set_attention(Scene& s, Args& a) {
  a.q = tensor(s.memory[2].data(), {2, 2, 64});
  a.out = tensor(s.memory[3].data(), {2, 2, 64});
  a.lse = tensor(s.memory[4].data(), {2, 2});
  a.sink_logits = tensor(s.memory[5].data(), {2});
  a.mask = tensor(s.mask.data(), {2, 2});
  a.scale = 0.1f;
  a.softcap = 30.0f;
}

void good(Scene& s, Frame_oscar_attend& f) {
  f.cache = s.frozen.cache();
  f.step = s.step;
  set_attention(s, f.args_store.value);
}

void good(Scene& s, Frame_oscar_layer& f) {
  f.cache = s.frozen.cache();
  f.step = s.step;
  f.args_store.value.layer = 1;
  f.args_store.value.k = tensor(s.memory[0].data(), {2, 1, 64});
  f.args_store.value.v = tensor(s.memory[1].data(), {2, 1, 64});
  set_attention(s, f.args_store.value);
}

void good(Scene& s, Frame_oscar_read& f) {
  f.cache = s.frozen.cache();
  f.seq = s.frozen.seq();
  f.layer = 1;
  f.n = 130;
  f.k_out_store.value = tensor(s.memory[0].data(), {130, 64});
  f.v_out_store.value = tensor(s.memory[1].data(), {130, 64});
}

void good(Scene& s, Frame_oscar_scores& f) {
  f.cache = s.frozen.cache();
  f.seq = s.frozen.seq();
  f.layer = 1;
  f.n = 130;
  f.scores_out_store.value = tensor(s.memory[0].data(), {130});
}

void good(Scene& s, Frame_oscar_merge& f) {
  f.outs_store.value = tensor(s.memory[0].data(), {3, 2, 4, 8});
  f.lses_store.value = tensor(s.memory[1].data(), {3, 2, 4});
  f.out_store.value = tensor(s.memory[2].data(), {2, 4, 8});
  f.lse_store.value = tensor(s.memory[3].data(), {2, 4});
}

}  // namespace test
