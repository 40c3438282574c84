package oscar

// #include "shim.h"
import "C"

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/cgo"
	"unsafe"
)

// end is one end of a stream while the library calls it: what went wrong there is kept, and told when the call returns.
type end struct {
	writer io.Writer
	reader io.Reader
	err    error
	panic  any
}

func (e *end) run(call func() error) (status C.oscar_status) {
	status = C.OSCAR_E_STATE
	defer func() { e.panic = recover() }()
	if e.err = call(); e.err == nil {
		status = C.OSCAR_OK
	}
	return status
}

// finish is the outcome of the call: what its stream said comes first.
func (e *end) finish(err error) error {
	if e.panic != nil {
		panic(e.panic)
	}
	if e.err != nil {
		return e.err
	}
	return err
}

//export oscarGoWrite
func oscarGoWrite(handle C.uintptr_t, bytes unsafe.Pointer, size C.uint64_t) C.oscar_status {
	e := cgo.Handle(handle).Value().(*end)
	return e.run(func() error {
		_, err := e.writer.Write(unsafe.Slice((*byte)(bytes), int(size)))
		return err
	})
}

//export oscarGoRead
func oscarGoRead(handle C.uintptr_t, bytes unsafe.Pointer, size C.uint64_t) C.oscar_status {
	e := cgo.Handle(handle).Value().(*end)
	return e.run(func() error {
		_, err := io.ReadFull(e.reader, unsafe.Slice((*byte)(bytes), int(size)))
		return err
	})
}

// Export writes the first nTokens tokens of the sequence (0: all) to w, piece by piece, as [Cache.Import] reads them, and
// gives the number of bytes. The bytes say of which geometry, profile and calibration they are; they are as secret as the
// text. w must not use the cache.
//
// Errors: w's; ErrNotFound; ErrState (in an open step, the cache is collecting, or a sliding window has dropped tokens that
// a sequence of nTokens would see; closed); ErrInvalid (nTokens > length); ErrUnsupported (a cache on a device).
func (s *Sequence) Export(w io.Writer, nTokens int) (int64, error) {
	e := end{writer: w}
	handle := cgo.NewHandle(&e)
	defer handle.Delete()
	size, err := s.export(nTokens, C.uintptr_t(handle))
	return size, e.finish(err)
}

// ExportedBytes is how many bytes Export would write.
//
// Errors: as for Export.
func (s *Sequence) ExportedBytes(nTokens int) (int64, error) { return s.export(nTokens, 0) }

func (s *Sequence) export(nTokens int, handle C.uintptr_t) (int64, error) {
	n, err := count("nTokens", nTokens)
	if err != nil {
		return 0, err
	}
	if err := s.cache.share(); err != nil {
		return 0, err
	}
	defer s.cache.mu.RUnlock()
	r := C.oscar_go_seq_export(s.cache.handle, s.id, n, handle)
	return int64(r.value), check(r)
}

// Import opens a sequence from what [Sequence.Export] wrote, which then goes on as that one would have. This cache may have
// another capacity and other limits; layers, windows and calibration must be the same. It reads the sequence's bytes and
// none behind them. r must not use the cache.
//
// Errors, which change nothing: r's (io.ErrUnexpectedEOF and io.EOF where the bytes end too early); ErrCorrupt (no sequence,
// of another version, damaged); ErrInvalid (of another geometry, profile or calibration: the text says which); ErrNoSpace;
// ErrState (the cache is collecting; closed); ErrUnsupported (it is on a device).
func (c *Cache) Import(r io.Reader) (*Sequence, error) {
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	e := end{reader: r}
	handle := cgo.NewHandle(&e)
	defer handle.Delete()
	result := C.oscar_go_seq_import(c.handle, C.uintptr_t(handle))
	if err := e.finish(check(result)); err != nil {
		return nil, err
	}
	return &Sequence{c, result.value}, nil
}

// Save writes a file for [Cache.Load], whole or not at all: whenever the process is killed, path is the old file or the new
// one. (It may leave a file of another name behind, which ends in ".part".) It gives the file's size.
//
// Errors: as for Export, and those of the file system.
func (s *Sequence) Save(path string, nTokens int) (size int64, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	if size, err = s.Export(file, nTokens); err != nil {
		return 0, err
	}
	if err = file.Sync(); err != nil {
		return 0, err
	}
	if err = file.Close(); err != nil {
		return 0, err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return 0, err
	}
	return size, syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// Load opens a sequence from a file of [Sequence.Save].
//
// Errors: as for Import; ErrCorrupt where the file has bytes behind the sequence; those of the file system.
func (c *Cache) Load(path string) (*Sequence, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sequence, err := c.Import(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if n, _ := file.Read(make([]byte, 1)); n > 0 {
		if err := sequence.Close(); err != nil {
			return nil, err
		}
		return nil, failure(ErrCorrupt, "%s has bytes behind the sequence", path)
	}
	return sequence, nil
}
