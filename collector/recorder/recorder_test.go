package recorder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// noon is when the tests begin, at the start of a period.
var noon = time.Date(2026, time.November, 25, 12, 0, 0, 0, time.UTC)

// tags are the attributes of a test's span.
type tags []attribute.KeyValue

func (t tags) Append(list []attribute.KeyValue) []attribute.KeyValue { return append(list, t...) }

// feed adds spans to a Recorder, at a time that it sets.
type feed struct {
	*Recorder
	now  time.Time
	last uint64
}

func newFeed(limit int64) *feed { return &feed{Recorder: New(limit), now: noon} }

func (f *feed) wait(d time.Duration) {
	f.now = f.now.Add(d)
	f.Tick(f.now)
}

func (f *feed) traceID() (id trace.TraceID) {
	f.last++
	binary.BigEndian.PutUint64(id[:], f.last<<16|f.last) // so that prefixes differ
	id[15] = 1
	return id
}

func spanID(n int) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

// root adds a trace of one span that took d, and returns its id.
func (f *feed) root(name string, d time.Duration, change ...func(*Span)) string {
	return f.span(Span{TraceID: f.traceID(), ID: spanID(1), Name: name, Duration: d.Microseconds()}, change...)
}

// span adds s, which ends now, and returns the id of its trace.
func (f *feed) span(s Span, change ...func(*Span)) string {
	s.Process, s.PID = "lightningd", 7
	s.Start = f.now.UnixMicro() - s.Duration
	for _, c := range change {
		c(&s)
	}
	f.Add(&s, f.now)
	return s.TraceID.String()
}

func failed(reason string) func(*Span) {
	return func(s *Span) {
		s.Failed = true
		if reason != "" {
			s.Attributes = tags{attribute.String(keyErrorType, reason)}
		}
	}
}

// ofForm makes spans that are alike share what is said of them.
func ofForm(query string) func(*Span) {
	return func(s *Span) {
		s.Attributes = tags{attribute.String("query", query)}
		s.Form = Form{Process: PlaceOf(s.Process), Name: PlaceOf(s.Name)}
		s.Form.Tags[0] = [2]Place{PlaceOf("query"), PlaceOf(query)}
	}
}

// ids are the traces that answer q.
func (f *feed) ids(q Query) (ids []string) {
	if q.Limit == 0 {
		q.Limit = 1000
	}
	for _, s := range f.List(q, nil, f.now).Traces {
		ids = append(ids, s.TraceID)
	}
	return ids
}

// find returns the trace with that id.
func (f *feed) find(t *testing.T, id string) *Trace {
	t.Helper()
	tr, others, err := f.Find(id, f.now)
	if err != nil || others != nil {
		t.Fatalf("finding %s: %v, %d others", id, err, len(others))
	}
	return tr
}

func TestOneSpan(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.root("db_exec_prepared", 1500*time.Microsecond, func(s *Span) {
		s.Detail = "UPDATE vars"
		s.Failed = true
		s.Attributes = tags{
			attribute.String("db.query.text", "UPDATE vars SET"), attribute.String(keyErrorType, "busy"), attribute.Int("n", -3),
			attribute.Bool("b", true), attribute.StringSlice("list", []string{"a", "b"}), attribute.Float64(keyWait, 0.000016),
			attribute.Float64(keyWork, 0.5), attribute.String("empty", ""),
		}
	})
	list := f.List(Query{Limit: 1}, nil, f.now)
	want := Summary{
		TraceID: id, StartedAt: noon.Add(-1500 * time.Microsecond), DurationMS: 1.5, Process: "lightningd",
		Span: "db_exec_prepared", Detail: "UPDATE vars", Status: StatusFailed, ErrorType: "busy", Spans: 1, Errors: 1,
		Kept: []string{KeptSlowest, KeptFailed, KeptRecent},
	}
	if len(list.Traces) != 1 || fmt.Sprint(list.Traces[0]) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", list.Traces, want)
	}
	got := f.find(t, id[:8]).Spans[0]
	wantAttributes := "map[b:true " + keyWait + ":1.6e-05 " + keyWork + ":0.5 db.query.text:UPDATE vars SET empty: error.type:busy list:[a b] n:-3]"
	if s := fmt.Sprint(got.Attributes); s != wantAttributes {
		t.Errorf("attributes are %s, want %s", s, wantAttributes)
	}
	if got.PID != 7 || got.ParentID != "" || got.OffsetUS != 0 || got.DurationUS != 1500 || *got.WaitUS != 16 || *got.WorkUS != 500_000 || got.ErrorType != "busy" {
		t.Errorf("got %+v", got)
	}
}

