package otlp

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/voice"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

func TestAddressWithAZone(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if conn, err := net.Dial("tcp", "[::1%lo]:"+port); err != nil {
		t.Skipf("no zones here: %v", err)
	} else {
		conn.Close()
	}
	r := new(otlptest.Receiver)
	r.ServeGRPC(t, l)
	if f := attempt(t, Config{Endpoint: mustParse(t, "http://[::1%25lo]:"+port), Protocol: ProtocolGRPC, Timeout: time.Minute}, Spans); f != nil || len(r.Traces()) != 1 {
		t.Errorf("got %+v", f)
	}
	s := httptest.NewUnstartedServer(r)
	s.Listener.Close()
	if s.Listener, err = net.Listen("tcp", "[::1]:0"); err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Close()
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	if f := attempt(t, Config{Endpoint: mustParse(t, "http://[::1%25lo]:"+port), Protocol: ProtocolHTTP, Timeout: time.Minute}, Spans); f != nil || len(r.Traces()) != 2 {
		t.Errorf("over HTTP: got %+v", f)
	}
}

// Some endpoints, and load balancers before them, end connections after a few requests.
func TestEndpointsThatEndConnections(t *testing.T) {
	l := otlptest.Listen(t)
	r := new(otlptest.Receiver)
	r.ServeGRPC(t, l, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 20 * time.Millisecond}))
	s := httptest.NewUnstartedServer(r)
	s.Config.SetKeepAlivesEnabled(false)
	s.Start()
	defer s.Close()
	for url, protocol := range map[string]Protocol{"http://" + l.Addr().String(): ProtocolGRPC, s.URL: ProtocolHTTP} {
		cfg := Config{Endpoint: mustParse(t, url), Protocol: protocol, Timeout: time.Minute}
		c, err := Connect(cfg, Spans)
		if err != nil {
			t.Fatal(err)
		}
		before := len(r.Traces())
		for begin := time.Now(); time.Since(begin) < 200*time.Millisecond; {
			if err := send(t.Context(), c, cfg, Spans); err != nil {
				t.Errorf("%s: %v", protocol, err)
				break
			}
		}
		c.Close()
		t.Logf("%s: %d requests", protocol, len(r.Traces())-before)
	}
}

// A firewall's or sandbox's refusal is told with what to do about it, whichever
// way the error comes.
func TestForbiddenConnectionsAreExplained(t *testing.T) {
	forbidden := func(context.Context, string) (net.Conn, error) {
		return nil, os.NewSyscallError("connect", unix.EPERM)
	}
	cfg := Config{Endpoint: mustParse(t, "http://127.0.0.1:1"), Protocol: ProtocolGRPC, Timeout: time.Minute}
	conn, err := dialGRPC(cfg, new(sockets), grpc.WithUnaryInterceptor(interceptor{cfg, Spans, new(sockets)}.intercept), grpc.WithContextDialer(forbidden))
	if err != nil {
		t.Fatal(err)
	}
	overGRPC := &Connection{GRPC: conn}
	defer overGRPC.Close()
	next := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return forbidden(ctx, "") }}
	overHTTP := &Connection{HTTP: &http.Client{Transport: transport{next, cfg, Spans, new(sockets)}}, pool: next}
	for _, c := range []*Connection{overGRPC, overHTTP} {
		f := FailureOf(send(t.Context(), c, cfg, Spans))
		if f == nil || f.Reached || f.Kind != Unavailable {
			t.Fatalf("got %+v", f)
		}
		explained := f.Explain(voice.Plugin)
		for _, part := range []string{"operation not permitted", "firewall", "Allow it"} {
			if !strings.Contains(explained, part) {
				t.Errorf("%q does not say %q", explained, part)
			}
		}
	}
}
