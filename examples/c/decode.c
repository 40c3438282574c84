/* A toy transformer that decodes through liboscar: prefill in chunks, decode, fork, and what the cache says about
 * itself. The weights are pseudo-random, so the text means nothing; the calls are those of a real engine.
 *
 *     cc decode.c $(pkg-config --cflags --libs oscar) -lm
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <oscar/oscar.h>

enum {
  N_LAYERS = 4,
  N_Q_HEADS = 8,
  N_KV_HEADS = 2,
  HEAD_DIM = 64,
  MODEL_DIM = 128,
  Q_DIM = N_Q_HEADS * HEAD_DIM,
  KV_DIM = N_KV_HEADS * HEAD_DIM,
  N_SYMBOLS = 256, /* tokens are bytes */
  PROMPT = 1000,   /* tokens */
  MAX_CHUNK = 64,  /* tokens of one step */
  DECODE = 96      /* tokens */
};

typedef struct model {
  float embedding[N_SYMBOLS][MODEL_DIM];
  struct {
    float q[MODEL_DIM][Q_DIM], k[MODEL_DIM][KV_DIM], v[MODEL_DIM][KV_DIM], out[Q_DIM][MODEL_DIM];
  } layer[N_LAYERS];
} model;

/* Every call that can fail says why. An engine would return the status; an example may stop. */
static void check(oscar_status status, const char *call) {
  if (status == OSCAR_OK) return;
  fprintf(stderr, "%s: %s: %s\n", call, oscar_status_name(status), oscar_last_error());
  exit(1);
}
#define CHECK(call) check(call, #call)

/* ------------------------------------------------------------------------------------------ the toy model ---- */

/* Uniform in (-1, 1): SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). */
static float uniform(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return (float)((double)(z >> 11) * 0x1p-52 - 1.0);
}

static void fill(float *weights, size_t n, float scale, uint64_t *state) {
  for (size_t i = 0; i < n; ++i) weights[i] = scale * uniform(state);
}

static model *make_model(void) {
  model *m = malloc(sizeof *m);
  if (!m) exit(1);
  uint64_t state = 1;
  fill(&m->embedding[0][0], sizeof m->embedding / sizeof(float), 1.0f, &state);
  for (int i = 0; i < N_LAYERS; ++i) {
    /* Variance 1 of queries, keys and values for inputs of variance 1. */
    const float in = sqrtf(3.0f / MODEL_DIM), out = sqrtf(3.0f / Q_DIM);
    fill(&m->layer[i].q[0][0], sizeof m->layer[i].q / sizeof(float), in, &state);
    fill(&m->layer[i].k[0][0], sizeof m->layer[i].k / sizeof(float), in, &state);
    fill(&m->layer[i].v[0][0], sizeof m->layer[i].v / sizeof(float), in, &state);
    fill(&m->layer[i].out[0][0], sizeof m->layer[i].out / sizeof(float), out, &state);
  }
  return m;
}

/* y = x w for a row vector x of n_in elements. */
static void multiply(const float *x, const float *w, int n_in, int n_out, float *y) {
  memset(y, 0, (size_t)n_out * sizeof *y);
  for (int i = 0; i < n_in; ++i)
    for (int j = 0; j < n_out; ++j) y[j] += x[i] * w[i * n_out + j];
}

static void normalize(const float *x, float *y) {
  float sum = 1e-6f;
  for (int i = 0; i < MODEL_DIM; ++i) sum += x[i] * x[i];
  const float scale = sqrtf(MODEL_DIM / sum);
  for (int i = 0; i < MODEL_DIM; ++i) y[i] = scale * x[i];
}

/* Rotary positions are the engine's business: keys arrive rotated. */
static void rotate(float *heads, int n_heads, uint64_t position) {
  for (int i = 0; i < HEAD_DIM / 2; ++i) {
    const double angle = (double)position * pow(10000.0, -2.0 * i / HEAD_DIM);
    const float c = (float)cos(angle), s = (float)sin(angle);
    for (int h = 0; h < n_heads; ++h) {
      float *a = heads + h * HEAD_DIM + i, *b = a + HEAD_DIM / 2;
      const float x = *a, y = *b;
      *a = c * x - s * y;
      *b = s * x + c * y;
    }
  }
}

