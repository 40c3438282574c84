package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

const (
	maxBody    = 1 << 20 // bytes of a request
	maxReply   = 4096    // tokens
	replyByDef = 16      // tokens, where the request does not say
)

// handler is the service:
//
//	POST   /sessions                   {"from": "ID"}: a session that goes on from another; without, a new one
//	POST   /sessions/{id}/messages     {"text": "...", "tokens": 16}: says something, and gets a reply
//	DELETE /sessions/{id}              forgets a session
//	GET    /metrics                    Prometheus text
func (c *chat) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sessions", c.answer(http.StatusCreated, func(r *http.Request) (any, error) {
		var body struct{ From string }
		if err := decode(r, &body); err != nil {
			return nil, err
		}
		id, err := c.open(body.From)
		return map[string]string{"id": id}, err
	}))
	mux.HandleFunc("POST /sessions/{id}/messages", c.answer(http.StatusOK, func(r *http.Request) (any, error) {
		body := struct {
			Text   string
			Tokens int
		}{Tokens: replyByDef}
		if err := decode(r, &body); err != nil {
			return nil, err
		}
		if body.Tokens < 1 || body.Tokens > maxReply {
			return nil, fmt.Errorf("%w: tokens is %d, wanted: 1 .. %d", errRequest, body.Tokens, maxReply)
		}
		reply, err := c.say(r.PathValue("id"), body.Text, body.Tokens)
		return map[string]string{"reply": reply}, err
	}))
	mux.HandleFunc("DELETE /sessions/{id}", c.answer(http.StatusOK, func(r *http.Request) (any, error) {
		return struct{}{}, c.end(r.PathValue("id"))
	}))
	mux.HandleFunc("GET /metrics", c.metrics)
	return mux
}

// errRequest is the error of a request that makes no sense.
var errRequest = errors.New("bad request")

func decode(r *http.Request, into any) error {
	err := json.NewDecoder(r.Body).Decode(into)
	if err != nil && !errors.Is(err, io.EOF) { // no body: the defaults
		return fmt.Errorf("%w: %w", errRequest, err)
	}
	return nil
}

// answer makes a handler of a function: JSON of what it gives, or of its error.
func (c *chat) answer(status int, do func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.nRequests.Add(1)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		reply, err := do(r)
		code := status
		if err != nil {
			c.nFailures.Add(1)
			reply, code = map[string]string{"error": err.Error()}, statusOf(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(reply)
	}
}

// statusOf tells the client whose fault it was.
func statusOf(err error) int {
	switch {
	case errors.Is(err, errRequest):
		return http.StatusBadRequest
	case errors.Is(err, errNoSession), errors.Is(err, oscar.ErrNotFound): // the latter: ended by another request
		return http.StatusNotFound
	case errors.Is(err, oscar.ErrNoSpace), errors.Is(err, oscar.ErrState): // full, or all steps are taken: later
		return http.StatusServiceUnavailable
	case errors.Is(err, oscar.ErrInvalid): // longer than MaxTokens
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusInternalServerError
	}
}

// metrics tells what the cache holds, in the text format of Prometheus.
func (c *chat) metrics(w http.ResponseWriter, _ *http.Request) {
	stats, err := c.cache.Stats()
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	room, err := c.cache.Capacity()
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, m := range []struct {
		name, kind, help string
		value            any
	}{
		{"oscar_sequences", "gauge", "Open sequences.", stats.NSequences},
		{"oscar_open_steps", "gauge", "Open steps.", stats.NOpenSteps},
		{"oscar_tokens", "gauge", "Tokens of all sequences, shared ones counted in each.", stats.NTokens},
		{"oscar_packed_tokens", "gauge", "Tokens read from packed blocks.", stats.NPackedTokens},
		{"oscar_blocks", "gauge", "Blocks of 128 tokens in use, shared ones counted once.", stats.NBlocks},
		{"oscar_exact_pages", "gauge", "Pages of 16 exact rows in use.", stats.NExactPages},
		{"oscar_non_finite_total", "counter", "Elements stored as 0 because they were not finite.", stats.NNonFinite},
		{"oscar_sequences_bytes", "gauge", "Memory that grows with tokens.", stats.BytesSequences},
		{"oscar_fixed_bytes", "gauge", "Memory that does not.", stats.BytesFixed},
		{"oscar_free_bytes", "gauge", "Capacity that nobody holds.", stats.BytesFree},
		{"oscar_bits_per_element", "gauge", "Memory of sequences per element of keys and values.", stats.BitsPerElement},
		{"oscar_capacity_tokens", "gauge", "Tokens that a new sequence could be given.", room},
		{"chat_requests_total", "counter", "Requests but those of metrics.", c.nRequests.Load()},
		{"chat_failures_total", "counter", "Requests that failed.", c.nFailures.Load()},
		{"chat_read_tokens_total", "counter", "Tokens read.", c.nRead.Load()},
		{"chat_written_tokens_total", "counter", "Tokens written.", c.nWritten.Load()},
	} {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %v\n", m.name, m.help, m.name, m.kind, m.name, m.value)
	}
}
