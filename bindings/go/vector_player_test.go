package oscar_test

// What the lines of a file of golden vectors do: one function for every directive.

import (
	"encoding/hex"
	"os"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

// player knows what the labels of a file stand for, and the words of the line that it plays.
type player struct {
	words     []string
	cache     *oscar.Cache
	layers    []geometry
	attended  geometry // of the layer of the latest attention
	next      nextConfig
	sequences map[int]*oscar.Sequence
	steps     map[int]*oscar.Step
	out, lse  []float32
	tolerance float64
}

func (p *player) sequence() *oscar.Sequence { return p.sequences[p.number()] }

func (p *player) step() *oscar.Step { return p.steps[p.number()] }

// geometry is zero for a layer that is not there, which the library is to say.
func (p *player) geometry(layer int) geometry {
	if layer >= len(p.layers) {
		return geometry{}
	}
	return p.layers[layer]
}

// What a line may begin with, and whether results stand in it.
var directives = map[string]struct {
	play       func(p *player) error
	hasResults bool
}{
	"tolerance": {func(p *player) error { p.tolerance = p.real(); return nil }, false},
	"status":    {(*player).status, true},
	"cache":     {(*player).newCache, false},
	"backend":   {(*player).backend, false},
	"load": {func(p *player) error {
		data, err := hex.DecodeString(p.word())
		if err != nil {
			bad("%v", err)
		}
		_, err = oscar.LoadCalibration(data)
		return err
	}, false},
	"freeze": {func(p *player) error { _, err := p.cache.Freeze(); return err }, false},
	"open": {func(p *player) (err error) {
		label := p.number()
		sequence, err := p.cache.Open()
		p.sequences[label] = sequence
		return err
	}, false},
	"close":    {func(p *player) error { return p.sequence().Close() }, false},
	"fork":     {(*player).fork, false},
	"truncate": {func(p *player) error { return p.sequence().Truncate(p.number()) }, false},
	"accept":   {(*player).accept, false},
	"length": {func(p *player) error {
		n, err := p.sequence().Length()
		if err == nil {
			p.compareNumber("the length", n)
		}
		return err
	}, true},
	"begin":  {(*player).begin, false},
	"append": {func(p *player) error { return p.compute(true, false) }, false},
	"attend": {func(p *player) error { return p.compute(false, true) }, false},
	"layer":  {func(p *player) error { return p.compute(true, true) }, false},
	"out": {func(p *player) error {
		row, head, dim := p.number(), p.number(), p.attended.valueDim
		first := (row*p.attended.nQHeads + head) * dim
		p.compare(p.out[first : first+dim])
		return nil
	}, true},
	"lse": {func(p *player) error {
		first := p.number() * p.attended.nQHeads
		p.compare(p.lse[first : first+p.attended.nQHeads])
		return nil
	}, true},
	"end":            {func(p *player) error { return p.step().End() }, false},
	"abort":          {func(p *player) error { return p.step().Abort() }, false},
	"key":            {func(p *player) error { return p.read(true) }, true},
	"value":          {func(p *player) error { return p.read(false) }, true},
	"layer_config":   {(*player).layerConfig, false},
	"self_calibrate": {func(p *player) error { p.next.selfCalibrates = true; return nil }, false},
	"calibrator":     {(*player).newCalibrator, false},
	"feed":           {(*player).feed, false},
	"finish": {func(p *player) (err error) {
		p.next.calibration, err = p.next.calibrator.Finish()
		return err
	}, false},
	"merge":  {(*player).merge, true},
	"scores": {(*player).scores, true},
	"stats":  {(*player).stats, true},
}

func (p *player) status() error {
	known := map[string]oscar.Status{"OSCAR_OK": 0, "OSCAR_E_INVALID": oscar.ErrInvalid,
		"OSCAR_E_NO_MEMORY": oscar.ErrNoMemory, "OSCAR_E_NO_SPACE": oscar.ErrNoSpace, "OSCAR_E_NOT_FOUND": oscar.ErrNotFound,
		"OSCAR_E_STATE": oscar.ErrState, "OSCAR_E_UNSUPPORTED": oscar.ErrUnsupported, "OSCAR_E_CORRUPT": oscar.ErrCorrupt,
		"OSCAR_E_BACKEND": oscar.ErrBackend, "OSCAR_E_INTERNAL": oscar.ErrInternal, "OSCAR_E_DEVICE": oscar.ErrDevice}
	name := p.word()
	status, found := known[name]
	if !found || status.Name() != name {
		bad("%s is %d, which the library calls %s", name, int(status), status.Name())
	}
	p.compareNumber(name, int(status))
	return nil
}

func (p *player) newCache() error {
	if p.cache != nil {
		if err := p.cache.Close(); err != nil {
			bad("%v", err)
		}
	}
	p.cache, p.sequences, p.steps = nil, map[int]*oscar.Sequence{}, map[int]*oscar.Step{}
	config, layers, err := p.readConfig()
	if err != nil {
		return err
	}
	p.layers = layers
	p.cache, err = oscar.NewCache(config)
	return err
}

func (p *player) backend() error {
	before, was := os.LookupEnv("OSCAR_BACKEND")
	defer func() {
		os.Unsetenv("OSCAR_BACKEND")
		if was {
			os.Setenv("OSCAR_BACKEND", before)
		}
	}()
	os.Setenv("OSCAR_BACKEND", p.word())
	return p.newCache()
}

func (p *player) fork() error {
	child, err := p.sequence().Fork(p.number())
	if err == nil {
		p.sequences[p.number()] = child
	}
	return err
}

func (p *player) accept() error {
	sequence, base := p.sequence(), p.number()
	var indices []uint32
	for len(p.words) > 0 {
		indices = append(indices, uint32(p.number()))
	}
	return sequence.Accept(base, indices...)
}

func (p *player) begin() error {
	label := p.number()
	var entries []oscar.StepEntry
	for len(p.words) > 0 {
		entries = append(entries, oscar.StepEntry{Sequence: p.sequence(), NNew: p.number(), NDraft: p.number()})
	}
	step, err := p.cache.Step(entries...)
	if err == nil {
		p.steps[label] = step
	}
	return err
}

// compute plays append, attend and layer: all inputs of a call come from one run of the generator, as k, v, q.
func (p *player) compute(appends, attends bool) error {
	step, layer, state := p.step(), p.number(), uint32(p.number())
	n, g := step.NRows(), p.geometry(layer)
	var k, v, q []float32
	args := oscar.LayerArgs{Layer: layer}
	if appends {
		k, state = generate(state, n*g.nKVHeads*g.keyDim)
		v, state = generate(state, n*g.nKVHeads*g.valueDim)
		args.K, args.V = oscar.F32(k, n, g.nKVHeads, g.keyDim), oscar.F32(v, n, g.nKVHeads, g.valueDim)
	}
	if !attends {
		return step.Append(oscar.AppendArgs{Layer: layer, K: args.K, V: args.V})
	}
	q, _ = generate(state, n*g.nQHeads*g.keyDim)
	p.out, p.lse, p.attended = make([]float32, n*g.nQHeads*g.valueDim), make([]float32, n*g.nQHeads), g
	args.Q, args.Out = oscar.F32(q, n, g.nQHeads, g.keyDim), oscar.F32(p.out, n, g.nQHeads, g.valueDim)
	args.LSE = oscar.F32(p.lse, n, g.nQHeads)
	for len(p.words) > 0 {
		switch option := p.word(); option {
		case "scale":
			args.Scale = float32(p.real())
		case "softcap":
			args.Softcap = float32(p.real())
		case "sink":
			sinks, _ := generate(uint32(p.number()), g.nQHeads)
			args.SinkLogits = oscar.F32(sinks)
		case "mask":
			args.Mask = p.mask(n)
		default:
			bad("there is no option %s", option)
		}
	}
	if appends {
		return step.Layer(args)
	}
	return step.Attend(oscar.AttendArgs{Layer: layer, Q: args.Q, Out: args.Out, LSE: args.LSE,
		SinkLogits: args.SinkLogits, Mask: args.Mask, Scale: args.Scale, Softcap: args.Softcap})
}

// mask reads n rows of 0 and 1.
func (p *player) mask(n int) oscar.Tensor {
	var bits []uint8
	for range n {
		for _, bit := range p.word() {
			bits = append(bits, uint8(bit-'0'))
		}
	}
	return oscar.U8(bits, n, len(bits)/n)
}

func (p *player) read(isKey bool) error {
	sequence, layer, head, token := p.sequence(), p.number(), p.number(), p.number()
	row, k, v := make([]float32, p.geometry(layer).keyDim), oscar.Tensor{}, oscar.Tensor{}
	if isKey {
		k = oscar.F32(row, 1, len(row))
	} else {
		row = make([]float32, p.geometry(layer).valueDim)
		v = oscar.F32(row, 1, len(row))
	}
	err := sequence.Read(layer, head, token, 1, k, v)
	if err == nil {
		p.compare(row)
	}
	return err
}

func (p *player) scores() error {
	sequence, layer, head, first, n := p.sequence(), p.number(), p.number(), p.number(), p.number()
	scores := make([]float32, n)
	err := sequence.Scores(layer, head, first, n, oscar.F32(scores))
	if err == nil {
		p.compare(scores)
	}
	return err
}

func (p *player) stats() error {
	stats, err := p.cache.Stats()
	if err != nil {
		return err
	}
	known := map[string]int{"n_sequences": stats.NSequences, "n_tokens": stats.NTokens,
		"n_packed_tokens": stats.NPackedTokens, "n_blocks": stats.NBlocks, "n_exact_pages": stats.NExactPages,
		"bytes_sequences": stats.BytesSequences}
	for len(p.words) > 0 {
		name := p.word()
		got, found := known[name]
		if !found {
			bad("there is no field %s", name)
		}
		p.compareNumber(name, got)
	}
	return nil
}
