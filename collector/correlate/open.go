package correlate

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/process"
)

// OpenRequest is a request of which something is known to be open.
type OpenRequest struct {
	TraceID trace.TraceID
	Process *process.Identity // that serves it
	Method  string            // empty if it cannot be read
	Start   int64             // µs since the Unix epoch
	// WaitsFor is the method that its plugin has asked for, and has not been answered;
	// empty: not known.
	WaitsFor string
}

// OpenRequests returns the requests that are known to be open at the time now, in any
// order. Of a request that nothing is heard of only its plugin knows whether it has
// ended.
func (c *Correlator) OpenRequests(now time.Time) (list []OpenRequest) {
	for _, q := range slices.Concat(c.requests.held.Values(), c.requests.active.Values()) {
		if c.isOpen(q, now) {
			list = append(list, OpenRequest{q.trace, q.process, q.method, q.start, q.waitsFor()})
		}
	}
	return list
}

// waitsFor is the method of the last command that was begun for q.
func (q *openRequest) waitsFor() (method string) {
	var begun int64
	for _, k := range q.evidence {
		if k.start >= begun && k.speaksFor(q) {
			begun, method = k.start, k.method
		}
	}
	return method
}
