package correlate

import (
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/process"
	"clntrace/collector/zipkin"
)

const (
	// quiet is how long nothing of a request may have come before its root is added.
	quiet = 5 * time.Second
	// maxRequests bounds the requests that are open, and those remembered as done.
	maxRequests = 10000
	// rootName names the root of a request whose method cannot be read.
	rootName = "request"
)

// requests are the traces that grouping has made, and that lack their root.
type requests struct {
	open *simplelru.LRU[trace.TraceID, *openRequest] // the longest quiet one is the oldest
	// done have their root. A request may go on after a long pause, and a second
	// root with the same id would be worse than one that ends too early.
	done *simplelru.LRU[trace.TraceID, struct{}]
}

type openRequest struct {
	// Copies, because the request's whole id would keep 2 kB in memory.
	method, request string

	id         trace.SpanID
	process    *process.Identity // that serves it
	served     bool              // process is certain
	start, end int64             // µs
	failed     bool
	sent       bool // the root was sent after all: it is a timer's only request
	last       time.Time
}

func newRequests() *requests {
	open, err := simplelru.NewLRU[trace.TraceID, *openRequest](maxRequests, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	done, err := simplelru.NewLRU[trace.TraceID, struct{}](maxRequests, nil)
	if err != nil {
		panic(err)
	}
	return &requests{open, done}
}

// add records s as a part of the request with that root, whose span id is id. If
// another request has to make room for it, add returns the root of that one.
func (r *requests) add(s *Span, root cln.Path, id trace.SpanID, now time.Time) (evicted *Span) {
	if r.done.Contains(s.TraceID) {
		return nil
	}
	q, ok := r.open.Get(s.TraceID)
	if !ok {
		if r.open.Len() >= maxRequests {
			evicted = r.closeOldest()
		}
		_, method := root.Last()
		q = &openRequest{
			method: strings.Clone(clip(method)), request: strings.Clone(clip(root.FirstComponent())), id: id,
			process: s.Process, start: s.Timestamp,
		}
		r.open.Add(s.TraceID, q)
	}
	if s.ParentID == id && !q.served {
		q.process, q.served = s.Process, true
	}
	q.start, q.end = min(q.start, s.Timestamp), max(q.end, s.Timestamp+s.Duration)
	q.failed = q.failed || s.Failed()
	q.sent = q.sent || s.ID == id
	q.last = now
	return evicted
}

// expire returns the roots of requests that have been quiet for long enough.
func (r *requests) expire(now time.Time) (roots []*Span) {
	for {
		_, q, ok := r.open.GetOldest()
		if !ok || now.Sub(q.last) < quiet {
			return roots
		}
		if root := r.closeOldest(); root != nil {
			roots = append(roots, root)
		}
	}
}

// closeOldest makes the root of the request that has been quiet for the longest
// time. It returns nil if the root was sent.
func (r *requests) closeOldest() *Span {
	id, q, ok := r.open.RemoveOldest()
	if !ok {
		return nil
	}
	r.done.Add(id, struct{}{})
	if q.sent {
		return nil
	}
	root := &Span{
		Span: zipkin.Span{
			TraceID: id, ID: q.id, Name: q.method, ServiceName: q.process.Name,
			Timestamp: q.start, Duration: q.end - q.start,
		},
		Process: q.process, Detail: q.method, Synthetic: true, Request: q.request,
	}
	if root.Name == "" {
		root.Name = rootName
	}
	if q.failed {
		root.Tags = []zipkin.Tag{{Key: cln.TagError, Value: cln.True}}
	}
	return root
}
