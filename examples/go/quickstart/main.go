// The quick start of the README.
//
// snippet: quickstart
package main

import (
	"fmt"
	"log"
	"math"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	config, err := oscar.NewConfig("2bit")
	if err != nil {
		return err
	}
	config.NLayers, config.NQHeads, config.NKVHeads, config.KeyDim = 1, 1, 1, 64
	cache, err := oscar.NewCache(config)
	if err != nil {
		return err
	}
	defer cache.Close()
	sequence, err := cache.Open()
	if err != nil {
		return err
	}

	// To the query of token 1, key 0 has logit 0 and key 1 has logit ln 3: it sees 1/4 and 3/4 of the values.
	var q, k, v, out [2 * 64]float32 // tokens, one head, elements
	q[64], k[64], v[64] = float32(math.Log(3)), 1, 1
	tensor := func(x []float32) oscar.Tensor { return oscar.F32(x, 2, 1, 64) }

	step, err := cache.Step(oscar.StepEntry{Sequence: sequence, NNew: 2})
	if err != nil {
		return err
	}
	defer step.Abort() // does nothing once the step has ended
	args := oscar.LayerArgs{K: tensor(k[:]), V: tensor(v[:]), Q: tensor(q[:]), Out: tensor(out[:]), Scale: 1}
	if err := step.Layer(args); err != nil {
		return err
	}
	if err := step.End(); err != nil {
		return err
	}
	fmt.Printf("token 1 sees %.3f\n", out[64])
	return nil
}

// end snippet