// child is a span below the span parent of a trace.
func child(id trace.TraceID, n, parent int, name string, d time.Duration) Span {
	return Span{TraceID: id, ID: spanID(n), Parent: spanID(parent), Name: name, Duration: d.Microseconds()}
}

func TestAssembly(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	f.span(child(id, 2, 1, "inner", time.Millisecond))
	f.wait(time.Minute) // its parent still runs
	f.span(child(id, 3, 1, "inner", time.Millisecond), failed("lost"))
	f.span(Span{TraceID: id, ID: spanID(1), Name: "outer", Duration: time.Hour.Microseconds()})
	f.wait(quietTime - time.Nanosecond)
	if got := f.ids(Query{}); len(got) != 0 {
		t.Errorf("%v are shown before they are decided on", got)
	}
	f.wait(time.Nanosecond)
	if got := f.ids(Query{}); !slices.Equal(got, []string{id.String()}) {
		t.Fatalf("got %v", got)
	}
	f.span(child(id, 4, 3, "late", time.Millisecond))
	tr := f.find(t, id.String())
	if len(tr.Spans) != 4 || tr.Summary.Spans != 4 || tr.Errors != 1 || tr.Status != StatusOK || tr.Span != "outer" || tr.ErrorType != "" {
		t.Errorf("got %+v", tr)
	}
}

func TestAddedRootIsDecidedAtOnce(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	f.span(child(id, 2, 1, "jsonrpc", time.Millisecond))
	f.span(Span{TraceID: id, ID: spanID(1), Name: "request", Detail: "xpay", Added: true})
	if got := f.ids(Query{Match: "XPAY"}); !slices.Equal(got, []string{id.String()}) {
		t.Errorf("got %v", got)
	}
}

func TestLateSpanJoinsTraceOfOne(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	f.span(Span{TraceID: id, ID: spanID(1), Name: "outer"})
	f.span(child(id, 2, 1, "late", time.Millisecond), failed(""))
	f.wait(quietTime)
	f.span(child(id, 3, 1, "later", time.Millisecond))
	tr := f.find(t, id.String())
	if len(tr.Spans) != 3 || tr.Summary.Spans != 3 || tr.Errors != 1 {
		t.Errorf("got %+v", tr)
	}
}

func TestForms(t *testing.T) {
	f := newFeed(1 << 20)
	add := func(query string, change ...func(*Span)) trace.TraceID {
		id := f.traceID()
		f.span(Span{TraceID: id, ID: spanID(1), Name: "db_query_prepared", Detail: "SELECT", Duration: int64(f.last)},
			append([]func(*Span){ofForm(query)}, change...)...)
		return id
	}
	shows := func(id trace.TraceID, query string) {
		t.Helper()
		tr := f.find(t, id.String())
		s := tr.Spans[0]
		if s.Attributes["query"] != query || s.Process != "lightningd" || s.Span != "db_query_prepared" || s.Detail != "SELECT" ||
			s.PID != 7 || s.OffsetUS != 0 || s.Status != tr.Status {
			t.Errorf("got %+v, want %s", s, query)
		}
	}
	const one, two = "SELECT 1", "SELECT 2"
	first := add(one)
	second, third, bad := add(two), add(one), add(one, failed(""))
	if known := f.forms.known; len(known) != 2 {
		t.Errorf("there are %d forms", len(known))
	}
	f.span(child(third, 2, 1, "late", 0), ofForm("late"))
	f.wait(quietTime)
	f.Reform() // the traces that are kept stay as they are
	fourth := add(one, func(s *Span) { s.Attributes = tags{attribute.String("query", "[redacted]")} })
	f.forgetForms(func(f *form) bool { return f.refs == 1 })
	if len(f.forms.known) != 1 {
		t.Error("a form that a trace has was forgotten")
	}
	shows(first, one)
	shows(second, two)
	shows(third, one)
	shows(fourth, "[redacted]")
	if tr := f.find(t, third.String()); len(tr.Spans) != 2 || tr.Spans[1].Attributes["query"] != "late" {
		t.Errorf("got %+v", tr)
	}
	if tr := f.find(t, bad.String()); tr.Status != StatusFailed {
		t.Errorf("got %+v", tr)
	}
}

