package otlp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// interceptor makes a Failure of every answer over gRPC that is not a plain
// acknowledgement.
type interceptor struct {
	cfg    Config
	signal *Signal
	open   *sockets
}

func (i interceptor) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var receiver peer.Peer
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Peer(&receiver))...)
	i.open.ended(err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded))
	if err == nil {
		return acknowledged(i.cfg, i.signal, reply)
	}
	s := status.Convert(err)
	f := newFailure(i.cfg, i.signal, Rejected, s.Code().String()+": "+s.Message())
	f.Reached = receiver.Addr != nil
	after, comesBack := retryInfo(s)
	f.RetryAfter = after
	switch s.Code() { // the list of the OTLP specification
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		f.Kind = Unavailable
	case codes.ResourceExhausted:
		if comesBack {
			f.Kind = Unavailable
		}
	}
	return f
}

// acknowledged returns what an acknowledgement rejects or remarks, as an error; nil if
// nothing.
func acknowledged(cfg Config, s *Signal, answer any) error {
	rejected, message := partialSuccess(answer)
	if rejected <= 0 && message == "" {
		return nil
	}
	f := newFailure(cfg, s, Partial, message)
	f.Rejected, f.Reached = rejected, true
	return f
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

// transport makes a Failure of every answer over HTTP that is not a plain
// acknowledgement. So redirects are not followed: the headers, which may be secrets, are
// for that endpoint alone, and a POST that becomes a GET delivers nothing.
type transport struct {
	next   http.RoundTripper
	cfg    Config
	signal *Signal
	open   *sockets
}

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	reached := false
	ctx, cancel := context.WithTimeout(req.Context(), t.cfg.Timeout)
	defer cancel()
	response, err := t.next.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { reached = true },
	})))
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(response.Body, maxResponse))
		_ = response.Body.Close() // it has been read
	}
	t.open.ended(err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded))
	if err != nil {
		f := newFailure(t.cfg, t.signal, Unavailable, err.Error())
		f.Reached = reached
		return nil, f
	}
	if err := t.judge(response, body); err != nil {
		return nil, err
	}
	response.Body = http.NoBody // it has been understood
	return response, nil
}

// judge returns what an answer means if it is no plain acknowledgement. It refuses of
// the answers with a status of success only what login pages and proxies send, because
// many backends answer without a content type, or with an odd one.
func (t transport) judge(response *http.Response, body []byte) error {
	code := fmt.Sprintf("HTTP %d %s", response.StatusCode, http.StatusText(response.StatusCode))
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")) // on errors it is none that we know
	fail := func(k Kind, reason string) *Failure {
		f := newFailure(t.cfg, t.signal, k, reason)
		f.Reached = true
		return f
	}
	switch {
	case response.StatusCode/100 == 3:
		return fail(Rejected, code+": a redirect"+target(response))
	case response.StatusCode/100 == 2 && mediaType == "text/html":
		return fail(Rejected, code+", but with a web page")
	case response.StatusCode/100 == 2:
		answer := t.signal.answer()
		_ = proto.Unmarshal(body, answer) // an empty or odd body rejects nothing
		return acknowledged(t.cfg, t.signal, answer)
	}
	f := fail(Rejected, "HTTP "+response.Status+reason(mediaType, body))
	switch response.StatusCode { // the list of the OTLP specification
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		f.Kind = Unavailable
		f.RetryAfter = retryAfter(response.Header.Get("Retry-After"), time.Now())
	}
	return f
}

// target returns the host that a redirect leads to, after "to", or "". The rest of the
// URL may contain a secret.
func target(response *http.Response) string {
	to, err := response.Location()
	if err != nil || to.Host == "" {
		return ""
	}
	return " to " + (&url.URL{Scheme: to.Scheme, Host: to.Host}).String()
}

// reason returns what an OTLP backend says about a refusal, after a colon, or "" if
// it says nothing that we can read.
func reason(mediaType string, body []byte) string {
	var s statuspb.Status
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
