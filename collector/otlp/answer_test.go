package otlp

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
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
	for _, body := range []string{"{}", `{"partialSuccess":{}}`, `{"partialSuccess":{"rejectedSpans":"-1"}}`, `{"partialSuccess":3}`, "[]", "{", ""} {
		if f := post(t, Spans, otlptest.Answer{Header: "Content-Type: application/json", Body: []byte(body)}); f != nil {
			t.Errorf("%s: got %+v", body, f)
		}
	}
	f := post(t, Spans, otlptest.Answer{Header: "Content-Type: text/plain", Body: []byte(`{"partial_success":{"rejected_spans":3}}`)})
	if f == nil || f.Rejected != 3 {
		t.Errorf("under another content type: got %+v", f)
	}
}

// A refusal counts though its text does not end.
func TestRefusalWhoseBodyDoesNotEnd(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "no such token")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	f := attempt(t, Config{Endpoint: mustParse(t, s.URL), Protocol: ProtocolHTTP, Timeout: time.Second}, Spans)
	if f == nil || f.Kind != Refusing || f.Reason != "HTTP 401 Unauthorized: no such token" {
		t.Errorf("got %+v", f)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "soon": 0, "1.5": 0, "0": 0, "-5": 0, "30": 30 * time.Second, "9223372036": 9223372036 * time.Second,
		"9223372037": 9223372036 * time.Second, "99999999999999999999": 9223372036 * time.Second, "-99999999999999999999": 0,
		"Thu, 26 Nov 2026 03:00:10 GMT": 10 * time.Second, "Thu, 26 Nov 2026 02:00:00 GMT": 0,
		"Fri, 31 Dec 9999 23:59:59 GMT": math.MaxInt64,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
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
		{"Internal", "stream terminated by RST_STREAM with error code: INTERNAL_ERROR", Unavailable},
		{"PermissionDenied", "stream terminated by RST_STREAM with error code: INADEQUATE_SECURITY", Unavailable},
		{"ResourceExhausted", "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM", Unavailable},
		{"Internal", "server closed the stream without sending trailers", Unavailable},
		{"Unavailable", `unexpected HTTP status code received from server: 503 (Service Unavailable); transport: received unexpected content-type "text/html"`, Unavailable},
		{"Unavailable", "unexpected HTTP status code received from server: 429 (Too Many Requests)", Unavailable},
		{"Unknown", "unexpected HTTP status code received from server: 500 (Internal Server Error)", Refusing},
		{"NotFound", "no such project", Refusing},
		{"ResourceExhausted", "TRACE_TOO_LARGE: max size of trace (5000000) exceeded while adding 4231 bytes to trace 1 for tenant x", Rejected}, // Tempo
		{"ResourceExhausted", "LIVE_TRACES_EXCEEDED: max live traces exceeded for tenant x: limit of 5 bytes exceeded, bytes 6", Rejected},
		{"HTTP 400", "reading the traces of tenant x: http: request body too large", TooLarge},
		{"ResourceExhausted", "Received message larger than max (5000000 vs. 4194304)", TooLarge}, // C
		{"HTTP 409", "", Rejected},
		{"HTTP 402", "", Refusing}, {"HTTP 406", "", Refusing}, {"HTTP 411", "", Refusing}, {"HTTP 414", "", Refusing}, {"HTTP 417", "", Refusing},
		{"HTTP 431", "", Refusing}, {"HTTP 451", "", Refusing}, {"HTTP 494", "", Refusing}, {"HTTP 505", "", Refusing}, {"HTTP 101", "", Refusing},
		{"HTTP 408", "", Unavailable}, {"HTTP 425", "", Unavailable}, {"HTTP 502", "", Unavailable}, {"HTTP 504", "", Unavailable},
		{"HTTP 507", "", Unavailable}, {"HTTP 509", "", Unavailable}, {"HTTP 511", "", Unavailable}, {"HTTP 521", "", Unavailable}, {"HTTP 599", "", Unavailable},
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
