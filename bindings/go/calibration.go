package oscar

// #include "shim.h"
import "C"

import (
	"runtime"
	"sync"
	"unsafe"
)

// Calibration is the immutable transforms of all layers in which a cache stores keys and values. Caches and goroutines
// may share it; a cache keeps what it needs, so a calibration may be closed before it.
type Calibration struct {
	mu      sync.RWMutex
	handle  *C.oscar_calibration // nil once closed
	cleanup runtime.Cleanup
}

// CalibrationLayer is the transforms of one layer, all F32 on the CPU; they are copied. An absent transform is the
// orthonormal Hadamard matrix of that size. Transforms need to be invertible, not orthogonal.
type CalibrationLayer struct {
	NKVHeads int // 0: as the first dimension of a matrix shows
	KeyDim   int // 0: as a matrix of keys shows
	ValueDim int // 0: as ValueTransform shows

	KeyTransform   Tensor // F, [NKVHeads, KeyDim, KeyDim]: keys are stored as k F (row vectors), queries as q F^-T
	QueryMoment    Tensor // E[q^T q], [NKVHeads, KeyDim, KeyDim], positive definite; absent: no shaped rounding
	ValueTransform Tensor // F_v, [NKVHeads, ValueDim, ValueDim]: values are stored as v F_v
}

// CalibrationSource says what made a calibration.
type CalibrationSource int32

// CalibrationInfo is what a calibration is. From Source on: as its file remembers it.
type CalibrationInfo struct {
	NLayers        int
	Bytes          int    // memory of the object
	Fingerprint    uint64 // of its transforms; equal ones, equal fingerprints
	IsDataFree     bool
	IsShaped       bool // every KV head has a query moment
	NHeads         int  // KV heads of all layers
	NDataFreeHeads int  // of these, with Hadamard transforms and plain rounding

	Source           CalibrationSource
	KnowsRope        bool // moments are averaged over the positions to be served
	NTokens          int  // whose keys counted, in the layer with the fewest
	NPositions       int  // positions 0 .. NPositions - 1 are to be served
	EndPosition      int  // tokens came from the positions before this one
	NRefined         int  // of the profile it was made for, in the first layer that packs; so the next two
	RefinedKeyBits   int
	RefinedValueBits int
	Objective        string // what the transforms minimise
	Model            string // the caller's words
	Note             string
}

// CalibrationHead is what one KV head of a calibration is.
type CalibrationHead struct {
	IsDataFree   bool
	IsShaped     bool   // it has a query moment
	HasOwnValues bool   // its value transform is a matrix
	Fingerprint  uint64 // of its transforms, wherever the head stands: for comparing ranks and files
}

// CalibrationPart is consecutive KV heads of one layer, for [Calibration.Slice].
type CalibrationPart struct {
	Layer       int
	FirstKVHead int
	NKVHeads    int
}

// DataFreeCalibration is Hadamard transforms and plain rounding for a configuration's geometry: what a cache uses that is
// given no calibration.
//
// Errors: ErrInvalid (a malformed configuration).
func DataFreeCalibration(config *Config) (*Calibration, error) {
	raw, layers, err := config.raw()
	if err != nil {
		return nil, err
	}
	return newCalibration(C.oscar_go_calibration_default(&raw, unsafe.SliceData(layers)))
}

// IdentityCalibration keeps codes in the keys' own basis: for study and for tests.
//
// Errors: ErrInvalid (a malformed configuration).
func IdentityCalibration(config *Config) (*Calibration, error) {
	raw, layers, err := config.raw()
	if err != nil {
		return nil, err
	}
	return newCalibration(C.oscar_go_calibration_identity(&raw, unsafe.SliceData(layers)))
}

// NewCalibration takes explicit matrices, one entry for every layer.
//
// Errors: ErrInvalid (shapes, non-finite elements, a singular or too ill-conditioned transform, a moment that is not
// positive definite; the text names layer and head).
func NewCalibration(layers []CalibrationLayer) (*Calibration, error) {
	n, err := index("len(layers)", len(layers))
	if err != nil {
		return nil, err
	}
	var pinner runtime.Pinner // the entries are Go memory with pointers to Go memory
	defer pinner.Unpin()
	raw := make([]C.oscar_calibration_layer, len(layers))
	for i := range layers {
		if err := layers[i].fill(&raw[i], &pinner); err != nil {
			return nil, err
		}
	}
	return newCalibration(C.oscar_go_calibration_create(unsafe.SliceData(raw), n))
}

