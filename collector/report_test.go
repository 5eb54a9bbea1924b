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

	"clntrace/collector/otlp"
	"clntrace/collector/socket"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
	"clntrace/collector/zipkin"
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
	if strings.ContainsAny(list[0], "<>&\n") {
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
	later := func(d time.Duration) stats.Report {
		n.now = func() time.Time { return n.started.Add(d) }
		return n.Stats(stats.Query{})
	}
	if list := about(later(silence-time.Second), "No span has come"); len(list) != 0 {
		t.Errorf("too early: %q", list)
	}
	check(t, later(silence+time.Minute), stats.StatusOK, "No span has come for 6 minutes", "CLN_TRACE_SOCKET="+n.socket, "restart the node")
	n.now = time.Now
	n.send(t, extendTip(1))
	n.lastSpan.Store(int64(3 * time.Minute)) // as if it had come then
	if list := about(later(silence+2*time.Minute), "No span has come"); len(list) != 0 {
		t.Errorf("a span has come: %q", list)
	}
	check(t, later(silence+5*time.Minute), stats.StatusOK, "No span has come for 7 minutes")
}

func TestRefusedOptionIsWarnedAbout(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "http://127.0.0.1:1", nil, "clntrace-sample-ratio: got '2', allowed is a number from 0 to 1")
	n.send(t, extendTip(1))
	r := n.wait(t, "the span to be filtered", func(r stats.Report) bool { return r.Spans.Filtered == 1 })
	check(t, r, stats.StatusDegraded, "clntrace-sample-ratio: got '2'", "allowed is", "Nothing is exported until")
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

func TestPlaintextToAnotherHostIsWarnedAbout(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "http://192.0.2.1:4317", nil) // an address that is nobody's, and nothing is sent
	check(t, n.Stats(stats.Query{}), stats.StatusOK, "http://192.0.2.1:4317 unencrypted", "https://")
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

// A spool of 1 MiB is never a whole one full.
func TestSmallSpoolIsNotCalledEmpty(t *testing.T) {
	var said warnings
	judgeSpool(&stats.Report{Spans: stats.Spans{Spooled: 1}}, spool.Status{Bytes: 970_000, Limit: 1 << 20}, &said)
	if len(said) != 1 || !strings.Contains(said[0], "holds 0.9 of 1 MiB") {
		t.Errorf("got %q", said)
	}
}

// An endpoint that has just rejected spans is not all right, though it takes others.
func TestRejectionsDegrade(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "off", nil)
	now := time.Now()
	for ago, want := range map[time.Duration]stats.Status{time.Minute: stats.StatusDegraded, 30 * time.Minute: stats.StatusOK} {
		r := stats.Report{Spans: stats.Spans{Exported: 4, RejectedByBackend: 96}, Export: stats.Export{
			Endpoint: "http://x:1", State: "connected", Rejection: "too large", RejectedAt: now.Add(-ago),
		}}
		r.Status, r.Warnings = n.judge(&r, socket.Status{Listening: true}, time.Time{}, now)
		check(t, r, want, "http://x:1 rejected 96 spans", "too large")
	}
}

// What a test cannot bring about in good time is told to the judge.
func TestWarningsFromCounts(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "off", nil)
	n.noteMalformed(zipkin.ErrForm)
	up := socket.Status{Listening: true, Path: n.socket, QueueLimit: 10}
	full := up
	full.QueueFull = 14
	large := full
	large.QueueLimit = 512
	crowded := up
	crowded.QueueLimit, crowded.SenderFull, crowded.SenderBuffer = 512, 3, 212992
	flooded := up
	flooded.Dropped = 9
	rejected := time.Date(2020, 11, 22, 18, 6, 22, 0, time.UTC)
	for _, tc := range []struct {
		name  string
		link  socket.Status
		spans stats.Spans
		data  stats.Datagrams
		parts []string

		export stats.Export
	}{
		{"kernel queue", full, stats.Spans{}, stats.Datagrams{}, []string{"The kernel's queue holds 11 datagrams and was full 14 times", "sysctl -w net.unix.max_dgram_qlen=512", "restart clntrace", "Docker", "Kubernetes"}, stats.Export{}},
		{"large kernel queue", large, stats.Spans{}, stats.Datagrams{}, []string{"The kernel's queue holds 513 datagrams and was full 14 times", "more CPU"}, stats.Export{}},
		{"a sender's buffer", crowded, stats.Spans{}, stats.Datagrams{}, []string{"(net.core.wmem_default, 212992 bytes) was full 3 times", "queue of 513", "sysctl -w net.core.wmem_default=1048576", "restart the node"}, stats.Export{}},
		{"missing parents", up, stats.Spans{MissingParents: 32}, stats.Datagrams{}, []string{"32 spans name a parent", "raise net.unix.max_dgram_qlen to 512"}, stats.Export{}},
		{"missing parents, full queue", full, stats.Spans{MissingParents: 32}, stats.Datagrams{}, []string{"32 spans name a parent", "no room for them: see above"}, stats.Export{}},
		{"missing parents, full buffer", crowded, stats.Spans{MissingParents: 32}, stats.Datagrams{}, []string{"32 spans name a parent", "no room for them: see above"}, stats.Export{}},
		{"cut spans", up, stats.Spans{Truncated: 4, Repaired: 3}, stats.Datagrams{}, []string{"4 spans were longer", "3 got their trace id back", "cln.truncated=true"}, stats.Export{}},
		{"queue of spans", up, stats.Spans{DroppedQueueFull: 5}, stats.Datagrams{}, []string{"5 spans were dropped", "clntrace-queue-size"}, stats.Export{}},
		{"queue of spans, in a flood", flooded, stats.Spans{DroppedQueueFull: 14}, stats.Datagrams{}, []string{"5 spans were dropped", "clntrace-queue-size"}, stats.Export{}},
		{"a flood", flooded, stats.Spans{DroppedQueueFull: 9}, stats.Datagrams{}, []string{"dropped", "9 datagrams were", "faster than they could be decoded", n.socket}, stats.Export{}},
		{"rejected by the endpoint", up, stats.Spans{RejectedByBackend: 6}, stats.Datagrams{}, []string{"http://x:1 rejected 6 spans, they are lost, last at 18:06:22 UTC: it wants credentials."},
			stats.Export{Endpoint: "http://x:1", Rejection: "it wants credentials", RejectedAt: rejected, LastError: "an outage since"}},
		{"rejected before a setconfig", up, stats.Spans{RejectedByBackend: 6}, stats.Datagrams{}, []string{"6 spans are lost that were rejected before the endpoint or its headers last changed, at 18:06:22 UTC"},
			stats.Export{Endpoint: "http://x:1", RejectedAt: rejected}},
		{"one of each", up, stats.Spans{Truncated: 1}, stats.Datagrams{}, []string{"1 span was longer"}, stats.Export{}},
		{"other users", up, stats.Spans{}, stats.Datagrams{Refused: 7}, []string{"7 datagrams came from users", "clntrace-allow-uids"}, stats.Export{}},
		{"malformed", up, stats.Spans{}, stats.Datagrams{Malformed: 8}, []string{"8 datagrams were not spans", zipkin.ErrForm.Error(), n.socket}, stats.Export{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := stats.Report{Spans: tc.spans, Datagrams: tc.data, Export: tc.export}
			r.Status, r.Warnings = n.judge(&r, tc.link, time.Time{}, time.Now())
			check(t, r, stats.StatusOK, tc.parts...)
		})
	}
}
