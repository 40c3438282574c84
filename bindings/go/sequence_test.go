package oscar_test

import (
	"math"
	"testing"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

func length(t *testing.T, sequence *oscar.Sequence, wanted int) {
	t.Helper()
	n, err := sequence.Length()
	must(t, err)
	if n != wanted {
		t.Fatalf("the sequence has %d tokens, wanted %d", n, wanted)
	}
}

func TestForkSharesThePastAndGoesItsOwnWay(t *testing.T) {
	cache := newCache(t, newConfig(t, "exact"))
	parent := open(t, cache)
	x := randomTokens(11, 24)
	run(t, cache, parent, x.slice(0, 20), 20)
	child, err := parent.Fork(12)
	must(t, err)
	length(t, child, 12)
	tail := x.slice(20, 24)
	out := run(t, cache, child, tail, 4)
	length(t, child, 16)
	length(t, parent, 20)

	k := append(append([]float32{}, x.slice(0, 12).k...), tail.k...)
	v := append(append([]float32{}, x.slice(0, 12).v...), tail.v...)
	wanted, _ := attention(tail.q, fromBF16(toBF16(k)), fromBF16(toBF16(v)), options{})
	near(t, out, wanted, exactTolerance)

	_, err = parent.Fork(21)
	wants(t, err, oscar.ErrInvalid)
	_, err = parent.Fork(-1)
	wants(t, err, oscar.ErrInvalid)
	must(t, parent.Close())
	length(t, child, 16)
}

func TestTruncateForgetsDraftsWithoutATrace(t *testing.T) {
	config := newConfig(t, "2bit")
	cache := newCache(t, config)
	sequence, plain := open(t, cache), open(t, cache)
	x := randomTokens(12, 305)
	for _, s := range []*oscar.Sequence{sequence, plain} {
		run(t, cache, s, x.slice(0, 300), 20)
	}
	drafts := randomTokens(13, 5)
	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 5, NDraft: 5})
	must(t, err)
	must(t, step.Layer(drafts.args(make([]float32, len(drafts.q)))))
	must(t, step.End())
	length(t, sequence, 305)
	must(t, sequence.Truncate(300))
	length(t, sequence, 300)
	wants(t, sequence.Truncate(301), oscar.ErrInvalid)
	equal(t, run(t, cache, sequence, x.slice(300, 305), 1), run(t, cache, plain, x.slice(300, 305), 1))
}

func TestAcceptKeepsAPath(t *testing.T) {
	for _, indices := range [][]uint32{{0, 2, 3}, {1}, {}} {
		cache := newCache(t, newConfig(t, "exact"))
		sequence := open(t, cache)
		x := randomTokens(14, 14)
		run(t, cache, sequence, x.slice(0, 10), 10)
		step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 4, NDraft: 4})
		must(t, err)
		drafts := x.slice(10, 14)
		must(t, step.Append(oscar.AppendArgs{K: drafts.args(nil).K, V: drafts.args(nil).V}))
		must(t, step.End())
		wants(t, sequence.Accept(10, 3, 2), oscar.ErrInvalid)
		wants(t, sequence.Accept(-1, 3), oscar.ErrInvalid)
		must(t, sequence.Accept(10, indices...))
		wanted := append([]float32{}, x.slice(0, 10).k...)
		for _, i := range indices {
			wanted = append(wanted, drafts.slice(int(i), int(i)+1).k...)
		}
		k, _ := read(t, sequence)
		equal(t, k, fromBF16(toBF16(wanted)))
	}
}

func TestAbortLeavesTheSequenceAsItWas(t *testing.T) {
	cache := newCache(t, newConfig(t, "2bit"))
	sequence := open(t, cache)
	x := randomTokens(15, 20)
	run(t, cache, sequence, x.slice(0, 15), 15)
	k, v := read(t, sequence)
	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 5})
	must(t, err)
	must(t, step.Layer(x.slice(15, 20).args(make([]float32, 5*nQHeads*headDim))))
	must(t, step.Abort())
	wants(t, step.Abort(), oscar.ErrNotFound)
	wants(t, step.End(), oscar.ErrNotFound)
	wants(t, step.Layer(x.slice(15, 20).args(make([]float32, 5*nQHeads*headDim))), oscar.ErrNotFound)
	length(t, sequence, 15)
	againK, againV := read(t, sequence)
	equal(t, againK, k)
	equal(t, againV, v)
}

