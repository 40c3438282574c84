/* Replays files of tests/vectors (README.md there has the format) through the C ABI and compares every result.
 *   vectors FILE...        says what differs; fails where something does
 *   vectors --print FILE   writes the file anew, with the results that this library and OSCAR_BACKEND give */
#define _POSIX_C_SOURCE 200112L /* setenv */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <oscar/oscar.h>

#include "vector_file.h"

typedef struct geometry {
  int64_t n_q_heads, n_kv_heads, key_dim, value_dim;
} geometry;

static struct {
  oscar_cache *cache;
  geometry layers[MAX_LAYERS];
  uint32_t n_layers;
  oscar_seq sequences[MAX_LABELS];
  oscar_step steps[MAX_LABELS];
  int64_t n_rows[MAX_LABELS]; /* of the steps */
  int64_t n_out_rows;         /* of the latest attention */
  geometry out;               /* of its layer */
} scene;

/* What lines said of the next configuration, and the calibrator that one of them made. */
static struct {
  oscar_layer_config layers[MAX_LAYERS];
  uint32_t n_layers; /* entries of layers */
  int self_calibrates;
  oscar_calibration *calibration;
  oscar_calibrator *calibrator;
  geometry calibrated[MAX_LAYERS];
} next;

static float keys[MAX_ROWS * MAX_WIDTH], values[MAX_ROWS * MAX_WIDTH], queries[MAX_ROWS * MAX_WIDTH];
static float out[MAX_ROWS * MAX_WIDTH], lse[MAX_ROWS * MAX_WIDTH];
static uint8_t mask[MAX_ROWS * MAX_ROWS];

static oscar_tensor tensor(void *data, int ndim, int64_t n, int64_t heads, int64_t dim) {
  oscar_tensor t;
  memset(&t, 0, sizeof t);
  t.data = data;
  t.device_type = OSCAR_DEVICE_CPU;
  t.dtype_code = OSCAR_DTYPE_FLOAT;
  t.dtype_bits = 32;
  t.dtype_lanes = 1;
  t.ndim = ndim;
  t.shape[0] = n, t.shape[1] = heads, t.shape[2] = dim;
  return t;
}

typedef struct field {
  const char *name;
  size_t offset, size;
} field;

