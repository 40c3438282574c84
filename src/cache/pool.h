// Who has which memory of the engine's arena. The arena is cut into equal slabs; a slab holds units of one kind (the
// blocks, pages or scores of one layer class) while it holds any; an empty slab returns to all kinds. Units are
// reference-counted, so that forks share blocks.
#pragma once
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "backend/engine.h"

namespace oscar {

class Pool {
 public:
  // The slab size for these unit sizes (0: a kind that is never used): a whole number of the main kind's units, about
  // 256 KiB, at least the largest unit.
  static uint64_t slab_bytes(std::span<const uint64_t> unit_bytes, uint32_t main_kind);

  // How many slabs a capacity holds. Throws INVALID for none, UNSUPPORTED for more than units can number.
  static uint64_t slab_count(std::span<const uint64_t> unit_bytes, uint32_t main_kind, uint64_t capacity_bytes);
  // Host memory of the pool's own tables.
  static uint64_t bookkeeping_bytes(std::span<const uint64_t> unit_bytes, uint32_t main_kind, uint64_t capacity_bytes);

  Pool(std::span<const uint64_t> unit_bytes, uint32_t main_kind, uint64_t capacity_bytes,
       std::pmr::memory_resource* memory);

  // Whether counts[kind] more units of every kind can be had, all together.
  bool can_allocate(std::span<const uint64_t> counts) const { return bytes_short(counts) == 0; }
  // By how much the empty slabs are too few for that; slabs are taken whole.
  uint64_t bytes_short(std::span<const uint64_t> counts) const;
  Unit allocate(uint32_t kind);  // kNoUnit when the pool is full
  void share(Unit unit);
  void release(Unit unit);

  uint64_t arena_bytes() const { return n_slabs_ * slab_bytes_; }
  uint64_t bytes_in_slabs() const { return (n_slabs_ - n_empty_) * slab_bytes_; }
  uint64_t bytes_free() const { return n_empty_ * slab_bytes_; }
  uint64_t units_in_use(uint32_t kind) const { return kinds_[kind].in_use; }
  uint64_t references(uint32_t kind) const { return kinds_[kind].references; }
  uint64_t units_shared(uint32_t kind) const { return kinds_[kind].shared; }
  uint64_t bytes_shared() const {
    uint64_t bytes = 0;
    for (const Kind& k : kinds_) bytes += (k.references - k.in_use) * k.unit_bytes;
    return bytes;
  }
  uint64_t bytes_in_use() const {
    uint64_t bytes = 0;
    for (const Kind& k : kinds_) bytes += k.in_use * k.unit_bytes;
    return bytes;
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Kind {
    uint64_t unit_bytes = 0;
    uint32_t per_slab = 0;
    uint32_t partial = kNone;  // first slab of this kind with a free unit
    uint64_t in_use = 0, free_in_partial = 0;
    uint64_t references = 0, shared = 0;  // of all units; units with more than one
  };
  struct Slab {
    uint32_t kind = kNone, in_use = 0, first_free = kNone;  // first_free: index in the slab, chained through next_free_
    uint32_t next = kNone, previous = kNone;                // among the partial slabs of its kind, or the empty ones
  };
  uint32_t slab_of(Unit unit) const { return static_cast<uint32_t>(unit * kUnitAlignment / slab_bytes_); }
  // Units are numbered slab * most_ + index in the slab.
  uint32_t number_of(Unit unit) const {
    const uint32_t slab = slab_of(unit);
    const uint64_t offset = unit * kUnitAlignment - slab * slab_bytes_;
    return slab * most_ + static_cast<uint32_t>(offset / kinds_[slabs_[slab].kind].unit_bytes);
  }
  Unit unit_at(uint32_t slab, uint32_t index) const {
    return static_cast<Unit>((slab * slab_bytes_ + index * kinds_[slabs_[slab].kind].unit_bytes) / kUnitAlignment);
  }
  void link(uint32_t& head, uint32_t slab);
  void unlink(uint32_t& head, uint32_t slab);
  void open_slab(uint32_t kind);

  uint64_t slab_bytes_ = 0;
  uint32_t n_slabs_ = 0, n_empty_ = 0;
  uint32_t most_ = 1;  // units of a slab at most
  uint32_t empty_ = kNone;
  std::pmr::vector<Kind> kinds_;
  std::pmr::vector<Slab> slabs_;
  std::pmr::vector<uint32_t> next_free_, references_;
};

}  // namespace oscar
