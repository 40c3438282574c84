// The interface between the cache and the code that computes. A backend has no state; its scratch memory is the caller's.
#pragma once
#include <cstddef>
#include <span>

#include "attention/work.h"

namespace oscar {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;

  // Bytes of scratch (64-byte aligned) that any call needs for this head geometry.
  virtual size_t scratch_bytes(uint32_t key_dim, uint32_t value_dim) const = 0;

  // Neither allocates nor throws.
  virtual void attend(const AttendWork& work, void* scratch) const = 0;
  // The partial softmax of each split of work.blocks, in order, partial_floats of each: what AttendWork.partials wants.
  // Several calls, each with whole splits, may fill it. A backend whose attend ignores partials leaves it as it is.
  virtual void attend_splits(const AttendWork& work, float* partials, void* scratch) const = 0;
  // Same bytes from every backend (docs/numerics.md). Non-finite elements become 0 and are counted in the header.
  virtual void pack(const PackWork& work, void* scratch) const = 0;
  // Keys and values of the valid slots of a block in the model's own basis, for read-back: row i is the token at
  // offset first + i; a null destination is skipped.
  virtual void unpack(const BlockLayout& layout, const HeadTransform& transform, uint32_t key_dim, uint32_t value_dim,
                      const uint8_t* block, uint32_t first, uint32_t last, float* keys, float* values,
                      void* scratch) const = 0;
};

struct BackendEntry {
  const char* name;
  const Backend* backend;  // null: not available
  const char* reason;      // why not; "" where available
};

// Everything that was built, in order of preference (the best last).
std::span<const BackendEntry> backend_list();

// The backend to use: OSCAR_BACKEND where it is set, else the best available. Null and a text in `error` where
// OSCAR_BACKEND names none that can run here.
const Backend* backend_select(char* error, size_t error_size);

}  // namespace oscar
