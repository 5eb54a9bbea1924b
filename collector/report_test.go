package collector

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"clntrace/collector/cln"
	"clntrace/collector/otlp"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a collector with a socket of its own.
type node struct {
	*Collector
	socket string
}

// open opens a collector, which the test shuts down if it did not itself.
func open(t *testing.T, o Options) *node {
	t.Helper()
	if o.SocketPath == "" && o.SocketProblem == "" {
		o.SocketPath = filepath.Join(t.TempDir(), "trace.sock")
	}
	o.Logger, o.Voice = slog.New(slog.NewTextHandler(io.Discard, nil)), voice.Plugin
	n := &node{Open(o), o.SocketPath}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = n.Shutdown(ctx)
	})
	return n
}

// start begins to export to endpoint, without waiting for a node's name.
func (n *node) start(t *testing.T, endpoint string, change func(*Config), problems ...string) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.SpoolSize, cfg.BatchDelay = 0, 10*time.Millisecond
	var err error
	if cfg.Endpoint, err = otlp.ParseEndpoint(endpoint); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&cfg)
	}
	n.Start(cfg, problems)
	n.SetNode(Node{})
}

// send sends spans and waits until they are counted.
func (n *node) send(t *testing.T, spans ...string) {
	t.Helper()
	c, err := net.Dial("unixgram", n.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := n.Stats(stats.Query{}).Datagrams.Received
	for _, s := range spans {
		if _, err := c.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	n.wait(t, "the datagrams to be counted", func(r stats.Report) bool { return r.Datagrams.Received == before+uint64(len(spans)) })
}

// wait waits until the report is as it should be, and returns it.
func (n *node) wait(t *testing.T, what string, ok func(stats.Report) bool) stats.Report {
	t.Helper()
	const patience = time.Minute
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		r := n.Stats(stats.Query{Limit: 20})
		if ok(r) {
			return r
		}
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s: %+v", patience, what, r)
		}
	}
}

// extendTip is a span as lightningd sends it.
func extendTip(id int) string {
	return fmt.Sprintf(`[{"id":"%016x","name":"extend_tip","timestamp":%d,"duration":1500,"localEndpoint":{"serviceName":"lightningd"},"tags":{},"traceId":"%032x"}]`,
		id, time.Now().UnixMicro(), id)
}

// about returns the warnings that hold part.
func about(r stats.Report, part string) (list []string) {
	for _, w := range r.Warnings {
		if strings.Contains(w, part) {
			list = append(list, w)
		}
	}
	return list
}

// check looks for one warning that says all of parts.
func check(t *testing.T, r stats.Report, status stats.Status, parts ...string) {
	t.Helper()
	if r.Status != status {
		t.Errorf("the status is %s, want %s", r.Status, status)
	}
	list := about(r, parts[0])
	if len(list) != 1 {
		t.Fatalf("%d warnings about %q: %q", len(list), parts[0], r.Warnings)
	}
	for _, part := range parts {
		if !strings.Contains(list[0], part) {
			t.Errorf("%q is not in the warning: %s", part, list[0])
		}
	}
	if strings.Contains(list[0], "\n") {
		t.Errorf("lightning-cli would not show this as it is: %s", list[0])
	}
}

func TestNothingToWarnAbout(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "off", nil)
	n.send(t, extendTip(1))
	if r := n.Stats(stats.Query{}); r.Status != stats.StatusOK || len(r.Warnings) != 0 {
		t.Errorf("got %s, %q", r.Status, r.Warnings)
	}
}

func TestNoSocketIsWarnedAbout(t *testing.T) {
	n := open(t, Options{SocketProblem: "CLN_TRACE_SOCKET is not set in lightningd's environment"})
	check(t, n.Stats(stats.Query{}), stats.StatusDegraded, "No span can be received", "CLN_TRACE_SOCKET is not set")

	path := filepath.Join(t.TempDir(), "no", "such", "trace.sock")
	n = open(t, Options{SocketPath: path})
	check(t, n.Stats(stats.Query{}), stats.StatusDegraded, "No span can be received", filepath.Dir(path), "does not exist")

	first := open(t, Options{})
	n = open(t, Options{SocketPath: first.socket})
	check(t, n.Stats(stats.Query{}), stats.StatusDegraded, "No span can be received", first.socket, "another process is listening")
}

func TestSilenceIsWarnedAbout(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "off", nil)
	n.now = func() time.Time { return n.started.Add(6 * time.Minute) }
	check(t, n.Stats(stats.Query{}), stats.StatusOK, "No span has come for 6m", "CLN_TRACE_SOCKET="+n.socket)
	n.now = time.Now
	n.send(t, extendTip(1))
	n.seen.lastSpan.Store(int64(3 * time.Minute)) // as if it had come then
	n.now = func() time.Time { return n.started.Add(10 * time.Minute) }
	check(t, n.Stats(stats.Query{}), stats.StatusOK, "No span has come for 7m", "does it hang")
}

