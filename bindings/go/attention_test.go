package oscar_test

import (
	"math"
	"testing"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

const (
	exactTolerance = 1e-5 // exact storage computes in float32 over BF16 values
	// Of packed tokens, queries are rounded to 16 bits and weights to 15: tests/backends/differential.cpp.
	packedTolerance = 1e-3
)

func TestAttentionIsTheSoftmaxOfWhatReadReturns(t *testing.T) {
	for _, profile := range []string{"exact", "2bit", "2bit-plain", "k3v2", "3bit", "4bit", "8bit"} {
		t.Run(profile, func(t *testing.T) {
			cache := newCache(t, newConfig(t, profile))
			sequence := open(t, cache)
			x := randomTokens(1, 701)
			run(t, cache, sequence, x.slice(0, 700), 50)
			out := run(t, cache, sequence, x.slice(700, 701), 1)
			k, v := read(t, sequence)
			wanted, _ := attention(x.slice(700, 701).q, k, v, options{})
			tolerance, packs := packedTolerance, profile != "exact"
			if !packs {
				tolerance = exactTolerance
			}
			near(t, out, wanted, tolerance)

			stats, err := cache.Stats()
			must(t, err)
			if (stats.NPackedTokens > 0) != packs {
				t.Fatalf("%d tokens are packed", stats.NPackedTokens)
			}
			layer, err := cache.LayerStats(0)
			must(t, err)
			if (layer.NBlocks > 0) != packs || layer.NKeyElements != layer.NBlocks*128*headDim || (layer.NValuesClipped > 0) != (packs && profile != "8bit") {
				t.Fatalf("packed: %+v", layer)
			}
			_, err = cache.LayerStats(99)
			wants(t, err, oscar.ErrInvalid)
		})
	}
}

func TestReadGivesTheKeysInBF16(t *testing.T) {
	cache := newCache(t, newConfig(t, "exact"))
	sequence := open(t, cache)
	x := randomTokens(2, 30)
	run(t, cache, sequence, x, 30)
	k, v := read(t, sequence)
	equal(t, k, fromBF16(toBF16(x.k)))
	equal(t, v, fromBF16(toBF16(x.v)))

	// One of the two, some tokens, and as BF16.
	bits := make([]uint16, 4*headDim)
	must(t, sequence.Read(0, 1, 10, 4, oscar.Tensor{}, oscar.BF16(bits, 4, headDim)))
	for i := range 4 {
		equal(t, fromBF16(bits[i*headDim:(i+1)*headDim]), v[((10+i)*nKVHeads+1)*headDim:][:headDim])
	}
	wants(t, sequence.Read(0, 1, 28, 4, oscar.Tensor{}, oscar.BF16(bits, 4, headDim)), oscar.ErrInvalid)
	wants(t, sequence.Read(0, nKVHeads, 0, 4, oscar.Tensor{}, oscar.BF16(bits, 4, headDim)), oscar.ErrInvalid)
	wants(t, sequence.Read(0, -1, 0, 4, oscar.Tensor{}, oscar.BF16(bits, 4, headDim)), oscar.ErrInvalid)
	wants(t, sequence.Read(0, 0, -1, 4, oscar.Tensor{}, oscar.BF16(bits, 4, headDim)), oscar.ErrInvalid)
}

func TestOptionsOfAttention(t *testing.T) {
	cache := newCache(t, newConfig(t, "exact"))
	x := randomTokens(3, 7)
	sinks := []float32{-1, -0.5, 0.5, 1}
	out, lse := make([]float32, len(x.q)), make([]float32, x.n*nQHeads)
	step, err := cache.Step(oscar.StepEntry{Sequence: open(t, cache), NNew: x.n})
	must(t, err)
	args := x.args(out)
	args.LSE = oscar.F32(lse, x.n, nQHeads)
	args.SinkLogits = oscar.F32(sinks)
	args.Scale, args.Softcap = 0.3, 2
	must(t, step.Layer(args))
	wanted, wantedLSE := attention(x.q, fromBF16(toBF16(x.k)), fromBF16(toBF16(x.v)),
		options{scale: float64(float32(0.3)), softcap: 2, sinkLogits: sinks})
	near(t, out, wanted, exactTolerance)
	near(t, lse, wantedLSE, exactTolerance)
}

func TestAppendThenAttendEqualsLayer(t *testing.T) {
	cache := newCache(t, newConfig(t, "2bit"))
	x := randomTokens(4, 9)
	together := run(t, cache, open(t, cache), x, 9)
	apart := make([]float32, len(together))
	step, err := cache.Step(oscar.StepEntry{Sequence: open(t, cache), NNew: x.n})
	must(t, err)
	if step.NRows() != 9 {
		t.Fatalf("the step has %d rows", step.NRows())
	}
	args := x.args(apart)
	wants(t, step.End(), oscar.ErrState) // the layer has no keys yet
	wants(t, step.Attend(oscar.AttendArgs{Q: args.Q, Out: args.Out}), oscar.ErrState)
	must(t, step.Append(oscar.AppendArgs{K: args.K, V: args.V}))
	must(t, step.Attend(oscar.AttendArgs{Q: args.Q, Out: args.Out}))
	must(t, step.End())
	equal(t, apart, together)
}

func TestTreeMask(t *testing.T) {
	cache := newCache(t, newConfig(t, "exact"))
	sequence := open(t, cache)
	x := randomTokens(5, 14)
	run(t, cache, sequence, x.slice(0, 10), 10)
	// A root with two children, and a child of the second one.
	mask := []uint8{
		0, 0, 0, 0,
		1, 0, 0, 0,
		1, 0, 0, 0,
		1, 0, 1, 0,
	}
	drafts := x.slice(10, 14)
	out := make([]float32, len(drafts.q))
	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 4, NDraft: 4})
	must(t, err)
	args := drafts.args(out)
	args.Mask = oscar.U8(mask, 4, 4)
	must(t, step.Layer(args))
	must(t, step.End())
	wanted, _ := attention(drafts.q, fromBF16(toBF16(x.k)), fromBF16(toBF16(x.v)), options{
		visible: func(query, token int) bool {
			return token < 10 || token-10 == query || mask[query*4+token-10] != 0
		},
	})
	near(t, out, wanted, exactTolerance)
}

