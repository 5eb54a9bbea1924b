package stats

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/process"
)

const (
	// parentWait is how long a parent may come after its child. A sender sends
	// children first, so the wait is as long as the parent still runs.
	parentWait = 60 * time.Second
	// maxAwaited bounds the children that wait. At the 16,400 spans a second
	// of a flood, 16 % of them children, that is 50 s of them; beyond it
	// children are not watched, and the count stays a lower bound.
	maxAwaited = 1 << 17
)

// parentKey names a parent. The sender is part of it: under
// CLN_DEV_ENTROPY_SEED ids are counters that collide between processes.
type parentKey struct {
	sender *process.Identity
	id     trace.SpanID
}

type awaited struct {
	parent parentKey
	until  time.Time
}

// Parents counts the children whose parent does not come, each one the trace
// of at least one lost span. It is for one goroutine.
type Parents struct {
	// Known is a parent that nobody sends: the one named by CLN_TRACEPARENT.
	Known trace.SpanID

	children map[parentKey]int // children that wait, by parent
	queue    []awaited         // oldest first, from head on
	head     int
}

// NewParents returns a Parents that does not wait for known.
func NewParents(known trace.SpanID) *Parents {
	return &Parents{Known: known, children: make(map[parentKey]int)}
}

// Observe notes a span.
func (p *Parents) Observe(sender *process.Identity, id, parent trace.SpanID, now time.Time) {
	delete(p.children, parentKey{sender, id})
	if !parent.IsValid() || parent == p.Known || len(p.queue)-p.head >= maxAwaited {
		return
	}
	k := parentKey{sender, parent}
	p.children[k]++
	p.queue = append(p.queue, awaited{k, now.Add(parentWait)})
}

// Expire returns how many children have waited in vain until now, since it
// was last called.
func (p *Parents) Expire(now time.Time) (missing int64) {
	for ; p.head < len(p.queue) && !now.Before(p.queue[p.head].until); p.head++ {
		k := p.queue[p.head].parent
		if n := p.children[k]; n > 1 {
			p.children[k] = n - 1
		} else if n == 1 {
			delete(p.children, k)
		} else {
			continue // it came
		}
		missing++
	}
	if p.head > len(p.queue)/2 {
		p.queue = append(p.queue[:0], p.queue[p.head:]...)
		p.head = 0
	}
	return missing
}
