/* snippet: quickstart */
#include <math.h>
#include <oscar/oscar.h>
#include <stdio.h>
#include <stdlib.h>

static void check(oscar_status status) {
  if (status == OSCAR_OK) return;
  fprintf(stderr, "%s\n", oscar_last_error());
  exit(1);
}

static oscar_tensor tensor(float *data) { /* [2 tokens, 1 head, 64] */
  oscar_tensor t = {.data = data, .device_type = OSCAR_DEVICE_CPU, .ndim = 3, .shape = {2, 1, 64}};
  t.dtype_code = OSCAR_DTYPE_FLOAT, t.dtype_bits = 32, t.dtype_lanes = 1;
  return t;
}

int main(void) {
  oscar_cache_config config;
  check(oscar_cache_config_init(&config, sizeof config, "2bit"));
  config.n_layers = config.n_q_heads = config.n_kv_heads = 1;
  config.key_dim = 64;
  oscar_cache *cache;
  oscar_seq seq;
  check(oscar_cache_create(&config, &cache));
  check(oscar_seq_open(cache, &seq));

  /* Two tokens. To the query of token 1, key 0 has logit 0 and key 1 has logit ln 3: it sees 1/4 and 3/4 of the values. */
  float q[2][64] = {{0}}, k[2][64] = {{0}}, v[2][64] = {{0}}, out[2][64];
  q[1][0] = logf(3), k[1][0] = 1, v[1][0] = 1;

  oscar_step_entry entry = {.seq = seq, .n_new = 2};
  oscar_step_args begin = {.struct_size = sizeof begin, .n_entries = 1, .entries = &entry};
  oscar_layer_args layer = {.struct_size = sizeof layer, .layer = 0, .scale = 1};
  layer.k = tensor(k[0]), layer.v = tensor(v[0]), layer.q = tensor(q[0]), layer.out = tensor(out[0]);
  oscar_step step;
  check(oscar_step_begin(cache, &begin, NULL, &step));
  check(oscar_layer(cache, step, &layer, NULL));
  check(oscar_step_end(cache, step));

  printf("token 1 sees %.3f\n", out[1][0]);
  oscar_cache_destroy(cache);
  return 0;
}
/* end snippet */