func TestRaggedBatchWithPadding(t *testing.T) {
	cache := newCache(t, newConfig(t, "exact"))
	one, other := open(t, cache), open(t, cache)
	x := randomTokens(6, 9)
	out, lse := make([]float32, len(x.q)), make([]float32, x.n*nQHeads)
	step, err := cache.Step(oscar.StepEntry{Sequence: one, NNew: 5}, oscar.StepEntry{NNew: 1},
		oscar.StepEntry{Sequence: other, NNew: 3})
	must(t, err)
	args := x.args(out)
	args.LSE = oscar.F32(lse, x.n, nQHeads)
	must(t, step.Layer(args))
	must(t, step.End())
	for _, rows := range [][2]int{{0, 5}, {6, 9}} {
		part := x.slice(rows[0], rows[1])
		wanted, _ := attention(part.q, fromBF16(toBF16(part.k)), fromBF16(toBF16(part.v)), options{})
		near(t, out[rows[0]*nQHeads*headDim:rows[1]*nQHeads*headDim], wanted, exactTolerance)
	}
	equal(t, out[5*nQHeads*headDim:6*nQHeads*headDim], make([]float32, nQHeads*headDim))
	if !math.IsInf(float64(lse[5*nQHeads]), -1) {
		t.Fatalf("padding has the log-sum-exp %v", lse[5*nQHeads])
	}
}

func TestHalfPrecisionAndStrides(t *testing.T) {
	cache := newCache(t, newConfig(t, "exact"))
	x := randomTokens(7, 6)
	k, v, q := toBF16(x.k), toBF16(x.v), toBF16(x.q)
	// One buffer a row, as a fused projection writes it: q, then k, then v.
	const row = (nQHeads + 2*nKVHeads) * headDim
	fused := make([]uint16, x.n*row)
	for i := range x.n {
		at := fused[i*row:]
		at = at[copy(at, q[i*nQHeads*headDim:][:nQHeads*headDim]):]
		at = at[copy(at, k[i*nKVHeads*headDim:][:nKVHeads*headDim]):]
		copy(at, v[i*nKVHeads*headDim:][:nKVHeads*headDim])
	}
	tensor := func(first, heads int) oscar.Tensor {
		return oscar.BF16(fused[first*headDim:], x.n, heads, headDim).Strided(row, headDim, 1)
	}
	out := make([]float32, len(x.q))
	step, err := cache.Step(oscar.StepEntry{Sequence: open(t, cache), NNew: x.n})
	must(t, err)
	must(t, step.Layer(oscar.LayerArgs{
		Q: tensor(0, nQHeads), K: tensor(nQHeads, nKVHeads), V: tensor(nQHeads+nKVHeads, nKVHeads),
		Out: oscar.F32(out, x.n, nQHeads, headDim),
	}))
	wanted, _ := attention(fromBF16(q), fromBF16(k), fromBF16(v), options{})
	near(t, out, wanted, exactTolerance)

	half := make([]uint16, len(x.q))
	must(t, step.Attend(oscar.AttendArgs{Q: tensor(0, nQHeads), Out: oscar.F16(half, x.n, nQHeads, headDim)}))
	got := make([]float32, len(half))
	for i, bits := range half {
		got[i] = fromF16(bits)
	}
	near(t, got, wanted, 1e-3) // half precision has 11 bits
}

// fromF16 of a finite number.
func fromF16(bits uint16) float32 {
	sign, exponent, mantissa := 1-2*float64(bits>>15), int(bits>>10&31), float64(bits&1023)
	if exponent == 0 {
		return float32(sign * math.Ldexp(mantissa, -24))
	}
	return float32(sign * math.Ldexp(1024+mantissa, exponent-25))
}

func TestMergeJoinsDisjointParts(t *testing.T) {
	x := randomTokens(8, 30)
	last := x.slice(29, 30)
	var outs, lses []float32
	for part := range 2 {
		out, lse := attention(last.q, x.k, x.v, options{visible: func(_, token int) bool { return token/15 == part }})
		outs, lses = append(outs, toF32(out)...), append(lses, toF32(lse)...)
	}
	wanted, wantedLSE := attention(last.q, x.k, x.v, options{})
	out, lse := make([]float32, len(last.q)), make([]float32, nQHeads)
	parts, partLSEs := oscar.F32(outs, 2, nQHeads, headDim), oscar.F32(lses, 2, nQHeads)
	must(t, oscar.Merge(parts, partLSEs, oscar.F32(out, nQHeads, headDim), oscar.F32(lse, nQHeads), 0))
	near(t, out, wanted, exactTolerance)
	near(t, lse, wantedLSE, exactTolerance)

	again := make([]float32, len(out))
	must(t, oscar.Merge(parts, partLSEs, oscar.F32(again, nQHeads, headDim), oscar.Tensor{}, 0))
	equal(t, again, out)
	wants(t, oscar.Merge(parts, partLSEs, oscar.F32(again, headDim, nQHeads), oscar.Tensor{}, 0), oscar.ErrInvalid)
	wants(t, oscar.Merge(parts, partLSEs, oscar.F32(again[:5], nQHeads, headDim), oscar.Tensor{}, 0), oscar.ErrInvalid)
}

func toF32(x []float64) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = float32(x[i])
	}
	return y
}
