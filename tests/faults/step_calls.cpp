// Steps and their layers, in a cache that packs and in one that collects.
#include "faults/world.h"

namespace test {

namespace {

// A step of n tokens that has come to its first layer's append, to its attention, or to its end.
struct Stepping {
  World world;
  uint32_t n;
  oscar_step step = 0;
  LayerInput in[2];
  std::vector<float> out, lse;

  Stepping(bool collecting, uint32_t n_tokens)
      : world(collecting, 350), n(n_tokens), out(uint64_t{n} * 2 * 64), lse(uint64_t{n} * 2) {
    for (uint32_t layer = 0; layer < 2; ++layer) in[layer] = make_input(World::kGeometry, range(600, n), layer);
  }

  oscar_status begin() {
    const oscar_step_entry entry{world.seq(), n, 0};
    oscar_step_args args{};
    args.struct_size = sizeof args;
    args.n_entries = 1;
    args.entries = &entry;
    step = 99;
    return oscar_step_begin(world.cache(), &args, nullptr, &step);
  }
  oscar_status append(uint32_t layer) {
    oscar_append_args args{};
    args.struct_size = sizeof args;
    args.layer = layer;
    args.k = tensor(in[layer].k.data(), {n, 1, 64});
    args.v = tensor(in[layer].v.data(), {n, 1, 64});
    return oscar_append(world.cache(), step, &args, nullptr);
  }
  oscar_status attend(uint32_t layer) {
    oscar_attend_args args{};
    args.struct_size = sizeof args;
    args.layer = layer;
    args.q = tensor(in[layer].q.data(), {n, 2, 64});
    args.out = tensor(out.data(), {n, 2, 64});
    args.lse = tensor(lse.data(), {n, 2});
    return oscar_attend(world.cache(), step, &args, nullptr);
  }
  oscar_status layer(uint32_t layer) {
    oscar_layer_args args{};
    args.struct_size = sizeof args;
    args.layer = layer;
    args.k = tensor(in[layer].k.data(), {n, 1, 64});
    args.v = tensor(in[layer].v.data(), {n, 1, 64});
    args.q = tensor(in[layer].q.data(), {n, 2, 64});
    args.out = tensor(out.data(), {n, 2, 64});
    args.lse = tensor(lse.data(), {n, 2});
    return oscar_layer(world.cache(), step, &args, nullptr);
  }

  // The rest of the step, and on from there.
  Bytes finish(uint32_t next_layer) {
    Bytes bytes;
    put(bytes, out.data(), out.size());
    for (uint32_t l = next_layer; l < 2; ++l) OSCAR_OK_(layer(l));
    OSCAR_OK_(oscar_step_end(world.cache(), step));
    put(bytes, out.data(), out.size());
    const Bytes rest = world.go_on();
    put(bytes, rest.data(), rest.size());
    return bytes;
  }
};

using Shared = std::shared_ptr<Stepping>;

Shared begun(bool collecting, uint32_t n) {
  auto s = std::make_shared<Stepping>(collecting, n);
  OSCAR_OK_(s->begin());
  return s;
}

Call stepping(Shared s, const std::function<oscar_status(Stepping&)>& function, uint32_t next_layer) {
  Call call;
  call.make = [=] { return function(*s); };
  call.look = [=] { return s->world.look(); };
  call.result = [=] { return s->finish(next_layer); };
  return call;
}

Call make_begin(bool collecting, uint32_t n) {
  auto s = std::make_shared<Stepping>(collecting, n);
  Call call = stepping(
      s, [](Stepping& x) { return x.begin(); }, 0);
  call.outputs_are_empty = [s] { return s->step == 0; };
  return call;
}

Call make_append(bool collecting, uint32_t n) {
  // What comes after an append is the attention.
  Call call = stepping(
      begun(collecting, n), [](Stepping& x) { return x.append(0); }, 0);
  return call;
}

Call make_attend(bool collecting, uint32_t n) {
  auto s = begun(collecting, n);
  OSCAR_OK_(s->append(0));
  return stepping(
      s, [](Stepping& x) { return x.attend(0); }, 1);
}

Call make_layer(bool collecting, uint32_t n) {
  return stepping(
      begun(collecting, n), [](Stepping& x) { return x.layer(0); }, 1);
}

Call make_end(bool collecting, uint32_t n) {
  auto s = begun(collecting, n);
  for (uint32_t l = 0; l < 2; ++l) OSCAR_OK_(s->layer(l));
  return changing(SharedWorld(s, &s->world), [s](World& w) { return oscar_step_end(w.cache(), s->step); });
}

Call make_abort(bool collecting, uint32_t n) {
  auto s = begun(collecting, n);
  OSCAR_OK_(s->layer(0));
  return changing(SharedWorld(s, &s->world), [s](World& w) { return oscar_step_abort(w.cache(), s->step); });
}

}  // namespace

std::vector<CallKind> step_calls() {
  struct Made {
    const char* function;
    Call (*make)(bool collecting, uint32_t n);
    bool takes_no_memory;  // of a cache that does not collect
  };
  const Made made[] = {{"oscar_step_begin", make_begin, false}, {"oscar_append", make_append, true},
                       {"oscar_attend", make_attend, true},     {"oscar_layer", make_layer, true},
                       {"oscar_step_end", make_end, true},      {"oscar_step_abort", make_abort, true}};
  std::vector<CallKind> all;
  for (const Made& m : made)
    for (bool collecting : {false, true})
      for (uint32_t n : {1u, 200u})
        all.push_back({m.function, std::to_string(n) + " tokens" + (collecting ? ", collecting" : ""),
                       [m, collecting, n] { return m.make(collecting, n); }, m.takes_no_memory && !collecting});
  return all;
}

}  // namespace test
