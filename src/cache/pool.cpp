#include "cache/pool.h"

#include <algorithm>
#include <cassert>

#include "format/error.h"

namespace oscar {

namespace {
constexpr uint64_t kSlabTarget = 1u << 18;
}  // namespace

uint64_t Pool::slab_bytes(std::span<const uint64_t> unit_bytes, uint32_t main_kind) {
  const uint64_t first = unit_bytes[main_kind], largest = *std::max_element(unit_bytes.begin(), unit_bytes.end());
  const uint64_t wanted = std::max(kSlabTarget, largest);
  uint64_t n = wanted / first;
  if (n * first < largest) ++n;
  return std::max<uint64_t>(n, 1) * first;
}

uint64_t Pool::slab_count(std::span<const uint64_t> unit_bytes, uint32_t main_kind, uint64_t capacity_bytes) {
  const uint64_t slab = slab_bytes(unit_bytes, main_kind), n_slabs = capacity_bytes / slab;
  if (n_slabs == 0)
    throw Error(Status::kInvalid, "capacity_bytes is %llu, one slab of this geometry is %llu bytes",
                static_cast<unsigned long long>(capacity_bytes), static_cast<unsigned long long>(slab));
  if (n_slabs * slab / kUnitAlignment >= kNoUnit)
    throw Error(Status::kUnsupported, "capacity_bytes is %llu, served: less than 256 GiB",
                static_cast<unsigned long long>(capacity_bytes));
  return n_slabs;
}

uint64_t Pool::bookkeeping_bytes(std::span<const uint64_t> unit_bytes, uint32_t main_kind, uint64_t capacity_bytes) {
  const uint64_t slab = slab_bytes(unit_bytes, main_kind);
  uint64_t most = 1;
  for (uint64_t bytes : unit_bytes)
    if (bytes) most = std::max(most, slab / bytes);
  return unit_bytes.size() * sizeof(Kind) + capacity_bytes / slab * (sizeof(Slab) + most * 2 * sizeof(uint32_t));
}

Pool::Pool(std::span<const uint64_t> unit_bytes, uint32_t main_kind, uint64_t capacity_bytes,
           std::pmr::memory_resource* memory)
    : slab_bytes_(slab_bytes(unit_bytes, main_kind)), kinds_(memory), slabs_(memory), next_free_(memory),
      references_(memory) {
  kinds_.reserve(unit_bytes.size());
  for (uint64_t bytes : unit_bytes) {
    Kind kind;
    kind.unit_bytes = bytes;
    kind.per_slab = bytes ? static_cast<uint32_t>(slab_bytes_ / bytes) : 0;
    most_ = std::max(most_, kind.per_slab);
    kinds_.push_back(kind);
  }
  const uint64_t n_slabs = slab_count(unit_bytes, main_kind, capacity_bytes);
  n_slabs_ = n_empty_ = static_cast<uint32_t>(n_slabs);
  slabs_.resize(n_slabs_);
  next_free_.resize(n_slabs * most_);
  references_.resize(n_slabs * most_, 0);
  for (uint32_t slab = n_slabs_; slab-- > 0;) link(empty_, slab);
}

void Pool::link(uint32_t& head, uint32_t slab) {
  slabs_[slab].previous = kNone;
  slabs_[slab].next = head;
  if (head != kNone) slabs_[head].previous = slab;
  head = slab;
}

void Pool::unlink(uint32_t& head, uint32_t slab) {
  const Slab& s = slabs_[slab];
  if (s.previous != kNone) slabs_[s.previous].next = s.next;
  if (s.next != kNone) slabs_[s.next].previous = s.previous;
  if (head == slab) head = s.next;
}

uint64_t Pool::bytes_short(std::span<const uint64_t> counts) const {
  uint64_t slabs = 0;
  for (size_t kind = 0; kind < counts.size(); ++kind) {
    const Kind& k = kinds_[kind];
    if (counts[kind] > k.free_in_partial) slabs += (counts[kind] - k.free_in_partial + k.per_slab - 1) / k.per_slab;
  }
  return slabs <= n_empty_ ? 0 : (slabs - n_empty_) * slab_bytes_;
}

void Pool::open_slab(uint32_t kind) {
  const uint32_t slab = empty_;
  unlink(empty_, slab);
  --n_empty_;
  Kind& k = kinds_[kind];
  Slab& s = slabs_[slab];
  s.kind = kind;
  s.in_use = 0;
  s.first_free = 0;
  for (uint32_t i = 0; i < k.per_slab; ++i) next_free_[slab * most_ + i] = i + 1 < k.per_slab ? i + 1 : kNone;
  k.free_in_partial += k.per_slab;
  link(k.partial, slab);
}

Unit Pool::allocate(uint32_t kind) {
  Kind& k = kinds_[kind];
  if (k.partial == kNone) {
    if (n_empty_ == 0) return kNoUnit;
    open_slab(kind);
  }
  const uint32_t slab = k.partial;
  Slab& s = slabs_[slab];
  const uint32_t index = s.first_free, number = slab * most_ + index;
  s.first_free = next_free_[number];
  ++s.in_use;
  ++k.in_use;
  ++k.references;
  --k.free_in_partial;
  if (s.first_free == kNone) unlink(k.partial, slab);
  references_[number] = 1;
  return unit_at(slab, index);
}

void Pool::share(Unit unit) {
  Kind& k = kinds_[slabs_[slab_of(unit)].kind];
  ++k.references;
  k.shared += ++references_[number_of(unit)] == 2;
}

void Pool::release(Unit unit) {
  const uint32_t slab = slab_of(unit), number = number_of(unit);
  assert(references_[number] > 0);
  Slab& s = slabs_[slab];
  Kind& k = kinds_[s.kind];
  --k.references;
  const uint32_t left = --references_[number];
  k.shared -= left == 1;
  if (left > 0) return;
  const bool was_full = s.first_free == kNone;
  next_free_[number] = s.first_free;
  s.first_free = number % most_;
  --s.in_use;
  --k.in_use;
  ++k.free_in_partial;
  if (was_full) link(k.partial, slab);
  if (s.in_use > 0) return;
  unlink(k.partial, slab);
  k.free_in_partial -= k.per_slab;
  s = Slab{};
  link(empty_, slab);
  ++n_empty_;
}

}  // namespace oscar
