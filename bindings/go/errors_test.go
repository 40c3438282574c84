package oscar_test

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	oscar "github.com/liboscar/liboscar/bindings/go"
	"github.com/liboscar/liboscar/bindings/go/internal/callocator"
)

func TestStatusesHaveTheNamesOfTheLibrary(t *testing.T) {
	for kind, name := range map[oscar.Status]string{
		oscar.ErrInvalid: "OSCAR_E_INVALID", oscar.ErrNoMemory: "OSCAR_E_NO_MEMORY", oscar.ErrNoSpace: "OSCAR_E_NO_SPACE",
		oscar.ErrNotFound: "OSCAR_E_NOT_FOUND", oscar.ErrState: "OSCAR_E_STATE",
		oscar.ErrUnsupported: "OSCAR_E_UNSUPPORTED", oscar.ErrCorrupt: "OSCAR_E_CORRUPT",
		oscar.ErrBackend: "OSCAR_E_BACKEND", oscar.ErrInternal: "OSCAR_E_INTERNAL", oscar.ErrDevice: "OSCAR_E_DEVICE",
		-1000: "OSCAR_E_UNKNOWN",
	} {
		if kind.Name() != name || kind.Error() != name {
			t.Errorf("status %d is %q, wanted %q", int32(kind), kind.Name(), name)
		}
	}
	if text := (&oscar.Error{Status: oscar.ErrNoMemory}).Error(); text != "OSCAR_E_NO_MEMORY" {
		t.Errorf("an error without a text says %q", text)
	}
}

func TestErrorsTellWhatWasGotAndWanted(t *testing.T) {
	cache := newCache(t, newConfig(t, "exact"))
	x := randomTokens(21, 3)
	step, err := cache.Step(oscar.StepEntry{Sequence: open(t, cache), NNew: 3})
	must(t, err)
	out := make([]float32, len(x.q))
	args := x.args(out)

	wrong := args
	wrong.K = oscar.F32(x.k, 3, nKVHeads*headDim/32, 32)
	err = step.Layer(wrong)
	wants(t, err, oscar.ErrInvalid)
	if !strings.Contains(err.Error(), "k: shape[1] is 4, wanted 2") {
		t.Fatalf("the text is %q", err)
	}
	var status oscar.Status
	if !errors.As(err, &status) || status != oscar.ErrInvalid {
		t.Fatalf("errors.As gives %v", status)
	}
	for name, change := range map[string]func(a *oscar.LayerArgs){
		"a slice that is too short":     func(a *oscar.LayerArgs) { a.Out = oscar.F32(out[1:], 3, nQHeads, headDim) },
		"strides past the slice":        func(a *oscar.LayerArgs) { a.V = a.V.Strided(nKVHeads*headDim+1, headDim, 1) },
		"strides that overflow":         func(a *oscar.LayerArgs) { a.V = a.V.Strided(1<<62, headDim, 1) },
		"a shape that overflows":        func(a *oscar.LayerArgs) { a.V = oscar.F32(x.v, 1<<32, 1<<32, 1<<32, 1<<32) },
		"negative strides":              func(a *oscar.LayerArgs) { a.V = a.V.Strided(-nKVHeads*headDim, headDim, 1) },
		"a negative shape":              func(a *oscar.LayerArgs) { a.V = oscar.F32(x.v, -3, nKVHeads, headDim) },
		"five dimensions":               func(a *oscar.LayerArgs) { a.V = oscar.F32(x.v, 1, 1, 3, nKVHeads, headDim) },
		"too few strides":               func(a *oscar.LayerArgs) { a.V = a.V.Strided(1) },
		"no keys":                       func(a *oscar.LayerArgs) { a.K = oscar.Tensor{} },
		"a layer that is none":          func(a *oscar.LayerArgs) { a.Layer = 1 },
		"a negative layer":              func(a *oscar.LayerArgs) { a.Layer = -1 },
		"another type of the elements":  func(a *oscar.LayerArgs) { a.LSE = oscar.BF16(make([]uint16, 12), 3, nQHeads) },
		"memory of a device":            func(a *oscar.LayerArgs) { a.Q = onDevice(&out[0], 3, nQHeads, headDim) },
		"elements of outputs that meet": func(a *oscar.LayerArgs) { a.Out = a.Out.Strided(0, headDim, 1) },
		"data that is not aligned":      func(a *oscar.LayerArgs) { a.Q = misaligned(x.q, 3, nQHeads, headDim) },
	} {
		wrong := args
		change(&wrong)
		t.Run(name, func(t *testing.T) { wants(t, step.Layer(wrong), oscar.ErrInvalid) })
	}
	step.Stream = 2 // the CPU has none, and small numbers must not upset Go's stacks
	wants(t, step.Layer(args), oscar.ErrInvalid)
	step.Stream = 0
	must(t, step.Layer(args))
}

