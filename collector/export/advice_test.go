package export

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"clntrace/collector/text"
)

// refusingTraces answers every request with one status.
type refusingTraces struct {
	coltracepb.UnimplementedTraceServiceServer
	code codes.Code
}

func (r refusingTraces) Export(context.Context, *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	return nil, status.Error(r.code, "because")
}

// listening returns a listener on the loopback interface, and its address.
func listening(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().String()
}

// grpcAt serves gRPC and returns the address; without a service for 0.
func grpcAt(t *testing.T, code codes.Code, options ...grpc.ServerOption) string {
	t.Helper()
	l, address := listening(t)
	s := grpc.NewServer(options...)
	if code != 0 {
		coltracepb.RegisterTraceServiceServer(s, refusingTraces{code: code})
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return address
}

func httpAt(t *testing.T, code int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// authority is a CA for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{file: filepath.Join(t.TempDir(), "ca.pem")}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, key := a.sign(t, a.cert)
	a.key = key
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// sign makes a certificate: the authority's own while it has no key.
func (a authority) sign(t *testing.T, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// serving is the TLS configuration of a server of that name, whose certificate
// ends at the time until.
func (a authority) serving(t *testing.T, name string, until time.Time) *tls.Config {
	t.Helper()
	der, key := a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotAfter: until})
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

func overTLS(c *tls.Config) grpc.ServerOption { return grpc.Creds(credentials.NewTLS(c)) }

// attempted is the reason why a batch could not be delivered.
func attempted(t *testing.T, cfg Config) string {
	t.Helper()
	l, err := connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close(t.Context())
	ctx, result := withAttempt(t.Context())
	if err := l.client.UploadTraces(ctx, []*tracepb.ResourceSpans{{}}); err == nil {
		t.Fatal("the batch was taken")
	}
	return text.Brief(result.message)
}

// What libraries say is held against real connections: a new version that says
// it differently fails here.
func TestFailuresAreExplained(t *testing.T) {
	ca := newAuthority(t)
	soon := time.Now().Add(time.Hour)
	port := func(address string) string { return "localhost" + address[strings.LastIndex(address, ":"):] }
	_, silentAt := listening(t) // accepts, for the kernel does, and says nothing
	gone, goneAt := listening(t)
	gone.Close()
	wantsClient := ca.serving(t, "localhost", soon)
	wantsClient.ClientAuth = tls.RequireAnyClientCert
	for _, tc := range []struct {
		name     string
		endpoint string
		protocol Protocol
		ca       bool
		want     string // a part of the explanation
	}{
		{"nothing listens, grpc", "http://" + goneAt, ProtocolGRPC, false, "nothing is listening there. Start the backend"},
		{"nothing listens, http", "http://" + goneAt, ProtocolHTTP, false, "nothing is listening there. Start the backend"},
		{"no socket, grpc", "unix:///nonexistent/s", ProtocolGRPC, false, "there is no such socket"},
		{"no socket, http", "unix:///nonexistent/s", ProtocolHTTP, false, "there is no such socket"},
		{"grpc to an http port", "http://" + httpAt(t, 200), ProtocolGRPC, false, "it speaks HTTP and not gRPC. Set clntrace-otlp-protocol=http/protobuf"},
		{"http to a grpc port", "http://" + grpcAt(t, codes.OK), ProtocolHTTP, false, "set clntrace-otlp-protocol=grpc"},
		{"TLS to plaintext, grpc", "https://" + grpcAt(t, codes.OK), ProtocolGRPC, false, "it does not speak TLS. Write http://host:port"},
		{"TLS to plaintext, http", "https://" + httpAt(t, 200), ProtocolHTTP, false, "it does not speak TLS. Write http://host:port"},
		{"plaintext to TLS, grpc", "http://" + grpcAt(t, codes.OK, overTLS(ca.serving(t, "localhost", soon))), ProtocolGRPC, false, "Write https://"},
		{"unknown CA", "https://" + port(grpcAt(t, codes.OK, overTLS(ca.serving(t, "localhost", soon)))), ProtocolGRPC, false, "Name that CA's file in clntrace-otlp-ca-file"},
		{"other name", "https://" + port(grpcAt(t, codes.OK, overTLS(ca.serving(t, "collector.example", soon)))), ProtocolGRPC, true, "its certificate is for another name"},
		{"address instead of name", "https://" + grpcAt(t, codes.OK, overTLS(ca.serving(t, "localhost", soon))), ProtocolGRPC, true, "its certificate is for another name"},
		{"expired", "https://" + port(grpcAt(t, codes.OK, overTLS(ca.serving(t, "localhost", time.Now().Add(-time.Hour))))), ProtocolGRPC, true, "its certificate is out of date"},
		{"without a client certificate", "https://" + port(grpcAt(t, codes.OK, overTLS(wantsClient))), ProtocolGRPC, true, "et clntrace-otlp-cert-file and clntrace-otlp-key-file"},
		{"silence, grpc", "http://" + silentAt, ProtocolGRPC, false, "did not answer within clntrace-otlp-timeout"},
		{"silence, http", "http://" + silentAt, ProtocolHTTP, false, "did not answer within clntrace-otlp-timeout"},
		{"grpc without the service", "http://" + grpcAt(t, codes.OK), ProtocolGRPC, false, "give it a traces pipeline"},
		{"unauthenticated", "http://" + grpcAt(t, codes.Unauthenticated), ProtocolGRPC, false, "it wants credentials, or other ones. Set them in clntrace-otlp-headers"},
		{"denied", "http://" + grpcAt(t, codes.PermissionDenied), ProtocolGRPC, false, "may not write spans"},
		{"limit", "http://" + grpcAt(t, codes.ResourceExhausted), ProtocolGRPC, false, "a limit of it is reached"},
		{"internal", "http://" + grpcAt(t, codes.Internal), ProtocolGRPC, false, "Look at its log"},
		{"not known here", "http://" + grpcAt(t, codes.InvalidArgument), ProtocolGRPC, false, "InvalidArgument: because. Correct what it complains about"},
		{"401", "http://" + httpAt(t, 401), ProtocolHTTP, false, "it wants credentials"},
		{"403", "http://" + httpAt(t, 403), ProtocolHTTP, false, "may not write spans"},
		{"404", "http://" + httpAt(t, 404), ProtocolHTTP, false, "with /v1/traces added"},
		{"413", "http://" + httpAt(t, 413), ProtocolHTTP, false, "Lower clntrace-batch-size"},
		{"429", "http://" + httpAt(t, 429), ProtocolHTTP, false, "a limit of it is reached"},
		{"500", "http://" + httpAt(t, 500), ProtocolHTTP, false, "Look at its log"},
		{"503", "http://" + httpAt(t, 503), ProtocolHTTP, false, "is not ready"},
		{"302", "http://" + httpAt(t, 302), ProtocolHTTP, false, "set clntrace-otlp-endpoint to where it leads"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			endpoint, err := ParseEndpoint(tc.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			cfg := Config{Endpoint: endpoint, Protocol: tc.protocol, Timeout: time.Minute}
			if strings.HasPrefix(tc.name, "silence") {
				cfg.Timeout = time.Second // the only one that has to pass
			}
			if tc.ca {
				cfg.CAFile = ca.file
			}
			reason := attempted(t, cfg)
			got := cfg.ExplainRefusal(reason)
			if !strings.Contains(got, tc.want) || !strings.Contains(got, reason) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// What needs a network, or the kernel's mood, is told as libraries say it.
func TestReasonsAreExplained(t *testing.T) {
	for _, tc := range []struct{ endpoint, reason, want string }{
		{"https://no-such-host.invalid:4317", "Unavailable: name resolver error: produced zero addresses", "the host's name is not known"},
		{"https://no-such-host.invalid", "dial tcp: lookup no-such-host.invalid on 192.0.2.53:53: no such host", "the host's name is not known"},
		{"https://collector.example", "dial tcp: lookup collector.example on 192.0.2.53:53: server misbehaving", "does not answer"},
		{"http://192.0.2.1:4317", "Unavailable: connection error: desc = \"transport: Error while dialing: dial tcp 192.0.2.1:4317: connect: network is unreachable\"", "there is no way to that host"},
		{"http://localhost", "dial tcp 127.0.0.1:80: connect: connection refused", "names no port"},
		{"http://localhost:80", "dial tcp 127.0.0.1:80: connect: connection refused", "nothing is listening there. Start"},
		{"http://localhost:4318", "read tcp 127.0.0.1:1-)127.0.0.1:4318: read: connection reset by peer", "for TLS write https://"},
		{"http://localhost:4317", `Unavailable: connection error: desc = "error reading server preface: connection reset by peer"`, "Write https://"},
		{"http://localhost:4317", `Unavailable: connection error: desc = "error reading server preface: raw-read tcp 127.0.0.1:1-)127.0.0.1:4317: use of closed network connection"`, "did not answer within"},
		{"https://localhost:4317", "Unavailable: write tcp 127.0.0.1:1-)127.0.0.1:4317: write: broken pipe", "If it wants a client certificate"},
		{"http://localhost:4317", "Unavailable: error reading from server: EOF", "it broke the connection off. Look at its log"},
		{"unix:///run/otel.sock", "dial unix /run/otel.sock: connect: permission denied", "may not write to that socket"},
		{"http://localhost:4317", "ResourceExhausted: grpc: received message larger than max (5000000 vs. 4194304)", "Lower clntrace-batch-size"},
		{"https://collector.example", "proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refused", "cannot be reached. Correct the variable"},
		{"http://localhost:4317", "what nobody foresaw", "what nobody foresaw. Start the endpoint or correct clntrace-otlp-endpoint"},
		{"http://localhost:4317", "a defect of clntrace, please report it: boom (x.go:1)", "please report it: boom (x.go:1)"},
	} {
		endpoint, err := ParseEndpoint(tc.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		protocol := ProtocolGRPC
		if !strings.HasPrefix(tc.reason, "Unavailable") {
			protocol = ProtocolHTTP
		}
		if got := (Config{Endpoint: endpoint, Protocol: protocol}).ExplainOutage(tc.reason); !strings.Contains(got, tc.want) {
			t.Errorf("%s: got  %s\nwant %s", tc.reason, got, tc.want)
		}
	}
	alone := Config{Endpoint: mustParse(t, "http://localhost:4318/x").ForTracesAlone(), Protocol: ProtocolHTTP}
	if got := alone.ExplainRefusal("HTTP 404 Not Found"); !strings.Contains(got, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is") {
		t.Errorf("an endpoint for traces alone: %s", got)
	}
}

// The environment's proxies are read once in a process, so this one gets its own.
func TestProxyIsNamed(t *testing.T) {
	const marker = "CLNTRACE_TEST_PROXY"
	if os.Getenv(marker) == "" {
		_, nothing := listening(t)
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), marker+"=1", "HTTPS_PROXY=http://user:hunter2@"+nothing, "NO_PROXY=")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	_, nothing, _ := strings.Cut(os.Getenv("HTTPS_PROXY"), "@")
	for _, protocol := range []Protocol{ProtocolGRPC, ProtocolHTTP} {
		endpoint, err := ParseEndpoint("https://collector.example:4317")
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Endpoint: endpoint, Protocol: protocol, Timeout: 2 * time.Second}
		got := cfg.ExplainOutage("dial tcp " + nothing + ": connect: connection refused")
		if !strings.HasPrefix(got, "the proxy "+nothing+" (HTTPS_PROXY") || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", protocol, got)
		}
	}
	local, err := ParseEndpoint("http://localhost:4317")
	if err != nil {
		t.Fatal(err)
	}
	if got := (Config{Endpoint: local}).ExplainOutage("connection refused"); strings.Contains(got, "proxy") {
		t.Errorf("no proxy leads to this host: %s", got)
	}
}
