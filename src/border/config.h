// From the public configuration to the internal one.
#pragma once
#include "cache/config.h"
#include "oscar/oscar.h"

namespace oscar::border {

// Every default filled in. Throws INVALID where the structs themselves are malformed.
CacheConfig resolve_config(const oscar_cache_config* given);

}  // namespace oscar::border