static void project(const model *m, uint32_t layer, const float *x, uint64_t position, float *q, float *k, float *v) {
  float normal[MODEL_DIM];
  normalize(x, normal);
  multiply(normal, &m->layer[layer].q[0][0], MODEL_DIM, Q_DIM, q);
  multiply(normal, &m->layer[layer].k[0][0], MODEL_DIM, KV_DIM, k);
  multiply(normal, &m->layer[layer].v[0][0], MODEL_DIM, KV_DIM, v);
  rotate(q, N_Q_HEADS, position);
  rotate(k, N_KV_HEADS, position);
}

static void add_output(const model *m, uint32_t layer, const float *attended, float *x) {
  float y[MODEL_DIM];
  multiply(attended, &m->layer[layer].out[0][0], Q_DIM, MODEL_DIM, y);
  for (int i = 0; i < MODEL_DIM; ++i) x[i] += y[i];
}

static uint8_t most_likely(const model *m, const float *x) {
  int best = 0;
  float highest = -INFINITY;
  for (int t = 0; t < N_SYMBOLS; ++t) {
    float logit = 0;
    for (int i = 0; i < MODEL_DIM; ++i) logit += x[i] * m->embedding[t][i];
    if (logit > highest) highest = logit, best = t;
  }
  return (uint8_t)best;
}

/* ------------------------------------------------------------------------------------ one step of the cache ---- */

/* A dense float tensor [n, heads, HEAD_DIM] in the caller's memory. */
static oscar_tensor tensor(float *data, int64_t n, int64_t heads) {
  oscar_tensor t = {0};
  t.data = data;
  t.device_type = OSCAR_DEVICE_CPU;
  t.dtype_code = OSCAR_DTYPE_FLOAT;
  t.dtype_bits = 32;
  t.dtype_lanes = 1;
  t.ndim = 3;
  t.shape[0] = n, t.shape[1] = heads, t.shape[2] = HEAD_DIM;
  return t;
}

/* Runs n new tokens through the model, in the order of the step's entries. next[i] is what follows tokens[i]. */
static void run_step(const model *m, oscar_cache *cache, const oscar_step_entry *entries, uint32_t n_entries,
                     const uint8_t *tokens, const uint64_t *positions, uint32_t n, uint8_t *next) {
  static float x[MAX_CHUNK][MODEL_DIM], q[MAX_CHUNK][Q_DIM], k[MAX_CHUNK][KV_DIM], v[MAX_CHUNK][KV_DIM],
      out[MAX_CHUNK][Q_DIM];
  for (uint32_t i = 0; i < n; ++i) memcpy(x[i], m->embedding[tokens[i]], sizeof x[i]);
  /* snippet: step */
  oscar_step_args args = {.struct_size = sizeof args, .n_entries = n_entries, .entries = entries};
  oscar_step step;
  CHECK(oscar_step_begin(cache, &args, NULL, &step)); /* takes all memory that the pass needs, or none */
  for (uint32_t layer = 0; layer < N_LAYERS; ++layer) {
    for (uint32_t i = 0; i < n; ++i) project(m, layer, x[i], positions[i], q[i], k[i], v[i]);

    oscar_layer_args call = {.struct_size = sizeof call, .layer = layer};
    call.k = tensor(k[0], n, N_KV_HEADS);
    call.v = tensor(v[0], n, N_KV_HEADS);
    call.q = tensor(q[0], n, N_Q_HEADS);
    call.out = tensor(out[0], n, N_Q_HEADS);
    CHECK(oscar_layer(cache, step, &call, NULL)); /* stores the keys and values, and attends */

    for (uint32_t i = 0; i < n; ++i) add_output(m, layer, out[i], x[i]);
  }
  CHECK(oscar_step_end(cache, step));
  /* end snippet */
  for (uint32_t i = 0; i < n; ++i) next[i] = most_likely(m, x[i]);
}

/* ---------------------------------------------------------------------------------------------- the program ---- */

static void print_stats(const oscar_cache *cache, const char *when) {
  oscar_cache_stats stats = {.struct_size = sizeof stats};
  CHECK(oscar_cache_stats_get(cache, &stats));
  printf("%-14s sequences: %u, tokens: %llu (packed: %llu), blocks: %llu, exact pages: %llu\n", when, stats.n_sequences,
         (unsigned long long)stats.n_tokens, (unsigned long long)stats.n_packed_tokens,
         (unsigned long long)stats.n_blocks, (unsigned long long)stats.n_exact_pages);
}

