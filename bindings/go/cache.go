package oscar

// #cgo noescape oscar_go_step_begin
// #cgo nocallback oscar_go_step_begin
// #include "shim.h"
import "C"

import (
	"runtime"
	"sync"
	"unsafe"
)

// Cache holds keys and values of a model's layers, at about two bits per element. Any number of goroutines may use it.
type Cache struct {
	mu      sync.RWMutex
	handle  *C.oscar_cache // nil once closed
	cleanup runtime.Cleanup
}

// NewCache creates a cache. It takes all memory that it will ever need: CapacityBytes, workspace, tables. Later changes of
// the configuration have no effect.
//
// Errors: ErrInvalid (a malformed configuration), ErrUnsupported (one that is not served, with the reason), ErrNoMemory,
// ErrBackend, ErrState (the calibration is closed), ErrDevice.
func NewCache(config *Config) (*Cache, error) {
	raw, layers, err := config.raw()
	if err != nil {
		return nil, err
	}
	calibration, err := config.Calibration.acquire()
	if err != nil {
		return nil, err
	}
	defer config.Calibration.release()
	self, frequencies, free, err := config.SelfCalibrate.raw()
	defer free()
	if err != nil {
		return nil, err
	}
	r := C.oscar_go_cache_create(&raw, unsafe.SliceData(layers), calibration, &self, frequencies)
	if err := check(r); err != nil {
		return nil, err
	}
	c := &Cache{handle: (*C.oscar_cache)(r.object)}
	c.cleanup = runtime.AddCleanup(c, destroyCache, c.handle)
	return c, nil
}

func destroyCache(handle *C.oscar_cache) { C.oscar_cache_destroy(handle) }

// Close frees everything, and waits for calls that run. Sequences and steps of a closed cache give ErrState. A second
// time does nothing. The error is always nil.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handle != nil {
		c.cleanup.Stop()
		destroyCache(c.handle)
		c.handle = nil
	}
	return nil
}

// lock gives the caller the cache to itself, until c.mu.Unlock; nothing is locked where it fails.
func (c *Cache) lock() error {
	c.mu.Lock()
	if c.handle == nil {
		c.mu.Unlock()
		return closed("cache")
	}
	return nil
}

// share lets others that only look run beside the caller, until c.mu.RUnlock; nothing is locked where it fails.
func (c *Cache) share() error {
	c.mu.RLock()
	if c.handle == nil {
		c.mu.RUnlock()
		return closed("cache")
	}
	return nil
}

// Open opens an empty sequence.
//
// Errors: ErrNoSpace (MaxSequences are open, or no memory is left), ErrState (closed).
func (c *Cache) Open() (*Sequence, error) {
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	r := C.oscar_go_seq_open(c.handle)
	if err := check(r); err != nil {
		return nil, err
	}
	return &Sequence{c, r.value}, nil
}

// Freeze ends the collecting of a cache with SelfCalibrate: it solves for transforms, keeps those that are better than the
// data-free ones on tokens that were held out, and packs what has aged. From then on this is a cache like any other, with
// the same sequences. It may take seconds. The calibration is the one that the cache now uses, to be saved.
//
// Errors: ErrState (there is nothing to freeze, a step is open, or there are too few tokens: a sequence of NSink + 192 has
// enough for a KeyDim of up to 128; or closed). Nothing has changed then.
func (c *Cache) Freeze() (*Calibration, error) {
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return newCalibration(C.oscar_go_cache_freeze(c.handle))
}

// StepEntry is a sequence and its new tokens in a step.
type StepEntry struct {
	Sequence *Sequence // nil: padding rows, which are not stored; their output is 0 and their log-sum-exp -infinity
	NNew     int       // tokens that the step appends, drafts included; >= 1
	NDraft   int       // the last NDraft of them may be rejected: NDraft < MaxRollback, NDraft <= NNew

	// The rows are queries only: they attend to every token of the sequence and append nothing, their keys and values are not
	// read, and they do not vote. For context parallelism, on the caches that do not get the new token; [Merge] joins the
	// results. NDraft must be 0.
	QueryOnly bool
}

// StepArgs are the arguments of [Cache.Begin].
type StepArgs struct {
	Entries  []StepEntry // each sequence at most once
	IsReplay bool        // a CUDA graph does the work of the layers: the step takes no Append, Attend or Layer calls
	Stream   Stream      // of the packing, and of the step's calls; 0 on the CPU
}

// Step begins a forward pass of these sequences, as [Cache.Begin] does.
func (c *Cache) Step(entries ...StepEntry) (*Step, error) { return c.Begin(StepArgs{Entries: entries}) }

// Begin begins a forward pass. It first packs what has aged past the recent window of its sequences, then reserves every
// block and page that the pass can need in all layers, or fails having changed nothing. Rows of the step's tensors are the
// entries' new tokens, one entry after the other: their number is the sum of NNew.
//
// Within a step of at most 128 sure tokens a sequence, the Append, Attend and Layer calls of all layers may be captured in
// a CUDA graph, and the graph launched for this step and for later ones that begin with IsReplay.
//
// Errors: ErrNoSpace (the pass does not fit), ErrNotFound (a sequence is closed), ErrState (a sequence is in another open
// step, no step slot is free, or the cache is closed), ErrInvalid.
func (c *Cache) Begin(args StepArgs) (*Step, error) {
	var few [8]C.oscar_step_entry
	raw, nRows := few[:0], 0
	for i := range args.Entries {
		entry, err := args.Entries[i].raw(c)
		if err != nil {
			return nil, err
		}
		raw = append(raw, entry)
		nRows += args.Entries[i].NNew
	}
	isReplay := C.uint32_t(0)
	if args.IsReplay {
		isReplay = 1
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	r := C.oscar_go_step_begin(c.handle, unsafe.SliceData(raw), C.uint32_t(len(raw)), isReplay,
		C.oscar_go_stream(args.Stream))
	if err := check(r); err != nil {
		return nil, err
	}
	return &Step{Stream: args.Stream, cache: c, id: r.value, nRows: nRows}, nil
}

func (e *StepEntry) raw(c *Cache) (raw C.oscar_step_entry, err error) {
	if e.Sequence != nil {
		if e.Sequence.cache != c {
			return raw, invalid("entry: sequence %d belongs to another cache", e.Sequence.id)
		}
		raw.seq = e.Sequence.id
	}
	if raw.n_new, err = index("entry: NNew", e.NNew); err != nil {
		return raw, err
	}
	if e.QueryOnly && e.NDraft != 0 {
		return raw, invalid("entry: QueryOnly with NDraft %d", e.NDraft)
	}
	if e.QueryOnly {
		raw.n_draft = C.OSCAR_QUERY_ONLY
		return raw, nil
	}
	raw.n_draft, err = index("entry: NDraft", e.NDraft)
	return raw, err
}

// Capacity estimates how many tokens a new sequence could be given now, one at a time, before a step is refused with
// ErrNoSpace. Longer steps reserve more at once: leave a margin.
//
// Errors: ErrState (closed).
func (c *Cache) Capacity() (int, error) {
	if err := c.share(); err != nil {
		return 0, err
	}
	defer c.mu.RUnlock()
	r := C.oscar_go_cache_capacity(c.handle)
	if err := check(r); err != nil {
		return 0, err
	}
	return int(r.value), nil
}
