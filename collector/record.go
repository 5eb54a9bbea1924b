package collector

import (
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/export"
	"clntrace/collector/payments"
	"clntrace/collector/policy"
	"clntrace/collector/recorder"
)

// Traces answers q from the traces that are kept in memory. The error says why there
// is no answer.
func (c *Collector) Traces(q recorder.Query) (recorder.Answer, error) {
	if c.receiver != nil {
		c.receiver.Sync() // the request that somebody asks about may have ended just now
	}
	r := c.recorder.Load()
	if r == nil {
		return nil, errors.New("no trace is kept, because " + c.options.Voice.Option("recorder-size") + " is 0")
	}
	return r.Answer(q, openTraces{c}, c.now())
}

// record passes spans on to the recorder, if there is one: what leaves the process,
// and what does not because it is filtered or sampled out, or shown on the node alone.
func (d *decoder) record(spans []*correlate.Span, now time.Time) {
	r := d.recorder.Load()
	if r == nil {
		return
	}
	if p := d.policy.Load(); p != d.judged {
		shown := p.OnNode()
		if shown.HidesMore(d.recorded) {
			d.forget() // what was added since Reconfigure did that
		}
		r.Reform()
		d.judged, d.recorded = p, shown
	}
	r.SetLimit(d.roomForTraces(), now)
	shown, in := shownSpan{policy: d.recorded, above: d.above}, recorder.Span{}
	for _, s := range spans {
		shown.describe(s, &in)
		r.Add(&in, now)
	}
}

// heldBytes bounds the spans that wait for export and the traces that are kept, both
// together. It leaves the rest of the 128 MiB to the ring, to requests under way, to
// statistics and to the garbage collector. A room that is full leaves a quarter of it.
const heldBytes = 44 << 20

// roomForTraces is how many bytes the traces that are kept may take at the moment: they
// give way to spans that wait.
func (c *Collector) roomForTraces() int64 {
	return min(c.recorderSize, heldBytes-c.room.Bytes())
}

// shownSpan is a span with what may be shown of it.
type shownSpan struct {
	*correlate.Span
	policy *policy.Policy
	above  above
}

// above is what CLN_TRACEPARENT names: a trace of all spans, and a parent of those that
// are below no other one, which nobody sends.
type above struct {
	trace trace.TraceID
	span  trace.SpanID
}

// describe makes in s for the recorder, valid until the next call.
func (w *shownSpan) describe(s *correlate.Span, in *recorder.Span) {
	w.Span = s
	*in = recorder.Span{
		TraceID: s.TraceID, ID: s.ID, Parent: s.ParentID, Process: s.Process.Name, PID: s.Process.PID,
		Name: s.Name, Detail: w.policy.Detail(s), Start: s.Timestamp, Duration: s.Duration,
		Failed: w.failed(), Shared: s.TraceID.IsValid() && s.TraceID == w.above.trace, Attributes: w,
	}
	if s.IsRoot() {
		in.Name, in.Added = cln.SpanWhole, true
	}
	if s.Truncated || in.Shared && in.Parent == w.above.span { // nobody knows its parent
		in.Parent = trace.SpanID{}
	}
	if !in.Parent.IsValid() && len(s.Links) == 0 && export.Recurs(s) {
		in.Form = formOf(s)
	}
}

// formOf is the form of s, which is one of many that are alike.
func formOf(s *correlate.Span) (f recorder.Form) {
	f.Process, f.Name = recorder.PlaceOf(s.Process.Name), recorder.PlaceOf(s.Name)
	for i := range s.Tags {
		f.Tags[i] = [2]recorder.Place{recorder.PlaceOf(s.Tags[i].Key), recorder.PlaceOf(s.Tags[i].Value)}
	}
	return f
}

// failed reports whether the span failed. That of a request that pays did so if no part
// of its payments has succeeded, as far as that may be shown.
func (w *shownSpan) failed() bool {
	if p := w.Payment; p != nil && w.policy.Payments() != payments.Off {
		switch {
		case p.Paid:
			return false
		case p.Unpaid:
			return true
		}
	}
	return w.Failed()
}

// Append appends the attributes of the span.
func (w *shownSpan) Append(list []attribute.KeyValue) []attribute.KeyValue {
	list, _ = w.policy.AppendFacts(export.AppendAttributes(list, w.Span, w.policy), w.Payment)
	return appendLinks(list, w.Links)
}

// appendLinks appends the trace that links lead to: the first one of each relation, and
// none to the requests inside, of which there can be many.
func appendLinks(list []attribute.KeyValue, links []correlate.Link) []attribute.KeyValue {
	for i, l := range links {
		same := func(other correlate.Link) bool { return other.Relation == l.Relation }
		if l.Relation != correlate.Encloses && !slices.ContainsFunc(links[:i], same) {
			list = append(list, attribute.String(recorder.KeyLink+string(l.Relation), l.TraceID.String()))
		}
	}
	return list
}
