package export

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/stats"
)

// export1 sends one span to cfg's endpoint and returns what is said of it.
func export1(t *testing.T, cfg Config) (*testPipeline, stats.Export) {
	t.Helper()
	p := newTestPipeline(t).start(cfg)
	p.SetNode(Node{})
	p.send(newSpan(1, "a"))
	if left := p.shutdown(time.Minute); left != 0 {
		t.Errorf("%d spans are left", left)
	}
	report, _ := p.Status()
	return p, report
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	t.Cleanup(other.Close)
	for _, code := range []int{301, 302, 303, 307, 308} {
		b := newHTTPBackend(t, answer{http: code, header: [2]string{"Location", other.URL + "/login?token=s3cret"}})
		cfg := config(b.endpoint)
		cfg.Protocol, cfg.Headers = ProtocolHTTP, map[string]string{"x-key": "secret"}
		p, report := export1(t, cfg)
		p.want(stats.Counts{RejectedByBackend: 1})
		want := fmt.Sprintf("HTTP %d %s: a redirect, which is not followed; set clntrace-otlp-endpoint to where it leads (%s)",
			code, http.StatusText(code), other.URL)
		if report.LastError != want {
			t.Errorf("got  %q,\nwant %q", report.LastError, want)
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d requests went to the other host", n)
	}
}

func TestAWebPageIsNoAcknowledgement(t *testing.T) {
	for contentType, want := range map[string]stats.Counts{
		"":                         {Exported: 1},
		"application/x-protobuf":   {Exported: 1},
		"application/json":         {Exported: 1},
		"text/plain":               {Exported: 1},
		"text/html":                {RejectedByBackend: 1},
		"Text/HTML; charset=utf-8": {RejectedByBackend: 1},
	} {
		b := newHTTPBackend(t, answer{http: 200, header: [2]string{"Content-Type", contentType}})
		cfg := config(b.endpoint)
		cfg.Protocol = ProtocolHTTP
		p, report := export1(t, cfg)
		p.want(want)
		if said := strings.Contains(report.LastError, "web page"); said != (want.RejectedByBackend > 0) {
			t.Errorf("%q: last error %q", contentType, report.LastError)
		}
	}
}

func TestBackendsTextIsBounded(t *testing.T) {
	long := "\x1b[2J<b>\n" + strings.Repeat("é", 5000)
	body, err := proto.Marshal(&statuspb.Status{Message: long})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(body)
	}))
	t.Cleanup(web.Close)
	overHTTP := config(mustParse(t, web.URL))
	overHTTP.Protocol = ProtocolHTTP
	for what, cfg := range map[string]Config{
		"gRPC":            config(newBackend(t, answer{err: status.Error(codes.InvalidArgument, long)}).endpoint),
		"partial success": config(newBackend(t, answer{rejected: 1, message: long}).endpoint),
		"HTTP":            overHTTP,
	} {
		p, report := export1(t, cfg)
		p.want(stats.Counts{RejectedByBackend: 1})
		if e := report.LastError; !strings.Contains(e, "?[2J(b) éé") || len(e) > 300 || !utf8.ValidString(e) {
			t.Errorf("%s: the last error is %q", what, e)
		}
		if n := len(p.log.String()); n > 1000 {
			t.Errorf("%s: %d bytes in the log", what, n)
		}
	}
}