func TestScoresAreTheAttentionReceived(t *testing.T) {
	config := newConfig(t, "2bit")
	config.NSink, config.MaxRollback = 0, 1 // no votes wait: no token can be a draft
	cache := newCache(t, config)
	sequence := open(t, cache)
	x := randomTokens(16, 20)
	run(t, cache, sequence, x, 1)
	scores := make([]float32, 20)
	must(t, sequence.Scores(0, 1, 0, 20, oscar.F32(scores)))
	near(t, scores, received(x, 1), 2e-3) // votes are F16
	wants(t, sequence.Scores(0, 0, 1, 20, oscar.F32(scores)), oscar.ErrInvalid)
	wants(t, sequence.Scores(1, 0, 0, 20, oscar.F32(scores)), oscar.ErrInvalid)
	run(t, cache, sequence, randomTokens(17, 300), 20)
	must(t, sequence.Scores(0, 0, 0, 20, oscar.F32(scores)))
	for i, score := range scores {
		if score != 0 && !math.IsInf(float64(score), 1) {
			t.Fatalf("token %d is packed and has the score %v", i, score)
		}
	}

	exact := newCache(t, newConfig(t, "exact"))
	other := open(t, exact)
	run(t, exact, other, x, 20)
	wants(t, other.Scores(0, 0, 0, 20, oscar.F32(scores)), oscar.ErrState)
}

// received is the attention mass that the tokens of a KV head get from the queries that follow them.
func received(x tokens, kvHead int) []float64 {
	k := fromBF16(toBF16(x.k))
	mass := make([]float64, x.n)
	for query := range x.n {
		for token := range query {
			// Where only this token has a value other than 0, the output is its weight.
			v := make([]float32, len(k))
			for i := range nKVHeads * headDim {
				v[token*nKVHeads*headDim+i] = 1
			}
			known := (query + 1) * nKVHeads * headDim
			out, _ := attention(x.slice(query, query+1).q, k[:known], v[:known], options{})
			for head := range nQHeads / nKVHeads {
				mass[token] += out[(kvHead*nQHeads/nKVHeads+head)*headDim]
			}
		}
	}
	return mass
}

func TestStatsEqualTheReport(t *testing.T) {
	config := newConfig(t, "2bit")
	cache := newCache(t, config)
	sequence := open(t, cache)
	run(t, cache, sequence, randomTokens(18, 700), 50)
	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 1})
	must(t, err)
	stats, err := cache.Stats()
	must(t, err)
	report, err := oscar.Check(config, 700)
	must(t, err)
	if !report.Served || stats.BytesSequences != report.BytesSequences || stats.BytesFixed != report.BytesFixed ||
		report.Context != 700 || report.BlockBytes <= 0 || report.BitsPerElement <= report.BlockBitsPerElement {
		t.Fatalf("stats %+v, report %+v", stats, report)
	}
	if stats.NTokens != 700 || stats.NSequences != 1 || stats.NOpenSteps != 1 || stats.NPackedTokens == 0 ||
		stats.NBlocks == 0 || stats.NExactPages == 0 || stats.BytesSlabs < stats.BytesSequences ||
		math.Abs(stats.BitsPerElement-report.BitsPerElement) > 1e-9 {
		t.Fatalf("stats %+v, report %+v", stats, report)
	}
	must(t, step.Abort())
	before, err := cache.Capacity()
	must(t, err)
	must(t, sequence.Close())
	after, err := cache.Capacity()
	must(t, err)
	if before <= 0 || after < before {
		t.Fatalf("the capacity is %d, and %d when nothing is left", before, after)
	}
}
