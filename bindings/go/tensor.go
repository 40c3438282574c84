package oscar

// #include "shim.h"
import "C"

import "unsafe"

// DeviceType says where memory lies, with the numbers of DLPack.
type DeviceType int32

// Dtype is the type of a tensor's elements.
type Dtype uint16

// The types of elements that calls take.
const (
	F32Type  = Dtype(dtypeFloat)<<8 | 32  // float32
	F16Type  = Dtype(dtypeFloat)<<8 | 16  // IEEE half precision
	BF16Type = Dtype(dtypeBfloat)<<8 | 16 // the upper half of a float32
	U8Type   = Dtype(dtypeUint)<<8 | 8    // uint8
)

// Stream is a cudaStream_t as a number: oscar.Stream(pointer) converts an unsafe.Pointer, oscar.Stream(0) is CUDA's
// default stream, and what a cache on the CPU takes. It is no pointer in Go because some of CUDA's streams are small
// numbers, which Go's stacks do not suffer in pointers.
type Stream uintptr

const maxDimensions = 4

// Tensor is a borrowed view of memory, dense unless [Tensor.Strided]. The zero Tensor stands for an optional argument
// that is absent. Whether the memory is large enough for the shape is checked by the calls that take the tensor.
type Tensor struct {
	data   unsafe.Pointer
	size   int // elements that data has; -1 where nobody knows
	nDims  int
	shape  [maxDimensions]int64
	stride [maxDimensions]int64
	device DeviceType
	id     int32
	dtype  Dtype
}

// F32 is a tensor of float32 elements: F32(q, n, nQHeads, keyDim). Without a shape it has one dimension.
func F32(data []float32, shape ...int) Tensor {
	return sliceTensor(unsafe.Pointer(unsafe.SliceData(data)), len(data), F32Type, shape)
}

// F16 is a tensor of IEEE half precision elements, given by their bits. Without a shape it has one dimension.
func F16(bits []uint16, shape ...int) Tensor {
	return sliceTensor(unsafe.Pointer(unsafe.SliceData(bits)), len(bits), F16Type, shape)
}

// BF16 is a tensor of bfloat16 elements, given by their bits. Without a shape it has one dimension.
func BF16(bits []uint16, shape ...int) Tensor {
	return sliceTensor(unsafe.Pointer(unsafe.SliceData(bits)), len(bits), BF16Type, shape)
}

// U8 is a tensor of uint8 elements: a mask. Without a shape it has one dimension.
func U8(data []uint8, shape ...int) Tensor {
	return sliceTensor(unsafe.Pointer(unsafe.SliceData(data)), len(data), U8Type, shape)
}

// FromPointer is a tensor in memory that Go does not manage: of a device, or allocated by C. Nobody checks its size.
func FromPointer(data unsafe.Pointer, dtype Dtype, device DeviceType, deviceID int, shape ...int) Tensor {
	t := Tensor{data: data, size: -1, device: device, id: int32(deviceID), dtype: dtype}
	t.setShape(shape)
	return t
}

// Strided gives the tensor strides, counted in elements, one for each dimension; the last must be 1. All zero means
// dense. Strides of a slice are not negative.
func (t Tensor) Strided(stride ...int) Tensor {
	t.stride = [maxDimensions]int64{}
	if len(stride) != t.nDims {
		t.nDims = maxDimensions + 1 // no call takes that
		return t
	}
	for i := range min(len(stride), maxDimensions) {
		t.stride[i] = int64(stride[i])
	}
	return t
}

func sliceTensor(data unsafe.Pointer, size int, dtype Dtype, shape []int) Tensor {
	t := Tensor{data: data, size: size, device: DeviceCPU, dtype: dtype}
	if len(shape) == 0 {
		t.nDims, t.shape[0] = 1, int64(size)
	} else {
		t.setShape(shape)
	}
	return t
}

func (t *Tensor) setShape(shape []int) {
	t.nDims = len(shape)
	for i := range min(len(shape), maxDimensions) {
		t.shape[i] = int64(shape[i])
	}
}

// fits says whether every element of the shape lies in the slice.
func (t *Tensor) fits() bool {
	if t.size < 0 {
		return true
	}
	size, isDense := int64(t.size), t.stride == [maxDimensions]int64{}
	elements, last := int64(1), int64(0)
	for i := range t.nDims {
		n, stride := t.shape[i], t.stride[i]
		switch {
		case n == 0:
			return true
		case n < 0 || stride < 0 || n > size:
			return false
		case isDense:
			if elements > size/n {
				return false
			}
			elements *= n
		case n > 1:
			if stride > size/(n-1) {
				return false
			}
			if last += (n - 1) * stride; last >= size {
				return false
			}
		}
	}
	return true
}

// fill describes the tensor to the C side, and gives its memory.
func (t *Tensor) fill(view *C.oscar_go_view, name string) (C.oscar_go_data, error) {
	if t.nDims == 0 {
		return nil, nil // absent, as the view's zeros say
	}
	if t.nDims > maxDimensions || !t.fits() {
		return nil, misfit(name, t.size, t.nDims, t.shape, t.stride)
	}
	for i := range t.nDims {
		view.shape[i] = C.int64_t(t.shape[i])
		view.stride[i] = C.int64_t(t.stride[i])
	}
	view.device_type = C.int32_t(t.device)
	view.device_id = C.int32_t(t.id)
	view.ndim = C.int32_t(t.nDims)
	view.dtype_code = C.uint8_t(t.dtype >> 8)
	view.dtype_bits = C.uint8_t(t.dtype)
	view.dtype_lanes = 1
	return C.oscar_go_data(t.data), nil
}

// misfit takes copies of what it prints, so that only tensors that do not fit cost memory.
func misfit(name string, size, nDims int, shape, stride [maxDimensions]int64) error {
	if nDims > maxDimensions {
		return invalid("%s: wanted 1 .. 4 dimensions, and a stride for each", name)
	}
	return invalid("%s: shape %v with strides %v does not lie in a slice of %d elements", name, shape[:nDims],
		stride[:nDims], size)
}