static oscar_cache *make_cache(void) {
  /* snippet: create */
  oscar_cache_config config;
  CHECK(oscar_cache_config_init(&config, sizeof config, "2bit"));
  config.n_layers = N_LAYERS;
  config.n_q_heads = N_Q_HEADS;
  config.n_kv_heads = N_KV_HEADS;
  config.key_dim = HEAD_DIM;
  config.max_tokens = 32768;
  config.max_sequences = 4;
  config.max_step_tokens = MAX_CHUNK;
  config.capacity_bytes = 64 << 20;

  oscar_cache_report report = {.struct_size = sizeof report};
  CHECK(oscar_cache_check(&config, 32768, &report)); /* what it will cost, before any memory is taken */
  if (!report.served) printf("not served: %s\n", report.reason);
  printf("32768 tokens: %llu bytes, %llu as BF16: %.2f bits per element\n", (unsigned long long)report.bytes_sequences,
         (unsigned long long)report.bytes_bf16, report.bits_per_element);

  oscar_cache *cache;
  CHECK(oscar_cache_create(&config, &cache));
  /* end snippet */
  return cache;
}

/* Prefill: the prompt goes in by chunks. Returns the token that follows it. */
static uint8_t read_prompt(const model *m, oscar_cache *cache, oscar_seq seq) {
  uint8_t tokens[MAX_CHUNK], next[MAX_CHUNK] = {0};
  uint64_t positions[MAX_CHUNK];
  uint32_t n = 0;
  for (uint32_t done = 0; done < PROMPT; done += n) {
    n = PROMPT - done < MAX_CHUNK ? PROMPT - done : MAX_CHUNK;
    for (uint32_t i = 0; i < n; ++i) {
      tokens[i] = (uint8_t)((done + i) * 31 % 97);
      positions[i] = done + i;
    }
    const oscar_step_entry entry = {seq, n, 0};
    run_step(m, cache, &entry, 1, tokens, positions, n, next);
  }
  return next[n - 1];
}

/* Decodes two continuations of one prompt side by side: the prompt's blocks are stored once. */
static void decode_branches(const model *m, oscar_cache *cache, const oscar_seq seqs[2], uint8_t tokens[2]) {
  uint64_t positions[2] = {PROMPT, PROMPT};
  uint32_t n_different = 0;
  for (int t = 0; t < DECODE; ++t) {
    const oscar_step_entry entries[2] = {{seqs[0], 1, 0}, {seqs[1], 1, 0}};
    uint8_t next[2];
    run_step(m, cache, entries, 2, tokens, positions, 2, next);
    for (int i = 0; i < 2; ++i) tokens[i] = next[i], ++positions[i];
    n_different += tokens[0] != tokens[1];
  }
  printf("decoded %d tokens on two branches; they differ at %u places\n", DECODE, n_different);
}

int main(void) {
  printf("liboscar %s\n", oscar_version());
  model *m = make_model();
  oscar_cache *cache = make_cache();

  oscar_seq seqs[2];
  CHECK(oscar_seq_open(cache, &seqs[0]));
  uint8_t tokens[2];
  tokens[0] = read_prompt(m, cache, seqs[0]);
  print_stats(cache, "after prefill:");

  CHECK(oscar_seq_fork(cache, seqs[0], PROMPT, &seqs[1]));
  tokens[1] = (uint8_t)(tokens[0] + 1); /* another first token: another continuation */
  print_stats(cache, "after fork:");
  decode_branches(m, cache, seqs, tokens);
  print_stats(cache, "after decode:");

  CHECK(oscar_seq_truncate(cache, seqs[1], PROMPT)); /* as if the second branch had said nothing */
  CHECK(oscar_seq_close(cache, seqs[1]));
  const oscar_status status = oscar_seq_close(cache, seqs[1]); /* a stale id is an error with a text, not a crash */
  printf("closing it twice: %s: %s\n", oscar_status_name(status), oscar_last_error());
  print_stats(cache, "after close:");

  oscar_cache_destroy(cache);
  free(m);
  return status == OSCAR_E_NOT_FOUND ? 0 : 1;
}