func TestRootThatNeverComes(t *testing.T) {
	f := newFeed(1 << 20)
	f.span(child(f.traceID(), 2, 1, "inner", time.Millisecond))
	f.wait(rootWait - time.Second)
	before := f.Status()
	f.wait(time.Second)
	if after := f.Status(); before.Evicted != 0 || after.Evicted != 1 || after.Bytes >= before.Bytes || len(f.ids(Query{})) != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// modelTrace is a trace as TestRetention remembers it.
type modelTrace struct {
	id       string
	end      time.Time
	duration time.Duration
	reason   string
}

// TestRetention compares what is kept of one kind with what the rule says.
func TestRetention(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	f := newFeed(16 << 20)
	var all []modelTrace
	for range 3000 {
		f.wait(time.Duration(random.IntN(10)) * time.Second)
		m := modelTrace{end: f.now, duration: time.Duration(random.IntN(1e9)) * time.Microsecond}
		var change []func(*Span)
		if random.IntN(10) == 0 {
			m.reason = fmt.Sprint("reason", random.IntN(maxErrorTypes))
			change = append(change, failed(m.reason))
		}
		m.id = f.root("kind", m.duration, change...)
		all = append(all, m)
	}
	slices.Reverse(all) // the newest first
	want := map[string][]string{KeptRecent: idsOf(all[:5])}
	byReason := make(map[string][]modelTrace)
	for _, m := range all {
		if m.reason != "" && len(byReason[m.reason]) < 5 {
			byReason[m.reason] = append(byReason[m.reason], m)
		}
	}
	for _, list := range byReason {
		want[KeptFailed] = append(want[KeptFailed], idsOf(list)...)
	}
	slowest := func(list []modelTrace) []modelTrace {
		return slices.SortedStableFunc(slices.Values(list), func(a, b modelTrace) int { return int(b.duration - a.duration) })[:5]
	}
	ofHour := slowest(slices.DeleteFunc(slices.Clone(all), func(m modelTrace) bool { return f.now.Sub(m.end) > hour }))
	// Only of the oldest period, of which a part is more than an hour old, is it not
	// certain that all are known.
	certain := f.now.Truncate(periodLen).Add(-hour + periodLen)
	ofHour = slices.DeleteFunc(ofHour, func(m modelTrace) bool { return m.end.Before(certain) })
	want[KeptSlowest] = append(idsOf(slowest(all)), idsOf(ofHour)...)

	got := make(map[string][]string)
	for _, s := range f.List(Query{Limit: 1000}, nil, f.now).Traces {
		for _, why := range s.Kept {
			got[why] = append(got[why], s.TraceID)
		}
	}
	for why, ids := range want {
		for _, id := range ids {
			if !slices.Contains(got[why], id) {
				t.Errorf("%s is not kept as %s", id, why)
			}
		}
	}
	if len(got[KeptRecent]) != 5 || len(got[KeptFailed]) != 5*maxErrorTypes || len(got[KeptSlowest]) > 10 {
		t.Errorf("kept are %d recent, %d failed, %d slowest", len(got[KeptRecent]), len(got[KeptFailed]), len(got[KeptSlowest]))
	}
}

func idsOf(list []modelTrace) (ids []string) {
	for _, m := range list {
		ids = append(ids, m.id)
	}
	return ids
}

// TestHourEnds shows that when the slowest of an hour are too old, those that came
// after them take their place.
func TestHourEnds(t *testing.T) {
	f := newFeed(1 << 20)
	add := func(name string, d time.Duration) (ids []string) {
		for range 5 {
			ids = append(ids, f.root(name, d))
		}
		return ids
	}
	ever := add("kind", 4*time.Second)
	f.wait(2 * time.Hour)
	first := add("kind", 3*time.Second)
	f.wait(40 * time.Minute)
	second := add("kind", 2*time.Second)
	recent := add("kind", time.Second)
	same := func(got, want []string) bool {
		slices.Sort(got)
		slices.Sort(want)
		return slices.Equal(got, want)
	}
	if got := f.ids(Query{}); !same(got, slices.Concat(ever, first, recent)) {
		t.Errorf("within the hour: %v", got)
	}
	f.wait(30 * time.Minute)
	if got := f.ids(Query{}); !same(got, slices.Concat(ever, second, recent)) {
		t.Errorf("after the hour: %v, want %v", got, slices.Concat(ever, second, recent))
	}
}

func TestErrorTypesAreBounded(t *testing.T) {
	f := newFeed(4 << 20)
	first := f.root("kind", 0, failed("first"))
	for i := range 3 * maxErrorTypes {
		f.root("kind", time.Duration(i+1)*time.Second, failed(fmt.Sprint(i)+strings.Repeat("x", 3*maxErrorType)))
		f.root("kind", time.Second, failed("usual"))
	}
	k := f.order[0]
	if len(k.failed) != maxErrorTypes {
		t.Errorf("%d reasons are told apart", len(k.failed))
	}
	if _, _, err := f.Find(first, f.now); err != ErrNone {
		t.Errorf("the reason that was not seen for longest is still there: %v", err)
	}
}

func TestKindsAreBounded(t *testing.T) {
	f := newFeed(16 << 20)
	honest := f.root("honest", time.Second)
	for i := range 3 * maxKinds {
		f.root(fmt.Sprint("made up ", i), time.Millisecond)
	}
	if len(f.kinds) != maxKinds || f.other == nil {
		t.Errorf("%d kinds", len(f.kinds))
	}
	f.find(t, honest)
	f.wait(hour + time.Second)
	f.root("new", time.Millisecond)
	if f.kinds[kindKey{"lightningd", "new", ""}] == nil || len(f.kinds) != maxKinds {
		t.Errorf("a kind that was not seen for an hour does not make room")
	}
}

// TestLargeTrace shows what is kept of a trace that has too many spans: its root, and
// what is above the spans that are kept.
func TestLargeTrace(t *testing.T) {
	for name, added := range map[string]bool{"sent": false, "added": true} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(16 << 20)
			id := f.traceID()
			const groups, each = 50, 60
			for g := range groups {
				for i := range each {
					f.span(child(id, 10_000+g*each+i, 10+g, fmt.Sprint("leaf ", i), time.Duration(i+1)*time.Millisecond))
				}
				f.span(child(id, 10+g, 1, "group", 2*time.Second))
			}
			f.span(Span{TraceID: id, ID: spanID(1), Name: "root", Duration: 1e8, Added: added})
			f.wait(quietTime)
			tr := f.find(t, id.String())
			const sent = groups*(each+1) + 1
			if len(tr.Spans) != maxSpans || tr.Summary.Spans != sent || tr.SpansLeftOut != sent-maxSpans {
				t.Errorf("%d spans are kept, %d were left out", len(tr.Spans), tr.SpansLeftOut)
			}
			there := make(map[string]bool)
			for _, s := range tr.Spans {
				there[s.SpanID] = true
			}
			for _, s := range tr.Spans {
				if s.ParentID != "" && !there[s.ParentID] {
					t.Fatalf("the parent of %s was left out", s.Span)
				}
			}
		})
	}
}

