package oscar

// #include "shim.h"
import "C"

import "errors"

// Backend is one way of computing.
type Backend struct {
	Name      string // "reference", "scalar", "avx2", "avx512", ...
	Available bool   // it can run on this machine
	Selected  bool   // what a cache created now would use
	Reason    string // why it is not available; empty where it is
}

// Backends describes all that the library was built with. The environment variable OSCAR_BACKEND forces one by name.
//
// Errors: ErrBackend (OSCAR_BACKEND names none that can run here).
func Backends() ([]Backend, error) {
	var found []Backend
	for i := C.uint32_t(0); ; i++ {
		var raw C.oscar_backend_info
		err := check(C.oscar_go_backend_get(i, &raw))
		if errors.Is(err, ErrNotFound) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		found = append(found, Backend{
			Name:      C.GoString(&raw.name[0]),
			Available: raw.available != 0,
			Selected:  raw.selected != 0,
			Reason:    C.GoString(&raw.reason[0]),
		})
	}
}

// Version is the version "major.minor.patch" of the library that was loaded.
func Version() string { return C.GoString(C.oscar_version()) }

// ABIVersion is the number of the C ABI of the library that was loaded.
func ABIVersion() int { return int(C.oscar_abi_version()) }
