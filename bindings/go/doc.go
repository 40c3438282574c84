// Package oscar is a language model's key/value cache at about two bits per element, with attention computed straight
// from its bits: the Go binding of liboscar.
//
// A [Config] describes a model's geometry and a memory budget, a [Cache] holds the keys and values of its sequences, and
// a forward pass is a [Step]: a transaction that reserves all memory of the pass or fails whole.
//
//	config, err := oscar.NewConfig("2bit")           // then set NLayers, NQHeads, NKVHeads, KeyDim
//	cache, err := oscar.NewCache(config)
//	sequence, err := cache.Open()
//	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: n})
//	for layer := range config.NLayers {
//		err = step.Layer(oscar.LayerArgs{Layer: layer, K: k, V: v, Q: q, Out: out})
//	}
//	err = step.End()
//
// # Tensors
//
// A [Tensor] borrows a Go slice, or memory of C or of a device, for the calls it is given to; nothing is copied or
// converted, and the library keeps no pointer after a call. A slice that is too short for its shape is an error, never
// an access outside of it.
//
// # Errors
//
// Every error is an [*Error]: its text says what was got and what was wanted, and errors.Is tells its kind, e.g.
// errors.Is(err, oscar.ErrNoSpace). A failed call leaves the cache as it was.
//
// # Goroutines
//
// A cache may be used from any number of goroutines. Calls that only look (Stats, Capacity, Length, Read, Scores) run
// beside one another, every other call waits until it has the cache to itself. Calibrations may be shared by caches and
// goroutines. A Config, a Step and the memory of a tensor are the caller's to guard, as any Go value is.
//
// # Memory
//
// Close frees a cache or a calibration at once. One that is forgotten is freed some time after the garbage collector
// finds it out of reach; a [Sequence] and a [Step] keep their cache in reach, and stay open until they, or it, are closed.
package oscar

// #cgo pkg-config: oscar
import "C"
