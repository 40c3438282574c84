package oscar_test

import (
	"reflect"
	"testing"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

func TestProfilesDiffer(t *testing.T) {
	bits := map[string]float64{}
	for _, profile := range []string{"", "2bit", "2bit-plain", "k3v2", "3bit", "4bit", "8bit", "exact"} {
		config := newConfig(t, profile)
		config.NLayers, config.KeyDim, config.MaxTokens = 1, 128, 1<<17
		config.CapacityBytes = 1 << 28
		report, err := oscar.Check(config, 100000)
		must(t, err)
		if !report.Served {
			t.Fatalf("%q: %s", profile, report.Reason)
		}
		bits[profile] = report.BitsPerElement
	}
	if bits[""] != bits["2bit"] || bits["2bit-plain"] >= bits["2bit"] || bits["2bit"] >= bits["k3v2"] ||
		bits["k3v2"] >= bits["3bit"] || bits["3bit"] >= bits["4bit"] || bits["4bit"] >= 5 || bits["8bit"] <= 8 ||
		bits["8bit"] >= 9 || bits["exact"] < 16 {
		t.Fatalf("bits per element: %v", bits)
	}
}

// Every numeric field, changed to a number that it may have, arrives: the library answers differently, or at least
// refuses one that it may not have.
func TestEveryFieldOfAConfigurationArrives(t *testing.T) {
	refused := map[string]int64{
		"NLayers": 5000, "NQHeads": 3, "NKVHeads": 3, "KeyDim": 1000, "ValueDim": 1000, "Storage": 9, "NRefined": 129,
		"RefinedKeyBits": 5, "RefinedValueBits": 5, "Writer": 9, "NRecent": 0, "MaxRollback": 1000, "MaxSequences": 0,
		"MaxOpenSteps": 0, "MaxStepTokens": 0, "MaxTokens": 0, "CapacityBytes": 1, "DeviceType": 9, "DeviceID": 5,
		"NThreads": 5000,
	}
	fields := reflect.TypeFor[oscar.Config]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		value, isThere := refused[name]
		if !isThere {
			switch name {
			case "Window", "NSink", "BatchInvariant", "Layers", "Calibration", "SelfCalibrate", "Allocator", "DeviceAllocator":
				continue // have their own tests
			}
			t.Errorf("no test of %s", name)
			continue
		}
		config := newConfig(t, "2bit")
		reflect.ValueOf(config).Elem().Field(i).SetInt(value)
		if report, err := oscar.Check(config, 100); err == nil && report.Served {
			t.Errorf("%s = %d is served", name, value)
		}
	}
}

func TestWindowAndSinksArrive(t *testing.T) {
	cost := func(change func(c *oscar.Config)) int {
		config := newConfig(t, "2bit")
		change(config)
		report, err := oscar.Check(config, 2000)
		must(t, err)
		if !report.Served {
			t.Fatal(report.Reason)
		}
		return report.BytesSequences
	}
	plain := cost(func(c *oscar.Config) {})
	if windowed := cost(func(c *oscar.Config) { c.Window = 64 }); windowed >= plain {
		t.Errorf("a window of 64 costs %d bytes, none %d", windowed, plain)
	}
	if sinks := cost(func(c *oscar.Config) { c.NSink = 512 }); sinks <= plain {
		t.Errorf("512 sinks cost %d bytes, 4 cost %d", sinks, plain)
	}
	if same := cost(func(c *oscar.Config) { c.BatchInvariant = true }); same != plain {
		t.Errorf("batch invariance costs %d bytes, wanted %d", same, plain)
	}
}

func TestSlidingWindowHidesOldTokens(t *testing.T) {
	config := newConfig(t, "exact")
	config.Window = 20
	cache := newCache(t, config)
	x := randomTokens(31, 90)
	out := run(t, cache, open(t, cache), x, 7)
	wanted, _ := attention(x.q, fromBF16(toBF16(x.k)), fromBF16(toBF16(x.v)), options{
		visible: func(query, token int) bool { return token <= query && query-token < 20 },
	})
	near(t, out, wanted, exactTolerance)
}

func TestLayersOfDifferentGeometry(t *testing.T) {
	config := newConfig(t, "2bit")
	config.NLayers = 3
	config.Layers = []oscar.LayerConfig{oscar.NewLayerConfig(), oscar.NewLayerConfig(), oscar.NewLayerConfig()}
	config.Layers[1].Storage, config.Layers[1].KeyDim, config.Layers[1].ValueDim = oscar.StorageExact, 128, 64
	config.Layers[2].KVSource = 0
	cache := newCache(t, config)
	sequence := open(t, cache)
	x := randomTokens(32, 200)
	out := make([]float32, len(x.q))
	wide := make([]float32, x.n*nQHeads*128)
	for i := range wide {
		wide[i] = float32(i%7) - 3
	}
	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: x.n})
	must(t, err)
	args := x.args(out)
	must(t, step.Layer(args))
	first := append([]float32{}, out...)
	args.Layer = 1
	wants(t, step.Layer(args), oscar.ErrInvalid) // this layer's heads are wider
	args.K = oscar.F32(wide, x.n, nKVHeads, 128)
	args.Q = oscar.F32(wide, x.n, nQHeads, 128)
	must(t, step.Layer(args))
	wants(t, step.Append(oscar.AppendArgs{Layer: 2, K: x.args(nil).K, V: x.args(nil).V}), oscar.ErrInvalid)
	must(t, step.Attend(oscar.AttendArgs{Layer: 2, Q: x.args(nil).Q, Out: args.Out}))
	must(t, step.End())
	equal(t, out, first) // it looks at layer 0
}

func TestBackends(t *testing.T) {
	backends, err := oscar.Backends()
	must(t, err)
	selected := 0
	for _, backend := range backends {
		if backend.Name == "" || backend.Available != (backend.Reason == "") || (backend.Selected && !backend.Available) {
			t.Errorf("%+v", backend)
		}
		if backend.Selected {
			selected++
		}
	}
	if selected != 1 {
		t.Errorf("%d backends are selected", selected)
	}
	if oscar.ABIVersion() != oscar.HeaderABIVersion || oscar.Version() == "" {
		t.Errorf("version %s, ABI %d", oscar.Version(), oscar.ABIVersion())
	}
}
