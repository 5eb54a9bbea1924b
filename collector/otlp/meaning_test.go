package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/voice"

	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// attempt sends an empty request over a connection of its own and returns how it failed.
func attempt(t *testing.T, cfg Config, s *Signal) *Failure {
	t.Helper()
	c, err := Connect(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return FailureOf(send(t.Context(), c, cfg, s))
}

// send sends an empty request.
func send(ctx context.Context, c *Connection, cfg Config, s *Signal) error {
	if c.GRPC != nil {
		ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
		defer cancel()
		if s == Metrics {
			_, err := colmetricspb.NewMetricsServiceClient(c.GRPC).Export(ctx, &colmetricspb.ExportMetricsServiceRequest{})
			return err
		}
		_, err := coltracepb.NewTraceServiceClient(c.GRPC).Export(ctx, &coltracepb.ExportTraceServiceRequest{})
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, cfg.Endpoint.URL(s), http.NoBody)
	if err != nil {
		return err
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// grpcAt serves gRPC and returns the address; without the services for 0.
func grpcAt(t *testing.T, code codes.Code, options ...grpc.ServerOption) string {
	t.Helper()
	l := otlptest.Listen(t)
	if code != 0 {
		r := new(otlptest.Receiver)
		r.Answer(otlptest.Answer{Err: status.Error(code, "because")})
		r.ServeGRPC(t, l, options...)
		return l.Addr().String()
	}
	s := grpc.NewServer(options...)
	go func() { _ = s.Serve(l) }() // until Stop
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func httpAt(t *testing.T, code int) string {
	t.Helper()
	r := otlptest.StartHTTP(t)
	r.Answer(otlptest.Answer{Status: code})
	return strings.TrimPrefix(r.URL, "http://")
}

func overTLS(c *tls.Config) grpc.ServerOption { return grpc.Creds(credentials.NewTLS(c)) }

// What libraries say is held against real connections: a new version that says
// it differently fails here.
func TestFailuresAreExplained(t *testing.T) {
	ca := otlptest.NewAuthority(t)
	soon := time.Now().Add(time.Hour)
	port := func(address string) string { return "localhost" + address[strings.LastIndex(address, ":"):] }
	silentAt := otlptest.Listen(t).Addr().String() // accepts, for the kernel does, and says nothing
	gone := otlptest.Listen(t)
	goneAt := gone.Addr().String()
	gone.Close()
	wantsClient := ca.Serving(t, "localhost", soon)
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
		{"http to a grpc port", "http://" + grpcAt(t, codes.OK), ProtocolHTTP, false, "et clntrace-otlp-protocol=grpc"},
		{"TLS to plaintext, grpc", "https://" + grpcAt(t, codes.OK), ProtocolGRPC, false, "it does not speak TLS. Write http://host:port"},
		{"TLS to plaintext, http", "https://" + httpAt(t, 200), ProtocolHTTP, false, "it does not speak TLS. Write http://host:port"},
		{"plaintext to TLS, grpc", "http://" + grpcAt(t, codes.OK, overTLS(ca.Serving(t, "localhost", soon))), ProtocolGRPC, false, "Write https://"},
		{"unknown CA", "https://" + port(grpcAt(t, codes.OK, overTLS(ca.Serving(t, "localhost", soon)))), ProtocolGRPC, false, "Name that CA's file in clntrace-otlp-ca-file"},
		{"other name", "https://" + port(grpcAt(t, codes.OK, overTLS(ca.Serving(t, "collector.example", soon)))), ProtocolGRPC, true, "its certificate is for another name"},
		{"address instead of name", "https://" + grpcAt(t, codes.OK, overTLS(ca.Serving(t, "localhost", soon))), ProtocolGRPC, true, "its certificate is for another name"},
		{"expired", "https://" + port(grpcAt(t, codes.OK, overTLS(ca.Serving(t, "localhost", time.Now().Add(-time.Hour))))), ProtocolGRPC, true, "its certificate is out of date"},
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
		{"302", "http://" + httpAt(t, 302), ProtocolHTTP, false, "Set clntrace-otlp-endpoint to where it leads"},
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
				cfg.CAFile = ca.File
			}
			f := attempt(t, cfg, Spans)
			if f == nil {
				t.Fatal("the request was taken")
			}
			if got := f.Explain(voice.Plugin); !strings.Contains(got, tc.want) || !strings.Contains(got, f.Reason) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// codeNames are codes of gRPC.
var codeNames = map[string]bool{"Unavailable": true, "ResourceExhausted": true}

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
		{"https://collector.example", "tls: failed to verify certificate: x509: certificate signed by unknown authority, and the CA's certificate cannot be read any more: open /ca.pem: permission denied", "Correct clntrace-otlp-ca-file"},
		{"https://collector.example", "http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR", "broke the request off"},
		{"https://collector.example", "stream error: stream ID 1; INTERNAL_ERROR; received from peer", "broke the request off"},
		{"http://localhost:4317", "what nobody foresaw", "what nobody foresaw. Start the endpoint or correct clntrace-otlp-endpoint"},
	} {
		endpoint, err := ParseEndpoint(tc.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		protocol := ProtocolHTTP
		code, said, overGRPC := strings.Cut(tc.reason, ": ")
		if overGRPC = overGRPC && codeNames[code]; overGRPC {
			protocol = ProtocolGRPC
		} else {
			code, said = "", tc.reason
		}
		if got := heard(Config{Endpoint: endpoint, Protocol: protocol}, Spans, code, said).Explain(voice.Plugin); !strings.Contains(got, tc.want) {
			t.Errorf("%s: got  %s\nwant %s", tc.reason, got, tc.want)
		}
	}
	alone := Config{Endpoint: mustParse(t, "http://localhost:4318/x").ForTracesAlone(), Protocol: ProtocolHTTP}
	if got := (&Failure{code: "HTTP 404", to: alone, signal: Spans}).because("HTTP 404 Not Found").Explain(voice.Plugin); !strings.Contains(got, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is") {
		t.Errorf("an endpoint for traces alone: %s", got)
	}
}

// Whoever reads an advice has the options that it names, and is told what is sent.
func TestAdviceNamesOnlyWhatThereIs(t *testing.T) {
	cfg := Config{Endpoint: mustParse(t, "https://collector.example:4317"), Protocol: ProtocolGRPC}
	for _, tc := range []struct {
		voice  voice.Voice
		signal *Signal
		reason string
		want   string
	}{
		{voice.Plugin, Spans, "Unavailable: x509: certificate signed by unknown authority", "Name that CA's file in clntrace-otlp-ca-file"},
		{voice.Collect, Spans, "Unavailable: x509: certificate signed by unknown authority", "Name that CA's file in --otlp-ca-file"},
		{voice.Demo, Spans, "Unavailable: x509: certificate signed by unknown authority", "Have this machine trust that CA, or write http:// in --otlp-endpoint"},
		{voice.Plugin, Metrics, "Unimplemented: unknown service", "takes no metrics. Correct the port in clntrace-otlp-endpoint; if it is the OpenTelemetry Collector, give it a metrics pipeline"},
		{voice.Plugin, Spans, "Unavailable: connection refused", "'off' if tracestats is all you want"},
		{voice.Collect, Spans, "Unavailable: connection refused", "'off' if SIGUSR1 is all you want"},
	} {
		code, said, _ := strings.Cut(tc.reason, ": ")
		f := heard(cfg, tc.signal, code, said)
		if got := f.Explain(tc.voice); !strings.Contains(got, tc.want) {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
	for _, m := range meanings {
		for _, name := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(voice.Demo.Say(m.text), -1) {
			if !voice.Demo.Has(name[1]) {
				t.Errorf("demo has no --%s: %s", name[1], voice.Demo.Say(m.text))
			}
		}
		if text := voice.Demo.Say(m.text); strings.ContainsAny(text, "{}[|") {
			t.Errorf("not a template: %s", text)
		}
	}
}

func TestNoProxyLeadsToThisHost(t *testing.T) {
	local, err := ParseEndpoint("http://localhost:4317")
	if err != nil {
		t.Fatal(err)
	}
	if got := heard(Config{Endpoint: local}, Spans, "", "connection refused").Explain(voice.Plugin); strings.Contains(got, "proxy") {
		t.Errorf("no proxy leads to this host: %s", got)
	}
}

// The SDK has words of its own for the time limit of metrics.
func TestTimeLimitOfTheCallerIsExplained(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolGRPC, ProtocolHTTP} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			cfg := Config{Endpoint: mustParse(t, "http://"+otlptest.Listen(t).Addr().String()), Protocol: protocol, Timeout: time.Minute}
			c, err := Connect(cfg, Metrics)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("reader export timeout"))
			defer cancel()
			got := FailureOf(send(ctx, c, cfg, Metrics)).Explain(voice.Plugin)
			if want := "it did not answer within clntrace-otlp-timeout"; !strings.HasPrefix(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