func onDevice(data *float32, shape ...int) oscar.Tensor {
	return oscar.FromPointer(unsafe.Pointer(data), oscar.F32Type, oscar.DeviceCUDA, 0, shape...)
}

func misaligned(data []float32, shape ...int) oscar.Tensor {
	return oscar.FromPointer(unsafe.Add(unsafe.Pointer(&data[0]), 2), oscar.F32Type, oscar.DeviceCPU, 0, shape...)
}

func TestEveryKindOfErrorThatAUserCanMeet(t *testing.T) {
	config := newConfig(t, "2bit")
	config.MaxSequences, config.MaxOpenSteps = 2, 1
	cache := newCache(t, config)
	one, other := open(t, cache), open(t, cache)
	_, err := cache.Open()
	wants(t, err, oscar.ErrNoSpace)

	step, err := cache.Step(oscar.StepEntry{Sequence: one, NNew: 1})
	must(t, err)
	wants(t, one.Close(), oscar.ErrState)
	wants(t, one.Truncate(0), oscar.ErrState)
	_, err = cache.Step(oscar.StepEntry{Sequence: other, NNew: 1})
	wants(t, err, oscar.ErrState)
	must(t, step.Abort())

	must(t, other.Close())
	wants(t, other.Close(), oscar.ErrNotFound)
	_, err = other.Length()
	wants(t, err, oscar.ErrNotFound)
	_, err = other.Fork(0)
	wants(t, err, oscar.ErrNotFound)
	_, err = cache.Step(oscar.StepEntry{Sequence: other, NNew: 1})
	wants(t, err, oscar.ErrNotFound)

	for _, entry := range []oscar.StepEntry{{Sequence: one}, {Sequence: one, NNew: -1}, {Sequence: one, NNew: 1, NDraft: 2},
		{Sequence: one, NNew: 1, NDraft: -1}, {Sequence: one, NNew: 1 << 40}} {
		_, err = cache.Step(entry)
		wants(t, err, oscar.ErrInvalid)
	}
	_, err = cache.Step()
	wants(t, err, oscar.ErrInvalid)
	entries := []oscar.StepEntry{{Sequence: one, NNew: 1}}
	_, err = cache.Begin(oscar.StepArgs{Entries: entries, IsReplay: true}) // the CPU has no graphs
	if wants(t, err, oscar.ErrInvalid); !strings.Contains(err.Error(), "is_replay is 1") {
		t.Fatalf("the text is %q", err)
	}
	_, err = cache.Begin(oscar.StepArgs{Entries: entries, Stream: 1})
	wants(t, err, oscar.ErrInvalid)
	_, err = cache.Step(oscar.StepEntry{Sequence: open(t, newCache(t, config)), NNew: 1})
	wants(t, err, oscar.ErrInvalid)

	config.CapacityBytes = 1 << 20 // less than a sequence of MaxTokens takes
	small := newCache(t, config)
	sequence := open(t, small)
	for i := 0; err == nil || !errors.Is(err, oscar.ErrNoSpace); i++ {
		if i > config.MaxTokens/64 {
			t.Fatal("a cache of 1 MiB takes everything")
		}
		x := randomTokens(22, 64)
		var step *oscar.Step
		if step, err = small.Step(oscar.StepEntry{Sequence: sequence, NNew: 64}); err == nil {
			must(t, step.Append(oscar.AppendArgs{K: x.args(nil).K, V: x.args(nil).V}))
			must(t, step.End())
		}
	}
	wants(t, err, oscar.ErrNoSpace)
}