func TestRunsAreMerged(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	statement := func(n int, detail string, change ...func(*Span)) {
		s := child(id, n, 1, "db_exec_prepared", time.Duration(n)*time.Millisecond)
		s.Detail = detail
		f.span(s, change...)
		f.now = f.now.Add(10 * time.Millisecond)
	}
	for n := 2; n < 5; n++ {
		statement(n, "UPDATE vars")
	}
	statement(5, "UPDATE channels")
	statement(6, "UPDATE vars")
	statement(7, "UPDATE vars", failed("busy"))
	f.span(Span{TraceID: id, ID: spanID(1), Name: "root"})
	f.wait(quietTime)
	var got []string
	tr := f.find(t, id.String())
	for _, s := range tr.Spans {
		got = append(got, fmt.Sprint(s.Detail, " ", max(s.Count, 1), " ", s.DurationUS, " ", s.BusyUS, " ", s.LongestUS))
	}
	slices.Sort(got)
	want := []string{" 1 0 0 0", "UPDATE channels 1 5000 0 0", "UPDATE vars 1 6000 0 0", "UPDATE vars 1 7000 0 0", "UPDATE vars 3 22000 9000 4000"}
	if !slices.Equal(got, want) || tr.Summary.Spans != 7 {
		t.Errorf("got %q, want %q; %d spans", got, want, tr.Summary.Spans)
	}
}

