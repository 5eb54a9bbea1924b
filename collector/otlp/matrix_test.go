package otlp

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/voice"
)

// web is a web server that is no OTLP endpoint.
func web(t *testing.T, c *tls.Config, http2 bool) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>")
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if c == nil {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(http2)
		s.Start()
	} else {
		s.TLS, s.EnableHTTP2 = c.Clone(), http2
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// talker accepts connections, says something, and closes them after a moment.
func talker(t *testing.T, says string) string {
	t.Helper()
	l := otlptest.Listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, says)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// withoutALPN serves gRPC over a TLS that does not say what it carries.
func withoutALPN(t *testing.T, c *tls.Config) string {
	t.Helper()
	l := otlptest.Listen(t)
	s := grpc.NewServer()
	t.Cleanup(s.Stop)
	go func() { _ = s.Serve(tls.NewListener(l, c)) }() // until Stop
	return l.Addr().String()
}

// What each kind of server makes of each kind of client.
const (
	taken       = "taken"
	nobody      = "nothing is listening there"
	mute        = "it did not answer within"
	noTLS       = "it does not speak TLS"
	asTLS       = "it ends the connection at once, as a port for TLS does"
	asGRPCOrTLS = "it broke the connection off, as a port for gRPC or TLS does"
	notGRPC     = "it speaks HTTP and not gRPC"
	isGRPC      = "it speaks gRPC. Set clntrace-otlp-protocol=grpc|" + asGRPCOrTLS // the former if its first words come before the end of the connection
	noService   = "refusing: it speaks gRPC and takes no spans"
	isWeb       = "refusing: it is a web server and does not speak gRPC"
	noPath      = "refusing: it takes no spans at that path"
	wantsTLS    = "refusing: it wants TLS"
	noOTLP      = "refusing: it does not take OTLP over HTTP"
	noHTTP2     = "its TLS offers no HTTP/2"
	oldTLS      = "its TLS is older than version 1.2"
	otherCA     = "its certificate is signed by a CA that is not trusted here"
	otherName   = "its certificate is for another name"
	outOfDate   = "its certificate is out of date"
	// In TLS 1.3 a server rejects a client's certificate after the handshake. Then the
	// client learns of it either by an alert or by the end of the connection.
	brokenOffIfClient = "|it broke the connection off. If it "
	noClient          = "it wants a client certificate that it trusts|it ends the TLS handshake" + brokenOffIfClient
	clientOutOfDate   = "it says that the client certificate is out of date" + brokenOffIfClient
	otherClient       = "it does not trust the client certificate" + brokenOffIfClient
	noGzip            = "refusing: it does not understand the compression"
)

// row is what is heard of a server over each protocol, at an http:// and at an https://
// endpoint.
type row struct {
	server                       string
	at                           string
	grpc, grpcTLS, http, httpTLS string
	change                       func(*Config)
}

// TestMatrix tries each client at each server. Run it with -v to see a table of what is
// said.
func TestMatrix(t *testing.T) {
	ca, other := otlptest.NewAuthority(t), otlptest.NewAuthority(t)
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	serving := func() *tls.Config { return ca.Serving(t, "127.0.0.1", soon) }
	asking := func(most uint16) *tls.Config {
		c := serving()
		c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, ca.Pool, most
		return c
	}
	old := func() *tls.Config {
		c := serving()
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		return c
	}
	plain := func(r *otlptest.Receiver) string { return r.URL[strings.LastIndex(r.URL, "/")+1:] }
	grpcOver := func(c *tls.Config) string { return plain(otlptest.StartGRPCOverTLS(t, c)) }
	httpOver := func(c *tls.Config, h2 bool) string { return plain(otlptest.StartHTTPOverTLS(t, c, h2)) }
	gone := otlptest.Listen(t)
	gone.Close()
	showing := func(from *otlptest.Authority, until time.Time) func(*Config) {
		cert, key := from.IssueFiles(t, 5, until)
		return func(c *Config) { c.CertFile, c.KeyFile = cert, key }
	}
	valid, expired, foreign := showing(ca, soon), showing(ca, past), showing(other, soon)
	gzip := func(c *Config) { c.Compression = CompressionGzip }
	undone := otlptest.Answer{
		Err:    status.Error(codes.Unimplemented, `grpc: Decompressor is not installed for grpc-encoding "gzip"`),
		Status: 415, Header: "Content-Type: text/plain", Body: []byte("unsupported Content-Encoding: gzip"),
	}
	const unsettled = "it (broke the connection off|does not answer as gRPC does|ends the connection at once|speaks HTTP and not gRPC)"
	rows := []row{
		{"nothing", gone.Addr().String(), nobody, nobody, nobody, nobody, nil},
		{"says nothing", plain(&otlptest.Receiver{URL: otlptest.Listen(t).Addr().String()}), mute, mute, mute, mute, nil},
		{"hangs up", talker(t, ""), asTLS + "|" + unsettled, "it broke the connection off. If", asGRPCOrTLS, "it broke the connection off. If", nil},
		{"speaks SSH", talker(t, "SSH-2.0-OpenSSH_9.2\r\n"), unsettled, noTLS, asGRPCOrTLS, noTLS, nil},
		{"web, HTTP/1.1", web(t, nil, false), notGRPC, noTLS, noPath, noTLS, nil},
		{"web, HTTP/2", web(t, nil, true), isWeb, noTLS, noPath, noTLS, nil},
		{"OTLP over HTTP", plain(otlptest.StartHTTP(t)), notGRPC, noTLS, taken, noTLS, nil},
		{"OTLP over gRPC", plain(otlptest.StartGRPC(t)), taken, noTLS, isGRPC, noTLS, nil},
		{"gRPC without OTLP", grpcAt(t, codes.OK), noService, noTLS, isGRPC, noTLS, nil},
		{"gRPC that does not know gzip", plain(otlptest.StartGRPC(t, undone)), noGzip, noTLS, isGRPC, noTLS, gzip},
		{"HTTP that does not know gzip", plain(otlptest.StartHTTP(t, undone)), notGRPC, noTLS, noGzip, noTLS, gzip},
		{"web, TLS, HTTP/1.1", web(t, serving(), false), asTLS, noHTTP2, wantsTLS, noPath, nil},
		{"web, TLS, HTTP/2", web(t, serving(), true), asTLS, isWeb, wantsTLS, noPath, nil},
		{"OTLP over HTTP/1.1, TLS", httpOver(serving(), false), asTLS, noHTTP2, wantsTLS, taken, nil},
		{"OTLP over HTTP/2, TLS", httpOver(serving(), true), asTLS, isWeb, wantsTLS, taken, nil},
		{"OTLP over gRPC, TLS", grpcOver(serving()), asTLS, taken, asGRPCOrTLS, noOTLP, nil},
		{"gRPC, TLS without ALPN", withoutALPN(t, serving()), asTLS, noHTTP2, asGRPCOrTLS, isGRPC, nil},
		{"gRPC, TLS of another CA", grpcOver(other.Serving(t, "127.0.0.1", soon)), asTLS, otherCA, asGRPCOrTLS, otherCA, nil},
		{"HTTP, TLS of another CA", httpOver(other.Serving(t, "127.0.0.1", soon), true), asTLS, otherCA, wantsTLS, otherCA, nil},
		{"gRPC, TLS of another name", grpcOver(ca.Serving(t, "localhost", soon)), asTLS, otherName, asGRPCOrTLS, otherName, nil},
		{"gRPC, TLS out of date", grpcOver(ca.Serving(t, "127.0.0.1", past)), asTLS, outOfDate, asGRPCOrTLS, outOfDate, nil},
		{"HTTP, TLS out of date", httpOver(ca.Serving(t, "127.0.0.1", past), false), asTLS, outOfDate + "|" + noHTTP2, wantsTLS, outOfDate, nil},
		{"gRPC, TLS 1.1", grpcOver(old()), asTLS, oldTLS, asGRPCOrTLS, oldTLS, nil},
		{"HTTP, TLS 1.1", httpOver(old(), false), asTLS, oldTLS, wantsTLS, oldTLS, nil},
	}
	for version, most := range map[string]uint16{"TLS 1.3": 0, "TLS 1.2": tls.VersionTLS12} {
		overGRPC, overHTTP := grpcOver(asking(most)), httpOver(asking(most), true)
		for _, tc := range []struct {
			client string
			change func(*Config)
			want   string
		}{{"none", nil, noClient}, {"valid", valid, taken}, {"expired", expired, clientOutOfDate}, {"of another CA", foreign, otherClient}} {
			ofHTTP, ofGRPC := tc.want, tc.want
			if tc.want == taken {
				ofHTTP, ofGRPC = noOTLP, isWeb
			}
			rows = append(rows,
				row{"gRPC, " + version + ", client certificate: " + tc.client, overGRPC, asTLS, tc.want, asGRPCOrTLS, ofHTTP, tc.change},
				row{"HTTP, " + version + ", client certificate: " + tc.client, overHTTP, asTLS, ofGRPC, wantsTLS, tc.want, tc.change})
		}
	}
	said := make([]string, 4*len(rows))
	t.Cleanup(func() { // when all have ended
		var table strings.Builder
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		fmt.Fprint(w, strings.Join(said, ""))
		w.Flush()
		t.Logf("\n\n%s", &table)
	})
	for i, r := range rows {
		r.check(t, ca.File, said[4*i:])
	}
}

// check holds what is heard against what the row says, and fills in said, which has a
// line for each client.
func (r row) check(t *testing.T, caFile string, said []string) {
	for i, cell := range []struct {
		scheme   string
		protocol Protocol
		want     string
	}{
		{"http", ProtocolGRPC, r.grpc}, {"https", ProtocolGRPC, r.grpcTLS},
		{"http", ProtocolHTTP, r.http}, {"https", ProtocolHTTP, r.httpTLS},
	} {
		t.Run(fmt.Sprintf("%s/%s %s", r.server, cell.protocol, cell.scheme), func(t *testing.T) {
			t.Parallel()
			cfg := Config{
				Endpoint: mustParse(t, cell.scheme+"://"+r.at), Protocol: cell.protocol, Timeout: 30 * time.Second, CAFile: caFile,
			}
			if cell.want == mute {
				cfg.Timeout = time.Second // the only one that has to pass
			}
			if r.change != nil {
				r.change(&cfg)
			}
			got := taken
			defer func() {
				got, _, _ = strings.Cut(got, ". The error: ")
				said[i] = fmt.Sprintf("%s\t%s, %s://\t%s\n", r.server, cell.protocol, cell.scheme, got)
			}()
			if f := attempt(t, cfg, Spans); f != nil {
				got = f.Explain(voice.Plugin)
				if f.Kind == Refusing {
					got = "refusing: " + got
				} else if f.Kind != Unavailable {
					t.Errorf("the spans are lost: %+v", f)
				}
			}
			t.Log(got)
			if !regexp.MustCompile("^(" + cell.want + ")").MatchString(got) {
				t.Errorf("got  %s\nwant %s", got, cell.want)
			}
		})
	}
}

// The environment's proxies are read once in a process, so each kind gets one.
func TestProxies(t *testing.T) {
	const kind, address = "CLNTRACE_TEST_PROXY_KIND", "CLNTRACE_TEST_PROXY"
	if at := os.Getenv(address); at != "" {
		for _, cell := range strings.Split(os.Getenv(kind), "\n") {
			endpoint, want, _ := strings.Cut(cell, " ")
			protocol := ProtocolHTTP
			if rest, ok := strings.CutPrefix(endpoint, "grpc+"); ok {
				protocol, endpoint = ProtocolGRPC, rest
			}
			cfg := Config{Endpoint: mustParse(t, endpoint), Protocol: protocol, Timeout: 30 * time.Second}
			f := attempt(t, cfg, Spans)
			if f == nil {
				t.Errorf("%s: taken", cell)
				continue
			}
			got := f.Explain(voice.Plugin)
			if !strings.HasPrefix(got, strings.ReplaceAll(want, "ADDRESS", at)) || f.Kind == Rejected || strings.Contains(got, "hunter2") {
				t.Errorf("%s over %s: got  %s\nwant %s", endpoint, protocol, got, want)
			}
		}
		return
	}
	proxy := func(code int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	gone := otlptest.Listen(t)
	gone.Close()
	const dead = "the proxy ADDRESS (HTTPS_PROXY or HTTP_PROXY in the environment) cannot be reached"
	const credentials = "the proxy ADDRESS (HTTPS_PROXY or HTTP_PROXY in the environment) wants credentials"
	for at, want := range map[string][2]string{ // in plaintext over HTTP, and through a tunnel
		gone.Addr().String(): {dead, dead},
		proxy(407):           {credentials, credentials},
		proxy(403):           {"the credentials in clntrace-otlp-headers may not write spans", "the proxy ADDRESS (HTTPS_PROXY in the environment) does not let it through"},
		proxy(502):           {"it, or a proxy before it, is not ready", "the proxy ADDRESS (HTTPS_PROXY in the environment) does not reach it"},
	} {
		cells := []string{
			"http://collector.example:4318 " + want[0], "https://collector.example:4318 " + want[1],
			"grpc+http://collector.example:4317 " + want[1], "grpc+https://collector.example:4317 " + want[1],
		}
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), kind+"="+strings.Join(cells, "\n"), address+"="+at,
			"HTTPS_PROXY=http://user:hunter2@"+at, "HTTP_PROXY=http://user:hunter2@"+at, "NO_PROXY=")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