func TestErrorsOfCreation(t *testing.T) {
	_, err := oscar.NewConfig("1bit")
	wants(t, err, oscar.ErrInvalid)
	if !strings.Contains(err.Error(), "2bit-plain") {
		t.Fatalf("the text is %q", err)
	}
	for name, change := range map[string]func(c *oscar.Config){
		"no layers":              func(c *oscar.Config) { c.NLayers = 0 },
		"a negative number":      func(c *oscar.Config) { c.NRecent = -2 },
		"a number of 33 bits":    func(c *oscar.Config) { c.NRecent = 1 << 32 },
		"a negative size":        func(c *oscar.Config) { c.CapacityBytes = -1 },
		"a storage that is none": func(c *oscar.Config) { c.Storage = 7 },
		"too few layer entries":  func(c *oscar.Config) { c.NLayers = 2; c.Layers = []oscar.LayerConfig{oscar.NewLayerConfig()} },
		"half an allocator":      func(c *oscar.Config) { c.Allocator.Allocate, _ = callocator.Functions() },
	} {
		config := newConfig(t, "2bit")
		change(config)
		t.Run(name, func(t *testing.T) {
			_, err := oscar.NewCache(config)
			wants(t, err, oscar.ErrInvalid)
			_, err = oscar.Check(config, 1)
			wants(t, err, oscar.ErrInvalid)
		})
	}
	config := newConfig(t, "2bit")
	config.KeyDim = 72
	_, err = oscar.NewCache(config)
	wants(t, err, oscar.ErrUnsupported)
	report, err := oscar.Check(config, 100)
	must(t, err)
	if report.Served || !strings.Contains(report.Reason, "72") {
		t.Fatalf("the report is %+v", report)
	}
	_, err = oscar.Check(newConfig(t, "2bit"), -1)
	wants(t, err, oscar.ErrInvalid)
	t.Setenv("OSCAR_BACKEND", "abacus")
	_, err = oscar.NewCache(newConfig(t, "2bit"))
	wants(t, err, oscar.ErrBackend)
}

func TestUseAfterCloseIsAnError(t *testing.T) {
	config := newConfig(t, "2bit")
	cache, err := oscar.NewCache(config)
	must(t, err)
	sequence := open(t, cache)
	x := randomTokens(23, 1)
	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 1})
	must(t, err)
	must(t, cache.Close())
	must(t, cache.Close())
	out := make([]float32, len(x.q))
	args := x.args(out)
	for name, call := range map[string]func() error{
		"Open":     func() error { _, err := cache.Open(); return err },
		"Step":     func() error { _, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 1}); return err },
		"Stats":    func() error { _, err := cache.Stats(); return err },
		"Layers":   func() error { _, err := cache.LayerStats(0); return err },
		"Capacity": func() error { _, err := cache.Capacity(); return err },
		"Length":   func() error { _, err := sequence.Length(); return err },
		"Fork":     func() error { _, err := sequence.Fork(0); return err },
		"Truncate": func() error { return sequence.Truncate(0) },
		"Accept":   func() error { return sequence.Accept(0) },
		"Close":    func() error { return sequence.Close() },
		"Read":     func() error { return sequence.Read(0, 0, 0, 1, oscar.F32(out, 1, headDim), oscar.Tensor{}) },
		"Scores":   func() error { return sequence.Scores(0, 0, 0, 1, oscar.F32(out[:1])) },
		"Append":   func() error { return step.Append(oscar.AppendArgs{K: args.K, V: args.V}) },
		"Attend":   func() error { return step.Attend(oscar.AttendArgs{Q: args.Q, Out: args.Out}) },
		"Layer":    func() error { return step.Layer(args) },
		"End":      func() error { return step.End() },
		"Abort":    func() error { return step.Abort() },
	} {
		t.Run(name, func(t *testing.T) { wants(t, call(), oscar.ErrState) })
	}

	calibration, err := oscar.DataFreeCalibration(config)
	must(t, err)
	must(t, calibration.Close())
	must(t, calibration.Close())
	_, err = calibration.Save()
	wants(t, err, oscar.ErrState)
	_, err = calibration.Info()
	wants(t, err, oscar.ErrState)
	config.Calibration = calibration
	_, err = oscar.NewCache(config)
	wants(t, err, oscar.ErrState)
	_, err = oscar.Check(config, 1)
	wants(t, err, oscar.ErrState)
}

func TestTextsBelongToTheCallThatFailed(t *testing.T) {
	// Goroutines change threads between calls; each must get the text of its own.
	cache := newCache(t, newConfig(t, "exact"))
	sequence := open(t, cache)
	var group sync.WaitGroup
	for layer := 1; layer <= 8; layer++ {
		wanted := "layer is " + string(rune('0'+layer))
		group.Add(1)
		go func() {
			defer group.Done()
			for range 500 {
				err := sequence.Read(layer, 0, 0, 0, oscar.Tensor{}, oscar.Tensor{})
				if err == nil || !strings.Contains(err.Error(), wanted) {
					t.Errorf("the text is %q, wanted %q", err, wanted)
					return
				}
				runtime.Gosched()
			}
		}()
	}
	group.Wait()
}