#define FIELD(type, name)                                                                                              \
  { #name, offsetof(type, name), sizeof(((type *)0)->name) }
#define CACHE(name) FIELD(oscar_cache_config, name)
#define LAYER(name) FIELD(oscar_layer_config, name)
static const field cache_fields[] = {
    CACHE(n_layers),       CACHE(n_q_heads),       CACHE(n_kv_heads), CACHE(key_dim),        CACHE(value_dim),
    CACHE(window),         CACHE(n_sink),          CACHE(n_recent),   CACHE(max_rollback),   CACHE(max_sequences),
    CACHE(max_open_steps), CACHE(max_step_tokens), CACHE(max_tokens), CACHE(capacity_bytes), {NULL, 0, 0},
};
static const field layer_fields[] = {
    LAYER(n_q_heads), LAYER(n_kv_heads), LAYER(key_dim),          LAYER(value_dim),          LAYER(window),
    LAYER(storage),   LAYER(n_refined),  LAYER(refined_key_bits), LAYER(refined_value_bits), LAYER(kv_source),
    {NULL, 0, 0},
};
#undef FIELD
#undef CACHE
#undef LAYER

/* The rest of the line: fields of a struct, and their values. */
static void set_fields(void *object, const field *known) {
  while (reader.at < reader.n_words) {
    const char *name = word();
    const uint64_t value = (uint64_t)number();
    const uint32_t value32 = (uint32_t)value;
    const field *f = known;
    while (f->name && strcmp(f->name, name) != 0) ++f;
    if (!f->name) fail("this reader does not know the field of the configuration");
    if (f->size == sizeof value)
      memcpy((char *)object + f->offset, &value, sizeof value);
    else
      memcpy((char *)object + f->offset, &value32, sizeof value32);
  }
}

/* Of the next configuration: a line for every layer, from 0 on. */
static void layer_config(void) {
  oscar_layer_config *layer = &next.layers[next.n_layers];
  if (below(MAX_LAYERS) != (int)next.n_layers++) fail("wanted the configuration of another layer here");
  oscar_layer_config_init(layer, sizeof *layer);
  set_fields(layer, layer_fields);
}

/* The rest of the line, and what came before it: a configuration, and the geometry of its layers. */
static oscar_status read_config(oscar_cache_config *c, geometry *layers) {
  const oscar_status status = oscar_cache_config_init(c, sizeof *c, word());
  uint32_t i;
  if (status != OSCAR_OK) return status;
  set_fields(c, cache_fields);
  if (c->n_layers > MAX_LAYERS) fail("too many layers for this reader");
  if (next.n_layers) c->layers = next.layers, c->n_layer_configs = next.n_layers;
  for (i = 0; i < c->n_layers; ++i) {
    const oscar_layer_config *own = i < next.n_layers ? &next.layers[i] : NULL;
    geometry *g = &layers[i];
    g->n_q_heads = own && own->n_q_heads != OSCAR_DEFAULT ? own->n_q_heads : c->n_q_heads;
    g->n_kv_heads = own && own->n_kv_heads != OSCAR_DEFAULT ? own->n_kv_heads : c->n_kv_heads;
    g->key_dim = own && own->key_dim != OSCAR_DEFAULT ? own->key_dim : c->key_dim;
    g->value_dim = own && own->value_dim != OSCAR_DEFAULT ? own->value_dim : c->value_dim;
    if (g->value_dim == 0 || g->value_dim == OSCAR_DEFAULT) g->value_dim = g->key_dim;
    if (g->n_q_heads > 8 || g->key_dim > 128 || g->value_dim > 128) g->n_q_heads = 0; /* too large for this reader */
  }
  return OSCAR_OK;
}

/* RoPE in halves; pair i turns by 2^-i, which is exact in every language. */
static oscar_calibrator_args calibrator_args(const oscar_cache_config *c) {
  static float frequencies[MAX_WIDTH];
  oscar_calibrator_args args;
  uint32_t i;
  for (i = 0; i < c->key_dim / 2 && i < MAX_WIDTH; ++i) frequencies[i] = i == 0 ? 1 : frequencies[i - 1] / 2;
  memset(&args, 0, sizeof args);
  args.struct_size = sizeof args;
  args.rope_frequencies = tensor(frequencies, 1, c->key_dim / 2, 0, 0);
  return args;
}

static void forget_next(void) {
  oscar_calibration_destroy(next.calibration);
  next.calibration = NULL;
  next.n_layers = 0, next.self_calibrates = 0;
}

static void create_cache(void) {
  oscar_cache_config c;
  oscar_calibrator_args args;
  oscar_status status;
  oscar_cache_destroy(scene.cache);
  memset(&scene, 0, sizeof scene);
  status = read_config(&c, scene.layers);
  if (status == OSCAR_OK) {
    scene.n_layers = c.n_layers;
    c.calibration = next.calibration;
    args = calibrator_args(&c);
    if (next.self_calibrates) c.self_calibrate = &args;
    status = oscar_cache_create(&c, &scene.cache);
  }
  forget_next();
  succeeded(status);
}

static void self_calibrate(void) { next.self_calibrates = 1; }

static void calibrator(void) {
  oscar_cache_config c;
  oscar_calibrator_args args;
  oscar_status status = read_config(&c, next.calibrated);
  oscar_calibrator_destroy(next.calibrator);
  next.calibrator = NULL;
  if (status == OSCAR_OK) {
    args = calibrator_args(&c);
    status = oscar_calibrator_create(&c, &args, &next.calibrator);
  }
  forget_next();
  succeeded(status);
}

/* Of one layer: keys, values and queries come from one run of the generator, in this order. */
static void feed(void) {
  oscar_calibrator_feed_args args;
  const geometry *g = &next.calibrated[below(MAX_LAYERS)];
  int64_t n;
  uint32_t state;
  memset(&args, 0, sizeof args);
  args.struct_size = sizeof args;
  args.layer = (uint32_t)(g - next.calibrated);
  args.first_position = (uint64_t)number();
  n = below(MAX_ROWS + 1);
  state = fill((uint32_t)number(), keys, n * g->n_kv_heads * g->key_dim);
  state = fill(state, values, n * g->n_kv_heads * g->value_dim);
  fill(state, queries, n * g->n_q_heads * g->key_dim);
  args.k = tensor(keys, 3, n, g->n_kv_heads, g->key_dim);
  args.v = tensor(values, 3, n, g->n_kv_heads, g->value_dim);
  args.q = tensor(queries, 3, n, g->n_q_heads, g->key_dim);
  succeeded(oscar_calibrator_feed(next.calibrator, &args));
}

static void finish(void) { succeeded(oscar_calibrator_finish(next.calibrator, &next.calibration)); }

static void create_with_backend(void) {
  char saved[64];
  const char *before = getenv("OSCAR_BACKEND");
  snprintf(saved, sizeof saved, "%s", before ? before : "");
  setenv("OSCAR_BACKEND", word(), 1);
  create_cache();
  if (before)
    setenv("OSCAR_BACKEND", saved, 1);
  else
    unsetenv("OSCAR_BACKEND");
}

static void begin(void) {
  oscar_step_entry entries[MAX_ENTRIES];
  oscar_step_args args = {sizeof args, 0, NULL, 0, 0};
  const int label = below(MAX_LABELS);
  int64_t n_rows = 0;
  oscar_step step;
  while (reader.at < reader.n_words) {
    oscar_step_entry *entry = &entries[args.n_entries++];
    if (args.n_entries > MAX_ENTRIES) fail("too many entries for this reader");
    entry->seq = scene.sequences[below(MAX_LABELS)];
    entry->n_new = (uint32_t)number();
    entry->n_draft = (uint32_t)number();
    n_rows += entry->n_new;
  }
  args.entries = entries;
  if (!succeeded(oscar_step_begin(scene.cache, &args, NULL, &step))) return;
  if (n_rows > MAX_ROWS) fail("a step is too long for this reader");
  scene.steps[label] = step;
  scene.n_rows[label] = n_rows;
}

/* [n, longest entry] of 0 and 1, a word for each row. */
static oscar_tensor read_mask(int64_t n) {
  oscar_tensor t;
  int64_t row, width = 0;
  for (row = 0; row < n; ++row) {
    const char *text = word();
    int64_t i;
    if (row == 0) width = (int64_t)strlen(text);
    if ((int64_t)strlen(text) != width || width > MAX_ROWS) fail("rows of the mask are not equally long");
    for (i = 0; i < width; ++i) mask[row * width + i] = text[i] == '1';
  }
  t = tensor(mask, 2, n, width, 0);
  t.dtype_code = OSCAR_DTYPE_UINT;
  t.dtype_bits = 8;
  return t;
}

/* append, attend and layer: whatever the call takes comes from one run of the generator, in the order k, v, q. */
static void compute(void) {
  const char *call = reader.words[0];
  const int label = below(MAX_LABELS), layer = below(MAX_LAYERS);
  const geometry *g = &scene.layers[layer];
  const int64_t n = scene.n_rows[label];
  const int appends = strcmp(call, "attend") != 0, attends = strcmp(call, "append") != 0;
  static float sink_logits[MAX_WIDTH];
  oscar_append_args append;
  oscar_attend_args attend;
  oscar_layer_args both;
  uint32_t state = (uint32_t)number();
  if (scene.cache && (uint32_t)layer < scene.n_layers && g->n_q_heads == 0) fail("too large for this reader");
  memset(&append, 0, sizeof append);
  memset(&attend, 0, sizeof attend);
  memset(&both, 0, sizeof both);
  append.struct_size = sizeof append, attend.struct_size = sizeof attend, both.struct_size = sizeof both;
  append.layer = attend.layer = both.layer = (uint32_t)layer;
  if (appends) state = fill(state, keys, n * g->n_kv_heads * g->key_dim);
  if (appends) state = fill(state, values, n * g->n_kv_heads * g->value_dim);
  if (attends) fill(state, queries, n * g->n_q_heads * g->key_dim);
  append.k = both.k = tensor(keys, 3, n, g->n_kv_heads, g->key_dim);
  append.v = both.v = tensor(values, 3, n, g->n_kv_heads, g->value_dim);
  attend.q = both.q = tensor(queries, 3, n, g->n_q_heads, g->key_dim);
  attend.out = both.out = tensor(out, 3, n, g->n_q_heads, g->value_dim);
  attend.lse = both.lse = tensor(lse, 2, n, g->n_q_heads, 0);
  while (reader.at < reader.n_words) {
    const char *option = word();
    if (strcmp(option, "scale") == 0) {
      attend.scale = both.scale = (float)strtod(word(), NULL);
    } else if (strcmp(option, "softcap") == 0) {
      attend.softcap = both.softcap = (float)strtod(word(), NULL);
    } else if (strcmp(option, "sink") == 0) {
      fill((uint32_t)number(), sink_logits, g->n_q_heads);
      attend.sink_logits = both.sink_logits = tensor(sink_logits, 1, g->n_q_heads, 0, 0);
    } else if (strcmp(option, "mask") == 0) {
      attend.mask = both.mask = read_mask(n);
    } else {
      fail("the option is none of: scale, softcap, sink, mask");
    }
  }
  if (appends && attends)
    succeeded(oscar_layer(scene.cache, scene.steps[label], &both, NULL));
  else if (appends)
    succeeded(oscar_append(scene.cache, scene.steps[label], &append, NULL));
  else
    succeeded(oscar_attend(scene.cache, scene.steps[label], &attend, NULL));
  if (attends) scene.n_out_rows = n, scene.out = *g;
}

static void sequence_call(void) {
  const char *call = reader.words[0];
  const int label = below(MAX_LABELS);
  oscar_seq *seq = &scene.sequences[label], child;
  uint32_t indices[MAX_LABELS];
  uint32_t n = 0;
  if (strcmp(call, "open") == 0) {
    succeeded(oscar_seq_open(scene.cache, seq));
  } else if (strcmp(call, "close") == 0) {
    succeeded(oscar_seq_close(scene.cache, *seq));
  } else if (strcmp(call, "truncate") == 0) {
    succeeded(oscar_seq_truncate(scene.cache, *seq, (uint64_t)number()));
  } else if (strcmp(call, "fork") == 0) {
    const uint64_t n_tokens = (uint64_t)number();
    if (succeeded(oscar_seq_fork(scene.cache, *seq, n_tokens, &child))) scene.sequences[below(MAX_LABELS)] = child;
  } else {
    const uint64_t base = (uint64_t)number();
    while (reader.at < reader.n_words && n < MAX_LABELS) indices[n++] = (uint32_t)number();
    succeeded(oscar_seq_accept(scene.cache, *seq, base, n, indices));
  }
}

static void inspect(void) {
  const char *call = reader.words[0];
  const oscar_seq seq = scene.sequences[below(MAX_LABELS)];
  const int layer_index = below(MAX_LAYERS);
  const uint32_t layer = (uint32_t)layer_index, head = (uint32_t)number();
  const geometry *g = &scene.layers[layer_index];
  const uint64_t first = (uint64_t)number(), n = strcmp(call, "scores") == 0 ? (uint64_t)below(MAX_ROWS) : 1;
  const int64_t dim = strcmp(call, "value") == 0 ? g->value_dim : g->key_dim;
  static float rows[MAX_ROWS];
  const oscar_tensor absent = {0}, row = tensor(rows, 2, 1, dim, 0), scores = tensor(rows, 1, (int64_t)n, 0, 0);
  if (strcmp(call, "scores") == 0) {
    if (succeeded(oscar_scores(scene.cache, seq, layer, head, first, n, &scores))) compare(rows, (int64_t)n);
  } else if (strcmp(call, "key") == 0) {
    if (succeeded(oscar_read(scene.cache, seq, layer, head, first, 1, &row, &absent))) compare(rows, dim);
  } else {
    if (succeeded(oscar_read(scene.cache, seq, layer, head, first, 1, &absent, &row))) compare(rows, dim);
  }
}

static void compare_output(void) {
  const int64_t row = below(MAX_ROWS), heads = scene.out.n_q_heads, dim = scene.out.value_dim;
  if (row >= scene.n_out_rows) fail("the latest attention had fewer rows");
  if (strcmp(reader.words[0], "lse") == 0)
    compare(lse + row * heads, heads);
  else
    compare(out + (row * heads + below((int)heads)) * dim, dim);
}

static void stats(void) {
  oscar_cache_stats s;
  memset(&s, 0, sizeof s);
  s.struct_size = sizeof s;
  if (!succeeded(oscar_cache_stats_get(scene.cache, &s))) return;
  keep_words();
  while (reader.at < reader.n_words) {
    const struct {
      const char *name;
      uint64_t value;
    } known[] = {{"n_sequences", s.n_sequences},         {"n_tokens", s.n_tokens},
                 {"n_packed_tokens", s.n_packed_tokens}, {"n_blocks", s.n_blocks},
                 {"n_exact_pages", s.n_exact_pages},     {"bytes_sequences", s.bytes_sequences}};
    const size_t n = sizeof known / sizeof known[0];
    const char *name = word();
    size_t i = 0;
    while (i < n && strcmp(known[i].name, name) != 0) ++i;
    if (i == n) fail("this reader does not know the field of the stats");
    if (reader.print) printf(" %s", name);
    compare_number(name, known[i].value);
  }
  if (reader.print) printf("\n");
}

static void length(void) {
  uint64_t n = 0;
  if (!succeeded(oscar_seq_length(scene.cache, scene.sequences[below(MAX_LABELS)], &n))) return;
  keep_words();
  compare_number("the length", n);
  if (reader.print) printf("\n");
}

static void load(void) {
  const char *text = word();
  uint8_t bytes[MAX_LINE / 2];
  char byte[3] = {0};
  uint64_t n = 0;
  oscar_calibration *calibration;
  for (; text[2 * n] && text[2 * n + 1]; ++n) {
    memcpy(byte, text + 2 * n, 2);
    bytes[n] = (uint8_t)strtoul(byte, NULL, 16);
  }
  if (succeeded(oscar_calibration_load(bytes, n, &calibration))) oscar_calibration_destroy(calibration);
}

/* Parts from one run of the generator, outputs before log-sum-exps; the first parts of row 0 are empty. The results are
 * the joined outputs of all rows, then their log-sum-exps. */
static void merge(void) {
  uint32_t state = (uint32_t)number();
  const int64_t n_parts = below(MAX_LABELS), n = below(MAX_LABELS), dim = below(MAX_LABELS),
                n_empty = below(MAX_LABELS);
  oscar_tensor outs, lses, joined, joined_lse;
  int64_t i;
  state = fill(state, keys, n_parts * n * dim);
  fill(state, values, n_parts * n);
  for (i = 0; i < n_empty && i < n_parts; ++i) values[i * n] = -INFINITY;
  outs = tensor(keys, 3, n_parts, n, dim);
  lses = tensor(values, 2, n_parts, n, 0);
  joined = tensor(out, 2, n, dim, 0);
  joined_lse = tensor(out + n * dim, 1, n, 0, 0);
  if (succeeded(oscar_merge(&outs, &lses, &joined, &joined_lse, NULL))) compare(out, n * (dim + 1));
}

/* The header's number of a status, and its name in the library. */
static void status_number(void) {
  static const struct {
    const char *name;
    oscar_status status;
  } known[] = {
#define STATUS(name) {#name, name}
      STATUS(OSCAR_OK),          STATUS(OSCAR_E_INVALID),  STATUS(OSCAR_E_NO_MEMORY),   STATUS(OSCAR_E_NO_SPACE),
      STATUS(OSCAR_E_NOT_FOUND), STATUS(OSCAR_E_STATE),    STATUS(OSCAR_E_UNSUPPORTED), STATUS(OSCAR_E_CORRUPT),
      STATUS(OSCAR_E_BACKEND),   STATUS(OSCAR_E_INTERNAL), STATUS(OSCAR_E_DEVICE),
#undef STATUS
  };
  const char *name = word();
  size_t i = 0;
  while (i < sizeof known / sizeof known[0] && strcmp(known[i].name, name) != 0) ++i;
  if (i == sizeof known / sizeof known[0]) fail("the header has no status of this name");
  if (strcmp(oscar_status_name(known[i].status), name) != 0) fail("the library has another name for the number");
  keep_words();
  if (reader.print)
    printf(" %ld\n", (long)known[i].status);
  else if (number() != known[i].status)
    fail("the header has another number for the name");
}

static void end(void) { succeeded(oscar_step_end(scene.cache, scene.steps[below(MAX_LABELS)])); }
static void abort_step(void) { succeeded(oscar_step_abort(scene.cache, scene.steps[below(MAX_LABELS)])); }
static void freeze(void) { succeeded(oscar_cache_freeze(scene.cache, NULL)); }
static void tolerance(void) { reader.tolerance = strtod(word(), NULL); }
static void done(void) { reader.done = 1; }

/* What a line may begin with, and whether results stand in it. */
static const struct {
  const char *name;
  void (*replay)(void);
  int has_results;
} directives[] = {
    {"tolerance", tolerance, 0},
    {"status", status_number, 1},
    {"cache", create_cache, 0},
    {"backend", create_with_backend, 0},
    {"layer_config", layer_config, 0},
    {"self_calibrate", self_calibrate, 0},
    {"calibrator", calibrator, 0},
    {"feed", feed, 0},
    {"finish", finish, 0},
    {"load", load, 0},
    {"freeze", freeze, 0},
    {"open", sequence_call, 0},
    {"close", sequence_call, 0},
    {"fork", sequence_call, 0},
    {"truncate", sequence_call, 0},
    {"accept", sequence_call, 0},
    {"length", length, 1},
    {"begin", begin, 0},
    {"append", compute, 0},
    {"attend", compute, 0},
    {"layer", compute, 0},
    {"out", compare_output, 1},
    {"lse", compare_output, 1},
    {"end", end, 0},
    {"abort", abort_step, 0},
    {"key", inspect, 1},
    {"value", inspect, 1},
    {"scores", inspect, 1},
    {"stats", stats, 1},
    {"merge", merge, 1},
    {"done", done, 0},
};

static void replay_line(const char *line) {
  const char *name = word();
  size_t i = 0;
  while (i < sizeof directives / sizeof directives[0] && strcmp(directives[i].name, name) != 0) ++i;
  if (i == sizeof directives / sizeof directives[0]) fail("this reader does not know the directive");
  directives[i].replay();
  if (reader.wanted_name[0] && !reader.failed) fail("no call that could fail follows the line that says fails");
  if (!reader.failed && !reader.print && reader.at != reader.n_words) fail("the line is too long");
  if (reader.print && (reader.failed || !directives[i].has_results)) fputs(line, stdout);
  reader.n_results += reader.failed || directives[i].has_results;
  reader.wanted_name[0] = '\0';
}

static void replay(const char *path) {
  char line[MAX_LINE];
  FILE *file = fopen(path, "r");
  reader.path = path, reader.line = 0, reader.done = 0, reader.n_results = 0;
  if (!file) fail("the file cannot be read");
  while (fgets(line, sizeof line, file)) {
    char *token;
    ++reader.line;
    if (!strchr(line, '\n')) fail("the line is too long, or cut off");
    if (reader.done) fail("something follows the line that says done");
    reader.n_words = reader.at = reader.failed = 0;
    memcpy(reader.text, line, sizeof line);
    for (token = strtok(reader.text, " \n"); token && reader.n_words < MAX_WORDS; token = strtok(NULL, " \n"))
      reader.words[reader.n_words++] = token;
    if (token) fail("the line has too many words for this reader");
    if (reader.line == 1 && strcmp(line, "oscar-vectors 1\n") != 0) fail("the first line is not: oscar-vectors 1");
    if (reader.line == 1 || reader.n_words == 0 || reader.words[0][0] == '#') {
      if (reader.print) fputs(line, stdout);
    } else if (strcmp(reader.words[0], "fails") == 0) {
      ++reader.at;
      snprintf(reader.wanted_name, sizeof reader.wanted_name, "%s", reader.n_words > 1 || !reader.print ? word() : "?");
      reader.wanted_status = reader.at < reader.n_words ? number() : 0;
    } else {
      replay_line(line);
    }
  }
  fclose(file);
  if (!reader.done) fail("the last line does not say done: the file is empty or cut off");
  if (!reader.n_results) fail("the file compares nothing");
  oscar_cache_destroy(scene.cache);
  memset(&scene, 0, sizeof scene);
  forget_next();
  oscar_calibrator_destroy(next.calibrator);
  memset(&next, 0, sizeof next);
  if (!reader.print) printf("%s: %d lines of results agree\n", path, reader.n_results);
}

int main(int argc, char **argv) {
  int i = 1;
  reader.print = argc > 1 && strcmp(argv[1], "--print") == 0;
  i += reader.print;
  if (i == argc) return fprintf(stderr, "usage: vectors [--print] FILE...\n"), 2;
  for (; i < argc; ++i) replay(argv[i]);
  return 0;
}
