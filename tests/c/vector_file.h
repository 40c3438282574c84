/* Lines of the files in tests/vectors: their words, the inputs they name, and comparing or printing their results. */
#ifndef OSCAR_TESTS_VECTOR_FILE_H
#define OSCAR_TESTS_VECTOR_FILE_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <oscar/oscar.h>

enum {
  MAX_LINE = 8192,
  MAX_WORDS = 512,
  MAX_LABELS = 16,
  MAX_LAYERS = 8,
  MAX_ENTRIES = 8,
  MAX_ROWS = 512,
  MAX_WIDTH = 1024
};

static struct {
  const char *path;
  int line, print, done, n_results; /* n_results: lines of them */
  double tolerance;
  char text[MAX_LINE]; /* of the line, cut into words */
  char *words[MAX_WORDS];
  int n_words, at;
  char wanted_name[64]; /* of the status that the next line's call fails with; empty: none */
  long long wanted_status;
  int failed; /* the line's call failed, as wanted */
} reader;

static void fail(const char *what) {
  fprintf(stderr, "%s:%d: %s\n", reader.path, reader.line, what);
  exit(1);
}

static const char *word(void) {
  if (reader.at == reader.n_words) fail("the line is too short");
  return reader.words[reader.at++];
}

static long long number(void) {
  char *end;
  const char *text = word();
  const long long value = strtoll(text, &end, 10);
  if (end == text || *end) fail("a word is no number");
  return value;
}

static int below(int limit) {
  const long long value = number();
  if (value < 0 || value >= limit) fail("a number is too large for this reader");
  return (int)value;
}

/* The status of the line's call: 1 where it succeeded, and was to. */
static int succeeded(oscar_status status) {
  char text[512];
  const char *name = oscar_status_name(status);
  if (!reader.wanted_name[0]) {
    if (status == OSCAR_OK) return 1;
    snprintf(text, sizeof text, "got %s (%s), wanted success", name, oscar_last_error());
    fail(text);
  }
  if (status == OSCAR_OK) fail("the call succeeds, wanted a failure");
  if (!reader.print && (status != reader.wanted_status || strcmp(name, reader.wanted_name) != 0)) {
    snprintf(text, sizeof text, "got %s %ld (%s), wanted %s %lld", name, (long)status, oscar_last_error(),
             reader.wanted_name, reader.wanted_status);
    fail(text);
  }
  if (reader.print) printf("fails %s %ld\n", name, (long)status);
  reader.failed = 1;
  return 0;
}

/* Prints the first words of the line, which stay, and not its results, which follow. */
static void keep_words(void) {
  int i;
  for (i = 0; reader.print && i < reader.at; ++i) printf(i ? " %s" : "%s", reader.words[i]);
}

static void compare(const float *got, int64_t n) {
  int64_t i;
  keep_words();
  if (!reader.print && reader.n_words - reader.at != n) fail("the line has another number of results than the call");
  for (i = 0; i < n; ++i) {
    uint32_t bits;
    float wanted;
    memcpy(&bits, &got[i], sizeof bits);
    if (reader.print) {
      printf(" %08lx", (unsigned long)bits);
      continue;
    }
    bits = (uint32_t)strtoul(word(), NULL, 16);
    memcpy(&wanted, &bits, sizeof wanted);
    if (got[i] != wanted && !(fabs((double)got[i] - (double)wanted) <= reader.tolerance)) {
      char text[128];
      snprintf(text, sizeof text, "result %d is %.9g, wanted %.9g", (int)i, (double)got[i], (double)wanted);
      fail(text);
    }
  }
  if (reader.print) printf("\n");
}

static void compare_number(const char *name, uint64_t got) {
  char text[128];
  if (reader.print) {
    printf(" %llu", (unsigned long long)got);
    if (reader.at < reader.n_words) ++reader.at;
  } else if ((uint64_t)number() != got) {
    snprintf(text, sizeof text, "%s is %llu", name, (unsigned long long)got);
    fail(text);
  }
}

/* The generator of the inputs: README.md, "Inputs". */
static uint32_t fill(uint32_t state, float *x, int64_t n) {
  int64_t i;
  if (n > MAX_ROWS * MAX_WIDTH) fail("a tensor is too large for this reader");
  for (i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    x[i] = ((float)(state >> 24) - 127.5f) / 64.0f;
  }
  return state;
}

#endif /* OSCAR_TESTS_VECTOR_FILE_H */
