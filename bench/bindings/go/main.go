// What calls cost from Go, beside in_c.c: the same calls and the same numbers. Tensors are made for every call, as a
// program does whose slices move.
//
//	go run .       one JSON object a line: the least time of a call in ns
package main

import (
	"fmt"
	"log"
	"time"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

const calls, batches, heads, kvHeads, dim = 256, 1000, 4, 2, 64

type loops struct {
	cache    *oscar.Cache
	sequence *oscar.Sequence
	q, k, v  []float32
	out      []float32
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func newLoops() *loops {
	config, err := oscar.NewConfig("2bit")
	must(err)
	config.NLayers, config.NQHeads, config.NKVHeads, config.KeyDim = calls, heads, kvHeads, dim
	config.MaxTokens, config.MaxStepTokens, config.CapacityBytes = 4096, 16, 256<<20
	l := &loops{q: make([]float32, heads*dim), k: make([]float32, kvHeads*dim), out: make([]float32, heads*dim)}
	for i := range l.q {
		l.q[i] = float32(i*37%64)/32 - 1
	}
	for i := range l.k {
		l.k[i] = float32(i*29%50)/32 - 1
	}
	l.v = append(l.v, l.k...)
	l.cache, err = oscar.NewCache(config)
	must(err)
	l.sequence, err = l.cache.Open()
	must(err)
	return l
}

// begin opens a step of one token; nil: of one padding row.
func (l *loops) begin(sequence *oscar.Sequence) *oscar.Step {
	step, err := l.cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 1})
	must(err)
	return step
}

func (l *loops) keysAndValues() oscar.AppendArgs {
	return oscar.AppendArgs{K: oscar.F32(l.k, 1, kvHeads, dim), V: oscar.F32(l.v, 1, kvHeads, dim)}
}

func (l *loops) layerArgs(layer int) oscar.LayerArgs {
	return oscar.LayerArgs{
		Layer: layer,
		K:     oscar.F32(l.k, 1, kvHeads, dim),
		V:     oscar.F32(l.v, 1, kvHeads, dim),
		Q:     oscar.F32(l.q, 1, heads, dim),
		Out:   oscar.F32(l.out, 1, heads, dim),
	}
}

func (l *loops) length() time.Duration {
	start := time.Now()
	for range calls {
		_, err := l.sequence.Length()
		must(err)
	}
	return time.Since(start)
}

func (l *loops) step() time.Duration {
	start := time.Now()
	for range calls {
		must(l.begin(nil).Abort())
	}
	return time.Since(start)
}

func (l *loops) append() time.Duration {
	step := l.begin(nil)
	start := time.Now()
	for range calls {
		must(step.Append(l.keysAndValues()))
	}
	took := time.Since(start)
	must(step.Abort())
	return took
}

func (l *loops) attend() time.Duration {
	step := l.begin(nil)
	must(step.Append(l.keysAndValues()))
	start := time.Now()
	for range calls {
		must(step.Attend(oscar.AttendArgs{Q: oscar.F32(l.q, 1, heads, dim), Out: oscar.F32(l.out, 1, heads, dim)}))
	}
	took := time.Since(start)
	must(step.Abort())
	return took
}

func (l *loops) layer() time.Duration {
	step := l.begin(nil)
	start := time.Now()
	for layer := range calls {
		must(step.Layer(l.layerArgs(layer)))
	}
	took := time.Since(start)
	must(step.Abort())
	return took
}

func (l *loops) report(call string, timeBatch func() time.Duration) {
	least := timeBatch()
	for range batches - 1 {
		least = min(least, timeBatch())
	}
	fmt.Printf("{\"call\": %q, \"ns\": %.1f}\n", call, float64(least.Nanoseconds())/calls)
}

func (l *loops) reportSum() {
	step := l.begin(l.sequence)
	must(step.Layer(l.layerArgs(0)))
	must(step.Abort())
	sum := float32(0)
	for _, x := range l.out {
		sum += x
	}
	fmt.Printf("{\"sum\": %.3f}\n", sum)
}

func main() {
	l := newLoops()
	defer l.cache.Close()
	l.report("length", l.length)
	l.report("begin, abort", l.step)
	l.report("append", l.append)
	l.report("attend", l.attend)
	l.report("layer", l.layer)
	l.reportSum()
}
