package oscar

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Status is a status of the C ABI, negative. The constants ErrInvalid, ErrNoMemory, ... are the ones that this version
// knows; a newer library may have others. A Status is an error, so that errors.Is(err, ErrNoSpace) asks for a kind, and
// errors.As tells it:
//
//	var status oscar.Status
//	if errors.As(err, &status) { ... }
type Status int32

// Name is the status's name in the C ABI, e.g. "OSCAR_E_NO_SPACE"; "OSCAR_E_UNKNOWN" for a number that the library does
// not know.
func (s Status) Name() string { return C.GoString(C.oscar_status_name(C.oscar_status(s))) }

// Error makes a status an error of its own: the sentinel of its kind.
func (s Status) Error() string { return s.Name() }

// Error is what every failing call returns. errors.Is and errors.As see its Status.
type Error struct {
	Status Status
	Text   string // what was got and what was wanted
}

// Error is the text; the status's name where there is none.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Status.Name()
	}
	return e.Text
}

// Unwrap gives the status, so that errors.Is(err, ErrInvalid) and its like work.
func (e *Error) Unwrap() error { return e.Status }

// check makes the outcome of a call of the C ABI an error. The text was fetched by that very call.
func check(r C.oscar_go_result) error {
	if r.status == C.OSCAR_OK {
		return nil
	}
	e := &Error{Status: Status(r.status)}
	if r.text != nil {
		e.Text = C.GoString(r.text)
		C.free(unsafe.Pointer(r.text))
	}
	return e
}

func failure(status Status, format string, values ...any) error {
	return &Error{status, "oscar: " + fmt.Sprintf(format, values...)}
}

func invalid(format string, values ...any) error { return failure(ErrInvalid, format, values...) }

// closed is the error of using what was closed.
func closed(what string) error { return failure(ErrState, "the %s is closed", what) }

// index makes an argument a uint32_t of the C ABI.
func index(name string, value int) (C.uint32_t, error) {
	if value < 0 || value >= 1<<32-1 {
		return 0, invalid("%s is %d, wanted: 0 .. 2^32 - 2", name, value)
	}
	return C.uint32_t(value), nil
}

// count makes an argument a uint64_t of the C ABI.
func count(name string, value int) (C.uint64_t, error) {
	if value < 0 {
		return 0, invalid("%s is %d, wanted: 0 or more", name, value)
	}
	return C.uint64_t(value), nil
}
