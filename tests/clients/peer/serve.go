package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// upstream is one server; its name is in `X-Upstream` of every answer.
type upstream struct {
	name  string
	slow  atomic.Int64 // milliseconds that every answer is late
	sick  atomic.Bool  // whether `/healthz` says 503
	asked atomic.Int64
}

// serve runs an upstream until its standard input ends. It says where it listens as one line of JSON.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:0", "where to listen")
	name := flags.String("name", "one", "what `X-Upstream` says")
	certificate := flags.String("certificate", "", "speak TLS with this chain")
	key := flags.String("key", "", "and this key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	here := &upstream{name: *name}
	server := &http.Server{Handler: here.handler(), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	scheme := "http"
	if *certificate != "" {
		scheme = "https"
	}
	fmt.Printf("{\"url\": \"%s://%s\", \"port\": %d}\n", scheme, listener.Addr(), listener.Addr().(*net.TCPAddr).Port)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if *certificate != "" {
		return server.ServeTLS(listener, *certificate, *key)
	}
	return server.Serve(listener)
}

func (u *upstream) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", u.bytes)
	mux.HandleFunc("/echo", u.echo)
	mux.HandleFunc("/mirror", u.mirror)
	mux.HandleFunc("/drip", u.drip)
	mux.HandleFunc("/healthz", u.health)
	mux.HandleFunc("/trailers", u.trailers)
	mux.HandleFunc("/asked", u.count)
	mux.HandleFunc("/admin", u.admin)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Upstream", u.name)
		w.Header().Set("X-Upstream-Proto", r.Proto)
		if r.URL.Path != "/admin" && r.URL.Path != "/asked" {
			if r.URL.Path != "/healthz" {
				u.asked.Add(1)
			}
			pause(time.Duration(u.slow.Load()+int64(number(r, "ms", 0)))*time.Millisecond, r)
		}
		mux.ServeHTTP(w, r)
	})
}

// number is a query parameter, or `otherwise`.
func number(r *http.Request, name string, otherwise int) int {
	if value, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
		return value
	}
	return otherwise
}

// pause waits, and is over as soon as the client has left.
func pause(wait time.Duration, r *http.Request) bool {
	if wait <= 0 {
		return true
	}
	select {
	case <-time.After(wait):
		return true
	case <-r.Context().Done():
		return false
	}
}

// bytes answers with `n` bytes (1024), `ms` late. The request's body is read first.
func (u *upstream) bytes(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	left := number(r, "n", 1024)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(left))
	w.WriteHeader(number(r, "status", 200))
	block := make([]byte, 64*1024)
	for i := range block {
		block[i] = byte('a' + i%26)
	}
	for left > 0 {
		wrote, err := w.Write(block[:min(left, len(block))])
		if err != nil {
			return
		}
		left -= wrote
	}
}

// echo tells what arrived: request line, headers, and the body's length and SHA-256.
func (u *upstream) echo(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	length, err := io.Copy(sum, r.Body)
	said := map[string]any{
		"method": r.Method, "target": r.RequestURI, "proto": r.Proto, "host": r.Host, "headers": r.Header,
		"length": length, "sha256": hex.EncodeToString(sum.Sum(nil)), "trailers": r.Trailer, "whole": err == nil,
		"content_length": r.ContentLength,
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(said)
}

// mirror gives the body back as it comes, each piece at once.
func (u *upstream) mirror(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	control.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(200)
	control.Flush()
	block := make([]byte, 64*1024)
	for {
		read, err := r.Body.Read(block)
		w.Write(block[:read])
		control.Flush()
		if err != nil {
			return
		}
	}
}

// drip writes `lines` lines, one every `every` milliseconds.
func (u *upstream) drip(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/plain")
	for i := range number(r, "lines", 10) {
		fmt.Fprintf(w, "line %d\n", i)
		control.Flush()
		if !pause(time.Duration(number(r, "every", 100))*time.Millisecond, r) {
			return
		}
	}
}

func (u *upstream) trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	fmt.Fprintln(w, "the body")
	w.Header().Set("X-Sum", "7")
}

func (u *upstream) health(w http.ResponseWriter, r *http.Request) {
	if u.sick.Load() {
		w.WriteHeader(503)
	}
}

// count tells how many requests arrived, health checks left out.
func (u *upstream) count(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, u.asked.Load()) }

// admin makes the upstream slow (`?slow=MS`), sick (`?sick=1`) or well again (`?sick=0`).
func (u *upstream) admin(w http.ResponseWriter, r *http.Request) {
	u.slow.Store(int64(number(r, "slow", int(u.slow.Load()))))
	if asked := r.URL.Query().Get("sick"); asked != "" {
		u.sick.Store(asked == "1")
	}
}
