package oscar

// #cgo noescape oscar_go_merge
// #cgo nocallback oscar_go_merge
// #include "shim.h"
import "C"

// Merge joins attention over disjoint sets of tokens (context parallelism):
//
//	lse = log sum_p exp(lse_p),   out = sum_p exp(lse_p - lse) out_p
//
// outs is [n_parts, ..., d], up to 4 dimensions, lses is [n_parts, ...]; out and lse are the same without the first
// dimension, written. All are F32, dense, and on the CPU. lse may be absent (the zero Tensor), and is [1] where outs is
// [n_parts, d]. A row whose parts are all empty (lse -infinity) gives 0 and -infinity. Parts with lse +infinity outweigh
// all others and share equally. A NaN among the lses makes its row NaN, and no other.
//
// Errors: ErrInvalid (shapes, dtypes or strides).
func Merge(outs, lses, out, lse Tensor, stream Stream) error {
	var f filler
	var views [4]C.oscar_go_view
	parts := f.fill(&outs, &views[0], "outs")
	partLSEs := f.fill(&lses, &views[1], "lses")
	merged := f.fill(&out, &views[2], "out")
	mergedLSE := f.fill(&lse, &views[3], "lse")
	if f.err != nil {
		return f.err
	}
	return check(C.oscar_go_merge(&views[0], parts, partLSEs, merged, mergedLSE, C.oscar_go_stream(stream)))
}
