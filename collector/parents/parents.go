// Package parents knows which parents are awaited. A sender sends a span when it
// ends, so children come before their parents; a child whose parent does not come
// shows that at least one span was lost.
//
// It is given every span in the order of arrival, whether or not there is room to
// keep it, and gives the trace id of a span's relatives and the number of parents
// that did not come. At most maxAwaited children wait.
package parents

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/process"
	"clntrace/collector/zipkin"
)

const (
	// parentWait is how long after a child its parent may come. Senders send a
	// parent when it ends, so a child waits for as long as its parent still runs.
	parentWait = 60 * time.Second
	// maxAwaited bounds the children that wait. At the highest peak, 16,400 spans a
	// second of which 16 % are children, that is 50 s' worth. Further children are
	// not counted if they miss a parent, so the count is a lower bound.
	maxAwaited = 1 << 17
)

// Awaited are the parents that have not come yet. It is not safe for concurrent use.
type Awaited struct {
	known    trace.SpanID // a parent that nobody sends
	children map[key]siblings
	queue    []child // oldest first, from head on
	head     int
}

// key identifies a span. Ids alone do not: under CLN_DEV_ENTROPY_SEED they are
// counters, which are the same in all processes.
type key struct {
	process *process.Identity
	id      trace.SpanID
}

// siblings are the children that wait for the same parent.
type siblings struct {
	count int
	trace trace.TraceID // zero: none of them had one
}

// child waits for its parent until some time.
type child struct {
	parent key
	until  time.Time
}

// New returns an Awaited that does not wait for the parent known: nobody sends the
// one that CLN_TRACEPARENT names.
func New(known trace.SpanID) *Awaited {
	return &Awaited{known: known, children: make(map[key]siblings)}
}

// Observe records that p has sent s, and returns the trace id of its relatives that
// came before: its own children, or other children of the same parent. Without such
// relatives, or if they had no trace id either, that is zero.
func (a *Awaited) Observe(p *process.Identity, s *zipkin.Span, now time.Time) (relative trace.TraceID) {
	self := key{p, s.ID}
	if below, ok := a.children[self]; ok {
		relative = below.trace
		delete(a.children, self)
	}
	if !s.ParentID.IsValid() || s.ParentID == a.known {
		return relative
	}
	parent := key{p, s.ParentID}
	beside := a.children[parent]
	if !relative.IsValid() {
		relative = beside.trace
	}
	if len(a.queue)-a.head < maxAwaited {
		beside.count++
		a.queue = append(a.queue, child{parent, now.Add(parentWait)})
		if s.TraceID.IsValid() {
			beside.trace = s.TraceID
		}
		a.children[parent] = beside
	}
	return relative
}

// Expire returns how many children have waited in vain since the last call.
func (a *Awaited) Expire(now time.Time) (missing int64) {
	for ; a.head < len(a.queue) && !now.Before(a.queue[a.head].until); a.head++ {
		parent := a.queue[a.head].parent
		waiting, ok := a.children[parent]
		if !ok {
			continue // it came
		}
		if waiting.count--; waiting.count > 0 {
			a.children[parent] = waiting
		} else {
			delete(a.children, parent)
		}
		missing++
	}
	if a.head > len(a.queue)/2 {
		a.queue = append(a.queue[:0], a.queue[a.head:]...)
		a.head = 0
	}
	return missing
}
