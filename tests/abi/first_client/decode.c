/* A plain C99 program that links with the library: decodes through an exact cache and a 2-bit one, and compares both
 * with attention computed here in double precision from the same keys and values. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <oscar/oscar.h>

enum { N_Q_HEADS = 4, N_KV_HEADS = 2, GROUP = N_Q_HEADS / N_KV_HEADS, DIM = 64, CHUNK = 32, TOKENS = 24 * CHUNK };

static float keys[TOKENS][N_KV_HEADS][DIM], values[TOKENS][N_KV_HEADS][DIM], queries[TOKENS][N_Q_HEADS][DIM];
static float out[TOKENS][N_Q_HEADS][DIM], lse[TOKENS][N_Q_HEADS];

static int n_failures;

static void expect(int holds, const char *what, int line) {
  if (holds) return;
  printf("decode.c:%d: %s (last error: %s)\n", line, what, oscar_last_error());
  ++n_failures;
}
#define EXPECT(condition) expect((condition) != 0, #condition, __LINE__)

static uint32_t state = 1;

/* Uniform in (-2, 2) with 8 significant bits, so that it is BF16 already; xorshift32 (Marsaglia, 2003). */
static float next_value(void) {
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return ((float)(state >> 24) - 127.5f) / 64.0f;
}

static void fill(float *x, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] = next_value();
}

static oscar_tensor tensor(void *data, int64_t n, int64_t heads, int64_t dim) {
  oscar_tensor t;
  memset(&t, 0, sizeof t);
  t.data = data;
  t.device_type = OSCAR_DEVICE_CPU;
  t.dtype_code = OSCAR_DTYPE_FLOAT;
  t.dtype_bits = 32;
  t.dtype_lanes = 1;
  t.ndim = dim ? 3 : 2;
  t.shape[0] = n, t.shape[1] = heads, t.shape[2] = dim;
  return t;
}

/* Attention of one query row in double precision; returns the log-sum-exp. */
static double reference(int token, int head, double *o) {
  static double weight[TOKENS];
  double highest = -INFINITY, sum = 0;
  for (int j = 0; j <= token; ++j) {
    double dot = 0;
    for (int d = 0; d < DIM; ++d) dot += (double)queries[token][head][d] * (double)keys[j][head / GROUP][d];
    weight[j] = dot / sqrt(DIM);
    if (weight[j] > highest) highest = weight[j];
  }
  for (int d = 0; d < DIM; ++d) o[d] = 0;
  for (int j = 0; j <= token; ++j) {
    const double w = exp(weight[j] - highest);
    sum += w;
    for (int d = 0; d < DIM; ++d) o[d] += w * (double)values[j][head / GROUP][d];
  }
  for (int d = 0; d < DIM; ++d) o[d] /= sum;
  return highest + log(sum);
}

/* Relative root-mean-square error of the outputs of tokens [first, TOKENS), and the largest error of their lse. */
static void compare(int first, double *relative_rms, double *lse_error) {
  double error = 0, power = 0;
  *lse_error = 0;
  for (int t = first; t < TOKENS; ++t) {
    for (int h = 0; h < N_Q_HEADS; ++h) {
      double o[DIM];
      const double difference = fabs(reference(t, h, o) - (double)lse[t][h]);
      if (!(difference <= *lse_error)) *lse_error = difference;
      for (int d = 0; d < DIM; ++d) {
        error += (out[t][h][d] - o[d]) * (out[t][h][d] - o[d]);
        power += o[d] * o[d];
      }
    }
  }
  *relative_rms = sqrt(error / power);
}

static oscar_cache *create(const char *profile) {
  oscar_cache_config config;
  oscar_cache *cache = NULL;
  EXPECT(oscar_cache_config_init(&config, sizeof config, profile) == OSCAR_OK);
  config.n_layers = 1;
  config.n_q_heads = N_Q_HEADS;
  config.n_kv_heads = N_KV_HEADS;
  config.key_dim = DIM;
  config.n_sink = 4;
  config.n_recent = 64;
  config.max_tokens = TOKENS;
  config.max_sequences = 1;
  config.max_step_tokens = CHUNK;
  config.capacity_bytes = 16u << 20;
  EXPECT(oscar_cache_create(&config, &cache) == OSCAR_OK);
  return cache;
}