// LoadCalibration reads what [Calibration.Save] wrote.
//
// Errors: ErrCorrupt (anything else).
func LoadCalibration(data []byte) (*Calibration, error) {
	if len(data) == 0 {
		return nil, failure(ErrCorrupt, "no bytes are no calibration")
	}
	return newCalibration(C.oscar_go_calibration_load((*C.uint8_t)(&data[0]), C.uint64_t(len(data))))
}

// ImportArgs are the arguments of [ImportTorchCalibration]: the contents of files that torch.save wrote.
type ImportArgs struct {
	Keys     []byte   // the file of key rotations; nil: data-free keys
	Values   []byte   // the file of value rotations; nil: data-free values
	LayerIDs []uint32 // of every layer its id in the files, NoLayer: a data-free layer; nil: rising ids are 0, 1, ...
}

// NoLayer in ImportArgs.LayerIDs stands for a layer that the files do not have.
const NoLayer = uint32(1<<32 - 1)

// ImportTorchCalibration makes a calibration from rotations as the authors of OSCAR (arXiv 2605.17757) publish them. There
// are no query moments, so rounding is plain. Nothing in a file is executed.
//
// Errors: ErrCorrupt (bytes that torch.save does not write, or whose content is no rotation), ErrUnsupported (compressed or
// zip64 archives, pickles that name anything but tensors), ErrInvalid (files that do not fit the configuration).
func ImportTorchCalibration(config *Config, args ImportArgs) (*Calibration, error) {
	raw, layers, err := config.raw()
	if err != nil {
		return nil, err
	}
	n, err := index("len(LayerIDs)", len(args.LayerIDs))
	if err != nil {
		return nil, err
	}
	return newCalibration(C.oscar_go_calibration_import_torch(&raw, unsafe.SliceData(layers),
		(*C.uint8_t)(unsafe.SliceData(args.Keys)), C.uint64_t(len(args.Keys)),
		(*C.uint8_t)(unsafe.SliceData(args.Values)), C.uint64_t(len(args.Values)),
		(*C.uint32_t)(unsafe.SliceData(args.LayerIDs)), n))
}

func newCalibration(r C.oscar_go_result) (*Calibration, error) {
	if err := check(r); err != nil {
		return nil, err
	}
	c := &Calibration{handle: (*C.oscar_calibration)(r.object)}
	c.cleanup = runtime.AddCleanup(c, destroyCalibration, c.handle)
	return c, nil
}

func destroyCalibration(handle *C.oscar_calibration) { C.oscar_calibration_destroy(handle) }

// Save serializes.
//
// Errors: ErrState (closed).
func (c *Calibration) Save() ([]byte, error) {
	handle, err := c.acquire()
	if err != nil {
		return nil, err
	}
	defer c.release()
	r := C.oscar_go_calibration_save(handle, nil, 0)
	if err := check(r); err != nil {
		return nil, err
	}
	data := make([]byte, int(r.value))
	r = C.oscar_go_calibration_save(handle, (*C.uint8_t)(unsafe.SliceData(data)), r.value)
	if err := check(r); err != nil {
		return nil, err
	}
	return data, nil
}

// Info tells size, kind, fingerprint and origin.
//
// Errors: ErrState (closed).
func (c *Calibration) Info() (CalibrationInfo, error) {
	handle, err := c.acquire()
	if err != nil {
		return CalibrationInfo{}, err
	}
	defer c.release()
	var raw C.oscar_calibration_info
	if err := check(C.oscar_go_calibration_info_get(handle, &raw)); err != nil {
		return CalibrationInfo{}, err
	}
	return CalibrationInfo{
		NLayers:          int(raw.n_layers),
		Bytes:            int(raw.bytes),
		Fingerprint:      uint64(raw.fingerprint),
		IsDataFree:       raw.is_data_free != 0,
		IsShaped:         raw.is_shaped != 0,
		NHeads:           int(raw.n_heads),
		NDataFreeHeads:   int(raw.n_data_free_heads),
		Source:           CalibrationSource(raw.source),
		KnowsRope:        raw.knows_rope != 0,
		NTokens:          int(raw.n_tokens),
		NPositions:       int(raw.n_positions),
		EndPosition:      int(raw.end_position),
		NRefined:         int(raw.n_refined),
		RefinedKeyBits:   int(raw.refined_key_bits),
		RefinedValueBits: int(raw.refined_value_bits),
		Objective:        C.GoString(&raw.objective[0]),
		Model:            C.GoString(&raw.model[0]),
		Note:             C.GoString(&raw.note[0]),
	}, nil
}

