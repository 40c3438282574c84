package oscar_test

// What the binding is compared with: attention in double precision, over what a cache says that it holds.

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

// The geometry of the tests' caches.
const (
	nQHeads  = 4
	nKVHeads = 2
	headDim  = 64
)

// newConfig is a small model that packs early.
func newConfig(t testing.TB, profile string) *oscar.Config {
	t.Helper()
	config, err := oscar.NewConfig(profile)
	must(t, err)
	config.NLayers, config.NQHeads, config.NKVHeads, config.KeyDim = 1, nQHeads, nKVHeads, headDim
	config.NSink, config.NRecent, config.MaxRollback = 4, 32, 8
	config.MaxSequences, config.MaxOpenSteps, config.MaxTokens = 8, 4, 4096
	config.CapacityBytes = 16 << 20
	return config
}

func newCache(t testing.TB, config *oscar.Config) *oscar.Cache {
	t.Helper()
	cache, err := oscar.NewCache(config)
	must(t, err)
	t.Cleanup(func() { must(t, cache.Close()) })
	return cache
}

func open(t testing.TB, cache *oscar.Cache) *oscar.Sequence {
	t.Helper()
	sequence, err := cache.Open()
	must(t, err)
	return sequence
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails unless the error is of this kind, and of no other, and says something.
func wants(t testing.TB, err error, kind oscar.Status) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("the error is %v, wanted %v", err, kind)
	}
	for _, other := range allKinds {
		if other != kind && errors.Is(err, other) {
			t.Fatalf("%v is %v and %v at once", err, kind, other)
		}
	}
	var e *oscar.Error
	if !errors.As(err, &e) || e.Status != kind || e.Text == "" {
		t.Fatalf("%#v is no *oscar.Error with a text", err)
	}
}

var allKinds = []oscar.Status{oscar.ErrInvalid, oscar.ErrNoMemory, oscar.ErrNoSpace, oscar.ErrNotFound, oscar.ErrState,
	oscar.ErrUnsupported, oscar.ErrCorrupt, oscar.ErrBackend, oscar.ErrInternal, oscar.ErrDevice}

// tokens are random queries, keys and values of n tokens, for one layer.
type tokens struct {
	n       int
	q, k, v []float32
}

func randomTokens(seed uint64, n int) tokens {
	random := rand.New(rand.NewPCG(seed, 0))
	normal := func(size int) []float32 {
		x := make([]float32, size)
		for i := range x {
			x[i] = float32(random.NormFloat64())
		}
		return x
	}
	return tokens{n, normal(n * nQHeads * headDim), normal(n * nKVHeads * headDim), normal(n * nKVHeads * headDim)}
}

func (x tokens) slice(first, last int) tokens {
	q, kv := nQHeads*headDim, nKVHeads*headDim
	return tokens{last - first, x.q[first*q : last*q], x.k[first*kv : last*kv], x.v[first*kv : last*kv]}
}

// args are the arguments of a layer call without options.
func (x tokens) args(out []float32) oscar.LayerArgs {
	return oscar.LayerArgs{
		K:   oscar.F32(x.k, x.n, nKVHeads, headDim),
		V:   oscar.F32(x.v, x.n, nKVHeads, headDim),
		Q:   oscar.F32(x.q, x.n, nQHeads, headDim),
		Out: oscar.F32(out, x.n, nQHeads, headDim),
	}
}

// run appends the tokens in steps of at most chunk, and gives their attention.
func run(t testing.TB, cache *oscar.Cache, sequence *oscar.Sequence, x tokens, chunk int) []float32 {
	t.Helper()
	out := make([]float32, len(x.q))
	for first := 0; first < x.n; first += chunk {
		part := x.slice(first, min(first+chunk, x.n))
		step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: part.n})
		must(t, err)
		must(t, step.Layer(part.args(out[first*nQHeads*headDim:])))
		must(t, step.End())
	}
	return out
}

