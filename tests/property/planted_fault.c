/* A fault for tests/property/test_shrink.py to find, loaded before liboscar: after the third fork of a process, cuts of a
 * sequence say that they succeeded and do nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

typedef int32_t fork_call(void *, uint64_t, uint64_t, uint64_t *);
typedef int32_t truncate_call(void *, uint64_t, uint64_t);

static int n_forks = 0;

static void *next(const char *name) {
  void *function = dlsym(RTLD_NEXT, name);
  if (!function) abort();
  return function;
}

int32_t oscar_seq_fork(void *cache, uint64_t parent, uint64_t n_tokens, uint64_t *child_out) {
  const int32_t status = ((fork_call *)next("oscar_seq_fork"))(cache, parent, n_tokens, child_out);
  n_forks += status == 0;
  return status;
}

int32_t oscar_seq_truncate(void *cache, uint64_t seq, uint64_t n_tokens) {
  if (n_forks >= 3) return 0;
  return ((truncate_call *)next("oscar_seq_truncate"))(cache, seq, n_tokens);
}
