package main

import (
	"math"
	"math/rand/v2"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

// The toy model's geometry. Tokens are bytes.
const (
	nLayers  = 2
	nQHeads  = 2
	nKVHeads = 1
	headDim  = 64
	modelDim = 64
	qDim     = nQHeads * headDim
	kvDim    = nKVHeads * headDim
	nSymbols = 256
)

// model is a transformer with random projections: what it says means nothing, but every word depends on all that was said
// before, through the cache. It is read-only, so any number of goroutines may run it.
type model struct {
	embedding [nSymbols][]float32 // what a token is
	symbols   [nSymbols][]float32 // what the next one is
	layers    [nLayers]struct{ q, k, v, out []float32 }
}

func newModel(seed uint64) *model {
	random := rand.New(rand.NewPCG(seed, 0))
	normal := func(n int, scale float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(scale * random.NormFloat64())
		}
		return x
	}
	m := new(model)
	for i := range m.embedding {
		m.embedding[i], m.symbols[i] = normal(modelDim, 1), normal(modelDim, 1)
	}
	for i := range m.layers {
		m.layers[i].q = normal(modelDim*qDim, 4/math.Sqrt(modelDim)) // sharp: some tokens matter, most do not
		m.layers[i].k = normal(modelDim*kvDim, 1/math.Sqrt(modelDim))
		m.layers[i].v = normal(modelDim*kvDim, 1/math.Sqrt(modelDim))
		m.layers[i].out = normal(qDim*modelDim, 4/math.Sqrt(qDim)) // the past counts
	}
	return m
}

// multiply gives x w for a row x; w is [len(x), n].
func multiply(x, w []float32, n int) []float32 {
	y := make([]float32, n)
	for i, value := range x {
		row := w[i*n : (i+1)*n]
		for j := range y {
			y[j] += value * row[j]
		}
	}
	return y
}

func normalize(x []float32) []float32 {
	sum := float32(1e-6)
	for _, value := range x {
		sum += value * value
	}
	scale := float32(math.Sqrt(float64(len(x)) / float64(sum)))
	y := make([]float32, len(x))
	for i, value := range x {
		y[i] = scale * value
	}
	return y
}

// rotate applies rotary positions to every head: keys arrive at the cache rotated.
func rotate(heads []float32, position int) {
	for first := 0; first < len(heads); first += headDim {
		head := heads[first : first+headDim]
		for i := range headDim / 2 {
			sin, cos := math.Sincos(float64(position) * math.Pow(10000, -2*float64(i)/headDim))
			a, b := head[i], head[i+headDim/2]
			head[i] = a*float32(cos) - b*float32(sin)
			head[i+headDim/2] = b*float32(cos) + a*float32(sin)
		}
	}
}

// forward runs new tokens of one sequence through the model, and gives the token that follows the last of them.
func (m *model) forward(cache *oscar.Cache, sequence *oscar.Sequence, position int, tokens []byte) (byte, error) {
	n := len(tokens)
	x := make([][]float32, n)
	for i, token := range tokens {
		x[i] = append([]float32{}, m.embedding[token]...)
	}
	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: n})
	if err != nil {
		return 0, err
	}
	defer step.Abort() // where a layer fails, the sequence is as it was; after End this does nothing
	out := make([]float32, n*qDim)
	for layer := range m.layers {
		q, k, v := m.project(layer, x, position)
		err := step.Layer(oscar.LayerArgs{
			Layer: layer,
			Q:     oscar.F32(q, n, nQHeads, headDim),
			K:     oscar.F32(k, n, nKVHeads, headDim),
			V:     oscar.F32(v, n, nKVHeads, headDim),
			Out:   oscar.F32(out, n, nQHeads, headDim),
		})
		if err != nil {
			return 0, err
		}
		for i := range x {
			for j, value := range multiply(out[i*qDim:(i+1)*qDim], m.layers[layer].out, modelDim) {
				x[i][j] += value
			}
		}
	}
	if err := step.End(); err != nil {
		return 0, err
	}
	return m.mostLikely(x[n-1]), nil
}

func (m *model) project(layer int, x [][]float32, position int) (q, k, v []float32) {
	w := &m.layers[layer]
	for i := range x {
		row := normalize(x[i])
		newQ, newK := multiply(row, w.q, qDim), multiply(row, w.k, kvDim)
		rotate(newQ, position+i)
		rotate(newK, position+i)
		q, k, v = append(q, newQ...), append(k, newK...), append(v, multiply(row, w.v, kvDim)...)
	}
	return q, k, v
}

// mostLikely is among the small letters and the space, so that replies can be printed.
func (m *model) mostLikely(x []float32) byte {
	best, highest := byte(' '), float32(math.Inf(-1))
	for _, token := range []byte(" abcdefghijklmnopqrstuvwxyz") {
		logit := float32(0)
		for i, value := range m.symbols[token] {
			logit += x[i] * value
		}
		if logit > highest {
			best, highest = token, logit
		}
	}
	return best
}
