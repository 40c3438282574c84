// A cache as Python holds it: it can be closed while objects still refer to it, and two threads cannot get in each
// other's way while the GIL is released. Counters need no atomics: they change only with the GIL held.
#pragma once
#include "error.h"

namespace oscar_py {

struct CacheHandle {
  oscar_cache* cache = nullptr;
  int n_readers = 0;
  bool has_writer = false;

  explicit CacheHandle(oscar_cache* owned) : cache(owned) {}
  CacheHandle(const CacheHandle&) = delete;
  CacheHandle& operator=(const CacheHandle&) = delete;
  ~CacheHandle() { oscar_cache_destroy(cache); }

  bool idle() const { return n_readers == 0 && !has_writer; }
};

// One call's use of a cache, from its arguments until its return.
class CacheUse {
 public:
  CacheUse() = default;
  CacheUse(const CacheUse&) = delete;
  CacheUse& operator=(const CacheUse&) = delete;

  // False: a Python error is set.
  bool enter(CacheHandle* handle, bool exclusive) {
    if (handle->cache == nullptr) return fail(OSCAR_E_STATE, "the cache is closed");
    if (handle->has_writer || (exclusive && handle->n_readers > 0))
      return fail(OSCAR_E_STATE, "another thread is using the cache, and one of the two calls changes it");
    handle_ = handle;
    exclusive_ = exclusive;
    exclusive ? void(handle->has_writer = true) : void(++handle->n_readers);
    return true;
  }

  oscar_cache* cache() const { return handle_->cache; }

  ~CacheUse() {
    if (handle_ == nullptr) return;
    exclusive_ ? void(handle_->has_writer = false) : void(--handle_->n_readers);
  }

 private:
  CacheHandle* handle_ = nullptr;
  bool exclusive_ = false;
};

// Frees the cache now; a second time does nothing. False: a Python error is set.
inline bool cache_close(CacheHandle* handle) {
  if (!handle->idle()) return fail(OSCAR_E_STATE, "another thread is using the cache: it cannot be closed now");
  oscar_cache_destroy(handle->cache);
  handle->cache = nullptr;
  return true;
}

}  // namespace oscar_py
