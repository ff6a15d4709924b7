package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// plan is what a load is to be, as flags say it.
type plan struct {
	url, method, unix, host, want string
	headers                       []string
	h2, fresh                     bool
	workers, connections, body    int
	seconds, timeout, rate        float64
	requests                      int64
}

// failure is one request that did not get its answer.
type failure struct {
	At   float64 `json:"at"`   // seconds after the start: when it ended
	Took float64 `json:"took"` // seconds
	What string  `json:"what"`
}

// result is what a load counts. Retried are requests that Go's client sent again on its own, because the connection had
// gone before it was written or the server had said that it did not process it (GOAWAY, REFUSED_STREAM).
type result struct {
	Requests    int64            `json:"requests"`
	Ok          int64            `json:"ok"`
	Failed      int64            `json:"failed"`
	Retried     int64            `json:"retried"`
	Connections int64            `json:"connections"`
	Seconds     float64          `json:"seconds"`
	P50         float64          `json:"p50"` // milliseconds, as the next two
	P99         float64          `json:"p99"`
	Max         float64          `json:"max"`
	Kinds       map[string]int64 `json:"kinds"`
	Upstreams   map[string]int64 `json:"upstreams"`
	Protocols   map[string]int64 `json:"protocols"`
	Failures    []failure        `json:"failures"` // the first 1000
}

type counter struct {
	plan
	result
	start    time.Time
	lock     sync.Mutex
	took     []float64
	begun    atomic.Int64
	retried  atomic.Int64
	dialled  atomic.Int64
	stopping chan struct{}
	first    func() // says that the first answer has begun, or failed
}

