package otlp

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"clntrace/collector/otlp/otlptest"
)

// A connection that is dead though nobody has closed it is given up after two attempts
// that were not answered, and the next one makes a new connection.
func TestDeadConnectionIsReplaced(t *testing.T) {
	ca := otlptest.NewAuthority(t)
	serving := func() *tls.Config { return ca.Serving(t, "127.0.0.1", time.Now().Add(time.Hour)) }
	for _, tc := range []struct {
		what     string
		url      string
		protocol Protocol
	}{
		{"gRPC", otlptest.StartGRPC(t).URL, ProtocolGRPC},
		{"gRPC over TLS", otlptest.StartGRPCOverTLS(t, serving()).URL, ProtocolGRPC},
		{"HTTP/1.1", otlptest.StartHTTP(t).URL, ProtocolHTTP},
		{"HTTP/2", otlptest.StartHTTPOverTLS(t, serving(), true).URL, ProtocolHTTP},
	} {
		for _, s := range []*Signal{Spans, Metrics} {
			t.Run(tc.what+", "+s.noun, func(t *testing.T) {
				t.Parallel()
				scheme, address, _ := strings.Cut(tc.url, "://")
				r := otlptest.NewRelay(t, address)
				cfg := Config{Endpoint: mustParse(t, scheme+"://"+r.Addr().String()), Protocol: tc.protocol, Timeout: 10 * time.Second, CAFile: ca.File}
				c, err := Connect(cfg, s)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := send(t.Context(), c, cfg, s); err != nil {
					t.Fatal(err)
				}
				r.Forget()
				cfg.Timeout = time.Second
				c.setTimeout(cfg.Timeout)
				for n := 1; send(t.Context(), c, cfg, s) != nil; n++ {
					if n > s.patience+1 { // gRPC may be slow to notice that the connection is closed
						t.Fatalf("%d attempts in a row have failed", n)
					}
				}
				if n := r.Connections(); n != 2 {
					t.Errorf("%d connections were made, want 2", n)
				}
			})
		}
	}
}

// setTimeout changes that of requests over HTTP.
func (c *Connection) setTimeout(timeout time.Duration) {
	if c.HTTP != nil {
		t := c.HTTP.Transport.(transport)
		t.cfg.Timeout = timeout
		c.HTTP.Transport = t
	}
}
