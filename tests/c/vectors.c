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

static struct {
  oscar_cache *cache;
  oscar_cache_config config;
  oscar_seq sequences[MAX_LABELS];
  oscar_step steps[MAX_LABELS];
  int64_t n_rows[MAX_LABELS]; /* of the steps */
  int64_t n_out_rows;         /* of the latest attention */
} scene;

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

static const struct {
  const char *name;
  size_t offset, size;
} fields[] = {
#define FIELD(name)                                                                                                    \
  { #name, offsetof(oscar_cache_config, name), sizeof(((oscar_cache_config *)0)->name) }
    FIELD(n_layers),       FIELD(n_q_heads),       FIELD(n_kv_heads), FIELD(key_dim),        FIELD(value_dim),
    FIELD(window),         FIELD(n_sink),          FIELD(n_recent),   FIELD(max_rollback),   FIELD(max_sequences),
    FIELD(max_open_steps), FIELD(max_step_tokens), FIELD(max_tokens), FIELD(capacity_bytes),
#undef FIELD
};

static void set_field(const char *name, long long value) {
  size_t i;
  const uint32_t value32 = (uint32_t)value;
  const uint64_t value64 = (uint64_t)value;
  for (i = 0; i < sizeof fields / sizeof fields[0]; ++i) {
    if (strcmp(fields[i].name, name) != 0) continue;
    if (fields[i].size == sizeof value64)
      memcpy((char *)&scene.config + fields[i].offset, &value64, sizeof value64);
    else
      memcpy((char *)&scene.config + fields[i].offset, &value32, sizeof value32);
    return;
  }
  fail("this reader does not know the field of the configuration");
}

static void create_cache(void) {
  oscar_cache_config *c = &scene.config;
  oscar_status status;
  oscar_cache_destroy(scene.cache);
  memset(&scene, 0, sizeof scene);
  status = oscar_cache_config_init(c, sizeof *c, word());
  while (status == OSCAR_OK && reader.at < reader.n_words) {
    const char *name = word();
    set_field(name, number());
  }
  if (status == OSCAR_OK) status = oscar_cache_create(c, &scene.cache);
  if (!succeeded(status)) return;
  if (c->value_dim == 0 || c->value_dim == OSCAR_DEFAULT) c->value_dim = c->key_dim;
  if (c->n_q_heads > 8 || c->key_dim > 128 || c->value_dim > 128) fail("the geometry is too large for this reader");
}

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
  const oscar_cache_config *c = &scene.config;
  const int label = below(MAX_LABELS);
  const int64_t n = scene.n_rows[label], value_dim = c->value_dim;
  const int appends = strcmp(call, "attend") != 0, attends = strcmp(call, "append") != 0;
  static float sink_logits[MAX_WIDTH];
  oscar_append_args append;
  oscar_attend_args attend;
  oscar_layer_args both;
  uint32_t state;
  memset(&append, 0, sizeof append);
  memset(&attend, 0, sizeof attend);
  memset(&both, 0, sizeof both);
  append.struct_size = sizeof append, attend.struct_size = sizeof attend, both.struct_size = sizeof both;
  append.layer = attend.layer = both.layer = (uint32_t)number();
  state = (uint32_t)number();
  if (appends) state = fill(state, keys, n * c->n_kv_heads * c->key_dim);
  if (appends) state = fill(state, values, n * c->n_kv_heads * value_dim);
  if (attends) fill(state, queries, n * c->n_q_heads * c->key_dim);
  append.k = both.k = tensor(keys, 3, n, c->n_kv_heads, c->key_dim);
  append.v = both.v = tensor(values, 3, n, c->n_kv_heads, value_dim);
  attend.q = both.q = tensor(queries, 3, n, c->n_q_heads, c->key_dim);
  attend.out = both.out = tensor(out, 3, n, c->n_q_heads, value_dim);
  attend.lse = both.lse = tensor(lse, 2, n, c->n_q_heads, 0);
  while (reader.at < reader.n_words) {
    const char *option = word();
    if (strcmp(option, "scale") == 0) {
      attend.scale = both.scale = (float)strtod(word(), NULL);
    } else if (strcmp(option, "softcap") == 0) {
      attend.softcap = both.softcap = (float)strtod(word(), NULL);
    } else if (strcmp(option, "sink") == 0) {
      fill((uint32_t)number(), sink_logits, c->n_q_heads);
      attend.sink_logits = both.sink_logits = tensor(sink_logits, 1, c->n_q_heads, 0, 0);
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
  if (attends) scene.n_out_rows = n;
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
  const uint32_t layer = (uint32_t)number(), head = (uint32_t)number();
  const uint64_t first = (uint64_t)number(), n = strcmp(call, "scores") == 0 ? (uint64_t)below(MAX_ROWS) : 1;
  const int64_t dim = strcmp(call, "value") == 0 ? scene.config.value_dim : scene.config.key_dim;
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
  const int64_t row = below(MAX_ROWS), heads = scene.config.n_q_heads;
  const int64_t dim = scene.config.value_dim;
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
    char *next;
    ++reader.line;
    if (!strchr(line, '\n')) fail("the line is too long, or cut off");
    if (reader.done) fail("something follows the line that says done");
    reader.n_words = reader.at = reader.failed = 0;
    memcpy(reader.text, line, sizeof line);
    for (next = strtok(reader.text, " \n"); next && reader.n_words < MAX_WORDS; next = strtok(NULL, " \n"))
      reader.words[reader.n_words++] = next;
    if (next) fail("the line has too many words for this reader");
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
