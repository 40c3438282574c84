// Command chat is an HTTP service that keeps chat sessions in forked caches: a system prompt is read once, every session
// begins as a fork of it, and a session can be forked again. /metrics tells what the cache holds. The model is a toy with
// random weights; the calls are those of a real engine.
//
//	go run . -listen localhost:8080
//	curl -X POST localhost:8080/sessions
//	curl -X POST localhost:8080/sessions/1/messages -d '{"text": "hello"}'
//	curl -X POST localhost:8080/sessions -d '{"from": "1"}'
//	curl localhost:8080/metrics
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "`address` to listen at")
	system := flag.String("system", "You are a helpful assistant. Answer briefly and tell the truth.\n", "system prompt")
	capacity := flag.Int("capacity", 256<<20, "memory of the cache in `bytes`")
	flag.Parse()
	if err := serve(*listen, *system, *capacity); err != nil {
		log.Fatal(err)
	}
}

func serve(listen, system string, capacityBytes int) error {
	c, err := newChat(system, capacityBytes)
	if err != nil {
		return err
	}
	defer c.close()
	server := &http.Server{Addr: listen, Handler: c.handler(), ReadHeaderTimeout: 10 * time.Second}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	stopped := make(chan error, 1)
	go func() {
		<-interrupted.Done()
		within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(within)
	}()
	log.Printf("listening at %s", listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
