package otlp

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clntrace/collector/otlp/otlptest"
)

// relay forwards connections, until it forgets those that it has.
type relay struct {
	net.Listener
	to string

	mu        sync.Mutex
	forgotten *atomic.Bool // by the connections so far
	served    int          // connections
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	r := &relay{Listener: otlptest.Listen(t), to: to, forgotten: new(atomic.Bool)}
	var pipes sync.WaitGroup
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			near, err := r.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			r.mu.Lock()
			forgotten := r.forgotten
			r.served++
			r.mu.Unlock()
			t.Cleanup(func() { near.Close(); far.Close() })
			pipes.Go(func() { pass(far, near, forgotten) })
			pipes.Go(func() { pass(near, far, forgotten) })
		}
	}()
	t.Cleanup(func() { r.Close(); <-ended; pipes.Wait() })
	return r
}

// pass forwards what comes. What comes on a forgotten connection it reads, and drops.
func pass(to, from net.Conn, forgotten *atomic.Bool) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if forgotten.Load() {
			_, _ = io.Copy(io.Discard, from)
			return // and closes nothing
		}
		if _, failed := to.Write(b[:n]); err != nil || failed != nil {
			to.Close()
			from.Close()
			return
		}
	}
}

// forget stops forwarding on the connections that there are. They stay open.
func (r *relay) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten.Store(true)
	r.forgotten = new(atomic.Bool)
}

func (r *relay) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.served
}

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
				r := newRelay(t, address)
				cfg := Config{Endpoint: mustParse(t, scheme+"://"+r.Addr().String()), Protocol: tc.protocol, Timeout: 10 * time.Second, CAFile: ca.File}
				c, err := Connect(cfg, s)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := send(t.Context(), c, cfg, s); err != nil {
					t.Fatal(err)
				}
				r.forget()
				cfg.Timeout = time.Second
				c.setTimeout(cfg.Timeout)
				for n := 1; send(t.Context(), c, cfg, s) != nil; n++ {
					if n > s.patience {
						t.Fatalf("%d attempts in a row have failed", n)
					}
				}
				if n := r.connections(); n != 2 {
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
