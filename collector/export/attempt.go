package export

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// attempt is the outcome of one export request. The SDK's clients return only an
// error, with the same text for very different outcomes. So the attempt travels in
// the request's context, and is filled in where the answer arrives.
type attempt struct {
	reached      bool // there was a connection, so the batch may be the problem
	acknowledged bool
	rejected     int64  // spans that the backend refused of a batch that it acknowledged
	message      string // the backend's reason, or the error
	retryable    bool
	retryAfter   time.Duration // how long the backend asked us to wait; 0: it did not
}

type attemptKey struct{}

func withAttempt(ctx context.Context) (context.Context, *attempt) {
	a := new(attempt)
	return context.WithValue(ctx, attemptKey{}, a), a
}

func attemptOf(ctx context.Context) *attempt {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		return a
	}
	return new(attempt)
}

// answered records a backend's acknowledgement.
func (a *attempt) answered(response *coltracepb.ExportTraceServiceResponse) {
	a.acknowledged = true
	if partial := response.GetPartialSuccess(); partial != nil {
		a.rejected, a.message = partial.GetRejectedSpans(), partial.GetErrorMessage()
	}
}

// rejectedOf is how many of a batch of that many spans were rejected.
func (a *attempt) rejectedOf(spans int64) int64 { return min(max(a.rejected, 0), spans) }

// observeGRPC is the unary interceptor that fills in attempts.
func observeGRPC(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var receiver peer.Peer
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Peer(&receiver))...)
	a := attemptOf(ctx)
	a.reached = receiver.Addr != nil
	if err == nil {
		response, _ := reply.(*coltracepb.ExportTraceServiceResponse)
		a.answered(response)
		return nil
	}
	s := status.Convert(err)
	a.message = s.Code().String() + ": " + s.Message()
	a.retryAfter, a.retryable = retryInfo(s)
	switch s.Code() { // the list of the OTLP specification
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		a.retryable = true
	case codes.ResourceExhausted: // retryable only with a RetryInfo
	default:
		a.retryable = false
	}
	return err
}

func retryInfo(s *status.Status) (time.Duration, bool) {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}

// maxResponse bounds what is read of an HTTP answer.
const maxResponse = 1 << 20 // bytes

// observeHTTP is the transport that fills in attempts.
type observeHTTP struct{ next http.RoundTripper }

func (o observeHTTP) RoundTrip(req *http.Request) (*http.Response, error) {
	a := attemptOf(req.Context())
	response, err := o.next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { a.reached = true },
	})))
	if err != nil {
		a.message, a.retryable = err.Error(), true
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	_ = response.Body.Close()
	if err != nil {
		a.message, a.retryable = err.Error(), true
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	if refusal := NotOTLP(response); refusal != nil {
		a.message = refusal.Error() // to a transport, any answer is a success
		return response, nil        //nolint:nilerr // see above
	}
	if response.StatusCode/100 == 2 {
		var answer coltracepb.ExportTraceServiceResponse
		_ = proto.Unmarshal(body, &answer) // an empty or odd body rejects nothing
		a.answered(&answer)
		return response, nil
	}
	a.message = "HTTP " + response.Status + reason(response.Header.Get("Content-Type"), body)
	switch response.StatusCode { // the list of the OTLP specification
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		a.retryable = true
		a.retryAfter = retryAfter(response.Header.Get("Retry-After"), time.Now())
	}
	return response, nil
}

// NotOTLP says why an HTTP answer cannot be that of an OTLP endpoint; nil: it may
// be. It refuses only what login pages and proxies send, because many backends
// answer without a content type, or with an odd one.
func NotOTLP(response *http.Response) error {
	status := fmt.Sprintf("HTTP %d %s", response.StatusCode, http.StatusText(response.StatusCode))
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")) // as in reason
	switch {
	case response.StatusCode/100 == 3:
		return fmt.Errorf("%s: a redirect, which is not followed; set clntrace-otlp-endpoint to where it leads%s", status, target(response))
	case response.StatusCode/100 == 2 && mediaType == "text/html":
		return fmt.Errorf("%s, but with a web page: this is no OTLP endpoint; correct clntrace-otlp-endpoint", status)
	}
	return nil
}

// target returns the host that a redirect leads to, in parentheses, or "". The rest
// of the URL may contain a secret.
func target(response *http.Response) string {
	to, err := response.Location()
	if err != nil || to.Host == "" {
		return ""
	}
	return " (" + (&url.URL{Scheme: to.Scheme, Host: to.Host}).String() + ")"
}

// reason returns what an OTLP backend says about a refusal, after a colon, or "" if
// it says nothing that we can read.
func reason(contentType string, body []byte) string {
	var s statuspb.Status
	mediaType, _, _ := mime.ParseMediaType(contentType) // on errors it is none that we know
	var err error
	switch mediaType {
	case "application/x-protobuf":
		err = proto.Unmarshal(body, &s)
	case "application/json":
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(body, &s)
	}
	if err != nil || s.GetMessage() == "" {
		return ""
	}
	return ": " + s.GetMessage()
}

// retryAfter reads a Retry-After header: seconds or a date; 0 for anything else.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(seconds, 0)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
