/* Loads the library, uses it, lets calls fail, unloads it, again and again: it leaves no threads and no memory behind, it
 * is really gone, and it has never written to standard output or standard error.
 *   GLIBC_TUNABLES=glibc.malloc.tcache_count=0 loading LIBRARY */
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <oscar/oscar.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int report; /* where this program speaks while the two are a file */

#define EXPECT(condition)                                                                                              \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      dprintf(report, "loading.c:%d: %s\n", __LINE__, #condition);                                                     \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static void *symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  EXPECT(found != NULL);
  return found;
}

/* ISO C has no cast from void * to a function. */
#define GET(library, name)                                                                                             \
  __typeof__(&name) p_##name;                                                                                          \
  {                                                                                                                    \
    void *found_ = symbol(library, #name);                                                                             \
    memcpy(&p_##name, &found_, sizeof found_);                                                                         \
  }

static void use(void *library) {
  GET(library, oscar_cache_config_init)
  GET(library, oscar_cache_create)
  GET(library, oscar_cache_destroy)
  GET(library, oscar_seq_open)
  GET(library, oscar_seq_close)
  GET(library, oscar_last_error)
  GET(library, oscar_calibration_load)
  oscar_cache_config config;
  oscar_cache *cache = NULL;
  oscar_calibration *calibration = NULL;
  oscar_seq seq = 0;
  EXPECT(p_oscar_cache_config_init(&config, sizeof config, "no such profile") == OSCAR_E_INVALID);
  EXPECT(p_oscar_cache_config_init(&config, sizeof config, NULL) == OSCAR_OK);
  EXPECT(p_oscar_cache_create(&config, &cache) == OSCAR_E_INVALID);
  config.n_layers = config.n_q_heads = config.n_kv_heads = 1;
  config.key_dim = 64;
  config.capacity_bytes = 1u << 20;
  EXPECT(p_oscar_cache_create(&config, &cache) == OSCAR_OK);
  EXPECT(p_oscar_seq_open(cache, &seq) == OSCAR_OK);
  EXPECT(p_oscar_seq_close(cache, seq + 1) == OSCAR_E_NOT_FOUND);
  EXPECT(p_oscar_calibration_load("no calibration", 14, &calibration) == OSCAR_E_CORRUPT);
  EXPECT(strstr(p_oscar_last_error(), "14 bytes") != NULL);
  p_oscar_cache_destroy(cache);
}

/* A thread that ends while the library stays, with an error text of its own. */
static void *in_thread(void *library) {
  use(library);
  return NULL;
}

static int n_threads(void) {
  int n = 0;
  DIR *tasks = opendir("/proc/self/task");
  EXPECT(tasks != NULL);
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) n += entry->d_name[0] != '.';
  closedir(tasks);
  return n;
}

static int is_mapped(const char *name) {
  char line[4096];
  int found = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  EXPECT(maps != NULL);
  while (fgets(line, sizeof line, maps)) found |= strstr(line, name) != NULL;
  fclose(maps);
  return found;
}

static void load_use_unload(const char *path) {
  pthread_t thread;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) dprintf(report, "%s\n", dlerror());
  EXPECT(library != NULL);
  use(library);
  EXPECT(n_threads() == 1);
  EXPECT(pthread_create(&thread, NULL, in_thread, library) == 0);
  EXPECT(pthread_join(thread, NULL) == 0);
  EXPECT(is_mapped("liboscar"));
  EXPECT(dlclose(library) == 0);
  EXPECT(!is_mapped("liboscar"));
  EXPECT(n_threads() == 1);
}

int main(int argc, char **argv) {
  report = dup(1);
  EXPECT(argc == 2);
  /* Freed blocks that malloc keeps for the next call would count as used; so would those of the tunable above. */
  EXPECT(mallopt(M_MXFAST, 0) == 1);
  FILE *said = tmpfile();
  EXPECT(said != NULL && dup2(fileno(said), 1) == 1 && dup2(fileno(said), 2) == 2);
  for (int i = 0; i < 5; ++i) load_use_unload(argv[1]); /* the C library's own buffers */
  const size_t before = mallinfo2().uordblks;
  for (int i = 0; i < 20; ++i) load_use_unload(argv[1]);
  const size_t after = mallinfo2().uordblks;
  EXPECT(lseek(fileno(said), 0, SEEK_END) == 0);
  dprintf(report, "25 times loaded, used and unloaded; %zu bytes in use before and %zu after\n", before, after);
  EXPECT(after <= before);
  return 0;
}
