package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

const prompt = "The system prompt that all sessions share. "

func newServer(t *testing.T, system string, capacityBytes int) *httptest.Server {
	t.Helper()
	c, err := newChat(system, capacityBytes)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c.handler())
	t.Cleanup(func() {
		server.Close()
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// ask sends a request and gives the field of its JSON answer; the status must be as wanted.
func ask(t *testing.T, server *httptest.Server, method, path, body string, status int, field string) string {
	t.Helper()
	request, err := http.NewRequest(method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]string
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != status || (field != "" && answer[field] == "") {
		t.Fatalf("%s %s: status %d, wanted %d: %v", method, path, response.StatusCode, status, answer)
	}
	return answer[field]
}

func open(t *testing.T, server *httptest.Server, from string) string {
	t.Helper()
	return ask(t, server, "POST", "/sessions", fmt.Sprintf(`{"from": %q}`, from), http.StatusCreated, "id")
}

func say(t *testing.T, server *httptest.Server, id, text string) string {
	t.Helper()
	body := fmt.Sprintf(`{"text": %q, "tokens": 24}`, text)
	return ask(t, server, "POST", "/sessions/"+id+"/messages", body, http.StatusOK, "reply")
}

// metrics gives the numbers of /metrics.
func metrics(t *testing.T, server *httptest.Server) map[string]float64 {
	t.Helper()
	response, err := server.Client().Get(server.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var name string
		var value float64
		if _, err := fmt.Sscanf(line, "%s %g\n", &name, &value); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		values[name] = value
	}
	return values
}

func TestSessionsShareTheSystemPrompt(t *testing.T) {
	server := newServer(t, strings.Repeat(prompt, 20), 64<<20)
	before := metrics(t, server)
	for range 10 {
		open(t, server, "")
	}
	after := metrics(t, server)
	if n := float64(20 * len(prompt)); before["oscar_tokens"] != n || after["oscar_tokens"] != 11*n {
		t.Errorf("%v tokens, then %v, wanted %v and eleven times that", before["oscar_tokens"], after["oscar_tokens"], n)
	}
	if after["oscar_blocks"] != before["oscar_blocks"] || before["oscar_blocks"] == 0 {
		t.Errorf("%v blocks, then %v", before["oscar_blocks"], after["oscar_blocks"])
	}
	if after["oscar_sequences"] != 11 || after["oscar_open_steps"] != 0 {
		t.Errorf("%v", after)
	}
	if after["oscar_bits_per_element"] >= before["oscar_bits_per_element"] {
		t.Errorf("shared tokens take %v bits per element, others %v", after["oscar_bits_per_element"],
			before["oscar_bits_per_element"])
	}
}

func TestRepliesDependOnWhatWasSaid(t *testing.T) {
	server := newServer(t, prompt, 64<<20)
	one, same, other := open(t, server, ""), open(t, server, ""), open(t, server, "")
	first := say(t, server, one, "good morning")
	if again := say(t, server, same, "good morning"); again != first {
		t.Errorf("the same words got %q and %q", first, again)
	}
	if reply := say(t, server, other, "good evening"); reply == first {
		t.Errorf("other words got the same reply %q", reply)
	}
	// A fork goes on from all that was said; the session it came from does not notice.
	fork := open(t, server, one)
	if a, b := say(t, server, fork, "and then?"), say(t, server, one, "and then?"); a != b {
		t.Errorf("a fork replies %q, its session %q", a, b)
	}
}

func TestASessionEnds(t *testing.T) {
	server := newServer(t, prompt, 64<<20)
	id := open(t, server, "")
	ask(t, server, "DELETE", "/sessions/"+id, "", http.StatusOK, "")
	ask(t, server, "DELETE", "/sessions/"+id, "", http.StatusNotFound, "error")
	ask(t, server, "POST", "/sessions/"+id+"/messages", `{"text": "hello?"}`, http.StatusNotFound, "error")
	ask(t, server, "POST", "/sessions", fmt.Sprintf(`{"from": %q}`, id), http.StatusNotFound, "error")
	if m := metrics(t, server); m["oscar_sequences"] != 1 || m["chat_failures_total"] != 3 || m["chat_requests_total"] != 5 {
		t.Errorf("%v", m)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	server := newServer(t, prompt, 64<<20)
	id := open(t, server, "")
	for _, body := range []string{`{"text": `, `{"text": 5}`, `{"tokens": 0}`, `{"tokens": 1000000}`} {
		ask(t, server, "POST", "/sessions/"+id+"/messages", body, http.StatusBadRequest, "error")
	}
}

func TestAFullCacheKeepsItsSessions(t *testing.T) {
	server := newServer(t, prompt, 1<<19)
	id := open(t, server, "")
	first := say(t, server, id, "hello")
	long := fmt.Sprintf(`{"text": %q}`, strings.Repeat("many words ", 2000))
	tokens := metrics(t, server)["oscar_tokens"]
	ask(t, server, "POST", "/sessions/"+id+"/messages", long, http.StatusServiceUnavailable, "error")
	if m := metrics(t, server); m["oscar_tokens"] != tokens || m["oscar_sequences"] != 2 {
		t.Errorf("%v tokens before, then %v", tokens, m)
	}
	if say(t, server, open(t, server, ""), "hello") != first {
		t.Error("a new session after the cache was full replies otherwise")
	}
	say(t, server, id, "are you still there?")
}

func TestSessionsSpeakAtTheSameTime(t *testing.T) {
	server := newServer(t, prompt, 64<<20)
	wanted := say(t, server, open(t, server, ""), "all together")
	var group sync.WaitGroup
	for range 8 {
		id := open(t, server, "")
		group.Add(1)
		go func() {
			defer group.Done()
			response, err := server.Client().Post(server.URL+"/sessions/"+id+"/messages", "application/json",
				strings.NewReader(`{"text": "all together", "tokens": 24}`))
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			var answer map[string]string
			if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer["reply"] != wanted {
				t.Errorf("%v, %v, wanted %q", answer, err, wanted)
			}
		}()
	}
	group.Wait()
}
