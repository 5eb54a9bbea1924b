package export

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"clntrace/collector/stats"
	"clntrace/collector/text"
)

// writeCertificate writes a certificate and its key and returns their files.
func writeCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// The options of clntrace are all that counts; the SDK looks elsewhere, too.
func TestEnvironmentChangesNothing(t *testing.T) {
	cert, key := writeCertificate(t)
	for _, signal := range []string{"", "TRACES_"} {
		for name, value := range map[string]string{
			"ENDPOINT": "https://127.0.0.1:1/elsewhere", "PROTOCOL": "http/json", "HEADERS": "content-type=text/odd",
			"TIMEOUT": "1", "COMPRESSION": "gzip", "INSECURE": "false",
			"CERTIFICATE": cert, "CLIENT_CERTIFICATE": cert, "CLIENT_KEY": key,
		} {
			t.Setenv("OTEL_EXPORTER_OTLP_"+signal+name, value)
		}
	}
	grpc, http := config(newBackend(t).endpoint), config(newHTTPBackend(t).endpoint)
	http.Protocol = ProtocolHTTP
	for _, cfg := range []Config{grpc, http} {
		p, report := export1(t, cfg)
		p.want(stats.Counts{Exported: 1})
		if report.Retries != 0 || report.LastError != "" {
			t.Errorf("%s: %+v", cfg.Protocol, report)
		}
	}
}

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
	server, b := grpc.NewServer(), newBackend(t)
	coltracepb.RegisterTraceServiceServer(server, b)
	go func() { _ = server.Serve(l) }() // until Stop
	defer server.Stop()
	p, report := export1(t, config(mustParse(t, "http://[::1%25lo]:"+port)))
	p.want(stats.Counts{Exported: 1})
	if report.LastError != "" {
		t.Errorf("%+v", report)
	}
}

// A link that is replaced during a request gets the answer, because otherwise the
// spans would be sent twice.
func TestClosingALinkWaitsForTheAnswer(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolGRPC, ProtocolHTTP} {
		t.Run(string(protocol), func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			address := answeringLate(t, protocol, asked, answer)
			l, err := connect(Config{Endpoint: mustParse(t, "http://"+address), Protocol: protocol, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			uploaded := make(chan error, 1)
			go func() { uploaded <- l.client.UploadTraces(t.Context(), []*tracepb.ResourceSpans{{}}) }()
			<-asked
			closed := make(chan struct{})
			go func() { l.close(t.Context()); close(closed) }()
			if protocol == ProtocolHTTP {
				<-closed // it has no reason to wait
			}
			close(answer)
			if err := <-uploaded; err != nil {
				t.Error(err)
			}
			<-closed
		})
	}
}

// answeringLate serves OTLP: it closes asked on the first request, and answers when
// answer is closed.
func answeringLate(t *testing.T, protocol Protocol, asked, answer chan struct{}) (address string) {
	t.Helper()
	if protocol == ProtocolHTTP {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(asked); <-answer }))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	l, address := listening(t)
	s := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(s, lateTraces{asked: asked, answer: answer})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return address
}

type lateTraces struct {
	coltracepb.UnimplementedTraceServiceServer
	asked, answer chan struct{}
}

func (l lateTraces) Export(context.Context, *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	close(l.asked)
	<-l.answer
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// A firewall's or sandbox's refusal is told with what to do about it, whichever
// way the error comes.
func TestForbiddenConnectionsAreExplained(t *testing.T) {
	forbidden := func(context.Context, string) (net.Conn, error) {
		return nil, os.NewSyscallError("connect", unix.EPERM)
	}
	cfg := config(mustParse(t, "http://127.0.0.1:1"))
	conn, err := DialGRPC(cfg, grpc.WithUnaryInterceptor(observeGRPC), grpc.WithContextDialer(forbidden))
	if err != nil {
		t.Fatal(err)
	}
	ctx, overGRPC := withAttempt(t.Context())
	if _, err := coltracepb.NewTraceServiceClient(conn).Export(ctx, &coltracepb.ExportTraceServiceRequest{}); err == nil {
		t.Error("exported without a connection")
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	ctx, overHTTP := withAttempt(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:1/v1/traces", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return forbidden(ctx, "") }}
	if response, err := (observeHTTP{transport}).RoundTrip(request); err == nil {
		t.Error("a request without a connection was answered", response.Body.Close())
	}
	for _, a := range []*attempt{overGRPC, overHTTP} {
		if a.reached || !a.retryable {
			t.Errorf("%+v", a)
		}
		explained := cfg.ExplainOutage(text.Brief(a.message))
		for _, part := range []string{"operation not permitted", "firewall", "Allow it"} {
			if !strings.Contains(explained, part) {
				t.Errorf("%q does not say %q", explained, part)
			}
		}
	}
}
