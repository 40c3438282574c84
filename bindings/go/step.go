package oscar

// #cgo noescape oscar_go_append
// #cgo nocallback oscar_go_append
// #cgo noescape oscar_go_attend
// #cgo nocallback oscar_go_attend
// #cgo noescape oscar_go_layer
// #cgo nocallback oscar_go_layer
// #include "shim.h"
import "C"

// Step is a forward pass through the layers, as a transaction; made by [Cache.Step] and [Cache.Begin], over with End or
// Abort. Rows of its tensors are the new tokens of its sequences, one sequence after the other; NRows in all. Tensors are
// F32, F16 or BF16 with any strides and the last dimension dense, and lie where the cache lies.
type Step struct {
	Stream Stream // of its Append, Attend and Layer calls; may be changed between them

	cache *Cache
	id    C.oscar_step
	nRows int
}

// ID is its number in the C ABI.
func (s *Step) ID() uint64 { return uint64(s.id) }

// NRows is the number of rows of its tensors.
func (s *Step) NRows() int { return s.nRows }

// AppendArgs are the arguments of [Step.Append]. n is NRows.
type AppendArgs struct {
	Layer int
	K     Tensor // [n, n_kv_heads, key_dim], with positions (RoPE) already applied
	V     Tensor // [n, n_kv_heads, value_dim]
}

// AttendArgs are the arguments of [Step.Attend]. n is NRows.
type AttendArgs struct {
	Layer      int
	Q          Tensor  // [n, n_q_heads, key_dim] F32, F16 or BF16
	Out        Tensor  // [n, n_q_heads, value_dim] F32, F16 or BF16; written
	LSE        Tensor  // optional, [n, n_q_heads] F32; written: natural log of the softmax denominator, sink included
	SinkLogits Tensor  // optional, [n_q_heads] F32: a learned logit whose value is zero
	Mask       Tensor  // optional, [n, max NNew] U8: row i of an entry attends to its new token j < i where not 0
	Scale      float32 // of the logits; 0: 1/sqrt(key_dim)
	Softcap    float32 // c > 0: logits become c tanh(logit / c); 0: off
}

// LayerArgs are the arguments of [Step.Layer]: those of Append and Attend.
type LayerArgs struct {
	Layer      int
	K          Tensor
	V          Tensor
	Q          Tensor
	Out        Tensor
	LSE        Tensor
	SinkLogits Tensor
	Mask       Tensor
	Scale      float32
	Softcap    float32
}

// filler describes the tensors of a call, and remembers the first that is none.
type filler struct{ err error }

func (f *filler) fill(t *Tensor, view *C.oscar_go_view, name string) C.oscar_go_data {
	data, err := t.fill(view, name)
	if err != nil && f.err == nil {
		f.err = err
	}
	return data
}

// Append stores the step's keys and values of one layer, rounded to BF16. Calling it again for the same layer before its
// attention overwrites. A layer with KVSource takes no Append.
//
// Errors: ErrNotFound (the step is over); ErrInvalid (shape, dtype, strides, device or layer); ErrState (the layer has been
// attended to; closed).
func (s *Step) Append(args AppendArgs) error {
	layer, err := index("Layer", args.Layer)
	if err != nil {
		return err
	}
	var f filler
	var views [2]C.oscar_go_view
	k := f.fill(&args.K, &views[0], "K")
	v := f.fill(&args.V, &views[1], "V")
	if f.err != nil {
		return f.err
	}
	if err := s.cache.lock(); err != nil {
		return err
	}
	defer s.cache.mu.Unlock()
	return check(C.oscar_go_append(s.cache.handle, s.id, layer, &views[0], k, v, C.oscar_go_stream(s.Stream)))
}

// Attend is the attention of one layer over its sequences and the step's own tokens:
//
//	out = softmax(softcap(scale q k^T) + causal/window/tree mask) v
//
// Without a mask, a new token attends to the new tokens before it (causal), and always to itself.
//
// Errors: ErrNotFound (the step is over); ErrInvalid (shape, dtype, strides, device or layer); ErrState (the layer has no
// keys yet in this step, or they have left the scratch; closed).
func (s *Step) Attend(args AttendArgs) error {
	layer, err := index("Layer", args.Layer)
	if err != nil {
		return err
	}
	var f filler
	var views [5]C.oscar_go_view
	q := f.fill(&args.Q, &views[0], "Q")
	out := f.fill(&args.Out, &views[1], "Out")
	lse := f.fill(&args.LSE, &views[2], "LSE")
	sinks := f.fill(&args.SinkLogits, &views[3], "SinkLogits")
	mask := f.fill(&args.Mask, &views[4], "Mask")
	if f.err != nil {
		return f.err
	}
	if err := s.cache.lock(); err != nil {
		return err
	}
	defer s.cache.mu.Unlock()
	return check(C.oscar_go_attend(s.cache.handle, s.id, layer, &views[0], q, out, lse, sinks, mask,
		C.float(args.Scale), C.float(args.Softcap), C.oscar_go_stream(s.Stream)))
}

// Layer is Append and Attend in one call. All arguments are checked before anything is written.
//
// Errors: as for Append and Attend.
func (s *Step) Layer(args LayerArgs) error {
	layer, err := index("Layer", args.Layer)
	if err != nil {
		return err
	}
	var f filler
	var views [7]C.oscar_go_view
	k := f.fill(&args.K, &views[0], "K")
	v := f.fill(&args.V, &views[1], "V")
	q := f.fill(&args.Q, &views[2], "Q")
	out := f.fill(&args.Out, &views[3], "Out")
	lse := f.fill(&args.LSE, &views[4], "LSE")
	sinks := f.fill(&args.SinkLogits, &views[5], "SinkLogits")
	mask := f.fill(&args.Mask, &views[6], "Mask")
	if f.err != nil {
		return f.err
	}
	if err := s.cache.lock(); err != nil {
		return err
	}
	defer s.cache.mu.Unlock()
	return check(C.oscar_go_layer(s.cache.handle, s.id, layer, &views[0], k, v, q, out, lse, sinks, mask,
		C.float(args.Scale), C.float(args.Softcap), C.oscar_go_stream(s.Stream)))
}

// End commits: the new tokens now belong to their sequences.
//
// Errors: ErrNotFound (the step is over); ErrState (a layer has not been given its keys and values: the step stays open;
// closed).
func (s *Step) End() error {
	if err := s.cache.lock(); err != nil {
		return err
	}
	defer s.cache.mu.Unlock()
	return check(C.oscar_go_step_end(s.cache.handle, s.id))
}

// Abort drops the step: every sequence is as it was after what Begin does for accepted tokens. After End it does nothing
// but return ErrNotFound, so that it may be deferred.
//
// Errors: ErrNotFound (the step is over), ErrState (closed).
func (s *Step) Abort() error {
	if err := s.cache.lock(); err != nil {
		return err
	}
	defer s.cache.mu.Unlock()
	return check(C.oscar_go_step_abort(s.cache.handle, s.id))
}
