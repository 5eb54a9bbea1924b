package otlp

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"clntrace/collector/otlp/otlptest"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// post sends an empty request over HTTP to a server that answers like that.
func post(t *testing.T, s *Signal, a otlptest.Answer) *Failure {
	t.Helper()
	r := otlptest.StartHTTP(t, a)
	return attempt(t, Config{Endpoint: mustParse(t, r.URL), Protocol: ProtocolHTTP, Timeout: time.Minute}, s)
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	other := otlptest.StartHTTP(t)
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, s := range []*Signal{Spans, Metrics} {
			f := post(t, s, otlptest.Answer{Status: code, Header: "Location: " + other.URL + "/v1/traces?token=s3cret"})
			if want := fmt.Sprintf("HTTP %d %s: a redirect to %s", code, http.StatusText(code), other.URL); f == nil || f.Reason != want {
				t.Errorf("got  %+v,\nwant %q", f, want)
			}
		}
	}
	if n := len(other.Headers()); n != 0 {
		t.Errorf("%d requests went to the other host", n)
	}
}

func TestAWebPageIsNoAcknowledgement(t *testing.T) {
	for contentType, taken := range map[string]bool{
		"": true, "application/x-protobuf": true, "application/json": true, "text/plain": true,
		"text/html": false, "Text/HTML; charset=utf-8": false,
	} {
		f := post(t, Spans, otlptest.Answer{Header: "Content-Type: " + contentType})
		if (f == nil) != taken || f != nil && !strings.Contains(f.Reason, "web page") {
			t.Errorf("%q: got %+v", contentType, f)
		}
	}
}

func TestBackendsTextIsBounded(t *testing.T) {
	long := "\x1b[2J<b>\n" + strings.Repeat("é", 5000)
	body, err := proto.Marshal(&statuspb.Status{Message: long})
	if err != nil {
		t.Fatal(err)
	}
	grpc := otlptest.StartGRPC(t, otlptest.Answer{Err: status.Error(codes.InvalidArgument, long)}, otlptest.Answer{Rejected: 1, Message: long})
	cfg := Config{Endpoint: mustParse(t, grpc.URL), Protocol: ProtocolGRPC, Timeout: time.Minute}
	for what, f := range map[string]*Failure{
		"gRPC":            attempt(t, cfg, Spans),
		"partial success": attempt(t, cfg, Spans),
		"HTTP":            post(t, Spans, otlptest.Answer{Status: 400, Header: "Content-Type: application/x-protobuf", Body: body}),
	} {
		if f == nil || !strings.Contains(f.Reason, "?[2J<b> éé") || len(f.Reason) > 300 || !utf8.ValidString(f.Reason) {
			t.Errorf("%s: got %+v", what, f)
		}
	}
}