func TestRefusedOptionIsWarnedAbout(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "http://127.0.0.1:1", nil, "clntrace-sample-ratio: got '2', must be a number from 0 to 1")
	n.send(t, extendTip(1))
	r := n.wait(t, "the span to be filtered", func(r stats.Report) bool { return r.Spans.Filtered == 1 })
	check(t, r, stats.StatusDegraded, "clntrace-sample-ratio: got '2'", "must be", "Nothing is exported until")
	cfg := n.cfg
	if err := n.Reconfigure(cfg, nil); err != nil {
		t.Fatal(err)
	}
	if r := n.Stats(stats.Query{}); r.Status != stats.StatusOK || len(r.Warnings) != 0 {
		t.Errorf("after it was corrected: %s, %q", r.Status, r.Warnings)
	}
}

func TestUnreachableEndpointIsWarnedAbout(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "http://127.0.0.1:1", nil)
	before := time.Now().UTC().Truncate(time.Second)
	n.send(t, extendTip(1))
	r := n.wait(t, "the outage to be noticed", func(r stats.Report) bool { return r.Status == stats.StatusBackendUnreachable })
	check(t, r, stats.StatusBackendUnreachable, "http://127.0.0.1:1 has not taken spans since ", "connection refused", "clntrace-otlp-endpoint")
	_, rest, _ := strings.Cut(about(r, "has not taken")[0], "since ")
	at, _, _ := strings.Cut(rest, ": ")
	if since, err := time.Parse(time.RFC3339, at); err != nil || since.Before(before) || since.After(time.Now()) {
		t.Errorf("since %s (%v), want a moment ago", at, err)
	}
}

// tracesOnly is an endpoint that takes no metrics.
type tracesOnly struct {
	coltracepb.UnimplementedTraceServiceServer
}

func (tracesOnly) Export(context.Context, *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func TestEndpointWithoutMetricsIsWarnedAbout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, tracesOnly{})
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	n := open(t, Options{})
	n.start(t, "http://"+l.Addr().String(), func(c *Config) { c.Metrics = true })
	n.send(t, extendTip(1))
	n.wait(t, "the span to be exported", func(r stats.Report) bool { return r.Spans.Exported == 1 })
	if err := n.Shutdown(t.Context()); err != nil { // sends the metrics
		t.Error(err)
	}
	check(t, n.Stats(stats.Query{}), stats.StatusOK,
		"has not taken metrics since", "unknown service", "Spans are not affected", "clntrace-metrics")
}

// A warning about what happened says when it last did, and is over an hour later.
func TestWarningHasItsTime(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "off", nil)
	n.send(t, "no span")
	r := n.Stats(stats.Query{})
	check(t, r, stats.StatusOK, "1 datagram was not a span and was dropped, last at "+time.Now().UTC().Format("15:04"))
	n.now = func() time.Time { return time.Now().Add(warningLife + time.Minute) }
	if r := n.Stats(stats.Query{}); r.Datagrams.Malformed != 1 || len(about(r, "not a span")) != 0 {
		t.Errorf("an hour later there are %q", r.Warnings)
	}
}

// What the table shows is a pattern of spans to drop.
func TestDropPatternIsWhatTheTableShows(t *testing.T) {
	command := func(id int, method string) string {
		return fmt.Sprintf(`[{"id":"%016x","name":"lightningd/jsonrpc","timestamp":%d,"duration":1500,"localEndpoint":{"serviceName":"lightningd"},"tags":{"method":"%s"},"traceId":"%032x"}]`,
			id, time.Now().UnixMicro(), method, id)
	}
	for i, method := range []string{"getinfo", "dev:x", "a.b(c)*d", "<m>&"} {
		n := open(t, Options{})
		n.start(t, "http://127.0.0.1:1", func(c *Config) { c.DropSpans, c.GroupRequests = []string{"no such span"}, false })
		n.send(t, command(i+1, method))
		var table strings.Builder
		r := n.Stats(stats.Query{Limit: 1})
		if err := r.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		o := r.Operations[0]
		what := cln.What(o.Process, o.Span, o.Detail)
		if !strings.Contains(table.String(), " "+what+" ") {
			t.Errorf("%q is not in the table:\n%s", what, table.String())
		}
		cfg := n.cfg
		cfg.DropSpans = []string{what}
		if err := n.Reconfigure(cfg, nil); err != nil {
			t.Fatal(err)
		}
		n.send(t, command(i+100, method))
		n.wait(t, "the span to be dropped", func(r stats.Report) bool { return r.Spans.Filtered == 1 })
	}
}
