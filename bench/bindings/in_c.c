/* What calls of the C ABI cost from C itself, with the least work that they can have (a padding row: arguments are
 * checked, and zeros written): the measure of the bindings.
 *
 *   in_c       one JSON object a line: the least time of a call in ns, over BATCHES batches of CALLS calls; at last the sum
 *              of an output that is none of padding, the same in all languages
 *
 * The structs of arguments are filled outside of the loops: a binding that fills them for every call pays for it. */
#define _POSIX_C_SOURCE 199309L
#include <oscar/oscar.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CALLS = 256, BATCHES = 1000, HEADS = 4, KV_HEADS = 2, DIM = 64 };

#define CHECK(call)                                                                                                    \
  do {                                                                                                                 \
    if ((call) != OSCAR_OK) {                                                                                          \
      fprintf(stderr, "%s: %s\n", #call, oscar_last_error());                                                          \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static oscar_cache *cache;
static oscar_seq seq;
static float q[HEADS * DIM], k[KV_HEADS * DIM], v[KV_HEADS * DIM], out[HEADS * DIM];

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static oscar_tensor tensor(float *data, int64_t heads) {
  oscar_tensor t = {.data = data, .device_type = OSCAR_DEVICE_CPU, .dtype_code = OSCAR_DTYPE_FLOAT, .dtype_bits = 32};
  t.dtype_lanes = 1;
  t.ndim = 3;
  t.shape[0] = 1, t.shape[1] = heads, t.shape[2] = DIM;
  return t;
}

static void open_cache(void) {
  oscar_cache_config config;
  CHECK(oscar_cache_config_init(&config, sizeof config, "2bit"));
  config.n_layers = CALLS;
  config.n_q_heads = HEADS;
  config.n_kv_heads = KV_HEADS;
  config.key_dim = DIM;
  config.max_tokens = 4096;
  config.max_step_tokens = 16;
  config.capacity_bytes = 256 << 20;
  CHECK(oscar_cache_create(&config, &cache));
  CHECK(oscar_seq_open(cache, &seq));
}

static oscar_step begin(oscar_seq of) {
  const oscar_step_entry entry = {of, 1, 0};
  const oscar_step_args args = {.struct_size = sizeof args, .n_entries = 1, .entries = &entry};
  oscar_step step;
  CHECK(oscar_step_begin(cache, &args, NULL, &step));
  return step;
}

/* Time of CALLS calls. */
static double time_length(void) {
  uint64_t length;
  const double start = now_ns();
  for (int i = 0; i < CALLS; ++i) CHECK(oscar_seq_length(cache, seq, &length));
  return now_ns() - start;
}

static double time_step(void) {
  const double start = now_ns();
  for (int i = 0; i < CALLS; ++i) CHECK(oscar_step_abort(cache, begin(0)));
  return now_ns() - start;
}

static double time_append(void) {
  const oscar_append_args args = {
      .struct_size = sizeof args, .layer = 0, .k = tensor(k, KV_HEADS), .v = tensor(v, KV_HEADS)};
  const oscar_step step = begin(0);
  const double start = now_ns();
  for (int i = 0; i < CALLS; ++i) CHECK(oscar_append(cache, step, &args, NULL));
  const double took = now_ns() - start;
  CHECK(oscar_step_abort(cache, step));
  return took;
}

static double time_attend(void) {
  const oscar_append_args given = {
      .struct_size = sizeof given, .layer = 0, .k = tensor(k, KV_HEADS), .v = tensor(v, KV_HEADS)};
  const oscar_attend_args args = {
      .struct_size = sizeof args, .layer = 0, .q = tensor(q, HEADS), .out = tensor(out, HEADS)};
  const oscar_step step = begin(0);
  CHECK(oscar_append(cache, step, &given, NULL));
  const double start = now_ns();
  for (int i = 0; i < CALLS; ++i) CHECK(oscar_attend(cache, step, &args, NULL));
  const double took = now_ns() - start;
  CHECK(oscar_step_abort(cache, step));
  return took;
}

static double time_layer(void) {
  oscar_layer_args args = {.struct_size = sizeof args,
                           .k = tensor(k, KV_HEADS),
                           .v = tensor(v, KV_HEADS),
                           .q = tensor(q, HEADS),
                           .out = tensor(out, HEADS)};
  const oscar_step step = begin(0);
  const double start = now_ns();
  for (uint32_t i = 0; i < CALLS; ++i) {
    args.layer = i;
    CHECK(oscar_layer(cache, step, &args, NULL));
  }
  const double took = now_ns() - start;
  CHECK(oscar_step_abort(cache, step));
  return took;
}

static void report(const char *call, double (*time_batch)(void)) {
  double least = time_batch();
  for (int i = 1; i < BATCHES; ++i) {
    const double took = time_batch();
    if (took < least) least = took;
  }
  printf("{\"call\": \"%s\", \"ns\": %.1f}\n", call, least / CALLS);
}

static void report_sum(void) {
  const oscar_layer_args args = {.struct_size = sizeof args,
                                 .k = tensor(k, KV_HEADS),
                                 .v = tensor(v, KV_HEADS),
                                 .q = tensor(q, HEADS),
                                 .out = tensor(out, HEADS)};
  const oscar_step step = begin(seq);
  CHECK(oscar_layer(cache, step, &args, NULL));
  CHECK(oscar_step_abort(cache, step));
  double sum = 0;
  for (int i = 0; i < HEADS * DIM; ++i) sum += out[i];
  printf("{\"sum\": %.3f}\n", sum);
}

int main(void) {
  for (int i = 0; i < HEADS * DIM; ++i) q[i] = (float)(i * 37 % 64) / 32 - 1;
  for (int i = 0; i < KV_HEADS * DIM; ++i) k[i] = v[i] = (float)(i * 29 % 50) / 32 - 1;
  open_cache();
  report("length", time_length);
  report("begin, abort", time_step);
  report("append", time_append);
  report("attend", time_attend);
  report("layer", time_layer);
  report_sum();
  oscar_cache_destroy(cache);
  return 0;
}