// What a refusal says is shown, whatever its form.
func TestBodiesOfRefusals(t *testing.T) {
	status, err := proto.Marshal(&statuspb.Status{Message: "because"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ contentType, body, want string }{
		{"text/plain", "no org id\n", ": no org id"},
		{"", "no org id", ": no org id"},
		{"application/x-protobuf", string(status), ": because"},
		{"application/x-protobuf", "no protobuf at all", ": no protobuf at all"},
		{"application/json", `{"code":16,"message":"because"}`, ": because"},
		{"application/json; charset=utf-8", `{"error":{"message":"because"}}`, ": because"},
		{"application/json", `{"error":"because"}`, ": because"},
		{"application/json", `{"errors":["this"]}`, `: {"errors":["this"]}`},
		{"application/json", `{"broken`, `: {"broken`},
		{"application/problem+json", `{"title":"Bad","detail":"because"}`, ": because"},
		{"text/html", "<html><head><title>403 Forbidden</title><style>b{}</style></head><body>nginx</body></html>", ": 403 Forbidden"},
		{"text/html", "<!DOCTYPE html><p>not &amp; here</p><script>x()</script>", ": not & here"},
		{"text/plain", "two\nlines\tof <text>", ": two lines of <text>"},
		{"text/plain", "\x1f\x8b\x08 compressed", ""},
		{"text/plain", "\xff\xfe", ""},
		{"text/plain", "", ""},
	} {
		f := post(t, Spans, otlptest.Answer{Status: 403, Header: "Content-Type: " + tc.contentType, Body: []byte(tc.body)})
		if want := "HTTP 403 Forbidden" + tc.want; f == nil || f.Reason != want {
			t.Errorf("%s %q: got %+v, want %q", tc.contentType, tc.body, f, want)
		}
	}
}

// Endpoints may repeat the credentials that they refuse.
func TestHeadersAreNotShown(t *testing.T) {
	r := otlptest.StartHTTP(t, otlptest.Answer{Status: 401, Header: "Content-Type: text/plain", Body: []byte("Bearer s3cret of tenant-7 is not valid; use Bearer TOKEN")})
	cfg := Config{
		Endpoint: mustParse(t, r.URL), Protocol: ProtocolHTTP, Timeout: time.Minute,
		Headers: map[string]string{"authorization": "Bearer s3cret", "x-scope-orgid": "tenant-7", "x": "is"},
	}
	f := attempt(t, cfg, Spans)
	if want := "HTTP 401 Unauthorized: [hidden] of [hidden] is not valid; use Bearer TOKEN"; f == nil || f.Reason != want {
		t.Errorf("got %+v, want %q", f, want)
	}
}

// A partial success may come as JSON.
func TestPartialSuccessInJSON(t *testing.T) {
	for s, body := range map[*Signal]string{
		Spans:   `{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"},"other":1}`,
		Metrics: `{"partialSuccess":{"rejectedDataPoints":3,"errorMessage":"too old"}}`,
	} {
		f := post(t, s, otlptest.Answer{Header: "Content-Type: application/json", Body: []byte(body)})
		if f == nil || f.Kind != Partial || f.Rejected != 3 || f.Reason != "too old" {
			t.Errorf("%s: got %+v", s.noun, f)
		}
	}
	if f := post(t, Spans, otlptest.Answer{Header: "Content-Type: application/json", Body: []byte("{}")}); f != nil {
		t.Errorf("got %+v", f)
	}
}

// What an answer means for the request.
func TestKinds(t *testing.T) {
	for _, tc := range []struct {
		code, said string
		want       Kind
	}{
		{"HTTP 413", "", TooLarge},
		{"HTTP 400", "http: request body too large", TooLarge}, // the OpenTelemetry Collector over HTTP
		{"ResourceExhausted", "grpc: received message larger than max (5000000 vs. 4194304)", TooLarge},
		{"ResourceExhausted", "grpc: received message after decompression larger than max 4194304", TooLarge},
		{"ResourceExhausted", "gRPC message exceeds maximum size 4194304: 5000000", TooLarge},                      // Java
		{"OutOfRange", "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes", TooLarge},  // Rust
		{"ResourceExhausted", "Received message exceeds the maximum configured message size.", TooLarge},           // .NET
		{"Unknown", "unexpected HTTP status code received from server: 413 (Request Entity Too Large)", TooLarge},  // nginx
		{"ResourceExhausted", "RATE_LIMITED: ingestion rate limit (15000000 bytes) exceeded, 423 bytes", Rejected}, // Tempo
		{"ResourceExhausted", "quota of messages exceeded", Rejected},
		{"ResourceExhausted", "", Rejected},
		{"OutOfRange", "try later", Unavailable},
		{"HTTP 400", "no such attribute", Rejected},
		{"HTTP 400", "Client sent an HTTP request to an HTTPS server.", Refusing},
		{"HTTP 422", "", Rejected},
		{"HTTP 429", "", Unavailable},
		{"HTTP 500", "", Rejected},
		{"HTTP 503", "upstream connect error or disconnect/reset before headers", Unavailable},
		{"InvalidArgument", "EOF", Rejected},
		{"PermissionDenied", "connection refused by policy", Refusing},
		{"FailedPrecondition", "", Rejected},
		{"Unavailable", "", Unavailable},
		{"DataLoss", "", Unavailable},
		{"Internal", "", Rejected},
	} {
		cfg := Config{Endpoint: mustParse(t, "http://localhost:4317"), Protocol: ProtocolGRPC}
		if strings.HasPrefix(tc.code, "HTTP") {
			cfg.Protocol = ProtocolHTTP
		}
		if f := heard(cfg, Spans, tc.code, tc.said); f.Kind != tc.want {
			t.Errorf("%s: kind %d, want %d", f.Reason, f.Kind, tc.want)
		}
	}
}
