package otlptest

import (
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"clntrace/tests/wait"
)

// Spans are those accepted so far, in the order of arrival.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Span(nil), r.spans...)
}

// Requests are those that came so far, accepted or not.
func (r *Receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests...)
}

// Metrics are the metric requests so far.
func (r *Receiver) Metrics() []pmetric.Metrics {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]pmetric.Metrics(nil), r.metrics...)
}

// Wait waits until the accepted spans satisfy done, and returns them. The test
// ends if they do not.
func (r *Receiver) Wait(t testing.TB, what string, done func([]Span) bool) []Span {
	t.Helper()
	timeout := time.After(wait.Limit)
	for {
		r.mu.Lock()
		spans, changed := append([]Span(nil), r.spans...), r.changed
		r.mu.Unlock()
		if done(spans) {
			return spans
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited %v for %s; %d spans came", wait.Limit, what, len(spans))
		}
	}
}

// WaitSpans waits for the n-th span, and returns all that have come by then.
func (r *Receiver) WaitSpans(t testing.TB, n int) []Span {
	t.Helper()
	return r.Wait(t, "spans", func(s []Span) bool { return len(s) >= n })
}

// WaitRequests waits for the n-th request, accepted or not.
func (r *Receiver) WaitRequests(t testing.TB, n int) []Request {
	t.Helper()
	timeout := time.After(wait.Limit)
	for {
		r.mu.Lock()
		requests, changed := append([]Request(nil), r.requests...), r.changed
		r.mu.Unlock()
		if len(requests) >= n {
			return requests
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited %v for request %d; %d came", wait.Limit, n, len(requests))
		}
	}
}
