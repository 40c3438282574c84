// The interface of the sources that are compiled once per instruction set: what the namespace oscar::<isa> holds.
#pragma once
#include <cstddef>

#include "attention/work.h"

#ifdef OSCAR_ISA
namespace oscar::OSCAR_ISA {

// quant/pack.cpp, quant/unpack.cpp
size_t pack_scratch_bytes(uint32_t key_dim, uint32_t value_dim);
void pack_block(const PackWork& work, void* scratch);
void unpack_block(const BlockLayout& layout, const HeadTransform& transform, uint32_t key_dim, uint32_t value_dim,
                  const uint8_t* block, uint32_t first, uint32_t last, float* keys, float* values, void* scratch);

// attention/attend_cpu.cpp
size_t attend_scratch_bytes(uint32_t key_dim, uint32_t value_dim);
void attend_tile(const AttendWork& work, void* scratch);
void attend_splits(const AttendWork& work, float* partials, void* scratch);

}  // namespace oscar::OSCAR_ISA
#endif
