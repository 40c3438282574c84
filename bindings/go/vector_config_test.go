package oscar_test

// What lines of golden vectors say of the next configuration; calibrators; merge.

import (
	"math"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

// geometry is that of one layer.
type geometry struct{ nQHeads, nKVHeads, keyDim, valueDim int }

// nextConfig is what lines said of the next configuration, and the calibrator that one of them made.
type nextConfig struct {
	layers         []oscar.LayerConfig
	selfCalibrates bool
	calibration    *oscar.Calibration
	calibrator     *oscar.Calibrator
	calibrated     []geometry
}

// setFields reads the rest of the line: fields and their values.
func (p *player) setFields(fields map[string]*int) {
	for len(p.words) > 0 {
		name := p.word()
		field, known := fields[name]
		if !known {
			bad("there is no field %s", name)
		}
		*field = p.number()
	}
}

func (p *player) layerConfig() error {
	if p.number() != len(p.next.layers) {
		bad("wanted the configuration of another layer here")
	}
	layer, storage := oscar.NewLayerConfig(), oscar.Default
	p.setFields(map[string]*int{"n_q_heads": &layer.NQHeads, "n_kv_heads": &layer.NKVHeads, "key_dim": &layer.KeyDim,
		"value_dim": &layer.ValueDim, "window": &layer.Window, "storage": &storage, "n_refined": &layer.NRefined,
		"refined_key_bits": &layer.RefinedKeyBits, "refined_value_bits": &layer.RefinedValueBits,
		"kv_source": &layer.KVSource})
	layer.Storage = oscar.Storage(storage)
	p.next.layers = append(p.next.layers, layer)
	return nil
}

// readConfig gives the configuration that the rest of the line and the lines before it say.
func (p *player) readConfig() (*oscar.Config, []geometry, error) {
	said := p.next
	p.next = nextConfig{calibrator: said.calibrator, calibrated: said.calibrated}
	config, err := oscar.NewConfig(p.word())
	if err != nil {
		return nil, nil, err
	}
	p.setFields(map[string]*int{"n_layers": &config.NLayers, "n_q_heads": &config.NQHeads, "n_kv_heads": &config.NKVHeads,
		"key_dim": &config.KeyDim, "value_dim": &config.ValueDim, "window": &config.Window, "n_sink": &config.NSink,
		"n_recent": &config.NRecent, "max_rollback": &config.MaxRollback, "max_sequences": &config.MaxSequences,
		"max_open_steps": &config.MaxOpenSteps, "max_step_tokens": &config.MaxStepTokens, "max_tokens": &config.MaxTokens,
		"capacity_bytes": &config.CapacityBytes})
	config.Layers, config.Calibration = said.layers, said.calibration
	if said.selfCalibrates {
		args := calibratorArgs(config)
		config.SelfCalibrate = &args
	}
	var layers []geometry
	for i := range config.NLayers {
		layer := oscar.NewLayerConfig()
		if i < len(said.layers) {
			layer = said.layers[i]
		}
		layers = append(layers, geometryOf(config, layer))
	}
	return config, layers, nil
}

func geometryOf(config *oscar.Config, layer oscar.LayerConfig) geometry {
	of := func(own, all int) int {
		if own == oscar.Default {
			return all
		}
		return own
	}
	g := geometry{of(layer.NQHeads, config.NQHeads), of(layer.NKVHeads, config.NKVHeads), of(layer.KeyDim, config.KeyDim),
		of(layer.ValueDim, config.ValueDim)}
	if g.valueDim == 0 || g.valueDim == oscar.Default {
		g.valueDim = g.keyDim
	}
	return g
}

// calibratorArgs are RoPE in halves; pair i turns by 2^-i, which is exact in every language.
func calibratorArgs(config *oscar.Config) oscar.CalibratorArgs {
	frequencies := make([]float32, config.KeyDim/2)
	for i := range frequencies {
		frequencies[i] = float32(math.Ldexp(1, -i))
	}
	return oscar.CalibratorArgs{RopeFrequencies: oscar.F32(frequencies)}
}

func (p *player) newCalibrator() error {
	config, layers, err := p.readConfig()
	if err != nil {
		return err
	}
	p.next.calibrator, err = oscar.NewCalibrator(config, calibratorArgs(config))
	p.next.calibrated = layers
	return err
}

// feed counts tokens of one layer: keys, values and queries come from one run of the generator, in this order.
func (p *player) feed() error {
	layer, first, n, state := p.number(), p.number(), p.number(), uint32(p.number())
	if layer >= len(p.next.calibrated) {
		bad("there is no layer %d", layer)
	}
	g := p.next.calibrated[layer]
	k, state := generate(state, n*g.nKVHeads*g.keyDim)
	v, state := generate(state, n*g.nKVHeads*g.valueDim)
	q, _ := generate(state, n*g.nQHeads*g.keyDim)
	return p.next.calibrator.Feed(oscar.FeedArgs{Layer: layer, FirstPosition: first,
		Q: oscar.F32(q, n, g.nQHeads, g.keyDim), K: oscar.F32(k, n, g.nKVHeads, g.keyDim),
		V: oscar.F32(v, n, g.nKVHeads, g.valueDim)})
}

// merge joins parts from one run of the generator, outputs before log-sum-exps; the first parts of row 0 are empty.
func (p *player) merge() error {
	state, nParts, n, dim, nEmpty := uint32(p.number()), p.number(), p.number(), p.number(), p.number()
	outs, state := generate(state, nParts*n*dim)
	lses, _ := generate(state, nParts*n)
	for part := range min(nEmpty, nParts) {
		lses[part*n] = float32(math.Inf(-1))
	}
	joined, lse := make([]float32, n*dim), make([]float32, n)
	err := oscar.Merge(oscar.F32(outs, nParts, n, dim), oscar.F32(lses, nParts, n), oscar.F32(joined, n, dim),
		oscar.F32(lse, n), 0)
	if err == nil {
		p.compare(append(joined, lse...))
	}
	return err
}
