package oscar

// #include <stdlib.h>
// #include "shim.h"
import "C"

import "unsafe"

// Default asks for the default of a field of a [Config], and for the cache's value in a field of a [LayerConfig].
const Default = -1

// Storage says how a layer keeps tokens.
type Storage int32

// Writer says how elements are rounded to codes.
type Writer int32

// Config is what a cache is made for. Start from [NewConfig], which fills in everything but the geometry; all fields may
// be changed until a cache is created from them.
type Config struct {
	NLayers          int     // layers of the model
	NQHeads          int     // query heads of a layer, a multiple of NKVHeads, at most 32 per KV head
	NKVHeads         int     // key/value heads of a layer
	KeyDim           int     // head_dim of queries and keys: 64, 80, 96, 128, 192 or 256
	ValueDim         int     // head_dim of values; Default or 0: KeyDim
	Window           int     // sliding window in tokens, the query's own included; 0: attends to everything
	Storage          Storage // StorageBlocks or StorageExact
	NRefined         int     // tokens of every 128, per KV head, kept at the refined widths: 0 .. 128
	RefinedKeyBits   int     // 2, 3, 4 or, on the CPU, 8
	RefinedValueBits int     // 2, 3, 4 or, on the CPU, 8
	Writer           Writer  // WriterAuto, WriterPlain or WriterShaped
	NSink            int     // first tokens of a sequence that stay exact for ever (full-attention layers)
	NRecent          int     // newest tokens that are exact
	MaxRollback      int     // newest tokens whose votes wait until they can no longer be taken back; <= NRecent
	MaxSequences     int     // sequences open at a time
	MaxOpenSteps     int     // steps open at a time
	MaxStepTokens    int     // new tokens of one step, all sequences together
	BatchInvariant   bool    // a row's bits do not depend on the rest of the batch (always so on the CPU)
	MaxTokens        int     // longest sequence, in tokens
	CapacityBytes    int     // memory of all sequences together (exact rows, blocks, scores)

	Layers      []LayerConfig // per-layer differences: none, or NLayers of them
	Calibration *Calibration  // its transforms are taken by NewCache; nil: data-free

	// Not nil: the cache keeps every token exact and gathers statistics until Freeze. CPU only, and without Calibration.
	SelfCalibrate *CalibratorArgs

	DeviceType      DeviceType // where keys and values lie and attention runs; 0: the CPU
	DeviceID        int        // of a CUDA device: its ordinal
	NThreads        int        // that work for the cache within a call, the caller's among them; results do not depend on it; CPU only
	Allocator       Allocator  // where host memory comes from; zero: the C++ heap
	DeviceAllocator Allocator  // where a device's memory comes from; zero: cudaMalloc
}

// Allocator is an oscar_allocator: C functions, by address, and what they get as their first argument, which is not a
// pointer to Go memory. They are called while a cache is created and closed.
type Allocator struct {
	User     unsafe.Pointer
	Allocate unsafe.Pointer // void *(*)(void *user, uint64_t size, uint64_t alignment)
	Release  unsafe.Pointer // void (*)(void *user, void *memory, uint64_t size, uint64_t alignment)
}

// LayerConfig is the geometry and policy of one layer, where it differs from the cache's. Start from [NewLayerConfig]:
// 0 has its own meaning, e.g. KVSource 0 is layer 0.
type LayerConfig struct {
	NQHeads          int
	NKVHeads         int
	KeyDim           int
	ValueDim         int
	Window           int
	Storage          Storage
	NRefined         int
	RefinedKeyBits   int
	RefinedValueBits int
	KVSource         int // an earlier layer whose keys and values this one attends to; Default: its own
}

// NewConfig gives the defaults of a named profile; the geometry (NLayers .. KeyDim) is 0: set it. The profiles are "2bit"
// (4 of 128 tokens refined to 4 bits; also for ""), "2bit-plain" (none refined), "k3v2", "3bit", "4bit", "8bit" (CPU only)
// and "exact" (BF16).
//
// Errors: ErrInvalid (an unknown profile: the text lists them).
func NewConfig(profile string) (*Config, error) {
	var name *C.char
	if profile != "" {
		name = C.CString(profile)
		defer C.free(unsafe.Pointer(name))
	}
	var raw C.oscar_cache_config
	if err := check(C.oscar_go_cache_config_init(&raw, name)); err != nil {
		return nil, err
	}
	return &Config{
		NLayers:          fromRaw(raw.n_layers),
		NQHeads:          fromRaw(raw.n_q_heads),
		NKVHeads:         fromRaw(raw.n_kv_heads),
		KeyDim:           fromRaw(raw.key_dim),
		ValueDim:         fromRaw(raw.value_dim),
		Window:           fromRaw(raw.window),
		Storage:          Storage(raw.storage),
		NRefined:         fromRaw(raw.n_refined),
		RefinedKeyBits:   fromRaw(raw.refined_key_bits),
		RefinedValueBits: fromRaw(raw.refined_value_bits),
		Writer:           Writer(raw.writer),
		NSink:            fromRaw(raw.n_sink),
		NRecent:          fromRaw(raw.n_recent),
		MaxRollback:      fromRaw(raw.max_rollback),
		MaxSequences:     fromRaw(raw.max_sequences),
		MaxOpenSteps:     fromRaw(raw.max_open_steps),
		MaxStepTokens:    fromRaw(raw.max_step_tokens),
		BatchInvariant:   raw.batch_invariant == 1,
		MaxTokens:        int(raw.max_tokens),
		CapacityBytes:    int(raw.capacity_bytes),
		DeviceType:       DeviceType(raw.device_type),
		DeviceID:         int(raw.device_id),
		NThreads:         fromRaw(raw.n_threads),
	}, nil
}

