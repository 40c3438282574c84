// The caller's log.
#include "border/log.h"

#include "border/arguments.h"
#include "border/guard.h"
#include "cache/log.h"

using namespace oscar;
using namespace oscar::border;

namespace {

using Write = void (*)(void*, const oscar_log_record*);

static_assert(static_cast<uint32_t>(LogLevel::kInfo) == OSCAR_LOG_INFO &&
              static_cast<uint32_t>(LogLevel::kWarning) == OSCAR_LOG_WARNING &&
              static_cast<uint32_t>(LogEvent::kFreeze) == OSCAR_EVENT_FREEZE &&
              static_cast<uint32_t>(LogEvent::kDataFree) == OSCAR_EVENT_DATA_FREE &&
              static_cast<uint32_t>(LogEvent::kNoSpace) == OSCAR_EVENT_NO_SPACE &&
              static_cast<uint32_t>(LogEvent::kNonFinite) == OSCAR_EVENT_NON_FINITE &&
              static_cast<uint32_t>(LogEvent::kDrift) == OSCAR_EVENT_DRIFT && kAllLayers == OSCAR_DEFAULT);

void deliver(const Log::Target& target, const LogRecord& r) {
  const oscar_log_record record{sizeof record, static_cast<uint32_t>(r.level), static_cast<uint32_t>(r.event), r.layer,
                                r.text};
  reinterpret_cast<Write>(target.function)(target.user, &record);
}

}  // namespace

extern "C" {

oscar_status oscar_cache_log_set(oscar_cache* cache, const oscar_log_args* args) {
  return guarded("oscar_cache_log_set", [&] {
    require(cache, "cache");
    const oscar_log_args a = read_struct(args, "args");
    if (a.min_level > OSCAR_LOG_WARNING)
      throw Error(Status::kInvalid, "args.min_level is %u, allowed: 0 (all), 1 (info), 2 (warning)", a.min_level);
    const auto least = a.min_level == 0 ? LogLevel::kInfo : static_cast<LogLevel>(a.min_level);
    cache->cache.set_log({a.user, reinterpret_cast<void (*)()>(a.write), deliver, least});
  });
}

}  // extern "C"