func TestFind(t *testing.T) {
	f := newFeed(1 << 20)
	hash := strings.Repeat("ab", 32)
	paid := f.root("pay", time.Second, func(s *Span) { s.Attributes = tags{attribute.String(keyPaymentTag, hash)} })
	hidden := f.root("pay", time.Second, func(s *Span) { s.Attributes = tags{attribute.String(keyPaymentTag, "[redacted]")} })
	other := f.root("pay", 2*time.Second)
	if tr := f.find(t, "ABAB"); tr.TraceID != paid || tr.PaymentHash != hash {
		t.Errorf("by payment hash: %+v", tr)
	}
	if tr := f.find(t, hidden); tr.PaymentHash != "" {
		t.Errorf("a payment hash that is none: %+v", tr)
	}
	if tr, list, err := f.Find("00", f.now); tr != nil || len(list) != 3 || err != nil || list[0].TraceID != other {
		t.Errorf("ambiguous: %v, %v, %v", tr, list, err)
	}
	for prefix, want := range map[string]error{"ffff": ErrNone, "": ErrID, "xyz": ErrID, strings.Repeat("a", 65): ErrID, "\x1b[2J": ErrID} {
		if _, _, err := f.Find(prefix, f.now); err != want {
			t.Errorf("%q: %v, want %v", prefix, err, want)
		}
	}
}

// TestSameID shows that nobody hides a trace by sending others with its id.
func TestSameID(t *testing.T) {
	f := newFeed(4 << 20)
	id := f.traceID()
	for i := range 3 * maxSpans {
		f.span(Span{TraceID: id, ID: spanID(i + 1), Name: fmt.Sprint("span ", i%(maxSpans/3)), Duration: int64(i)})
	}
	tr := f.find(t, id.String())
	if len(tr.Spans) != maxSpans || tr.SpansLeftOut == 0 || tr.Summary.Spans != len(tr.Spans)+tr.SpansLeftOut {
		t.Errorf("%d spans, of %d, without %d", len(tr.Spans), tr.Summary.Spans, tr.SpansLeftOut)
	}
}

func TestSlowest(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	inner := child(id, 2, 1, "inner", time.Second)
	inner.Detail = "x"
	f.span(inner)
	f.span(Span{TraceID: id, ID: spanID(1), Name: "outer", Duration: 2e6})
	f.wait(quietTime)
	f.root("inner", 5*time.Second)
	f.root("inner", 2*time.Second, func(s *Span) { s.Detail = "x" })
	fast := f.root("outer", time.Second)
	got := f.Slowest(f.now)
	if o := got[Operation{"lightningd", "outer", ""}]; o.TraceID != id.String() || !o.StartedAt.Equal(noon.Add(-2*time.Second)) || o.TraceID == fast {
		t.Errorf("outer: %+v", o)
	}
	if len(got) != 3 || got[Operation{"lightningd", "inner", "x"}].TraceID == id.String() {
		t.Errorf("got %+v", got)
	}
}