// NewLayerConfig is the entry of a layer that takes everything from the cache.
func NewLayerConfig() LayerConfig {
	var raw C.oscar_layer_config
	C.oscar_layer_config_init(&raw, C.sizeof_oscar_layer_config)
	return LayerConfig{
		NQHeads:          fromRaw(raw.n_q_heads),
		NKVHeads:         fromRaw(raw.n_kv_heads),
		KeyDim:           fromRaw(raw.key_dim),
		ValueDim:         fromRaw(raw.value_dim),
		Window:           fromRaw(raw.window),
		Storage:          Storage(raw.storage),
		NRefined:         fromRaw(raw.n_refined),
		RefinedKeyBits:   fromRaw(raw.refined_key_bits),
		RefinedValueBits: fromRaw(raw.refined_value_bits),
		KVSource:         fromRaw(raw.kv_source),
	}
}

// fromRaw turns OSCAR_DEFAULT, which is UINT32_MAX, into Default.
func fromRaw(value C.uint32_t) int { return int(int32(value)) }

// fields turns the numbers of a configuration into those of the C ABI, and remembers the first that is none.
type fields struct{ err error }

func (f *fields) number(name string, value int) C.uint32_t {
	if (value < 0 && value != Default) || value > 1<<32-1 {
		f.fail(name, value)
	}
	return C.uint32_t(value)
}

func (f *fields) long(name string, value int) C.uint64_t {
	if value < 0 {
		f.fail(name, value)
	}
	return C.uint64_t(value)
}

func (f *fields) fail(name string, value int) {
	if f.err == nil {
		f.err = invalid("%s is %d, which is no number of it", name, value)
	}
}

// raw gives the configuration as the C ABI wants it, without the calibration, and its layers apart.
func (c *Config) raw() (raw C.oscar_cache_config, layers []C.oscar_layer_config, err error) {
	var f fields
	raw.n_layers = f.number("NLayers", c.NLayers)
	raw.n_q_heads = f.number("NQHeads", c.NQHeads)
	raw.n_kv_heads = f.number("NKVHeads", c.NKVHeads)
	raw.key_dim = f.number("KeyDim", c.KeyDim)
	raw.value_dim = f.number("ValueDim", c.ValueDim)
	raw.window = f.number("Window", c.Window)
	raw.storage = C.uint32_t(c.Storage)
	raw.n_refined = f.number("NRefined", c.NRefined)
	raw.refined_key_bits = f.number("RefinedKeyBits", c.RefinedKeyBits)
	raw.refined_value_bits = f.number("RefinedValueBits", c.RefinedValueBits)
	raw.writer = C.uint32_t(c.Writer)
	raw.n_sink = f.number("NSink", c.NSink)
	raw.n_recent = f.number("NRecent", c.NRecent)
	raw.max_rollback = f.number("MaxRollback", c.MaxRollback)
	raw.max_sequences = f.number("MaxSequences", c.MaxSequences)
	raw.max_open_steps = f.number("MaxOpenSteps", c.MaxOpenSteps)
	raw.max_step_tokens = f.number("MaxStepTokens", c.MaxStepTokens)
	if c.BatchInvariant {
		raw.batch_invariant = 1
	}
	raw.max_tokens = f.long("MaxTokens", c.MaxTokens)
	raw.capacity_bytes = f.long("CapacityBytes", c.CapacityBytes)
	raw.n_layer_configs = f.number("len(Layers)", len(c.Layers))
	raw.device_type = C.uint32_t(c.DeviceType)
	raw.device_id = C.int32_t(f.number("DeviceID", c.DeviceID))
	raw.n_threads = f.number("NThreads", c.NThreads)
	raw.allocator = c.Allocator.raw()
	raw.device_allocator = c.DeviceAllocator.raw()
	layers = make([]C.oscar_layer_config, len(c.Layers))
	for i := range c.Layers {
		layers[i] = c.Layers[i].raw(&f)
	}
	return raw, layers, f.err
}

func (l *LayerConfig) raw(f *fields) (raw C.oscar_layer_config) {
	raw.n_q_heads = f.number("NQHeads", l.NQHeads)
	raw.n_kv_heads = f.number("NKVHeads", l.NKVHeads)
	raw.key_dim = f.number("KeyDim", l.KeyDim)
	raw.value_dim = f.number("ValueDim", l.ValueDim)
	raw.window = f.number("Window", l.Window)
	raw.storage = C.uint32_t(l.Storage)
	raw.n_refined = f.number("NRefined", l.NRefined)
	raw.refined_key_bits = f.number("RefinedKeyBits", l.RefinedKeyBits)
	raw.refined_value_bits = f.number("RefinedValueBits", l.RefinedValueBits)
	raw.kv_source = f.number("KVSource", l.KVSource)
	return raw
}

func (a *Allocator) raw() (raw C.oscar_allocator) {
	raw.user = a.User
	raw.allocate = (*[0]byte)(a.Allocate)
	raw.release = (*[0]byte)(a.Release)
	return raw
}
