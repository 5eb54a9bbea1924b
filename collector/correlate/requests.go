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
	// quiet is how long nothing of a request may have come, and nothing of it be known
	// to be open, before its root is added.
	quiet = 5 * time.Second
	// maxRequests bounds the requests that are open, and those remembered as done.
	maxRequests = 10000
	// rootName names the root of a request whose method cannot be read.
	rootName = "request"
)

// requests are the traces that grouping has made.
type requests struct {
	active *simplelru.LRU[trace.TraceID, *openRequest] // the longest quiet one is the oldest
	// held have been quiet, but something of them is open. The longest quiet one is
	// the oldest, and quiet for longer than all that are active.
	held *simplelru.LRU[trace.TraceID, *openRequest]
	// done have their root. What is still to come must not bring another one with the
	// same id.
	done *simplelru.LRU[trace.TraceID, *doneRequest]
}

// openRequest is a trace that lacks its root.
type openRequest struct {
	// Copies, because the request's whole id would keep 2 kB in memory.
	method, request string

	trace      trace.TraceID
	id         trace.SpanID // of the root
	node       *node
	number     uint64            // lightningd's; 0: none
	process    *process.Identity // that serves it
	served     bool              // process is certain
	start, end int64             // µs
	failed     bool
	sent       bool  // the root was sent after all: it is a timer's only request
	continues  *Link // to the request's root, if the request went on after that
	last       time.Time
	evidence   []*command // commands that may be its own, and have not been answered
	over       int64      // when it asked for the last thing, µs; 0: it has not
	payments   int        // of later CLN's spans xpay/payment, that have not ended
	paying     bool       // a part of its payments has been open
	closed     bool
}

// doneRequest is what is remembered of a trace that has its root.
type doneRequest struct {
	root   Link
	end    int64 // of the root, µs
	node   *node
	number uint64
	next   trace.TraceID // in which the request goes on; zero: it has not
}

func newRequests() *requests {
	r := new(requests)
	var errs [3]error
	r.active, errs[0] = simplelru.NewLRU[trace.TraceID, *openRequest](maxRequests, nil)
	r.held, errs[1] = simplelru.NewLRU[trace.TraceID, *openRequest](maxRequests, nil)
	r.done, errs[2] = simplelru.NewLRU(maxRequests, func(_ trace.TraceID, d *doneRequest) {
		// Of this request and earlier ones nobody knows any more whether they have a root.
		d.node.forgotten = max(d.node.forgotten, d.number)
	})
	for _, err := range errs {
		if err != nil {
			panic(err) // only for a size below 1
		}
	}
	return r
}

// peek returns the open request with that trace id.
func (r *requests) peek(id trace.TraceID) *openRequest {
	if q, ok := r.active.Peek(id); ok {
		return q
	}
	q, _ := r.held.Peek(id)
	return q
}

// Root returns the id of the root of the request with that trace id. ok is false if no
// such request is known.
func (c *Correlator) Root(id trace.TraceID) (root trace.SpanID, ok bool) {
	if q := c.requests.peek(id); q != nil {
		return q.id, true
	}
	if done, ok := c.requests.done.Peek(id); ok {
		return done.root.SpanID, true
	}
	return root, false
}

func (r *requests) open() int { return r.active.Len() + r.held.Len() }

// find returns the open request with that trace id, which has been heard of now.
func (r *requests) find(id trace.TraceID) *openRequest {
	if q, ok := r.active.Get(id); ok {
		return q
	}
	if q, ok := r.held.Peek(id); ok {
		r.held.Remove(id)
		r.active.Add(id, q)
		return q
	}
	return nil
}

// rootNumber returns lightningd's number of the request, or 0 if it has none.
func rootNumber(root cln.Path) uint64 {
	if process, _ := root.Last(); process != "cln" {
		return 0
	}
	n, _ := root.Number()
	return n
}

// place finds the request that s belongs to, and gives s its trace id. It returns nil
// if s came too late for its request's root, which covers it nevertheless. If the
// request went on after its root, place opens another one, which continues it. id is
// the root's span id.
func (c *Correlator) place(n *node, s *Span, root, path cln.Path, in scope, id trace.SpanID, now time.Time) (q *openRequest, rootID trace.SpanID) {
	if q := c.requests.find(s.TraceID); q != nil {
		q.observe(s, now)
		return q, q.id
	}
	first, ok := c.requests.done.Get(s.TraceID)
	if !ok {
		number := rootNumber(root)
		if number == 0 || number > max(n.forgotten, c.earlier(n)) {
			return c.openRequest(n, s, root, id, now), id
		}
		first = &doneRequest{root: Link{Continues, s.TraceID, id}, node: n, number: number}
		c.requests.done.Add(s.TraceID, first)
	}
	if first.covers(s) {
		return nil, id
	}
	if first.next.IsValid() {
		s.TraceID = first.next
		if q := c.requests.find(s.TraceID); q != nil {
			q.observe(s, now)
			return q, q.id
		}
		if last, ok := c.requests.done.Get(s.TraceID); ok && last.covers(s) {
			return nil, last.root.SpanID
		}
	}
	return c.goOn(n, s, first, root, path, in, now)
}

