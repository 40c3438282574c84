// The backends that are compiled from the portable kernels, one per instruction set. Calling one that this CPU cannot
// run is undefined: registry.cpp asks first.
#pragma once
#include "backend/backend.h"

namespace oscar {

namespace scalar {
const Backend& cpu_backend();
}
#if defined(__x86_64__)
namespace avx2 {
const Backend& cpu_backend();
}
namespace avx512 {
const Backend& cpu_backend();
}
#endif

// The oracle as a backend (attention/oracle.h); packing is the scalar one. Its attend allocates, and terminates where
// there is no memory.
const Backend& reference_backend();

}  // namespace oscar
