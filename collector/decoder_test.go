package collector

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"clntrace/collector/correlate"
	"clntrace/collector/otlp"
	"clntrace/collector/socket"
	"clntrace/collector/stats"
)

// TestPolicyCanChange holds spans back for one reason after the other. None of them may
// keep its room in memory.
func TestPolicyCanChange(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "http://127.0.0.1:1", func(c *Config) { c.DropSpans = []string{"extend_*"} })
	expect := func(filtered, sampledOut uint64) {
		t.Helper()
		n.wait(t, "the spans to be held back", func(r stats.Report) bool {
			return r.Spans.Filtered == filtered && r.Spans.SampledOut == sampledOut && n.room.Spans() == 0
		})
	}
	n.send(t, extendTip(1), extendTip(2))
	expect(2, 0)
	cfg := n.cfg
	cfg.DropSpans, cfg.SampleRatio = nil, 0
	if err := n.Reconfigure(cfg, nil); err != nil {
		t.Fatal(err)
	}
	n.send(t, extendTip(3))
	expect(2, 1)
	cfg.Endpoint = otlp.OffEndpoint
	if err := n.Reconfigure(cfg, nil); err != nil {
		t.Fatal(err)
	}
	n.send(t, extendTip(4))
	expect(3, 1)
}

// root sends a request to a collector of its own, and returns its root.
func root(t *testing.T, o Options, first uint64, pid int32, change func(*Config)) *correlate.Span {
	t.Helper()
	o.SocketProblem = "none is needed"
	n := open(t, o)
	n.FirstRequest(first)
	n.start(t, "http://127.0.0.1:1", change)
	d, now := newDecoder(n.Collector), time.Now()
	d.release(now)
	d.pass([]socket.Datagram{{PID: pid, Payload: []byte(`[{"id":"00000000000000a1","name":"jsonrpc","timestamp":1795324398371053,"duration":501,` +
		`"localEndpoint":{"serviceName":"lightningd"},"tags":{"id":"cli:xpay#1/cln:xpay#50/cln-xpay:getroutes#3"},"traceId":"f785be16bec33e74c781802989720fde"}]`)}}, now)
	d.correlator.Flush(now)
	for _, s := range d.correlator.Ready() {
		if s.IsRoot() {
			return s
		}
	}
	t.Fatal("no root came")
	return nil
}

// TestRestartSendsNoSecondRoot ends a clntrace during a request, and starts another one.
func TestRestartSendsNoSecondRoot(t *testing.T) {
	o, pid := Options{Lightningd: os.Getppid()}, int32(os.Getpid())
	before := root(t, o, 20, pid, nil)
	if again := root(t, o, 50, pid, nil); again.ID != before.ID || again.TraceID != before.TraceID {
		t.Errorf("a request that began after us has the root %s in %s, want %s in %s", again.ID, again.TraceID, before.ID, before.TraceID)
	}
	after := root(t, o, 51, pid, nil)
	if after.ID == before.ID || after.TraceID == before.TraceID {
		t.Errorf("a second root %s in %s", after.ID, after.TraceID)
	}
	want := correlate.Link{Relation: correlate.Continues, TraceID: before.TraceID, SpanID: before.ID}
	if !slices.Contains(after.Links, want) {
		t.Errorf("links %v, want %v", after.Links, want)
	}
}

// TestUnknownSendersHaveIDsOfTheSpool starts clntrace again with the same spool, with
// another one, and without.
func TestUnknownSendersHaveIDsOfTheSpool(t *testing.T) {
	with := func(size int, dir string) *correlate.Span {
		return root(t, Options{}, 0, 0, func(c *Config) { c.SpoolSize, c.SpoolDir = size, dir })
	}
	dir := filepath.Join(t.TempDir(), "spool")
	before := with(1, dir)
	if again := with(1, dir); again.TraceID != before.TraceID || again.ID != before.ID {
		t.Error("with the same spool the ids are others")
	}
	for what, other := range map[string]*correlate.Span{
		"with another spool":        with(1, filepath.Join(t.TempDir(), "spool")),
		"without a spool":           with(0, ""),
		"where the spool cannot be": with(1, filepath.Join(t.TempDir(), "no", "spool")),
	} {
		if other.TraceID == before.TraceID || other.ID == before.ID {
			t.Errorf("%s the ids are the same", what)
		}
	}
}