// Head tells what one KV head is.
//
// Errors: ErrInvalid (there is no such head), ErrState (closed).
func (c *Calibration) Head(layer, kvHead int) (CalibrationHead, error) {
	l, err := index("layer", layer)
	if err != nil {
		return CalibrationHead{}, err
	}
	h, err := index("kvHead", kvHead)
	if err != nil {
		return CalibrationHead{}, err
	}
	handle, err := c.acquire()
	if err != nil {
		return CalibrationHead{}, err
	}
	defer c.release()
	var raw C.oscar_calibration_head_info
	if err := check(C.oscar_go_calibration_head_get(handle, l, h, &raw)); err != nil {
		return CalibrationHead{}, err
	}
	return CalibrationHead{
		IsDataFree:   raw.is_data_free != 0,
		IsShaped:     raw.is_shaped != 0,
		HasOwnValues: raw.has_own_values != 0,
		Fingerprint:  uint64(raw.fingerprint),
	}, nil
}

// Slice gives the calibration of some layers and KV heads, e.g. of one rank under tensor or pipeline parallelism: its layer
// i is parts[i].
//
// Errors: ErrInvalid (a part that is not there, or none), ErrState (closed).
func (c *Calibration) Slice(parts []CalibrationPart) (*Calibration, error) {
	raw := make([]C.oscar_calibration_part, len(parts))
	for i, part := range parts {
		var f fields
		raw[i].layer = f.number("Layer", part.Layer)
		raw[i].first_kv_head = f.number("FirstKVHead", part.FirstKVHead)
		raw[i].n_kv_heads = f.number("NKVHeads", part.NKVHeads)
		if f.err != nil {
			return nil, f.err
		}
	}
	n, err := index("len(parts)", len(parts))
	if err != nil {
		return nil, err
	}
	handle, err := c.acquire()
	if err != nil {
		return nil, err
	}
	defer c.release()
	return newCalibration(C.oscar_go_calibration_slice(handle, unsafe.SliceData(raw), n))
}

// Close frees the calibration, and waits for calls that use it. A second time does nothing. The error is always nil.
func (c *Calibration) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handle != nil {
		c.cleanup.Stop()
		destroyCalibration(c.handle)
		c.handle = nil
	}
	return nil
}

// acquire gives the handle, which stays until release; nil for no calibration.
func (c *Calibration) acquire() (*C.oscar_calibration, error) {
	if c == nil {
		return nil, nil
	}
	c.mu.RLock()
	if c.handle == nil {
		c.mu.RUnlock()
		return nil, closed("calibration")
	}
	return c.handle, nil
}

func (c *Calibration) release() {
	if c != nil {
		c.mu.RUnlock()
	}
}

func (l *CalibrationLayer) fill(raw *C.oscar_calibration_layer, pinner *runtime.Pinner) error {
	var f fields
	raw.n_kv_heads = f.number("NKVHeads", or(l.NKVHeads, &l.KeyTransform, &l.QueryMoment, &l.ValueTransform, 0))
	raw.key_dim = f.number("KeyDim", or(l.KeyDim, &l.KeyTransform, &l.QueryMoment, nil, 2))
	raw.value_dim = f.number("ValueDim", or(l.ValueDim, &l.ValueTransform, nil, nil, 2))
	if f.err != nil {
		return f.err
	}
	if err := l.KeyTransform.pin(&raw.key_transform, "KeyTransform", pinner); err != nil {
		return err
	}
	if err := l.QueryMoment.pin(&raw.query_moment, "QueryMoment", pinner); err != nil {
		return err
	}
	return l.ValueTransform.pin(&raw.value_transform, "ValueTransform", pinner)
}

// or is the size that is given, else dimension i of the first tensor that is there.
func or(given int, a, b, c *Tensor, i int) int {
	for _, t := range []*Tensor{a, b, c} {
		if given == 0 && t != nil {
			given = int(t.shape[i])
		}
	}
	return given
}

// pin writes an oscar_tensor whose memory stays where it is until the pinner lets go.
func (t *Tensor) pin(raw *C.oscar_tensor, name string, pinner *runtime.Pinner) error {
	var view C.oscar_go_view
	if _, err := t.fill(&view, name); err != nil {
		return err
	}
	if t.data != nil {
		pinner.Pin(t.data)
	}
	*raw = C.oscar_tensor{
		data:        t.data,
		device_type: view.device_type,
		device_id:   view.device_id,
		dtype_code:  view.dtype_code,
		dtype_bits:  view.dtype_bits,
		dtype_lanes: view.dtype_lanes,
		ndim:        view.ndim,
		shape:       view.shape,
		stride:      view.stride,
	}
	return nil
}