func TestSortAndMatch(t *testing.T) {
	f := newFeed(1 << 20)
	slow := f.root("slow", 10*time.Second)
	f.wait(time.Second)
	lost := f.root("lost", 5*time.Second, failed("no_route"))
	f.wait(time.Second)
	last := f.root("last", time.Second)
	for _, tc := range []struct {
		q    Query
		want []string
	}{
		{Query{}, []string{slow, lost, last}},
		{Query{Sort: SortSlowest, Limit: 2}, []string{slow, lost}},
		{Query{Sort: SortRecent}, []string{last, lost, slow}},
		{Query{Sort: SortFailed}, []string{lost}},
		{Query{Sort: SortOpen}, nil},
		{Query{Match: "No_Route"}, []string{lost}},
		{Query{Match: "lightningd"}, []string{slow, lost, last}},
		{Query{Match: "lightningd sl"}, []string{slow}}, // as the list shows it
		{Query{Match: "lightningd x"}, nil},
		{Query{Match: "other"}, nil},
	} {
		if got := f.ids(tc.q); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: got %v, want %v", tc.q, got, tc.want)
		}
	}
}

// openNow are traces that are open.
type openNow []Summary

func (o openNow) OpenTraces(time.Time) []Summary { return o }

func TestOpen(t *testing.T) {
	r := New(1 << 20)
	open := openNow{
		{TraceID: "b", StartedAt: noon, Detail: "xpay", Status: StatusOpen, WaitsFor: "part 1 over 103x1x0/1"},
		{TraceID: "a", StartedAt: noon.Add(-time.Hour), Detail: "pay", Status: StatusOpen},
		{TraceID: "c", StartedAt: noon, Detail: "getinfo", Status: StatusOpen},
	}
	l := r.List(Query{Sort: SortOpen, Match: "pay", Limit: 10}, open, noon)
	if len(l.Traces) != 2 || l.Traces[0].TraceID != "a" || l.Traces[1].TraceID != "b" {
		t.Errorf("got %+v", l.Traces)
	}
	if l = r.List(Query{Sort: SortOpen, Limit: 1}, open, noon); len(l.Traces) != 1 || l.More != 2 {
		t.Errorf("got %+v", l)
	}
}

func TestClear(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.root("pay", time.Second)
	f.span(child(f.traceID(), 2, 1, "inner", time.Millisecond))
	f.Clear()
	if s := f.Status(); s.Traces != 0 || s.Spans != 0 || s.Bytes != singlesSize || len(f.ids(Query{})) != 0 {
		t.Errorf("after Clear: %+v", s)
	}
	f.root("pay", time.Second)
	f.wait(quietTime)
	if _, _, err := f.Find(id, f.now); err != ErrNone {
		t.Errorf("the trace is still there: %v", err)
	}
}

// TestWholeOrAbsent shows that of a trace that was given up before its root came
// nothing is recorded, and that one trace does not push out itself.
// What is kept or being assembled is held, whatever else is asked for.
func TestRetain(t *testing.T) {
	f := newFeed(1 << 20)
	alone, several, open, unknown := f.traceID(), f.traceID(), f.traceID(), f.traceID()
	f.span(Span{TraceID: alone, ID: spanID(1), Name: "alone", Duration: 1})
	f.span(child(several, 2, 1, "child", time.Millisecond))
	f.span(Span{TraceID: several, ID: spanID(1), Name: "several", Duration: 5000})
	f.span(child(open, 2, 1, "child", time.Millisecond))
	ids := map[trace.TraceID]bool{alone: true, several: true, open: true, unknown: true}
	f.Retain(ids)
	if len(ids) != 3 || ids[unknown] || !ids[alone] || !ids[several] || !ids[open] {
		t.Errorf("got %v", ids)
	}
	f.Clear()
	if f.Retain(ids); len(ids) != 0 {
		t.Errorf("after Clear: %v", ids)
	}
}

