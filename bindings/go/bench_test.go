package oscar_test

import (
	"testing"
	"time"

	oscar "github.com/liboscar/liboscar/bindings/go"
	"github.com/liboscar/liboscar/bindings/go/internal/cloop"
)

// What calls cost over the same calls from C, with the least work that they can have:
//
//	go test -run '^$' -bench . -count 5
func BenchmarkAppend(b *testing.B) {
	x := randomTokens(61, 1)
	step := oneTokenStep(b)
	overC(b, func(t cloop.Times) time.Duration { return t.Append }, func() error {
		return step.Append(oscar.AppendArgs{
			K: oscar.F32(x.k, 1, nKVHeads, headDim),
			V: oscar.F32(x.v, 1, nKVHeads, headDim),
		})
	})
}

func BenchmarkAttend(b *testing.B) {
	x := randomTokens(62, 1)
	step := oneTokenStep(b)
	out := make([]float32, len(x.q))
	must(b, step.Append(oscar.AppendArgs{K: x.args(nil).K, V: x.args(nil).V}))
	overC(b, func(t cloop.Times) time.Duration { return t.Attend }, func() error {
		return step.Attend(oscar.AttendArgs{
			Q:   oscar.F32(x.q, 1, nQHeads, headDim),
			Out: oscar.F32(out, 1, nQHeads, headDim),
		})
	})
}

func BenchmarkLength(b *testing.B) {
	sequence := open(b, newCache(b, newConfig(b, "2bit")))
	overC(b, func(t cloop.Times) time.Duration { return t.Length }, func() error {
		_, err := sequence.Length()
		return err
	})
}

func oneTokenStep(b *testing.B) *oscar.Step {
	cache := newCache(b, newConfig(b, "2bit"))
	step, err := cache.Step(oscar.StepEntry{Sequence: open(b, cache), NNew: 1})
	must(b, err)
	return step
}

func overC(b *testing.B, inC func(cloop.Times) time.Duration, call func() error) {
	times, err := cloop.Measure()
	must(b, err)
	least := time.Hour
	for range cloop.NBatches {
		start := time.Now()
		for range cloop.Batch {
			if err := call(); err != nil {
				b.Fatal(err)
			}
		}
		least = min(least, time.Since(start)/cloop.Batch)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(inC(times)), "ns-in-C/op")
	b.ReportMetric(float64(least-inC(times)), "ns-over-C/op")
}
