package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/text"
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
	timedOut := err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
	i.open.ended(timedOut)
	if err == nil {
		return acknowledged(i.cfg, i.signal, reply)
	}
	s := status.Convert(err)
	f := &Failure{code: s.Code().String(), to: i.cfg, signal: i.signal, Reached: receiver.Addr != nil, TimedOut: timedOut}
	f.RetryAfter, f.comesBack = retryInfo(s)
	return f.because(f.code + ": " + s.Message())
}

// acknowledged returns what an acknowledgement rejects or remarks, as an error; nil if
// nothing.
func acknowledged(cfg Config, s *Signal, answer any) error {
	rejected, message := partialSuccess(answer)
	if rejected <= 0 && message == "" {
		return nil
	}
	return &Failure{
		Kind: Partial, Reason: text.Brief(hide(message, cfg.Headers)), Rejected: rejected, Reached: true, to: cfg, signal: s,
	}
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
	req, err := withLength(req)
	if err != nil {
		return nil, err
	}
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
		if response.StatusCode/100 != 2 {
			err = nil // the status says enough, and the body may have no end
		}
	}
	timedOut := err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
	t.open.ended(timedOut)
	if err != nil {
		if errors.Is(err, context.Cause(ctx)) {
			err = ctx.Err() // the SDK words the time limit of metrics otherwise
		}
		f := heard(t.cfg, t.signal, "", err.Error())
		f.Reached, f.TimedOut = reached, timedOut
		return nil, f
	}
	if err := t.judge(response, body); err != nil {
		return nil, err
	}
	response.Body = http.NoBody // it has been understood
	return response, nil
}

// withLength returns the request with its length. The SDK compresses into memory and
// then does not tell it, so that the request would be sent in chunks, which some servers
// and proxies do not take.
func withLength(req *http.Request) (*http.Request, error) {
	if req.ContentLength >= 0 || req.Body == nil {
		return req, nil
	}
	body, err := io.ReadAll(req.Body)
	_ = req.Body.Close() // it is in memory
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.Body, err = req.GetBody()
	return req, err
}

// judge returns what an answer means if it is no plain acknowledgement. It refuses of
// the answers with a status of success only what login pages and proxies send, because
// many backends answer without a content type, or with an odd one.
func (t transport) judge(response *http.Response, body []byte) error {
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")) // on errors it is none that we know
	reason := "HTTP " + response.Status
	f := &Failure{code: fmt.Sprintf("HTTP %d", response.StatusCode), to: t.cfg, signal: t.signal, Reached: true}
	switch {
	case response.StatusCode/100 == 3:
		return f.because(reason + ": a redirect" + target(response))
	case response.StatusCode/100 == 2 && mediaType == "text/html":
		return f.because(reason + ", but with a web page")
	case response.StatusCode/100 == 2:
		return acknowledged(t.cfg, t.signal, t.answer(mediaType, body))
	}
	f.RetryAfter = retryAfter(response.Header.Get("Retry-After"), time.Now())
	if said := said(mediaType, body); said != "" {
		reason += ": " + said
	}
	return f.because(reason)
}

// answer reads an acknowledgement, which may be JSON under any content type. An empty or
// odd one rejects nothing.
func (t transport) answer(mediaType string, body []byte) proto.Message {
	answer := t.signal.answer()
	if mediaType == "application/json" || bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		_ = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(body, answer) // as above
	} else {
		_ = proto.Unmarshal(body, answer) // as above
	}
	return answer
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

// retryAfter reads a Retry-After header: seconds or a date; 0 for anything else.
func retryAfter(value string, now time.Time) time.Duration {
	const longest = int64(math.MaxInt64 / time.Second)
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) { // then it is the nearest number
		return time.Duration(min(max(seconds, 0), longest)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
