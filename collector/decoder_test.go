package collector

import (
	"log/slog"
	"testing"
	"time"

	"clntrace/collector/export"
	"clntrace/collector/recording"
	"clntrace/collector/socket"
)

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
	cfg.Endpoint, cfg.SpoolSize = export.OffEndpoint, 0
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
