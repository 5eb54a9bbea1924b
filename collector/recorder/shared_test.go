package recorder

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// TestSharedID has two trees of one trace id grow at the same time, as all do under
// CLN_TRACEPARENT, and in another process one with the same span ids.
func TestSharedID(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	shared := func(n, parent int, name string) {
		f.span(child(id, n, parent, name, time.Duration(n)*time.Millisecond), func(s *Span) { s.Shared = true })
	}
	shared(12, 11, "first/inner")
	shared(22, 21, "second/inner")
	shared(11, 10, "first/middle")
	shared(13, 10, "first/other")
	f.span(child(id, 12, 10, "elsewhere", time.Hour), func(s *Span) { s.Shared, s.PID, s.Parent = true, 8, trace.SpanID{} })
	shared(21, 0, "second")
	f.wait(quietTime)
	if got := f.ids(Query{}); len(got) != 2 {
		t.Errorf("%d traces have their root, want 2", len(got))
	}
	shared(10, 0, "first")
	f.wait(quietTime - 1)
	shared(14, 11, "first/late")
	f.wait(quietTime)
	_, several, err := f.Find(id.String()[:8], f.now)
	if err != nil || len(several) != 3 {
		t.Fatalf("the id of all finds %d, %v", len(several), err)
	}
	for _, want := range []string{
		"000000000000000a first [first first/inner first/late first/middle first/other]",
		"0000000000000015 second [second second/inner]",
		"000000000000000c elsewhere [elsewhere]",
	} {
		tr := f.find(t, want[:16])
		var names []string
		for _, s := range tr.Spans {
			names = append(names, s.Span)
		}
		slices.Sort(names)
		if got := fmt.Sprint(tr.SpanID, " ", tr.Span, " ", names); got != want || tr.TraceID != id.String() {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if len(f.byName) != 0 || f.waits != 0 {
		t.Errorf("%d names and %d bytes are left of what is over", len(f.byName), f.waits)
	}
}

// TestSharedIDIsWholeOrAbsent has a trace given up before its root comes.
func TestSharedIDIsWholeOrAbsent(t *testing.T) {
	f := newFeed(1 << 20)
	id := f.traceID()
	shared := func(n, parent int, name string) {
		f.span(child(id, n, parent, name, time.Millisecond), func(s *Span) { s.Shared = true })
	}
	shared(3, 2, "inner")
	f.wait(rootWait)
	shared(4, 2, "inner")
	shared(2, 1, "middle")
	shared(5, 1, "middle")
	shared(1, 0, "root")
	f.wait(quietTime)
	if got := f.ids(Query{}); len(got) != 0 {
		t.Error("a trace is shown without its first span")
	}
	shared(6, 0, "another")
	f.wait(quietTime)
	if got := f.ids(Query{}); len(got) != 1 {
		t.Errorf("%d others are shown, want 1", len(got))
	}
}

// TestSharedIDIsBounded sends spans whose root never comes, below one parent, in a
// chain, and in pairs.
func TestSharedIDIsBounded(t *testing.T) {
	for name, parent := range map[string]func(n int) int{
		"siblings": func(int) int { return 1 },
		"chain":    func(n int) int { return n + 1 },
		"apart":    func(n int) int { return 1<<40 + n },
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			f := newFeed(1 << 20)
			id := f.traceID()
			for n := 2; n < 100_000; n++ {
				f.span(child(id, n, parent(n), "made up", time.Hour), func(s *Span) { s.Shared = true })
				if s := f.Status(); s.Bytes > s.LimitBytes {
					t.Fatalf("it takes %d bytes", s.Bytes)
				}
			}
			if took := heap() - before; took > 3<<19 {
				t.Errorf("it takes %d bytes, and says %d", took, f.Status().Bytes)
			}
		})
	}
}