// load sends requests until its time or number is over or its standard input ends, lets those in flight end, and
// writes what it counted as one line of JSON. Before that it writes an empty object when the first answer has begun.
func load(args []string) error {
	asked := plan{}
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.StringVar(&asked.url, "url", "", "what to ask for")
	flags.StringVar(&asked.method, "method", "GET", "how")
	flags.StringVar(&asked.unix, "unix", "", "connect to this socket")
	flags.StringVar(&asked.host, "host", "", "the Host to send")
	flags.StringVar(&asked.want, "want", "^2", "the status expected, a pattern")
	flags.BoolVar(&asked.h2, "h2", false, "HTTP/2, by ALPN or prior knowledge")
	flags.BoolVar(&asked.fresh, "fresh", false, "a new connection for each request")
	flags.IntVar(&asked.workers, "workers", 16, "requests at once")
	flags.IntVar(&asked.connections, "connections", 0, "how many connections share them (default: one each; 2 for HTTP/2)")
	flags.IntVar(&asked.body, "body", 0, "bytes to send with each")
	flags.Float64Var(&asked.seconds, "seconds", 3600, "how long")
	flags.Float64Var(&asked.timeout, "timeout", 15, "seconds until a request has failed")
	flags.Float64Var(&asked.rate, "rate", 0, "requests a second, of all workers (default: as fast as they go)")
	flags.Int64Var(&asked.requests, "requests", 1<<62, "how many")
	flags.Func("header", "`Name: value` to send", func(value string) error {
		asked.headers = append(asked.headers, value)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if asked.connections == 0 {
		asked.connections = asked.workers
		if asked.h2 {
			asked.connections = 2
		}
	}
	want, err := regexp.Compile(asked.want)
	if err != nil {
		return err
	}
	c := &counter{plan: asked, start: time.Now(), stopping: make(chan struct{}), first: sync.OnceFunc(func() { fmt.Println("{}") })}
	c.Kinds, c.Upstreams, c.Protocols, c.Failures = map[string]int64{}, map[string]int64{}, map[string]int64{}, []failure{}
	stop := sync.OnceFunc(func() { close(c.stopping) })
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	go func() {
		time.Sleep(time.Duration(asked.seconds * float64(time.Second)))
		stop()
	}()
	c.run(want)
	return json.NewEncoder(os.Stdout).Encode(c.finish())
}

func (c *counter) run(want *regexp.Regexp) {
	clients := make([]*http.Client, c.connections)
	for i := range clients {
		clients[i] = c.client()
	}
	var workers sync.WaitGroup
	for i := range c.workers {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for turn := 0; c.more(i, turn); turn++ {
				c.once(clients[i%len(clients)], want)
			}
		}()
	}
	workers.Wait()
}

// more is true while another request is wanted; it waits until that one's turn has come.
func (c *counter) more(worker, turn int) bool {
	var due <-chan time.Time
	if c.rate > 0 {
		every := float64(c.workers) / c.rate
		at := (float64(turn) + float64(worker)/float64(c.workers)) * every
		due = time.After(time.Until(c.start.Add(time.Duration(at * float64(time.Second)))))
	} else {
		now := make(chan time.Time)
		close(now)
		due = now
	}
	select {
	case <-c.stopping:
		return false
	case <-due:
	}
	select {
	case <-c.stopping:
		return false
	default:
		return c.begun.Add(1) <= c.requests
	}
}

func (c *counter) client() *http.Client {
	dialer := &net.Dialer{Timeout: time.Duration(c.timeout * float64(time.Second))}
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true, ServerName: c.host}, // the certificates are the tests' own
		DisableKeepAlives:  c.fresh,
		DisableCompression: true,
		MaxIdleConns:       0,
		IdleConnTimeout:    time.Hour,
		Protocols:          new(http.Protocols),
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c.dialled.Add(1)
			if c.unix != "" {
				return dialer.DialContext(ctx, "unix", c.unix)
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
	transport.Protocols.SetHTTP1(!c.h2)
	if c.h2 {
		transport.Protocols.SetHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// once sends one request, reads its answer to the end, and counts it.
func (c *counter) once(client *http.Client, want *regexp.Regexp) {
	start, tries := time.Now(), int64(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.timeout*float64(time.Second)))
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { tries++ }})
	var body io.Reader
	if c.body > 0 {
		body = bytes.NewReader(make([]byte, c.body))
	}
	request, err := http.NewRequestWithContext(ctx, c.method, c.url, body)
	if err != nil {
		c.note(start, "", nil, err)
		return
	}
	if c.host != "" {
		request.Host = c.host
	}
	for _, line := range c.headers {
		name, value, _ := strings.Cut(line, ":")
		request.Header.Add(name, strings.TrimSpace(value))
	}
	answer, err := client.Do(request)
	if tries > 1 {
		c.retried.Add(tries - 1)
	}
	if err != nil {
		c.note(start, "", nil, err)
		return
	}
	c.first()
	length, err := io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	what := ""
	if !want.MatchString(fmt.Sprint(answer.StatusCode)) {
		what = fmt.Sprintf("status %d", answer.StatusCode)
	} else if err == nil && answer.ContentLength >= 0 && length != answer.ContentLength {
		what = fmt.Sprintf("%d bytes of %d", length, answer.ContentLength)
	}
	c.note(start, what, answer, err)
}

// note counts one request; `what` is empty and `err` nil if it was answered as it should be.
func (c *counter) note(start time.Time, what string, answer *http.Response, err error) {
	took := time.Since(start).Seconds()
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		what = ports.ReplaceAllString(err.Error(), "")
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.first()
	c.Requests++
	c.took = append(c.took, took)
	if answer != nil {
		c.Protocols[answer.Proto]++
		c.Upstreams[answer.Header.Get("X-Upstream")]++
	}
	if what == "" {
		c.Ok++
		return
	}
	c.Failed++
	c.Kinds[what]++
	if len(c.Failures) < 1000 {
		c.Failures = append(c.Failures, failure{time.Since(c.start).Seconds(), took, what})
	}
}

// ports are what makes two errors of one kind differ.
var ports = regexp.MustCompile(`(tcp|udp) [0-9.:]+->[0-9.:]+: `)

func (c *counter) finish() *result {
	c.Seconds = time.Since(c.start).Seconds()
	c.Retried, c.Connections = c.retried.Load(), c.dialled.Load()
	slices.Sort(c.took)
	at := func(part float64) float64 {
		if len(c.took) == 0 {
			return 0
		}
		return c.took[int(part*float64(len(c.took)-1))] * 1000
	}
	c.P50, c.P99, c.Max = at(0.5), at(0.99), at(1)
	return &c.result
}
