package recorder

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Under CLN_TRACEPARENT all spans of all processes, for as long as they live, have one
// trace id. What people look for is what is below one root: a request, a block. So
// that is kept and shown as a trace, and told from the others by its root's span id.

// spanName is what a span is known by. Ids alone are not enough: they can be counters,
// which are the same in all processes.
type spanName struct {
	pid int32
	id  trace.SpanID
}

// key is n as an id that no trace has but by chance.
func (n spanName) key() (id trace.TraceID) {
	binary.BigEndian.PutUint32(id[4:], uint32(n.pid)) //nolint:gosec // any number
	copy(id[8:], n.id[:])
	return id
}

// awaited are the names of h's that are not those of its spans: of parents to come.
func (h *held) awaited() []spanName {
	came := make(map[spanName]bool, len(h.spans))
	for i := range h.spans {
		came[spanName{h.spans[i].pid, h.spans[i].id}] = true
	}
	return slices.DeleteFunc(slices.Clone(h.names), func(n spanName) bool { return came[n] })
}

// addShared adds a span to what it is related to.
func (r *Recorder) addShared(s *Span, now time.Time) {
	self, parent := spanName{s.PID, s.ID}, spanName{s.PID, s.Parent}
	if r.gone.Len() > 0 {
		if s.Parent.IsValid() && r.gone.Contains(parent.key()) {
			return
		}
		if r.gone.Contains(self.key()) { // what is inside of it was given up
			if s.Parent.IsValid() {
				r.giveUp(parent.key())
			}
			return
		}
	}
	h := r.byName[self]
	if s.Parent.IsValid() {
		h = r.merge(h, r.byName[parent])
	}
	if h == nil {
		h = &held{id: s.TraceID, shared: true, last: now, body: r.draft(fewSpans)}
		r.waiting.push(h)
	}
	before := len(h.spans)
	r.assemble(h, s, now)
	if h.state == keptState {
		return
	}
	if s.Parent.IsValid() {
		r.name(h, parent)
	}
	if len(h.spans) != before { // or it is part of a run, and has nothing inside
		r.name(h, self)
	}
	r.charge(h)
}

func (r *Recorder) name(h *held, n spanName) {
	if r.byName[n] != h {
		r.byName[n] = h
		h.names = append(h.names, n)
	}
}

// merge makes one of two that belong together. Each may be nil.
func (r *Recorder) merge(a, b *held) *held {
	switch {
	case a == nil || a == b:
		return b
	case b == nil:
		return a
	case len(a.spans) < len(b.spans):
		a, b = b, a
	}
	a.take(&b.body, r.all(b), r.words)
	a.seen += b.seen
	a.leftOut += b.leftOut
	r.queueOf(b).remove(b)
	r.bytes -= b.charged
	r.waits -= b.charged
	for _, n := range b.names {
		r.byName[n] = a
	}
	a.names = append(a.names, b.names...)
	if b.state == settledState {
		r.queueOf(a).remove(a)
		a.state = settledState
		r.rooted.push(a)
	}
	r.putDraft(b.body)
	return a
}

// forgetNames ends the search for what belongs to h.
func (r *Recorder) forgetNames(h *held) {
	for _, n := range h.names {
		delete(r.byName, n)
	}
	h.names = nil
}

// isBelow reports whether h shares its id, and its root has a span id that begins so;
// or, without a beginning, whether it does not share its id.
func (h *held) isBelow(prefix string) bool {
	if prefix == "" {
		return !h.shared
	}
	return h.shared && strings.HasPrefix(h.spans[h.root].id.String(), prefix)
}
