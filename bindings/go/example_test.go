package oscar_test

import (
	"errors"
	"fmt"
	"log"
	"math"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

func Example() {
	// snippet: quickstart
	config, err := oscar.NewConfig("2bit")
	if err != nil {
		log.Fatal(err)
	}
	config.NLayers, config.NQHeads, config.NKVHeads, config.KeyDim = 2, 8, 2, 64
	config.CapacityBytes = 64 << 20
	report, err := oscar.Check(config, 32768) // what it will cost, before any memory is taken
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("32768 tokens at %.1f bits per element\n", report.BitsPerElement)

	cache, err := oscar.NewCache(config)
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	sequence, err := cache.Open()
	if err != nil {
		log.Fatal(err)
	}

	// A forward pass of three new tokens. The model computes q, k and v of every layer.
	const n = 3
	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: n})
	if errors.Is(err, oscar.ErrNoSpace) {
		log.Fatal("the cache is full: close sequences, or create a larger one")
	} else if err != nil {
		log.Fatal(err)
	}
	defer step.Abort() // does nothing once the step has ended
	out := make([]float32, n*8*64)
	for layer := range config.NLayers {
		q, k, v := project(layer, n)
		err := step.Layer(oscar.LayerArgs{
			Layer: layer,
			Q:     oscar.F32(q, n, 8, 64),
			K:     oscar.F32(k, n, 2, 64),
			V:     oscar.F32(v, n, 2, 64),
			Out:   oscar.F32(out, n, 8, 64),
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := step.End(); err != nil {
		log.Fatal(err)
	}
	// end snippet
	fmt.Printf("the last token sees %.3f on average\n", mean(out[2*8*64:]))
	// Output:
	// 32768 tokens at 2.4 bits per element
	// the last token sees 2.000 on average
}

// project stands for a model's projections: all keys are the same, so that attention is the mean of the values, which are
// 1, 2 and 3.
func project(_, n int) (q, k, v []float32) {
	q, k, v = make([]float32, n*8*64), make([]float32, n*2*64), make([]float32, n*2*64)
	for i := range q {
		q[i] = float32(math.Sin(float64(i)))
	}
	for i := range k {
		k[i], v[i] = 0.5, float32(1+i/(2*64))
	}
	return q, k, v
}

func mean(x []float32) float64 {
	sum := 0.0
	for _, value := range x {
		sum += float64(value)
	}
	return sum / float64(len(x))
}
