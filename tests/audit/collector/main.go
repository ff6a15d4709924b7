// Command collector is the OpenTelemetry Collector's own OTLP receiver, which writes each log record that it is sent as one
// line of JSON. POST /mode on its second address says how it behaves: `take`, `busy` (it cannot take more now: 503), `refuse`
// (it never will: 500).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"go.opentelemetry.io/collector/confmap"
)

// record is what a test wants to know of a log record.
type record struct {
	Body       string         `json:"body"`
	Time       uint64         `json:"time"`
	Observed   uint64         `json:"observed"`
	Severity   int32          `json:"severity"`
	Event      string         `json:"event"`
	Trace      string         `json:"trace"`
	Attributes map[string]any `json:"attributes"`
	Resource   map[string]any `json:"resource"`
}

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(path string) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var mode atomic.Value
	mode.Store("take")
	var lock sync.Mutex
	take := func(_ context.Context, logs plog.Logs) error {
		switch mode.Load() {
		case "busy":
			return errors.New("busy")
		case "refuse":
			return consumererror.NewPermanent(errors.New("refused"))
		}
		lock.Lock()
		defer lock.Unlock()
		return write(out, logs)
	}
	next, err := consumer.NewLogs(take)
	if err != nil {
		return err
	}
	address, err := free()
	if err != nil {
		return err
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	wanted := confmap.NewFromStringMap(map[string]any{
		"protocols": map[string]any{"http": map[string]any{"endpoint": address}},
	})
	if err := wanted.Unmarshal(config); err != nil {
		return err
	}
	logs, err := factory.CreateLogs(context.Background(), receivertest.NewNopSettings(factory.Type()), config, next)
	if err != nil {
		return err
	}
	if err := logs.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		return err
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	http.HandleFunc("POST /mode", func(_ http.ResponseWriter, request *http.Request) {
		word, _ := io.ReadAll(request.Body)
		mode.Store(string(word))
	})
	fmt.Printf("{\"otlp\":\"http://%s/v1/logs\",\"admin\":\"http://%s\"}\n", address, admin.Addr())
	return http.Serve(admin, nil)
}

func free() (string, error) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer held.Close()
	return held.Addr().String(), nil
}

func write(out io.Writer, logs plog.Logs) error {
	encoder := json.NewEncoder(out)
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, one := range scope.LogRecords().All() {
				line := record{
					Body: one.Body().Str(), Time: uint64(one.Timestamp()), Observed: uint64(one.ObservedTimestamp()),
					Severity: int32(one.SeverityNumber()), Event: one.EventName(), Trace: one.TraceID().String(),
					Attributes: one.Attributes().AsRaw(), Resource: resource.Resource().Attributes().AsRaw(),
				}
				if err := encoder.Encode(line); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
