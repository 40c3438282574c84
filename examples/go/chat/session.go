package main

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

const maxChunk = 64 // tokens of one step

// errNoSession is the error of a session that does not exist.
var errNoSession = errors.New("there is no such session")

// chat keeps sessions in one cache. The system prompt is read once; every session begins as a fork of it.
type chat struct {
	model  *model
	cache  *oscar.Cache
	system *session

	mu       sync.Mutex
	sessions map[string]*session
	lastID   int

	nRequests, nFailures, nRead, nWritten atomic.Int64 // tokens read and written
}

// session is one conversation. Its lock makes a request wait for the one before it; requests of other sessions go on
// beside it, each with a step of its own.
type session struct {
	mu       sync.Mutex
	sequence *oscar.Sequence
	length   int
}

func newChat(system string, capacityBytes int) (*chat, error) {
	config, err := oscar.NewConfig("2bit")
	if err != nil {
		return nil, err
	}
	config.NLayers, config.NQHeads, config.NKVHeads, config.KeyDim = nLayers, nQHeads, nKVHeads, headDim
	config.NSink, config.NRecent, config.MaxRollback = 4, 32, 1
	config.MaxStepTokens, config.MaxSequences, config.MaxOpenSteps = maxChunk, 1024, 64
	config.MaxTokens, config.CapacityBytes = 32768, capacityBytes
	cache, err := oscar.NewCache(config)
	if err != nil {
		return nil, err
	}
	c := &chat{model: newModel(1), cache: cache, sessions: map[string]*session{}}
	sequence, err := cache.Open()
	if err == nil {
		c.system = &session{sequence: sequence}
		_, err = c.read(c.system, []byte(system))
	}
	if err != nil {
		cache.Close()
		return nil, err
	}
	return c, nil
}

func (c *chat) close() error { return c.cache.Close() }

// read takes tokens into a session, in steps of at most maxChunk; the caller holds its lock.
func (c *chat) read(s *session, tokens []byte) (next byte, err error) {
	for len(tokens) > 0 {
		chunk := tokens[:min(len(tokens), maxChunk)]
		if next, err = c.model.forward(c.cache, s.sequence, s.length, chunk); err != nil {
			return 0, err
		}
		s.length += len(chunk)
		c.nRead.Add(int64(len(chunk)))
		tokens = tokens[len(chunk):]
	}
	return next, nil
}

// open begins a session: the system prompt, or all that another session has said so far.
func (c *chat) open(from string) (id string, err error) {
	parent := c.system
	if from != "" {
		if parent, err = c.find(from); err != nil {
			return "", err
		}
	}
	parent.mu.Lock()
	defer parent.mu.Unlock()
	sequence, err := parent.sequence.Fork(parent.length) // shares its blocks
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	id = strconv.Itoa(c.lastID)
	c.sessions[id] = &session{sequence: sequence, length: parent.length}
	return id, nil
}

func (c *chat) find(id string) (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sessions[id]; s != nil {
		return s, nil
	}
	return nil, errNoSession
}

// say reads a text and writes a reply of n tokens. Where it fails, the session is as it was before.
func (c *chat) say(id, text string, n int) (reply string, err error) {
	s, err := c.find(id)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.sequence.Fork(s.length) // to come back to: blocks are shared, so this costs little
	if err != nil {
		return "", err
	}
	length := s.length
	written, err := c.converse(s, text, n)
	if err != nil {
		s.sequence.Close()
		s.sequence, s.length = before, length
		return "", err
	}
	c.nWritten.Add(int64(n))
	return string(written), before.Close()
}

func (c *chat) converse(s *session, text string, n int) ([]byte, error) {
	next, err := c.read(s, []byte(text+"\n"))
	var written []byte
	for err == nil && len(written) < n {
		written = append(written, next)
		next, err = c.model.forward(c.cache, s.sequence, s.length, written[len(written)-1:])
		if err == nil {
			s.length++
		}
	}
	return written, err
}

// end forgets a session.
func (c *chat) end(id string) error {
	s, err := c.find(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.sequence.Close(); err != nil {
		return err // another request has ended it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, id)
	return nil
}
