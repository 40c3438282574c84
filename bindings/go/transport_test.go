package oscar_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

func filled(t *testing.T, cache *oscar.Cache, seed uint64, n int) *oscar.Sequence {
	t.Helper()
	sequence := open(t, cache)
	run(t, cache, sequence, randomTokens(seed, n), 50)
	return sequence
}

func exported(t *testing.T, sequence *oscar.Sequence, nTokens int) []byte {
	t.Helper()
	var file bytes.Buffer
	size, err := sequence.Export(&file, nTokens)
	must(t, err)
	predicted, err := sequence.ExportedBytes(nTokens)
	must(t, err)
	if size != int64(file.Len()) || predicted != size {
		t.Fatalf("%d bytes were written, Export says %d and ExportedBytes %d", file.Len(), size, predicted)
	}
	return file.Bytes()
}

func TestASequenceGoesOnElsewhereBitForBit(t *testing.T) {
	config := newConfig(t, "2bit")
	here := newCache(t, config)
	config.CapacityBytes = 8 << 20
	there := newCache(t, config)
	stays := filled(t, here, 1, 400)
	goes, err := there.Import(bytes.NewReader(exported(t, stays, 0)))
	must(t, err)
	length(t, goes, 400)
	more := randomTokens(2, 150)
	a, b := run(t, here, stays, more, 50), run(t, there, goes, more, 50)
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("element %d is %v here and %v there", i, a[i], b[i])
		}
	}
	if !bytes.Equal(exported(t, stays, 0), exported(t, goes, 0)) {
		t.Fatal("the exports differ")
	}
	fork, err := stays.Fork(150)
	must(t, err)
	if !bytes.Equal(exported(t, stays, 150), exported(t, fork, 0)) {
		t.Fatal("a prefix is not the fork of that length")
	}
	_, err = stays.Export(io.Discard, 551)
	wants(t, err, oscar.ErrInvalid)
	_, err = stays.Export(io.Discard, -1)
	wants(t, err, oscar.ErrInvalid)
}

func TestWhatDoesNotFitIsRefusedWithTheReason(t *testing.T) {
	config := newConfig(t, "2bit")
	cache := newCache(t, config)
	data := exported(t, filled(t, cache, 3, 200), 0)
	before, err := cache.Stats()
	must(t, err)
	damaged := bytes.Clone(data)
	damaged[len(data)/2] ^= 1
	_, err = cache.Import(bytes.NewReader(damaged))
	wants(t, err, oscar.ErrCorrupt)
	_, err = cache.Import(bytes.NewReader(data[:len(data)-1]))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("a file that is cut off: %v", err)
	}
	after, err := cache.Stats()
	must(t, err)
	if before != after {
		t.Fatalf("%+v became %+v", before, after)
	}
	identity, err := oscar.IdentityCalibration(config)
	must(t, err)
	config.Calibration = identity
	_, err = newCache(t, config).Import(bytes.NewReader(data))
	wants(t, err, oscar.ErrInvalid)
	if !strings.Contains(err.Error(), "fingerprint") {
		t.Fatal(err)
	}
}

// breaking fails, or panics, at its n-th use.
type breaking struct {
	left   int
	panics bool
	bytes  *bytes.Reader
}

var errBroken = errors.New("no more")

func (b *breaking) count() error {
	if b.left--; b.left >= 0 {
		return nil
	}
	if b.panics {
		panic("in the stream")
	}
	return errBroken
}

func (b *breaking) Write(piece []byte) (int, error) { return len(piece), b.count() }
func (b *breaking) Read(piece []byte) (int, error) {
	if err := b.count(); err != nil {
		return 0, err
	}
	return b.bytes.Read(piece)
}

func TestErrorsAndPanicsOfAStreamComeThrough(t *testing.T) {
	cache := newCache(t, newConfig(t, "2bit"))
	sequence := filled(t, cache, 4, 300)
	data := exported(t, sequence, 0)
	panics := func(call func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Fatal("the panic is lost")
			}
		}()
		call()
	}
	for _, left := range []int{0, 1, 5} {
		stream := func(panics bool) *breaking { return &breaking{left, panics, bytes.NewReader(data)} }
		if _, err := sequence.Export(stream(false), 0); !errors.Is(err, errBroken) {
			t.Fatalf("Export: %v", err)
		}
		if _, err := cache.Import(stream(false)); !errors.Is(err, errBroken) {
			t.Fatalf("Import: %v", err)
		}
		panics(func() { _, _ = sequence.Export(stream(true), 0) })
		panics(func() { _, _ = cache.Import(stream(true)) })
	}
	stats, err := cache.Stats()
	must(t, err)
	if stats.NSequences != 1 {
		t.Fatalf("%d sequences are open", stats.NSequences)
	}
}

func TestFilesAreWhole(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "a.oscar")
	cache := newCache(t, newConfig(t, "2bit"))
	sequence := filled(t, cache, 5, 300)
	size, err := sequence.Save(path, 0)
	must(t, err)
	data, err := os.ReadFile(path)
	must(t, err)
	if size != int64(len(data)) || !bytes.Equal(data, exported(t, sequence, 0)) {
		t.Fatalf("the file of %d bytes is not the export; Save says %d", len(data), size)
	}
	again, err := cache.Load(path)
	must(t, err)
	length(t, again, 300)

	must(t, sequence.Close())
	_, err = sequence.Save(path, 0)
	wants(t, err, oscar.ErrNotFound)
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Fatalf("%v are left behind (%v)", left, err)
	}
	must(t, os.WriteFile(path, append(data, 'x'), 0o600))
	_, err = cache.Load(path)
	wants(t, err, oscar.ErrCorrupt)
}