// read gives all keys and values of a sequence as [n_tokens, n_kv_heads, head_dim].
func read(t testing.TB, sequence *oscar.Sequence) (k, v []float32) {
	t.Helper()
	n, err := sequence.Length()
	must(t, err)
	k, v = make([]float32, n*nKVHeads*headDim), make([]float32, n*nKVHeads*headDim)
	for head := range nKVHeads {
		into := func(x []float32) oscar.Tensor {
			return oscar.F32(x[head*headDim:], n, headDim).Strided(nKVHeads*headDim, 1)
		}
		must(t, sequence.Read(0, head, 0, n, into(k), into(v)))
	}
	return k, v
}

// options of the attention that the tests compute themselves.
type options struct {
	scale, softcap float64
	sinkLogits     []float32
	visible        func(query, token int) bool // nil: up to the query's own token
}

// attention is softmax(softcap(scale q k^T)) v in double precision, and its log-sum-exp. The queries are the last tokens.
func attention(q, k, v []float32, o options) (out, lse []float64) {
	n, nTokens := len(q)/(nQHeads*headDim), len(k)/(nKVHeads*headDim)
	out, lse = make([]float64, len(q)), make([]float64, n*nQHeads)
	if o.scale == 0 {
		o.scale = 1 / math.Sqrt(headDim)
	}
	if o.visible == nil {
		o.visible = func(query, token int) bool { return token <= nTokens-n+query }
	}
	for row := range n * nQHeads {
		head := row % nQHeads
		kvHead := head / (nQHeads / nKVHeads)
		total := 0.0
		if o.sinkLogits != nil {
			total = math.Exp(float64(o.sinkLogits[head]))
		}
		sum := out[row*headDim : (row+1)*headDim]
		for token := range nTokens {
			if !o.visible(row/nQHeads, token) {
				continue
			}
			at := (token*nKVHeads + kvHead) * headDim
			logit := 0.0
			for i := range headDim {
				logit += float64(q[row*headDim+i]) * float64(k[at+i])
			}
			logit *= o.scale
			if o.softcap > 0 {
				logit = o.softcap * math.Tanh(logit/o.softcap)
			}
			weight := math.Exp(logit) // the tests' logits are small
			total += weight
			for i := range headDim {
				sum[i] += weight * float64(v[at+i])
			}
		}
		for i := range sum {
			sum[i] /= total
		}
		lse[row] = math.Log(total)
	}
	return out, lse
}

// near fails where the two differ by more than the tolerance, relative to the wanted ones' size.
func near(t testing.TB, got []float32, wanted []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(wanted) || len(got) == 0 {
		t.Fatalf("%d elements, wanted %d", len(got), len(wanted))
	}
	scale, worst := 0.0, 0.0
	for i := range got {
		scale = max(scale, math.Abs(wanted[i]))
		worst = max(worst, math.Abs(float64(got[i])-wanted[i]))
	}
	if !(worst <= tolerance*scale) {
		t.Fatalf("the largest error is %g of %g, wanted at most %g of it", worst, scale, tolerance)
	}
}

// toBF16 rounds to nearest even.
func toBF16(x []float32) []uint16 {
	bits := make([]uint16, len(x))
	for i, value := range x {
		b := math.Float32bits(value)
		bits[i] = uint16((b + 0x7fff + b>>16&1) >> 16)
	}
	return bits
}

func fromBF16(bits []uint16) []float32 {
	x := make([]float32, len(bits))
	for i, b := range bits {
		x[i] = math.Float32frombits(uint32(b) << 16)
	}
	return x
}

func equal(t testing.TB, got, wanted []float32) {
	t.Helper()
	if len(got) != len(wanted) {
		t.Fatalf("%d elements, wanted %d", len(got), len(wanted))
	}
	for i := range got {
		if got[i] != wanted[i] {
			t.Fatalf("element %d is %v, wanted %v", i, got[i], wanted[i])
		}
	}
}