// covers reports whether s began before the request had been quiet for long.
func (d *doneRequest) covers(s *Span) bool { return s.Timestamp <= d.end+quiet.Microseconds() }

// goOn opens the request in which the one that is done goes on.
func (c *Correlator) goOn(n *node, s *Span, done *doneRequest, root, path cln.Path, in scope, now time.Time) (*openRequest, trace.SpanID) {
	s.TraceID = c.ids.continuedTraceID(in, path)
	done.next = s.TraceID
	id := c.ids.continuedSpanID(s.TraceID)
	q := c.openRequest(n, s, root, id, now)
	q.continues = &done.root
	return q, id
}

// openRequest opens the request that s is the first span of.
func (c *Correlator) openRequest(n *node, s *Span, root cln.Path, id trace.SpanID, now time.Time) *openRequest {
	if c.requests.open() >= maxRequests {
		c.closeOldest(now)
	}
	_, method := root.Last()
	q := &openRequest{
		method: strings.Clone(clip(method)), request: strings.Clone(clip(root.FirstComponent())),
		trace: s.TraceID, id: id, node: n, number: rootNumber(root), process: s.Process, start: s.Timestamp,
	}
	c.requests.active.Add(q.trace, q)
	q.observe(s, now)
	return q
}

// observe records s as a part of the request.
func (q *openRequest) observe(s *Span, now time.Time) {
	q.start, q.end = min(q.start, s.Timestamp), max(q.end, s.Timestamp+s.Duration)
	q.failed = q.failed || s.Failed()
	q.last = now
}

// servedBy records that p, which sent a request during no other one, serves q.
func (q *openRequest) servedBy(p *process.Identity) {
	if !q.served {
		q.process, q.served = p, true
	}
}

// expireRequests adds the roots of requests that have been quiet for long enough and
// that nothing is open of.
func (c *Correlator) expireRequests(now time.Time) {
	r := c.requests
	for _, id := range r.held.Keys() {
		q, _ := r.held.Peek(id)
		switch {
		case c.isOpen(q, now):
		case q.paying: // until now; the spans that say so may come later
			q.paying, q.last = false, now
			r.find(id)
		default:
			r.held.Remove(id)
			c.close(q, false)
		}
	}
	for {
		id, q, ok := r.active.GetOldest()
		if !ok || now.Sub(q.last) < quiet {
			return
		}
		r.active.Remove(id)
		if c.isOpen(q, now) {
			r.held.Add(id, q)
		} else {
			c.close(q, false)
		}
	}
}

// closeOldest adds the root of the request that has been quiet for the longest time.
func (c *Correlator) closeOldest(now time.Time) {
	_, q, ok := c.requests.held.RemoveOldest()
	if !ok {
		_, q, ok = c.requests.active.RemoveOldest()
	}
	if ok {
		c.close(q, c.isOpen(q, now))
	}
}

// close adds the root of q.
func (c *Correlator) close(q *openRequest, incomplete bool) {
	for _, known := range q.evidence {
		known.dismiss(q)
	}
	q.evidence, q.closed = nil, true
	if c.payments != nil {
		switch c.payments.Outcome(q.known()) {
		case OutcomeSucceeded:
			q.failed = false
		case OutcomeFailed:
			q.failed = true
		case OutcomeUnknown:
		}
	}
	c.requests.done.Add(q.trace, &doneRequest{
		root: Link{Continues, q.trace, q.id}, end: q.end, node: q.node, number: q.number,
	})
	if q.sent {
		return
	}
	root := q.root()
	root.Incomplete = incomplete
	c.whole = append(c.whole, Whole{
		Process: q.process, Method: root.Detail, Duration: time.Duration(root.Duration) * time.Microsecond,
		Failed: root.Failed(), TraceID: q.trace,
	})
	c.deliver(root)
}

// root makes the span that covers the request.
func (q *openRequest) root() *Span {
	root := &Span{
		Span: zipkin.Span{
			TraceID: q.trace, ID: q.id, Name: q.method, ServiceName: q.process.Name,
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
	if q.continues != nil {
		root.Links = []Link{*q.continues}
	}
	return root
}
