package oscar

// #cgo noescape oscar_go_seq_accept
// #cgo nocallback oscar_go_seq_accept
// #cgo noescape oscar_go_read
// #cgo nocallback oscar_go_read
// #cgo noescape oscar_go_scores
// #cgo nocallback oscar_go_scores
// #include "shim.h"
import "C"

import "unsafe"

// Sequence is one sequence of tokens in a cache, made by [Cache.Open] and [Sequence.Fork]. All of its calls give
// ErrNotFound after its Close, and ErrState after its cache's.
type Sequence struct {
	cache *Cache
	id    C.oscar_seq
}

// ID is its number in the C ABI.
func (s *Sequence) ID() uint64 { return uint64(s.id) }

// Cache is the cache that holds it.
func (s *Sequence) Cache() *Cache { return s.cache }

// Length is the number of accepted tokens.
//
// Errors: ErrNotFound, ErrState (closed).
func (s *Sequence) Length() (int, error) {
	if err := s.cache.share(); err != nil {
		return 0, err
	}
	defer s.cache.mu.RUnlock()
	r := C.oscar_go_seq_length(s.cache.handle, s.id)
	if err := check(r); err != nil {
		return 0, err
	}
	return int(r.value), nil
}

// Fork makes a new sequence with the first nTokens tokens of this one: blocks are shared, exact rows copied.
//
// Errors: ErrNotFound; ErrState (in an open step, or a sliding window has already dropped tokens that the child would
// see; closed); ErrInvalid (nTokens > length); ErrNoSpace.
func (s *Sequence) Fork(nTokens int) (*Sequence, error) {
	n, err := count("nTokens", nTokens)
	if err != nil {
		return nil, err
	}
	if err := s.cache.lock(); err != nil {
		return nil, err
	}
	defer s.cache.mu.Unlock()
	r := C.oscar_go_seq_fork(s.cache.handle, s.id, n)
	if err := check(r); err != nil {
		return nil, err
	}
	return &Sequence{s.cache, r.value}, nil
}

// Truncate forgets every token from index nTokens on. Tokens that stay keep their bits; for rejected drafts the sequence
// is then bit for bit as if they had never been appended.
//
// Errors: as for Fork.
func (s *Sequence) Truncate(nTokens int) error {
	n, err := count("nTokens", nTokens)
	if err != nil {
		return err
	}
	if err := s.cache.lock(); err != nil {
		return err
	}
	defer s.cache.mu.Unlock()
	return check(C.oscar_go_seq_truncate(s.cache.handle, s.id, n))
}

// Accept keeps an accepted path of a drafted tree: of the tokens from index base on, those at base + indices[i] stay and
// move to base + i; the others are forgotten. indices ascend strictly.
//
// Errors: as for Truncate; ErrState (a token from base on is packed already, dropped by a window, or its votes are
// counted).
func (s *Sequence) Accept(base int, indices ...uint32) error {
	first, err := count("base", base)
	if err != nil {
		return err
	}
	n, err := index("len(indices)", len(indices))
	if err != nil {
		return err
	}
	if err := s.cache.lock(); err != nil {
		return err
	}
	defer s.cache.mu.Unlock()
	return check(C.oscar_go_seq_accept(s.cache.handle, s.id, first, n, (*C.uint32_t)(unsafe.SliceData(indices))))
}

// Close frees the sequence and what it shares with nobody.
//
// Errors: ErrNotFound (closed before); ErrState (in an open step, or its cache is closed).
func (s *Sequence) Close() error {
	if err := s.cache.lock(); err != nil {
		return err
	}
	defer s.cache.mu.Unlock()
	return check(C.oscar_go_seq_close(s.cache.handle, s.id))
}

// Read gives keys and values of tokens [first, first + n) of one KV head as attention sees them, in the model's own basis.
// kOut is [n, key_dim] or absent (the zero Tensor), vOut is [n, value_dim] or absent; F32, F16 or BF16, on the CPU.
//
// Errors: ErrNotFound; ErrInvalid (range, layer, head or an output); ErrState (the window has dropped some of them;
// closed).
func (s *Sequence) Read(layer, head, first, n int, kOut, vOut Tensor) error {
	at, err := s.place(layer, head, first, n)
	if err != nil {
		return err
	}
	var views [2]C.oscar_go_view
	k, err := kOut.fill(&views[0], "kOut")
	if err != nil {
		return err
	}
	v, err := vOut.fill(&views[1], "vOut")
	if err != nil {
		return err
	}
	if err := s.cache.share(); err != nil {
		return err
	}
	defer s.cache.mu.RUnlock()
	return check(C.oscar_go_read(s.cache.handle, s.id, at.layer, at.head, at.first, at.n, &views[0], k, v))
}

// Scores gives the importance of tokens [first, first + n) of one KV head; out is [n] F32, on the CPU. A token that is not
// packed yet: the attention mass it has received, summed over the query heads of its KV head. A packed token: +infinity
// where it was refined, else 0. Exact for ever (sinks): 0.
//
// Errors: ErrNotFound; ErrInvalid; ErrState (this layer's profile makes no choice: NRefined is 0 or 128, or exact storage;
// the window has dropped some of the tokens; closed).
func (s *Sequence) Scores(layer, head, first, n int, out Tensor) error {
	at, err := s.place(layer, head, first, n)
	if err != nil {
		return err
	}
	var view C.oscar_go_view
	data, err := out.fill(&view, "out")
	if err != nil {
		return err
	}
	if err := s.cache.share(); err != nil {
		return err
	}
	defer s.cache.mu.RUnlock()
	return check(C.oscar_go_scores(s.cache.handle, s.id, at.layer, at.head, at.first, at.n, &view, data))
}

// place is where to read.
type place struct {
	layer, head C.uint32_t
	first, n    C.uint64_t
}

func (s *Sequence) place(layer, head, first, n int) (at place, err error) {
	if at.layer, err = index("layer", layer); err != nil {
		return at, err
	}
	if at.head, err = index("head", head); err != nil {
		return at, err
	}
	if at.first, err = count("first", first); err != nil {
		return at, err
	}
	at.n, err = count("n", n)
	return at, err
}
