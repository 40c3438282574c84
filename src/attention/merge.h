// Joins attention over disjoint sets of tokens.
#pragma once
#include <cstddef>

namespace oscar {

// lse = log sum_p exp(lse_p), out = sum_p exp(lse_p - lse) out_p; the parts in ascending order, so equal input gives
// equal bits. A part of weight 0 is not read: its lse is -infinity (it is empty) or far below the largest. Rows of empty
// parts only give 0 and -infinity. Parts with +infinity outweigh all others, share equally, and give +infinity. A NaN
// among the lses makes its row NaN.
//   outs [n_parts][n_rows][d], lses [n_parts][n_rows], out [n_rows][d], lse [n_rows] or null
void merge_partials(const float* outs, const float* lses, size_t n_parts, size_t n_rows, size_t d, float* out,
                    float* lse);

}  // namespace oscar
