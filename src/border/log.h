// Calls that the cache's log hears of when they are refused for want of room.
#pragma once
#include "border/guard.h"
#include "border/handles.h"

namespace oscar::border {

// For calls that need room: as guarded, of a cache that may be NULL.
template <class Call>
oscar_status guarded_room(const char* function, oscar_cache* cache, Call&& call) noexcept {
  return guarded(function, [&] {
    try {
      call();
    } catch (const Error& e) {
      if (cache && e.status() == Status::kNoSpace)
        cache->cache.log().write(LogLevel::kWarning, LogEvent::kNoSpace, kAllLayers, "%s: %s", function, e.what());
      throw;
    }
  });
}

}  // namespace oscar::border
