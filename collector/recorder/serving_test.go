package recorder

import (
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
)

// command adds lightningd's work on a request, as a trace of its own.
func (f *feed) command(id trace.TraceID, method string) {
	query := child(id, 12, 11, "db_exec_prepared", time.Millisecond)
	query.Detail = "INSERT payments"
	f.span(query)
	f.span(Span{TraceID: id, ID: spanID(11), Name: cln.SpanCommand, Detail: method, Duration: 2000})
	f.wait(quietTime)
}

// request adds the trace of a request of cln-xpay that the trace by has served.
func (f *feed) request(id trace.TraceID, method string, by trace.TraceID) {
	f.span(child(id, 2, 1, cln.SpanRequest, time.Second), func(s *Span) {
		s.Detail, s.Process = method, "cln-xpay"
		s.Attributes = tags{attribute.String(keyServedBy, by.String())}
	})
	f.span(Span{TraceID: id, ID: spanID(1), Name: cln.SpanWhole, Detail: "xpay", Duration: 1e6, Added: true})
}

// TestServed shows lightningd's work below the request that it served, though it is a
// trace of its own, which nobody would look at for itself.
func TestServed(t *testing.T) {
	const method = "injectpaymentonion"
	for _, tc := range []struct {
		name          string
		between       int // commands of the method that come before the request
		waits         time.Duration
		says, without string
		spans         int
	}{
		{"at once", 0, 0, "a trace of its own: 0000000", "not kept", 4},
		{"many commands later", maxServing / 2, time.Minute, "a trace of its own: 0000000", "not kept", 4},
		{"too many commands later", maxServing + perList, 0, "served by trace 0000000", "INSERT payments", 2},
		{"too late", perList, rootWait, "served by trace 0000000", "INSERT payments", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFeed(1 << 20)
			f.now = noon.Add(-2 * hour)
			for range perList { // the slowest
				f.span(Span{TraceID: f.traceID(), ID: spanID(11), Name: cln.SpanCommand, Detail: method, Duration: 3000})
			}
			f.now = noon
			id, work := f.traceID(), f.traceID()
			f.command(work, method)
			others := func(n int) {
				for range n {
					f.span(Span{TraceID: f.traceID(), ID: spanID(11), Name: cln.SpanCommand, Detail: method, Duration: 2500})
				}
			}
			others(tc.between)
			f.wait(tc.waits)
			f.request(id, method, work)
			others(2 * maxServing)
			f.wait(2 * hour)
			tr := f.find(t, id.String())
			if len(tr.Spans) != tc.spans || tr.Summary.Spans != 2 {
				t.Errorf("got %+v", tr)
			}
			if table := shown(t, func(b *strings.Builder) error { return tr.WriteTable(b) }); strings.Contains(table, ", 2 spans, 2 of other traces") != (tc.spans == 4) {
				t.Error(table)
			}
			for _, s := range tr.Spans {
				if of := s.Process == "lightningd" && s.Span != cln.SpanWhole; of != (s.TraceID == work.String()) || of && s.ParentID == "" {
					t.Errorf("got %+v", s)
				}
			}
			table := shown(t, func(b *strings.Builder) error { return tr.WriteTable(b) })
			if !strings.Contains(table, tc.says) || strings.Contains(table, tc.without) {
				t.Error(table)
			}
		})
	}
}

// What a request claims is gone when the request is.
func TestClaimedGoesWithItsRequest(t *testing.T) {
	f := newFeed(1 << 20)
	work := f.traceID()
	f.command(work, "pay")
	f.request(f.traceID(), "pay", work)
	for range perList { // that are slower
		f.wait(hour)
		f.span(Span{TraceID: f.traceID(), ID: spanID(11), Name: cln.SpanCommand, Detail: "pay", Duration: 3000})
		f.span(Span{TraceID: f.traceID(), ID: spanID(1), Name: cln.SpanWhole, Detail: "xpay", Duration: 2e6, Added: true})
	}
	f.wait(2 * hour)
	if n := f.Status().Traces; n != 2*perList {
		t.Errorf("%d traces are kept, want %d", n, 2*perList)
	}
}

// Commands that wait for a request make room for whatever else there is.
func TestCommandsThatWaitMakeRoom(t *testing.T) {
	f := newFeed(256 << 10)
	var kept []string
	for i := range perList {
		kept = append(kept, f.root("xpay", time.Duration(i+1)*time.Second))
	}
	wide := strings.Repeat("w", 1000)
	for range 20 * maxServing {
		f.span(Span{TraceID: f.traceID(), ID: spanID(11), Name: cln.SpanCommand, Detail: "pay", Duration: 2500}, func(s *Span) {
			s.Attributes = tags{attribute.String("id", wide)}
		})
	}
	for _, id := range kept {
		f.find(t, id)
	}
	if s := f.Status(); s.Evicted != 0 {
		t.Errorf("%d traces had to make room for commands", s.Evicted)
	}
}
