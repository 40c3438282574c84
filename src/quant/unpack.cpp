// Reads a block back: dequantized tokens in the model's own basis.
#include <cstdint>

#include "backend/isa.h"
#include "quant/decode_block.h"
#include "transform/map_kernel.h"

namespace oscar::OSCAR_ISA {
namespace {

// y [dim][128], column = slot, to row-major rows of the tokens [first, last).
void scatter_rows(const BlockReader& reader, const float* y, uint32_t dim, uint32_t first, uint32_t last, float* rows) {
  for (uint32_t slot = 0; slot < kBlockTokens; ++slot) {
    const uint32_t offset = reader.token_offset(slot);
    if (offset < first || offset >= last) continue;
    float* row = rows + static_cast<uint64_t>(offset - first) * dim;
    for (uint32_t d = 0; d < dim; ++d) row[d] = y[d * kBlockTokens + slot];
  }
}

}  // namespace

void unpack_block(const BlockLayout& layout, const HeadTransform& transform, uint32_t key_dim, uint32_t value_dim,
                  const uint8_t* block, uint32_t first, uint32_t last, float* keys, float* values, void* scratch) {
  const BlockReader reader(layout, block);
  float* decoded = static_cast<float*>(scratch);
  float* undone = decoded + (key_dim > value_dim ? key_dim : value_dim) * kBlockTokens;
  if (keys) {
    for (uint32_t d = 0; d < key_dim; ++d)
      for (uint32_t slot = 0; slot < kBlockTokens; ++slot)
        decoded[d * kBlockTokens + slot] = static_cast<float>(reader.key(slot, d));
    apply_map_tokens(transform.query, true, decoded, undone);  // F^-1 = (F^-T)^T
    scatter_rows(reader, undone, key_dim, first, last, keys);
  }
  if (values) {
    for (uint32_t d = 0; d < value_dim; ++d)
      for (uint32_t slot = 0; slot < kBlockTokens; ++slot)
        decoded[d * kBlockTokens + slot] = static_cast<float>(reader.value(slot, d));
    apply_map_tokens(transform.value_inverse, false, decoded, undone);
    scatter_rows(reader, undone, value_dim, first, last, values);
  }
}

}  // namespace oscar::OSCAR_ISA
