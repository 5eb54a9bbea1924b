package recorder

import (
	"slices"

	"clntrace/collector/cln"
)

// addOpen adds to a trace that is not finished what is open of it: the request as a
// whole, above the spans that have come, and the parts of its payment.
func (t *Trace) addOpen(open []Summary) {
	open = slices.DeleteFunc(open, func(s Summary) bool { return s.TraceID != t.TraceID })
	root := TraceSpan{SpanID: t.awaited(), Status: StatusOpen}
	for _, s := range open {
		if s.Span != cln.SpanWhole {
			continue
		}
		t.Process, t.Span, t.Detail, t.WaitsFor = s.Process, s.Span, s.Detail, s.WaitsFor
		root.Process, root.Span, root.Detail, root.DurationUS = s.Process, s.Span, s.Detail, int64(s.DurationMS*1000)
	}
	if root.Span == "" || root.SpanID == "" {
		root.SpanID = ""
	} else {
		t.Spans = slices.Insert(t.Spans, 0, root)
	}
	for _, s := range open {
		if s.Span == cln.SpanWhole {
			continue
		}
		if t.PaymentHash == "" && isHash(s.PaymentHash) {
			t.PaymentHash = s.PaymentHash
		}
		t.Spans = append(t.Spans, TraceSpan{
			ParentID: root.SpanID, Process: s.Process, Span: s.Span, Detail: s.Detail, Status: StatusOpen,
			OffsetUS: s.StartedAt.Sub(t.StartedAt).Microseconds(), DurationUS: int64(s.DurationMS * 1000),
		})
	}
}

// pending reports whether s is a part of something, and has not ended.
func (s *TraceSpan) pending() bool { return s.Status == StatusOpen && s.ParentID != "" }

// awaited is the parent that most spans of t have and that has not come.
func (t *Trace) awaited() (id string) {
	came := make(map[string]bool, len(t.Spans))
	for i := range t.Spans {
		came[t.Spans[i].SpanID] = true
	}
	children := make(map[string]int)
	for i := range t.Spans {
		if parent := t.Spans[i].ParentID; parent != "" && !came[parent] {
			if children[parent]++; id == "" || children[parent] > children[id] {
				id = parent
			}
		}
	}
	return id
}
