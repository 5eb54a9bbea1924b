package demo

import (
	"cmp"
	"encoding/hex"
	"io"
	"slices"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"clntrace/collector/recorder"
)

// traces arranges what the receiver got into traces, the earliest first.
func traces(spans []span) []recorder.Trace {
	byID := make(map[string][]span)
	for _, s := range spans {
		byID[string(s.GetTraceId())] = append(byID[string(s.GetTraceId())], s)
	}
	list := make([]recorder.Trace, 0, len(byID))
	for _, spans := range byID {
		list = append(list, newTrace(spans))
	}
	slices.SortFunc(list, func(a, b recorder.Trace) int { return a.StartedAt.Compare(b.StartedAt) })
	return list
}

// newTrace is a trace in the form in which it can be drawn.
func newTrace(spans []span) recorder.Trace {
	// The longest of those without a parent is the root; one that has lost its parent
	// comes after those.
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(len(a.GetParentSpanId()), len(b.GetParentSpanId())), cmp.Compare(b.duration(), a.duration()))
	})
	root := spans[0]
	first := root.convert(root)
	t := recorder.Trace{Summary: recorder.Summary{
		TraceID: hex.EncodeToString(root.GetTraceId()), StartedAt: time.Unix(0, root.start()).UTC(),
		DurationMS: float64(root.duration()) / float64(time.Millisecond),
		Process:    first.Process, Span: first.Span, Detail: first.Detail, Status: first.Status, Spans: len(spans),
	}}
	for _, s := range spans {
		t.Spans = append(t.Spans, s.convert(root))
		if t.Spans[len(t.Spans)-1].Status == recorder.StatusFailed {
			t.Errors++
		}
	}
	return t
}

// start is when s began, ns since the Unix epoch.
func (s span) start() int64 { return int64(s.GetStartTimeUnixNano()) } //nolint:gosec // until the year 2262

// duration is how long s took, ns.
func (s span) duration() int64 { return int64(s.GetEndTimeUnixNano()) - s.start() } //nolint:gosec // as above

// convert is s in the form in which it can be drawn, in the trace of root.
func (s span) convert(root span) recorder.TraceSpan {
	out := recorder.TraceSpan{
		SpanID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()),
		Process: s.process, Span: s.GetName(),
		OffsetUS: (s.start() - root.start()) / 1000, DurationUS: s.duration() / 1000, Status: recorder.StatusOK,
	}
	if s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		out.Status = recorder.StatusFailed
	}
	for _, a := range s.GetAttributes() {
		if out.Attributes == nil {
			out.Attributes = make(map[string]any)
		}
		out.Attributes[a.GetKey()] = value(a.GetValue())
	}
	out.Read()
	return out
}

// value is v as package recorder has values.
func value(v *commonpb.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_BoolValue:
		return v.BoolValue
	case *commonpb.AnyValue_IntValue:
		return v.IntValue
	case *commonpb.AnyValue_DoubleValue:
		return v.DoubleValue
	}
	return v.GetStringValue()
}

// writeTraces draws the traces that are worth drawing, and returns how many others
// there are.
func writeTraces(w io.Writer, list []recorder.Trace) (small int, err error) {
	for i := range list {
		if len(list[i].Spans) <= smallTrace {
			small++
			continue
		}
		if err := list[i].WriteTable(w); err != nil {
			return small, err
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return small, err
		}
	}
	return small, nil
}
