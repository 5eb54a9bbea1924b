package collector

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"clntrace/collector/export"
	"clntrace/collector/recording"
	"clntrace/collector/stats"
)

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
		cfg.Endpoint, cfg.SpoolSize = export.OffEndpoint, 0
		c.Start(cfg, nil)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err = c.Shutdown(ctx)
		cancel()
		r := c.Stats(stats.Query{})
		if s := r.Spans; err != nil || r.Datagrams.Accepted != uint64(len(datagrams)) || s.Pending != 0 || s.Filtered != r.Datagrams.Accepted+s.Synthesized {
			t.Fatalf("%v; of %d datagrams: %+v, %+v", err, len(datagrams), r.Datagrams, s)
		}
	}
}
