// Package otlptest has an OTLP endpoint for the tests of packages: it keeps what it
// gets, and answers as it is told.
package otlptest

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Answer is an answer to one request. The zero Answer takes what was sent.
type Answer struct {
	Err      error  // over gRPC
	Status   int    // over HTTP; 0: 200
	Header   string // over HTTP, as "Name: value"
	Body     []byte // over HTTP, if Status or Header is set
	Rejected int64  // of a partial success
	Message  string // of a partial success; "": too many
	// Until, if set, is when the answer is given, unless the client gives up before.
	Until <-chan struct{}
}

// Hang is an answer that never comes.
func Hang() Answer { return Answer{Until: make(chan struct{})} }

// Receiver is the endpoint.
type Receiver struct {
	URL     string        // http://127.0.0.1:PORT, or https://
	Arrived chan struct{} // gets a token for each request, as long as there is room

	mu      sync.Mutex
	answers []Answer // one for each request
	rest    Answer   // for all that follow
	traces  []*coltracepb.ExportTraceServiceRequest
	metrics []*colmetricspb.ExportMetricsServiceRequest
	headers []http.Header
	largest int
}

// StartGRPC starts a Receiver that gives these answers over gRPC, one to each request,
// and then takes everything. It runs until the end of the test.
func StartGRPC(t testing.TB, answers ...Answer) *Receiver {
	t.Helper()
	return serveGRPC(t, "http://", nil, answers)
}

// StartGRPCOverTLS is StartGRPC with TLS.
func StartGRPCOverTLS(t testing.TB, c *tls.Config, answers ...Answer) *Receiver {
	t.Helper()
	return serveGRPC(t, "https://", []grpc.ServerOption{grpc.Creds(credentials.NewTLS(c))}, answers)
}

func serveGRPC(t testing.TB, scheme string, options []grpc.ServerOption, answers []Answer) *Receiver {
	t.Helper()
	l := Listen(t)
	r := newReceiver(scheme+l.Addr().String(), answers)
	r.ServeGRPC(t, l, options...)
	return r
}

// ServeGRPC serves r over gRPC on one more listener, until the end of the test.
func (r *Receiver) ServeGRPC(t testing.TB, l net.Listener, options ...grpc.ServerOption) {
	server := grpc.NewServer(options...)
	coltracepb.RegisterTraceServiceServer(server, traceService{r: r})
	colmetricspb.RegisterMetricsServiceServer(server, metricsService{r: r})
	go func() { _ = server.Serve(l) }() // until Stop
	t.Cleanup(server.Stop)
}

// StartHTTP is StartGRPC for OTLP over HTTP.
func StartHTTP(t testing.TB, answers ...Answer) *Receiver {
	t.Helper()
	r := newReceiver("", answers)
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// StartHTTPOverTLS is StartHTTP with TLS, and with HTTP/2 if http2 is set.
func StartHTTPOverTLS(t testing.TB, c *tls.Config, http2 bool, answers ...Answer) *Receiver {
	t.Helper()
	r := newReceiver("", answers)
	server := httptest.NewUnstartedServer(r)
	server.TLS, server.EnableHTTP2 = c.Clone(), http2
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not fit
	server.StartTLS()
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func newReceiver(url string, answers []Answer) *Receiver {
	return &Receiver{URL: url, answers: answers, Arrived: make(chan struct{}, 1000)}
}

// Listen listens on the loopback interface until the end of the test.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Answer makes a the answer to everything that follows.
func (r *Receiver) Answer(a Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers, r.rest = nil, a
}

// Traces returns the requests with spans that were taken.
func (r *Receiver) Traces() []*coltracepb.ExportTraceServiceRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.traces
}

// Spans returns the spans that were taken.
func (r *Receiver) Spans() (spans []*tracepb.Span) {
	for _, request := range r.Traces() {
		for _, rs := range request.GetResourceSpans() {
			for _, s := range rs.GetScopeSpans() {
				spans = append(spans, s.GetSpans()...)
			}
		}
	}
	return spans
}

// Metrics returns the requests with metrics that were taken.
func (r *Receiver) Metrics() []*colmetricspb.ExportMetricsServiceRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.metrics
}

// Headers returns those of each request; gRPC calls them metadata.
func (r *Receiver) Headers() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.headers
}

// Largest is the size of the largest request, in bytes.
func (r *Receiver) Largest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.largest
}

// take keeps a request, if it is to be taken, and returns the answer. err says that the
// client has given up.
func (r *Receiver) take(ctx context.Context, in proto.Message, header http.Header) (a Answer, err error) {
	r.mu.Lock()
	a = r.rest
	if len(r.answers) > 0 {
		a, r.answers = r.answers[0], r.answers[1:]
	}
	r.headers = append(r.headers, header)
	r.largest = max(r.largest, proto.Size(in))
	r.mu.Unlock()
	select {
	case r.Arrived <- struct{}{}:
	default:
	}
	if a.Until != nil {
		select {
		case <-a.Until:
		case <-ctx.Done():
			return a, ctx.Err()
		}
	}
	if a.Err == nil && (a.Status == 0 || a.Status/100 == 2) {
		r.keep(in)
	}
	return a, nil
}

func (r *Receiver) keep(in proto.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch in := in.(type) {
	case *coltracepb.ExportTraceServiceRequest:
		r.traces = append(r.traces, in)
	case *colmetricspb.ExportMetricsServiceRequest:
		r.metrics = append(r.metrics, in)
	}
}

func (r *Receiver) takeGRPC(ctx context.Context, in proto.Message) (Answer, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	header := make(http.Header)
	for key, values := range md {
		header[http.CanonicalHeaderKey(key)] = values
	}
	a, err := r.take(ctx, in, header)
	if err != nil {
		return a, status.FromContextError(err).Err()
	}
	return a, a.Err
}

type traceService struct {
	coltracepb.UnimplementedTraceServiceServer
	r *Receiver
}

// Export takes spans.
func (s traceService) Export(ctx context.Context, in *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	a, err := s.r.takeGRPC(ctx, in)
	return a.traces(), err
}

type metricsService struct {
	colmetricspb.UnimplementedMetricsServiceServer
	r *Receiver
}

// Export takes metrics.
func (s metricsService) Export(ctx context.Context, in *colmetricspb.ExportMetricsServiceRequest) (*colmetricspb.ExportMetricsServiceResponse, error) {
	a, err := s.r.takeGRPC(ctx, in)
	return a.metrics(), err
}

func (a Answer) traces() *coltracepb.ExportTraceServiceResponse {
	if a.Rejected == 0 && a.Message == "" {
		return &coltracepb.ExportTraceServiceResponse{}
	}
	return &coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{
		RejectedSpans: a.Rejected, ErrorMessage: cmp.Or(a.Message, "too many"),
	}}
}

func (a Answer) metrics() *colmetricspb.ExportMetricsServiceResponse {
	if a.Rejected == 0 && a.Message == "" {
		return &colmetricspb.ExportMetricsServiceResponse{}
	}
	return &colmetricspb.ExportMetricsServiceResponse{PartialSuccess: &colmetricspb.ExportMetricsPartialSuccess{
		RejectedDataPoints: a.Rejected, ErrorMessage: cmp.Or(a.Message, "too many"),
	}}
}
