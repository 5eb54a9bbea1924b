package collector

import (
	"log/slog"
	"testing"
	"time"

	"clntrace/collector/otlp"
	"clntrace/collector/recording"
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

// BenchmarkStreet takes a recorded payment down the whole street, in batches as the
// socket gives them, up to the point where exporting would begin.
func BenchmarkStreet(b *testing.B) {
	recorded, err := recording.Xpay()
	if err != nil {
		b.Fatal(err)
	}
	datagrams := make([]socket.Datagram, len(recorded))
	for i, r := range recorded {
		datagrams[i] = socket.Datagram{Payload: r.Payload}
	}
	c := Open(Options{SocketProblem: "none is needed", Logger: slog.New(slog.DiscardHandler)})
	cfg := DefaultConfig()
	cfg.Endpoint, cfg.SpoolSize = otlp.OffEndpoint, 0
	c.Start(cfg, nil)
	b.Cleanup(func() { _ = c.Shutdown(b.Context()) })
	d := newDecoder(c)
	d.begun = true
	const together = 64
	now, i := time.Now(), 0
	b.ReportAllocs()
	for b.Loop() {
		if i+together > len(datagrams) {
			i = 0
		}
		now = now.Add(together * 50 * time.Microsecond)
		d.pass(datagrams[i:i+together], now)
		i += together
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/together, "ns/datagram")
}