func TestWholeOrAbsent(t *testing.T) {
	f := newFeed(1 << 20)
	wide := func(s *Span) { s.Attributes = tags{attribute.String("x", strings.Repeat("x", 2000))} }
	id := f.traceID()
	for n := range 400 {
		f.span(child(id, n+2, 1, fmt.Sprint("inner ", n), time.Duration(n)), wide)
	}
	lost := f.traceID()
	f.span(child(lost, 2, 1, "inner", time.Millisecond), wide)
	f.wait(rootWait - time.Second)
	f.span(Span{TraceID: id, ID: spanID(1), Name: "outer", Duration: 1e6}, wide)
	f.wait(quietTime)
	f.span(child(lost, 3, 1, "inner", time.Millisecond), wide)
	f.span(Span{TraceID: lost, ID: spanID(1), Name: "outer", Duration: 1e6}, wide)
	f.wait(quietTime)
	tr := f.find(t, id.String())
	if len(tr.Spans) < 30 || len(tr.Spans)+tr.SpansLeftOut != 401 || tr.Span != "outer" {
		t.Errorf("%d spans, %d left out", len(tr.Spans), tr.SpansLeftOut)
	}
	if _, _, err := f.Find(lost.String(), f.now); err != ErrNone {
		t.Errorf("half a trace is shown: %v", err)
	}
}

// TestFindWhatIsNotDecidedOn looks at a trace whose root has not come.
func TestFindWhatIsNotDecidedOn(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	f.span(child(id, 2, 1, "inner", time.Millisecond), failed("lost"))
	f.wait(time.Minute)
	tr := f.find(t, id.String()[:8])
	if tr.Status != StatusOpen || len(tr.Spans) != 1 || tr.Summary.Spans != 1 || tr.Errors != 1 || tr.DurationMS != 60_001 || tr.Span != "" {
		t.Errorf("got %+v", tr)
	}
	const want = ": unfinished in lightningd\nbegan 2026-11-25 11:59:59.999 UTC, open for 1m00s, 1 span, 1 failed\n"
	if got := shown(t, func(b *strings.Builder) error { return tr.WriteTable(b) }); !strings.Contains(got, want) {
		t.Errorf("got\n%s", got)
	}
	if got := f.ids(Query{}); len(got) != 0 {
		t.Errorf("it is listed as kept: %v", got)
	}
}

// opened tells of what is open.
type opened []Summary

func (o opened) OpenTraces(time.Time) []Summary { return slices.Clone(o) }

// TestOpenTree shows a payment of which one part has ended and one has not.
func TestOpenTree(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	f.span(child(id, 3, 2, "inner", time.Millisecond))
	f.span(child(id, 2, 1, "outer", 2*time.Millisecond))
	f.now = f.now.Add(9 * time.Second)
	began, hash := noon.Add(-time.Second), strings.Repeat("0f", 32)
	answer, err := f.Answer(Query{ID: id.String()}, opened{
		{TraceID: id.String(), StartedAt: began, DurationMS: 10_000, Process: "cln-xpay", Span: "request", Detail: "xpay", Status: StatusOpen, WaitsFor: "injectpaymentonion"},
		{TraceID: id.String(), StartedAt: began, DurationMS: 10_000, Process: "cln-xpay", Span: "payment part", Detail: "4 over 1x1x1", Status: StatusOpen, PaymentHash: hash},
		{StartedAt: began, Process: "cln-xpay", Span: "payment part", Detail: "5 over 2x2x2", Status: StatusOpen},
	}, f.now)
	if err != nil {
		t.Fatal(err)
	}
	got := shown(t, func(b *strings.Builder) error { return answer.WriteTable(b) })
	for _, want := range []string{
		": unfinished xpay in cln-xpay\n", "waiting for injectpaymentonion\n", "payment " + hash, "\nxpay ", "\n|-payment part 4 ", "not ended: over 1x1x1\n",
		"\n`-outer ", "\n  `-inner ", "has not ended yet",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "2x2x2") {
		t.Errorf("a part of another payment is in\n%s", got)
	}
}

