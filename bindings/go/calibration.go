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

// CalibrationInfo is what a calibration is.
type CalibrationInfo struct {
	NLayers     int
	Bytes       int    // memory of the object
	Fingerprint uint64 // of its contents; equal contents, equal fingerprints
	IsDataFree  bool
	IsShaped    bool // every layer has query moments
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

// Info tells size, kind and fingerprint.
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
		NLayers:     int(raw.n_layers),
		Bytes:       int(raw.bytes),
		Fingerprint: uint64(raw.fingerprint),
		IsDataFree:  raw.is_data_free != 0,
		IsShaped:    raw.is_shaped != 0,
	}, nil
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
