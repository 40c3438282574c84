#include "fit.h"

#include <sys/mman.h>

#include <algorithm>

#include "library.h"

namespace oscar::cli {

namespace {

// Address space without memory behind it, until it is written to: what a cache of any size costs that is only asked.
void* reserve(void*, uint64_t size, uint64_t) {
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}
void give_back(void*, void* memory, uint64_t size, uint64_t) { ::munmap(memory, size); }

// The largest x in [0, most] with holds(x); holds is true up to some x and false from then on, and holds(0) is taken for
// granted.
template <class Holds>
uint64_t largest(uint64_t most, Holds&& holds) {
  uint64_t low = 0, high = most;
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (holds(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace

uint64_t tokens_in(const Serving& serving, uint64_t capacity_bytes, uint64_t most) {
  oscar_cache_config c = serving.config;
  // What decides is the pool: it is the same on every device, and for any number of threads and rows.
  c.device_type = OSCAR_DEVICE_CPU;
  c.max_sequences = 1;
  c.max_step_tokens = 1;
  c.n_threads = 1;
  c.max_tokens = most;
  c.capacity_bytes = capacity_bytes;
  c.allocator = {nullptr, reserve, give_back};
  oscar_cache* created = nullptr;
  const oscar_status status = oscar_cache_create(&c, &created);
  const Cache cache(created);
  if (status == OSCAR_E_INVALID) return 0;  // less than one slab; the configuration itself has been checked
  call(status);
  uint64_t n = 0;
  call(oscar_cache_capacity(created, &n));
  return n;
}

uint64_t capacity_for(const Serving& serving, uint64_t n_tokens) {
  const auto is_short = [&](uint64_t capacity) { return tokens_in(serving, capacity, n_tokens) < n_tokens; };
  const uint64_t counted = serving.check(n_tokens, kMostCapacity).bytes_sequences;
  uint64_t high = counted;
  while (high < kMostCapacity && is_short(high)) high += high / 8 + (1u << 20);
  high = std::min(high, kMostCapacity);
  const uint64_t most_short = largest(high, is_short);
  return most_short == high ? 0 : most_short + 1;
}

Need need(const Model& model, const Choice& choice, uint64_t n_tokens, uint32_t n_sequences) {
  Choice c = choice;
  c.max_tokens = n_tokens;
  c.n_sequences = n_sequences;
  const Serving serving(model, c);
  Need result;
  const uint64_t one = capacity_for(serving, n_tokens);
  if (one == 0 || one > kMostCapacity / n_sequences) return result;
  result.capacity_bytes = one * n_sequences;
  result.bytes_fixed = serving.check(n_tokens, result.capacity_bytes).bytes_fixed;
  return result;
}

// The largest capacity_bytes that leaves room for everything else of the cache.
static uint64_t capacity_within(const Serving& serving, uint64_t n_tokens, uint64_t memory_bytes) {
  return largest(std::min(memory_bytes, kMostCapacity), [&](uint64_t capacity) {
    const auto report = serving.try_check(n_tokens, capacity);
    if (!report) return true;  // less than one slab: whoever creates the cache finds no room for a token
    return report->bytes_fixed <= memory_bytes && capacity <= memory_bytes - report->bytes_fixed;
  });
}

uint64_t longest_sequence(const Model& model, const Choice& choice, uint64_t memory_bytes) {
  return largest(kMostFitTokens, [&](uint64_t n_tokens) {
    Choice c = choice;
    c.max_tokens = n_tokens;
    c.n_sequences = 1;
    const Serving serving(model, c);
    const uint64_t capacity = capacity_within(serving, n_tokens, memory_bytes);
    return tokens_in(serving, capacity, n_tokens) >= n_tokens;
  });
}

uint64_t largest_batch(const Model& model, const Choice& choice, uint64_t n_tokens, uint64_t memory_bytes) {
  Choice c = choice;
  c.max_tokens = n_tokens;
  c.n_sequences = 1;
  const uint64_t one = capacity_for(Serving(model, c), n_tokens);
  if (one == 0) return 0;
  return largest(std::min<uint64_t>(kMostCapacity / one, 1u << 20), [&](uint64_t n) {
    c.n_sequences = static_cast<uint32_t>(n);
    const uint64_t fixed = Serving(model, c).check(n_tokens, n * one).bytes_fixed;
    return n * one + fixed <= memory_bytes;
  });
}

}  // namespace oscar::cli
