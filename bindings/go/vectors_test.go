package oscar_test

// The golden vectors: tests/vectors/README.md has the format. They are not part of the module.

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

const vectorFolder = "../../tests/vectors"

// vectorNames are the files that the index names.
func vectorNames(t *testing.T) []string {
	if _, err := os.Stat("../../include/oscar/oscar.h"); errors.Is(err, os.ErrNotExist) {
		t.Skip("the golden vectors are in liboscar's repository, and not in the module that go get fetches")
	}
	index, err := os.ReadFile(filepath.Join(vectorFolder, "index"))
	must(t, err)
	names := strings.Fields(string(index))
	if len(names) == 0 {
		t.Fatal("the index names no files")
	}
	return names
}

func TestVectors(t *testing.T) {
	for _, name := range vectorNames(t) {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(vectorFolder, name))
			must(t, err)
			must(t, replayVectors(string(text)))
		})
	}
}

func TestVectorsThatAreEmptyCutOffOrWrongFail(t *testing.T) {
	vectorNames(t)
	bytes, err := os.ReadFile(filepath.Join(vectorFolder, "errors.txt"))
	must(t, err)
	text := string(bytes)
	for name, broken := range map[string]string{
		"empty":            "",
		"cut off":          strings.TrimSuffix(text, "done\n"),
		"without results":  "oscar-vectors 1\ndone\n",
		"another status":   strings.ReplaceAll(text, "OSCAR_E_STATE -5", "OSCAR_E_STATE -50"),
		"a failure unseen": strings.ReplaceAll(text, "fails OSCAR_E_NOT_FOUND -4\nlength 2", "length 2"),
		"another length":   strings.ReplaceAll(text, "length 1 3", "length 1 4"),
	} {
		if broken == text || replayVectors(broken) == nil {
			t.Errorf("%s: nobody sees it", name)
		}
	}
}

// badVectors says what is wrong with a file or with a result; it is no error of the library.
type badVectors string

func (b badVectors) Error() string { return string(b) }

func bad(format string, values ...any) { panic(badVectors(fmt.Sprintf(format, values...))) }

func replayVectors(text string) (err error) {
	p := &player{}
	line := 0
	defer func() {
		if what := recover(); what != nil {
			b, ok := what.(badVectors)
			if !ok {
				panic(what)
			}
			err = fmt.Errorf("line %d: %w", line+1, b)
		}
		if p.cache != nil {
			err = errors.Join(err, p.cache.Close())
		}
	}()
	lines := strings.Split(text, "\n")
	if n := len(lines); n < 3 || lines[0] != "oscar-vectors 1" || lines[n-2] != "done" || lines[n-1] != "" {
		bad("the first line is not \"oscar-vectors 1\", or the last one not \"done\"")
	}
	nResults, wanted := 0, []string(nil)
	for line = 1; line < len(lines)-2; line++ {
		if p.words = strings.Fields(lines[line]); len(p.words) == 0 || p.words[0][0] == '#' {
			continue
		}
		if p.words[0] == "fails" {
			wanted = p.words[1:]
			continue
		}
		directive, known := directives[p.word()]
		if !known {
			bad("there is no such directive")
		}
		settle(directive.play(p), wanted)
		if wanted == nil && len(p.words) > 0 {
			bad("the line is too long by %q", p.words)
		}
		if directive.hasResults || wanted != nil {
			nResults++
		}
		wanted = nil
	}
	if nResults == 0 {
		bad("the file compares nothing")
	}
	return nil
}

// settle compares the outcome of a call with the line before it: nothing, or "fails NAME NUMBER".
func settle(err error, wanted []string) {
	var status oscar.Status
	if wanted == nil {
		if err != nil {
			bad("got %v, wanted success", err)
		}
	} else if !errors.As(err, &status) || !slices.Equal(wanted, []string{status.Name(), strconv.Itoa(int(status))}) {
		bad("got %v (%d), wanted %q", err, int(status), wanted)
	}
}

func (p *player) word() string {
	if len(p.words) == 0 {
		bad("the line is too short")
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word
}

func (p *player) number() int {
	value, err := strconv.Atoi(p.word())
	if err != nil {
		bad("%v", err)
	}
	return value
}

func (p *player) real() float64 {
	value, err := strconv.ParseFloat(p.word(), 64)
	if err != nil {
		bad("%v", err)
	}
	return value
}

func (p *player) compare(got []float32) {
	if len(p.words) != len(got) {
		bad("%d results stand there, the call gave %d", len(p.words), len(got))
	}
	for i, x := range got {
		bits, err := strconv.ParseUint(p.word(), 16, 32)
		if err != nil {
			bad("%v", err)
		}
		wanted := math.Float32frombits(uint32(bits))
		if x != wanted && !(math.Abs(float64(x)-float64(wanted)) <= p.tolerance) {
			bad("result %d is %v, wanted %v", i, x, wanted)
		}
	}
}

func (p *player) compareNumber(name string, got int) {
	if wanted := p.number(); got != wanted {
		bad("%s is %d, wanted %d", name, got, wanted)
	}
}

// generate gives inputs, and the generator's state after them.
func generate(state uint32, n int) ([]float32, uint32) {
	x := make([]float32, n)
	for i := range x {
		state = state*1664525 + 1013904223
		x[i] = (float32(state>>24) - 127.5) / 64
	}
	return x, state
}