static void decode(const char *profile, oscar_cache_stats *stats) {
  oscar_cache *cache = create(profile);
  oscar_seq seq = 0;
  uint64_t length = 0;
  EXPECT(oscar_seq_open(cache, &seq) == OSCAR_OK);
  for (int first = 0; first < TOKENS; first += CHUNK) {
    const oscar_step_entry entry = {seq, CHUNK, 0};
    oscar_step_args args = {sizeof args, 1, NULL};
    oscar_step step = 0;
    oscar_layer_args call;
    args.entries = &entry;
    EXPECT(oscar_step_begin(cache, &args, NULL, &step) == OSCAR_OK);
    memset(&call, 0, sizeof call);
    call.struct_size = sizeof call;
    call.k = tensor(keys[first], CHUNK, N_KV_HEADS, DIM);
    call.v = tensor(values[first], CHUNK, N_KV_HEADS, DIM);
    call.q = tensor(queries[first], CHUNK, N_Q_HEADS, DIM);
    call.out = tensor(out[first], CHUNK, N_Q_HEADS, DIM);
    call.lse = tensor(lse[first], CHUNK, N_Q_HEADS, 0);
    EXPECT(oscar_layer(cache, step, &call, NULL) == OSCAR_OK);
    EXPECT(oscar_step_end(cache, step) == OSCAR_OK);
  }
  EXPECT(oscar_seq_length(cache, seq, &length) == OSCAR_OK && length == TOKENS);
  memset(stats, 0, sizeof *stats);
  stats->struct_size = sizeof *stats;
  EXPECT(oscar_cache_stats_get(cache, stats) == OSCAR_OK);
  EXPECT(oscar_seq_close(cache, seq) == OSCAR_OK);
  EXPECT(oscar_seq_close(cache, seq) == OSCAR_E_NOT_FOUND);
  oscar_cache_destroy(cache);
}

static void refusals_say_why(void) {
  oscar_cache_config config;
  oscar_cache *cache = (oscar_cache *)&config;
  EXPECT(oscar_cache_config_init(&config, sizeof config, "no such profile") == OSCAR_E_INVALID);
  EXPECT(strstr(oscar_last_error(), "2bit") != NULL);
  EXPECT(oscar_cache_config_init(NULL, sizeof config, NULL) == OSCAR_E_INVALID);
  EXPECT(oscar_cache_config_init(&config, sizeof config, NULL) == OSCAR_OK);
  EXPECT(oscar_cache_create(&config, &cache) < 0 && cache == NULL); /* the geometry is still zero */
  EXPECT(oscar_last_error()[0] != '\0');
  EXPECT(strcmp(oscar_status_name(OSCAR_E_NO_SPACE), "OSCAR_E_NO_SPACE") == 0);
  EXPECT(strcmp(oscar_status_name(12345), "OSCAR_E_UNKNOWN") == 0);
  oscar_cache_destroy(NULL);
  oscar_calibration_destroy(NULL);
}

int main(void) {
  char version[32];
  oscar_cache_stats stats;
  double relative_rms, lse_error;

  snprintf(version, sizeof version, "%d.%d.%d", OSCAR_VERSION_MAJOR, OSCAR_VERSION_MINOR, OSCAR_VERSION_PATCH);
  EXPECT(strcmp(oscar_version(), version) == 0);
  EXPECT(oscar_abi_version() == OSCAR_ABI_VERSION);
  refusals_say_why();

  fill(&keys[0][0][0], sizeof keys / sizeof(float));
  fill(&values[0][0][0], sizeof values / sizeof(float));
  fill(&queries[0][0][0], sizeof queries / sizeof(float));

  /* Inputs are BF16 already: what remains is float arithmetic. */
  decode("exact", &stats);
  compare(0, &relative_rms, &lse_error);
  printf("exact: relative rms error %.2e, largest lse error %.2e\n", relative_rms, lse_error);
  EXPECT(relative_rms < 1e-5);
  EXPECT(lse_error < 1e-4);
  EXPECT(stats.n_packed_tokens == 0);

  /* 2 bits: far from exact, and far from wrong. Random keys are the hardest there are: no structure to exploit. */
  decode("2bit", &stats);
  compare(TOKENS / 2, &relative_rms, &lse_error);
  printf("2bit:  relative rms error %.2e, largest lse error %.2e, %llu of %d tokens packed\n", relative_rms, lse_error,
         (unsigned long long)stats.n_packed_tokens, TOKENS);
  EXPECT(relative_rms > 1e-3 && relative_rms < 0.6);
  EXPECT(lse_error < 1.0);
  EXPECT(stats.n_packed_tokens >= 512 && stats.n_packed_tokens % 128 == 0);

  printf("%d failures\n", n_failures);
  return n_failures ? 1 : 0;
}
