package oscar

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"runtime"
	"sync"
	"unsafe"
)

// RopePairing says which elements RoPE turns together.
type RopePairing int32

// ValueBasis says in which basis values are stored.
type ValueBasis int32

// Calibrator gathers second moments of a model's queries, keys and values, and solves for the transforms that suit them.
// Its memory does not depend on how many tokens it has seen: a few thousand tokens of ordinary text are plenty, 256 are
// enough. Feed every layer, in any order and in any number of calls; then Finish. Goroutines that share one wait for one
// another.
type Calibrator struct {
	mu      sync.Mutex
	handle  *C.oscar_calibrator // nil once closed
	cleanup runtime.Cleanup
}

// CalibratorArgs are the arguments of [NewCalibrator], and what a cache must be told that calibrates itself; the zero value
// is fine.
type CalibratorArgs struct {
	RopePairing RopePairing
	ValueBasis  ValueBasis
	NPositions  int // positions 0 .. NPositions - 1 will be served; 0: MaxTokens of the configuration

	// [n_pairs] or [n_layers, n_pairs], F32 on the CPU: radians by which pair i turns from one position to the next, e.g.
	// theta^(-2 i / key_dim); zeros for a layer without positions. Absent: unknown; Finish then demands tokens of all
	// positions to be served.
	RopeFrequencies Tensor

	Model string // whose tensors these are, for the file: at most 63 bytes
	Note  string // anything else worth remembering, at most 127 bytes
}

// raw gives the arguments as the shim wants them, the frequencies apart, and frees in release what belongs to C; nil: the
// cache does not calibrate itself.
func (a *CalibratorArgs) raw() (raw C.oscar_go_calibrator_args, frequencies C.oscar_go_data, release func(), err error) {
	release = func() {
		C.free(unsafe.Pointer(raw.model))
		C.free(unsafe.Pointer(raw.note))
	}
	if a == nil {
		return raw, nil, release, nil
	}
	raw.is_given = 1
	raw.rope_pairing = C.uint32_t(a.RopePairing)
	raw.value_basis = C.uint32_t(a.ValueBasis)
	if raw.n_positions, err = count("NPositions", a.NPositions); err != nil {
		return raw, nil, release, err
	}
	if frequencies, err = a.RopeFrequencies.fill(&raw.frequencies, "RopeFrequencies"); err != nil {
		return raw, nil, release, err
	}
	raw.model, raw.note = C.CString(a.Model), C.CString(a.Note)
	return raw, frequencies, release, nil
}

// FeedArgs are some tokens of one sequence at consecutive positions, as one layer of the model has them: F32, F16 or BF16
// on the CPU, with any strides and the last dimension dense.
type FeedArgs struct {
	Layer         int
	FirstPosition int    // of row 0; where it is not the last call's end, another sequence begins
	Q             Tensor // [n, n_q_heads, key_dim], with positions (RoPE) already applied
	K             Tensor // [n, n_kv_heads, key_dim], likewise; absent for a layer with KVSource
	V             Tensor // [n, n_kv_heads, value_dim]; absent for a layer with KVSource
}

// NewCalibrator begins a calibration for caches of this configuration: geometry, Storage, KVSource, MaxTokens and NSink
// count.
//
// Errors: ErrInvalid (a malformed configuration, or frequencies that do not fit it).
func NewCalibrator(config *Config, args CalibratorArgs) (*Calibrator, error) {
	raw, layers, err := config.raw()
	if err != nil {
		return nil, err
	}
	given, frequencies, release, err := args.raw()
	defer release()
	if err != nil {
		return nil, err
	}
	r := C.oscar_go_calibrator_create(&raw, unsafe.SliceData(layers), &given, frequencies)
	if err := check(r); err != nil {
		return nil, err
	}
	c := &Calibrator{handle: (*C.oscar_calibrator)(r.object)}
	c.cleanup = runtime.AddCleanup(c, destroyCalibrator, c.handle)
	return c, nil
}

func destroyCalibrator(handle *C.oscar_calibrator) { C.oscar_calibrator_destroy(handle) }

func (c *Calibrator) lock() error {
	c.mu.Lock()
	if c.handle == nil {
		c.mu.Unlock()
		return closed("calibrator")
	}
	return nil
}

// Feed counts tokens of one layer.
//
// Errors: ErrInvalid (shapes, or an element that is not finite; nothing was counted), ErrState (closed).
func (c *Calibrator) Feed(args FeedArgs) error {
	layer, err := index("Layer", args.Layer)
	if err != nil {
		return err
	}
	first, err := count("FirstPosition", args.FirstPosition)
	if err != nil {
		return err
	}
	var f filler
	var views [3]C.oscar_go_view
	q := f.fill(&args.Q, &views[0], "Q")
	k := f.fill(&args.K, &views[1], "K")
	v := f.fill(&args.V, &views[2], "V")
	if f.err != nil {
		return f.err
	}
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	return check(C.oscar_go_calibrator_feed(c.handle, layer, first, &views[0], q, k, v))
}

// Finish gives the calibration of what was fed so far; more may be fed afterwards.
//
// Errors: ErrState (a layer was fed nothing or too little; closed), ErrInvalid (keys that do not vary, queries or values
// that are zero; the text names layer and head).
func (c *Calibrator) Finish() (*Calibration, error) {
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return newCalibration(C.oscar_go_calibrator_finish(c.handle))
}

// Close frees the calibrator, and waits for calls that use it. A second time does nothing. The error is always nil.
func (c *Calibrator) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handle != nil {
		c.cleanup.Stop()
		destroyCalibrator(c.handle)
		c.handle = nil
	}
	return nil
}
