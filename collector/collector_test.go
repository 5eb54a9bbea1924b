package collector

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"clntrace/collector/otlp"
	"clntrace/collector/recording"
	"clntrace/collector/socket"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

// TestRedactionReachesWhatCameBeforeStart sends before the options are known.
func TestRedactionReachesWhatCameBeforeStart(t *testing.T) {
	const secret = "s3cret"
	path := filepath.Join(t.TempDir(), "t")
	c := Open(Options{SocketPath: path, Logger: slog.New(slog.DiscardHandler)})
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	datagram := `[{"id":"00000000000000a1","name":"lightningd/jsonrpc","timestamp":1795324398371053,"duration":501,` +
		`"localEndpoint":{"serviceName":"lightningd"},"tags":{"method":"` + secret + `"},"traceId":"f785be16bec33e74c781802989720fde"}]`
	if _, err := conn.Write([]byte(datagram)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Endpoint, cfg.SpoolSize, cfg.RedactTags = otlp.OffEndpoint, 0, []string{"method"}
	for c.Stats(stats.Query{}).Datagrams.Accepted == 0 {
		runtime.Gosched()
	}
	c.Start(cfg, nil)
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ops := c.Stats(stats.Query{Limit: 10}).Operations
	if len(ops) != 1 || ops[0].Count != 1 || ops[0].Detail != "[redacted]" {
		t.Errorf("got %+v", ops)
	}
}

// TestStartAndShutdownAtOnce lets the end come while the decoder has not yet
// heard of the beginning: what was held must go its way all the same.
func TestStartAndShutdownAtOnce(t *testing.T) {
	datagrams, err := recording.Xpay()
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		path := filepath.Join(t.TempDir(), "t")
		c := Open(Options{SocketPath: path, Logger: slog.New(slog.DiscardHandler)})
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range datagrams {
			if _, err := conn.Write(d.Payload); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig()
		cfg.Endpoint, cfg.SpoolSize = otlp.OffEndpoint, 0
		c.Start(cfg, nil)
		err = c.Shutdown(t.Context())
		r := c.Stats(stats.Query{})
		if s := r.Spans; err != nil || r.Datagrams.Accepted != uint64(len(datagrams)) || s.Pending != 0 || s.Filtered != r.Datagrams.Accepted+s.Synthesized {
			t.Fatalf("%v; of %d datagrams: %+v, %+v", err, len(datagrams), r.Datagrams, s)
		}
	}
}

// TestShutdownDoesNotOutlastItsDeadline has a decoder that is too slow. Shutdown does
// not wait until it has decoded everything, and every datagram is counted all the same.
func TestShutdownDoesNotOutlastItsDeadline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	n := open(t, Options{SocketPath: path})
	n.mu.Lock() // for which the decoder waits
	close(n.begin)
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const sent = 3000
	for i := range sent {
		if _, err := conn.Write([]byte(extendTip(i + 1))); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		<-n.hurry
		n.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = n.Shutdown(ctx)
	r := n.Stats(stats.Query{})
	if d := r.Datagrams; d.Received != sent || d.Accepted != sent {
		t.Errorf("of %d datagrams: %+v", sent, d)
	}
	// The decoder may have taken some before it began to wait.
	if dropped := r.Spans.DroppedQueueFull; dropped == 0 {
		t.Errorf("all of %d were decoded", sent)
	}
}

// TestDefectsEndNothing lets parts of the decoder panic: no datagram may be
// lost from the counts over it, and the process must go on.
func TestDefectsEndNothing(t *testing.T) {
	n := open(t, Options{SocketProblem: "none is needed"})
	n.start(t, "off", nil)
	d := newDecoder(n.Collector)
	d.begun = true
	datagrams := []socket.Datagram{{Payload: []byte(extendTip(1))}, {Payload: []byte(extendTip(2))}}
	now := time.Now()

	whole := d.processes
	d.processes = nil
	d.pass(datagrams[:1], now)
	check(t, n.Stats(stats.Query{}), stats.StatusDegraded, "1 datagram was not a span", "a defect of clntrace")
	d.processes = whole
	d.safely(func() { d.pass(datagrams[1:], now) })
	d.safely(func() { panic("boom") })

	counts := n.ledger.Counts()
	want := stats.Counts{Received: 2, Bytes: counts.Bytes, Malformed: 1, Accepted: 1, Filtered: 1}
	if counts != want {
		t.Errorf("got  %+v\nwant %+v", counts, want)
	}
	check(t, n.Stats(stats.Query{}), stats.StatusDegraded, "Spans ran into", "a defect of clntrace", "boom")
}

// TestDefectAtTheEndDoesNotKeepIt lets the last that comes from the socket meet
// a defect: the decoder must see the end all the same.
func TestDefectAtTheEndDoesNotKeepIt(t *testing.T) {
	n := open(t, Options{SocketProblem: "it is bound below"})
	<-n.decoding // nobody else takes what comes
	path := filepath.Join(t.TempDir(), "t")
	n.receiver = socket.Open(path, n.log, voice.Plugin)
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(extendTip(1))); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	n.receiver.Close()
	d := newDecoder(n.Collector)
	d.table, d.begun = nil, true // so that counting panics
	open := true
	d.safely(func() { open = d.take() })
	if found := n.seen.lastDefect.Load(); found == nil || len(d.datagrams) != 1 {
		t.Fatalf("%d datagrams came, and met %v", len(d.datagrams), found)
	}
	if open {
		t.Error("the decoder would wait for more for ever")
	}
}

// TestMetricsThatCannotBeSentAreWarnedAbout takes away a file that metrics
// need as spans do, once spans have theirs.
func TestMetricsThatCannotBeSentAreWarnedAbout(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "http://127.0.0.1:1", nil)
	n.mu.Lock()
	n.cfg.Metrics, n.cfg.CAFile = true, filepath.Join(t.TempDir(), "gone.pem")
	n.startMetrics()
	n.mu.Unlock()
	check(t, n.Stats(stats.Query{}), stats.StatusOK, "Metrics: none are sent", "gone.pem", "clntrace-metrics")
}

// TestScrapeWithOptionsThatCannotBeUsed refuses scrapes until the options are corrected.
func TestScrapeWithOptionsThatCannotBeUsed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	n := open(t, Options{})
	n.start(t, "http://127.0.0.1:1", func(c *Config) { c.PrometheusListen = address }, "redact-tags cannot be used")
	scrape := func(want int) {
		t.Helper()
		answer, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("got %s, want %d", answer.Status, want)
		}
	}
	scrape(http.StatusServiceUnavailable)
	if err := n.Reconfigure(n.cfg, nil); err != nil {
		t.Fatal(err)
	}
	scrape(http.StatusOK)
}
