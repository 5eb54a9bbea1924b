package correlate

import (
	"time"

	"go.opentelemetry.io/otel/trace"
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

// kin knows which parents are awaited. A child whose parent does not come shows
// that at least one span was lost.
type kin struct {
	known    trace.SpanID // a parent that nobody sends: the one of CLN_TRACEPARENT
	children map[key]siblings
	queue    []awaited // oldest first, from head on
	head     int
}

// siblings are the children that wait for the same parent.
type siblings struct {
	count int
	trace trace.TraceID // zero: none of them had one
}

type awaited struct {
	parent key
	until  time.Time
}

func newKin(known trace.SpanID) *kin {
	return &kin{known: known, children: make(map[key]siblings)}
}

// observe records s and returns the trace id of its relatives that came before:
// its own children, or other children of the same parent.
func (k *kin) observe(s *Span, now time.Time) (relative trace.TraceID) {
	self := key{s.Process, s.ID}
	if below, ok := k.children[self]; ok {
		relative = below.trace
		delete(k.children, self)
	}
	if !s.ParentID.IsValid() || s.ParentID == k.known {
		return relative
	}
	parent := key{s.Process, s.ParentID}
	beside := k.children[parent]
	if !relative.IsValid() {
		relative = beside.trace
	}
	if len(k.queue)-k.head < maxAwaited {
		beside.count++
		k.queue = append(k.queue, awaited{parent, now.Add(parentWait)})
		if s.TraceID.IsValid() {
			beside.trace = s.TraceID
		}
		k.children[parent] = beside
	}
	return relative
}

// expire returns how many children have given up waiting since the last call.
func (k *kin) expire(now time.Time) (missing int64) {
	for ; k.head < len(k.queue) && !now.Before(k.queue[k.head].until); k.head++ {
		parent := k.queue[k.head].parent
		waiting, ok := k.children[parent]
		if !ok {
			continue // it came
		}
		if waiting.count--; waiting.count > 0 {
			k.children[parent] = waiting
		} else {
			delete(k.children, parent)
		}
		missing++
	}
	if k.head > len(k.queue)/2 {
		k.queue = append(k.queue[:0], k.queue[k.head:]...)
		k.head = 0
	}
	return missing
}
