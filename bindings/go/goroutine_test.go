package oscar_test

import (
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	oscar "github.com/liboscar/liboscar/bindings/go"
	"github.com/liboscar/liboscar/bindings/go/internal/callocator"
)

func TestGoroutinesShareACache(t *testing.T) {
	config := newConfig(t, "2bit")
	cache := newCache(t, config)
	x := randomTokens(51, 300)
	wanted := run(t, cache, open(t, cache), x, 10)

	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 2 { // those who only look
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := cache.Stats(); err != nil {
					t.Error(err)
					return
				}
				if _, err := cache.Capacity(); err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
			}
		}()
	}
	t.Run("workers", func(t *testing.T) {
		for range 4 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				sequence := open(t, cache)
				equal(t, run(t, cache, sequence, x, 10), wanted)
				read(t, sequence)
				child, err := sequence.Fork(200)
				must(t, err)
				must(t, sequence.Close())
				run(t, cache, child, x.slice(0, 20), 5)
				must(t, child.Close())
			})
		}
	})
	close(stop)
	group.Wait()
}

func TestCloseMeetsRunningCalls(t *testing.T) {
	for range 20 {
		cache, err := oscar.NewCache(newConfig(t, "2bit"))
		must(t, err)
		sequence := open(t, cache)
		var group sync.WaitGroup
		for range 4 {
			group.Add(1)
			go func() {
				defer group.Done()
				for {
					if _, err := sequence.Length(); errors.Is(err, oscar.ErrState) {
						return
					} else if err != nil {
						t.Error(err)
						return
					}
				}
			}()
		}
		runtime.Gosched()
		must(t, cache.Close())
		group.Wait()
	}
}

// A cache that is forgotten, by itself or by the sequences that hold it, is freed; one whose sequence lives is not.
func TestForgottenCachesAreFreed(t *testing.T) {
	config := newConfig(t, "2bit")
	config.Allocator.Allocate, config.Allocator.Release = callocator.Functions()
	create := func() *oscar.Sequence {
		cache, err := oscar.NewCache(config)
		must(t, err)
		return open(t, cache)
	}
	kept := create()
	one := callocator.LiveBytes()
	if one < config.CapacityBytes {
		t.Fatalf("a cache of %d bytes took %d from its allocator", config.CapacityBytes, one)
	}
	for range 5 {
		create()
	}
	for deadline := time.Now().Add(30 * time.Second); callocator.LiveBytes() > one; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are live, one cache has %d", callocator.LiveBytes(), one)
		}
		runtime.GC()
	}
	length(t, kept, 0)
	must(t, kept.Cache().Close())
	if callocator.LiveBytes() != 0 {
		t.Fatalf("%d bytes are live after the last Close", callocator.LiveBytes())
	}
}
