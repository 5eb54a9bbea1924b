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
		if f == nil || !strings.Contains(f.Reason, "?[2J(b) éé") || len(f.Reason) > 300 || !utf8.ValidString(f.Reason) {
			t.Errorf("%s: got %+v", what, f)
		}
	}
}
