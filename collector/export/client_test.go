package export

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"clntrace/collector/otlp"
	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/stats"
)

// The options of clntrace are all that counts; the SDK looks elsewhere, too.
func TestEnvironmentChangesNothing(t *testing.T) {
	cert, key := otlptest.NewAuthority(t).IssueFiles(t, 2, time.Now().Add(time.Hour))
	for _, signal := range []string{"", "TRACES_"} {
		for name, value := range map[string]string{
			"ENDPOINT": "https://127.0.0.1:1/elsewhere", "PROTOCOL": "http/json", "HEADERS": "content-type=text/odd",
			"TIMEOUT": "1", "COMPRESSION": "gzip", "INSECURE": "false",
			"CERTIFICATE": cert, "CLIENT_CERTIFICATE": cert, "CLIENT_KEY": key,
		} {
			t.Setenv("OTEL_EXPORTER_OTLP_"+signal+name, value)
		}
	}
	grpc, http := config(mustParse(t, otlptest.StartGRPC(t).URL)), config(mustParse(t, otlptest.StartHTTP(t).URL))
	http.Protocol = otlp.ProtocolHTTP
	for _, cfg := range []Config{grpc, http} {
		p, report := export1(t, cfg)
		p.want(stats.Counts{Exported: 1})
		if report.Retries != 0 || report.LastError != "" {
			t.Errorf("%s: %+v", cfg.Protocol, report)
		}
	}
}

// A client that is replaced during a request gets the answer, because otherwise the
// spans would be sent twice.
func TestClosingAClientWaitsForTheAnswer(t *testing.T) {
	for protocol, start := range map[otlp.Protocol]func(testing.TB, ...otlptest.Answer) *otlptest.Receiver{
		otlp.ProtocolGRPC: otlptest.StartGRPC, otlp.ProtocolHTTP: otlptest.StartHTTP,
	} {
		t.Run(string(protocol), func(t *testing.T) {
			answer := make(chan struct{})
			r := start(t, otlptest.Answer{Until: answer})
			c, err := connect(otlp.Config{Endpoint: mustParse(t, r.URL), Protocol: protocol, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			uploaded := make(chan error, 1)
			go func() { uploaded <- c.UploadTraces(t.Context(), []*tracepb.ResourceSpans{{}}) }()
			<-r.Arrived
			closed := make(chan struct{})
			go func() { c.Close(t.Context()); close(closed) }()
			if protocol == otlp.ProtocolHTTP {
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

// What an answer means gets through the SDK's clients as it is.
func TestFailuresSurviveTheSDK(t *testing.T) {
	refusal := otlptest.Answer{Err: status.Error(codes.InvalidArgument, "because"), Status: 400}
	for _, tc := range []struct {
		what   string
		answer otlptest.Answer
		grpc   string
		http   string
		kind   otlp.Kind
	}{
		{"a rejection", refusal, "InvalidArgument: because", "HTTP 400 Bad Request", otlp.Rejected},
		{"a partial success", otlptest.Answer{Rejected: 2, Message: "too old"}, "too old", "too old", otlp.Partial},
	} {
		overGRPC := otlp.Config{Endpoint: mustParse(t, otlptest.StartGRPC(t, tc.answer).URL), Protocol: otlp.ProtocolGRPC, Timeout: time.Minute}
		overHTTP := otlp.Config{Endpoint: mustParse(t, otlptest.StartHTTP(t, tc.answer).URL), Protocol: otlp.ProtocolHTTP, Timeout: time.Minute}
		for want, cfg := range map[string]otlp.Config{tc.grpc + " over grpc": overGRPC, tc.http + " over http/protobuf": overHTTP} {
			c, err := connect(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var f *otlp.Failure
			err = c.UploadTraces(t.Context(), []*tracepb.ResourceSpans{{}})
			if !errors.As(err, &f) {
				t.Fatalf("%s: no failure in %v", tc.what, err)
			}
			if got := f.Reason + " over " + string(cfg.Protocol); got != want || f.Kind != tc.kind || f.Rejected != tc.answer.Rejected || !f.Reached {
				t.Errorf("%s: got %+v, want %s", tc.what, f, want)
			}
			c.Close(t.Context())
		}
	}
}

// A load balancer forgets the connection and closes nothing: spans arrive all the same,
// after two attempts that time out.
func TestForgottenConnection(t *testing.T) {
	for protocol, start := range map[otlp.Protocol]func(testing.TB, ...otlptest.Answer) *otlptest.Receiver{
		otlp.ProtocolGRPC: otlptest.StartGRPC, otlp.ProtocolHTTP: otlptest.StartHTTP,
	} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			r := start(t)
			between := otlptest.NewRelay(t, strings.TrimPrefix(r.URL, "http://"))
			cfg := config(mustParse(t, "http://"+between.Addr().String()))
			cfg.Protocol, cfg.Timeout = protocol, 2*time.Second
			p := newTestPipeline(t).start(cfg)
			p.SetNode(Node{})
			p.send(newSpan(1, "a"))
			<-r.Arrived
			between.Forget()
			begin := time.Now()
			p.send(newSpan(2, "b"))
			<-r.Arrived
			if took := time.Since(begin); took > 3*cfg.Timeout {
				t.Errorf("took %v", took)
			}
			if left := p.shutdown(time.Minute); left != 0 {
				t.Errorf("%d spans are left", left)
			}
			p.want(stats.Counts{Exported: 2})
		})
	}
}

// Some servers and proxies take no request without a length.
func TestCompressedRequestsHaveALength(t *testing.T) {
	var length atomic.Int64
	r := otlptest.StartHTTP(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		length.Store(req.ContentLength)
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	cfg := config(mustParse(t, server.URL))
	cfg.Protocol, cfg.Compression = otlp.ProtocolHTTP, otlp.CompressionGzip
	p, _ := export1(t, cfg)
	p.want(stats.Counts{Exported: 1})
	if n := length.Load(); n <= 0 {
		t.Errorf("the length of the request is %d", n)
	}
}

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
