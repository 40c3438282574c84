// Synthetic cache contents for GPU benchmarks: valid blocks and pages of random numbers, made on the device.
#pragma once
#include <cstdint>

#include "format/block.h"

namespace oscar::bench {

// n_units units of `heads` blocks each, unit u at pool + u * unit_bytes: random codes, means and scale bytes, ascending
// ids. Also used for pages: n_values random BF16 numbers.
void fill_blocks(uint8_t* pool, uint64_t n_units, uint64_t unit_bytes, uint32_t heads, const BlockLayout& layout);
void fill_bf16(uint16_t* values, uint64_t n_values);
void fill_bf16_queries(uint16_t* values, uint64_t n_values, uint32_t seed);

// GB/s at which a kernel that only reads gets through `bytes` (several GB, cold) in one launch: best of five.
double read_rate(const uint8_t* data, uint64_t bytes);

}  // namespace oscar::bench