// What is open is found by the hash of its payment, though no span has it yet.
func TestOpenIsFoundByItsHash(t *testing.T) {
	f := newFeed(1 << 20)
	id, hash, other := f.traceID(), strings.Repeat("0f", 32), strings.Repeat("0e", 32)
	f.span(child(id, 2, 1, "inner", time.Millisecond))
	open := opened{
		{TraceID: id.String(), StartedAt: noon, Process: "cln-xpay", Span: "payment part", Detail: "4 over 1x1x1", Status: StatusOpen, PaymentHash: hash},
		{StartedAt: noon, Process: "lightningd", Span: "forward", Detail: "from 1x1x1", Status: StatusOpen, PaymentHash: other},
	}
	for prefix, want := range map[string]string{hash: "over 1x1x1", "0F0F": "over 1x1x1", other: "forward from 1x1x1"} {
		answer, err := f.Answer(Query{ID: prefix}, open, f.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := shown(t, func(b *strings.Builder) error { return answer.WriteTable(b) }); !strings.Contains(got, want) {
			t.Errorf("%s: %q is not in\n%s", prefix, want, got)
		}
	}
	if _, err := f.Answer(Query{ID: "abcd"}, open, f.now); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
}

// TestReason names the failure that came last, whichever began or arrived first: what
// failed before was tried again.
func TestReason(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	f.span(child(id, 2, 1, "part", time.Second), failed("mpp_timeout"))
	f.span(child(id, 3, 1, "part", 2*time.Second), failed("temporary_channel_failure"), func(s *Span) { s.Start -= 1e6 })
	f.span(Span{TraceID: id, ID: spanID(1), Name: "request", Detail: "xpay", Duration: 4e6, Failed: true, Added: true})
	if got := f.find(t, id.String()).ErrorType; got != "mpp_timeout" {
		t.Errorf("got %s", got)
	}
}

// TestFailedIn names the request that failed last where nothing says why a trace failed.
func TestFailedIn(t *testing.T) {
	f := newFeed(1 << 20)
	for _, tc := range []struct {
		inner, reason    string
		list, head, tree string
	}{
		{"getroutes", "", "xpay: getroutes failed", "xpay in lightningd, getroutes failed", "failed: no span and no notification says why"},
		{"injectpaymentonion", "no_route", "xpay: no_route", "xpay in lightningd, no_route", "failed: no_route"},
		{"", "", "xpay", "xpay in lightningd\n", "failed: no span and no notification says why"},
	} {
		id := f.traceID()
		f.span(child(id, 2, 1, "jsonrpc", 2*time.Second), func(s *Span) { s.Detail = "preapproveinvoice" })
		if tc.inner != "" {
			f.span(child(id, 3, 1, "jsonrpc", time.Second), func(s *Span) { s.Detail, s.Failed = "askrene-age", true }, func(s *Span) { s.Start -= 9 })
			f.span(child(id, 4, 1, "jsonrpc", time.Second), failed(tc.reason), func(s *Span) { s.Detail = tc.inner })
		}
		f.span(Span{TraceID: id, ID: spanID(1), Name: "request", Detail: "xpay", Duration: 3e6, Failed: true, Added: true})
		l := f.List(Query{Sort: SortFailed, Match: tc.list, Limit: 1}, nil, f.now)
		list := shown(t, func(b *strings.Builder) error { return l.WriteTable(b) })
		tree := shown(t, func(b *strings.Builder) error { return f.find(t, id.String()).WriteTable(b) })
		if !strings.Contains(list, tc.list+"\n") || !strings.Contains(tree, tc.head) || !strings.Contains(tree, tc.tree) {
			t.Errorf("%s:\n%s%s", tc.inner, list, tree)
		}
		f.wait(time.Minute)
	}
}
