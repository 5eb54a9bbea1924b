package correlate

import (
	"fmt"
	"testing"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/zipkin"
)

// statement is a span of lightningd in the trace with that number, below parent.
func statement(trace byte, id, parent uint64, start int64) *Span {
	s := newSpan(lightningd, id, parent, "db_query_prepared", start, 5)
	s.TraceID[15] = trace
	return s
}

func top(trace byte, s *Span) *Span {
	s.TraceID[15] = trace
	return s
}

func TestWorkOnARequestMovesIntoItsTrace(t *testing.T) {
	deep, child := statement(7, 11, 12, 115), statement(7, 12, 1, 112)
	command := top(7, newCommand(1, "a", 110, 20))
	sent := command.TraceID
	s := newRequest(newProcess(1, "pay"), 99, "cli:x#1/cln:x#2/pay:a#3", 100, 50)
	out := correlateAll(New(Options{Run: run}), []*Span{deep, child, command, s})
	if len(out) != 5 {
		t.Fatalf("4 spans and a root became %d", len(out))
	}
	for _, below := range []*Span{deep, child, command} {
		if below.TraceID != s.TraceID {
			t.Errorf("%s is not in the request's trace", below.ID)
		}
	}
	if command.ParentID != s.ID || command.ID != spanID(1) || command.SentTraceID != sent || command.SentID.IsValid() {
		t.Errorf("the command is %+v", command)
	}
	if child.ParentID != command.ID || deep.ParentID != child.ID || child.SentTraceID.IsValid() {
		t.Errorf("what is below it is %+v and %+v", child.Span, deep.Span)
	}
	if len(s.Links) != 0 || !s.Paired {
		t.Errorf("the request has links %v and is paired: %v", s.Links, s.Paired)
	}
}

func TestWhatIsBelowARequestMovesAlong(t *testing.T) {
	p := newProcess(1, "pay")
	s := newRequest(p, 1, "cli:x#1/cln:x#2/pay:a#3", 100, 50)
	sent := s.TraceID
	below := func(id, parent uint64) *Span {
		child := newSpan(p, id, parent, "some_work", 110, 5)
		child.TraceID = sent
		return child
	}
	deep, child, other := below(11, 12), below(12, 1), below(13, 1)
	other.Process = lightningd
	c := newTimed(Options{Run: run}, epoch)
	c.send(deep, child, other, s)
	if c.nesting.spans != 1 || len(c.nesting.trees) != 1 {
		t.Errorf("%d spans wait, want the one of another process", c.nesting.spans)
	}
	if s.TraceID == sent || child.TraceID != s.TraceID || deep.TraceID != s.TraceID {
		t.Errorf("the request is %+v, and below it are %+v and %+v", s.Span, child.Span, deep.Span)
	}
	if child.ParentID != s.ID || child.ID != spanID(12) || child.SentTraceID != sent || deep.ParentID != child.ID {
		t.Errorf("their parents are %s and %s", child.ParentID, deep.ParentID)
	}
	if other.ParentID != spanID(1) || other.TraceID != sent {
		t.Errorf("another process's span is %+v", other.Span)
	}

	late := below(14, 1)
	c = newTimed(Options{Run: run}, epoch)
	c.send(late)
	c.advance(epoch.Add(time.Second))
	if len(c.out) != 1 || late.TraceID != sent || late.ParentID != spanID(1) {
		t.Errorf("what is below a long request has not left as it came: %+v", late.Span)
	}
}

func TestWhatLeavesAsItCame(t *testing.T) {
	p := newProcess(1, "pay")
	req := func(start, duration int64) *Span {
		return newRequest(p, 99, "cli:x#1/cln:x#2/pay:a#3", start, duration)
	}
	for _, tc := range []struct {
		what   string
		group  bool
		spans  []*Span
		at     []time.Duration // when each of them comes
		linked bool
	}{
		{"a command of another client", true, []*Span{statement(7, 11, 1, 0), top(7, newCommand(1, "a", 0, 10))}, []time.Duration{0, 0}, false},
		{"a command that is answered late", true, []*Span{
			statement(7, 11, 1, 2), top(7, newCommand(1, "a", 1, 10)), req(0, 12*second),
		}, []time.Duration{0, 0, 12 * time.Second}, true},
		{"a command that takes long", true, []*Span{
			statement(7, 11, 1, 2), top(7, newCommand(1, "a", 1, 3*second)), req(0, 3*second+10),
		}, []time.Duration{0, 3 * time.Second, 3 * time.Second}, true},
		{"a command within something else", true, []*Span{
			newSpanIn(7, newCommand(1, "a", 1, 10), 50), req(0, 50), top(7, newSpan(lightningd, 50, 0, "extend_tip", 0, 100)),
		}, []time.Duration{0, 0, time.Millisecond}, true},
		{"two possible commands", true, []*Span{
			top(7, newCommand(1, "a", 1, 10)), top(8, newCommand(2, "a", 20, 10)), req(0, 50),
		}, []time.Duration{0, 0, 0}, false},
		{"no grouping", false, []*Span{statement(7, 11, 1, 2), top(7, newCommand(1, "a", 1, 10)), req(0, 50)}, []time.Duration{0, 0, 0}, true},
	} {
		t.Run(tc.what, func(t *testing.T) {
			c := newTimed(Options{Run: run}, epoch)
			c.Group = tc.group
			var sent []zipkin.Span
			for i, s := range tc.spans {
				sent = append(sent, s.Span)
				c.advance(epoch.Add(tc.at[i]))
				c.Add(s, c.now)
				c.collect()
			}
			c.advance(c.now.Add(time.Second))
			for i, s := range tc.spans {
				if s.Name != cln.SpanRequest && (s.TraceID != sent[i].TraceID || s.ParentID != sent[i].ParentID || s.SentTraceID.IsValid()) {
					t.Errorf("%s %s has changed: %+v", s.Name, s.ID, s.Span)
				}
				if s.Name == cln.SpanRequest && (len(s.Links) == 1) != tc.linked {
					t.Errorf("the request has links %v, want one: %v", s.Links, tc.linked)
				}
			}
			if len(c.out) != len(tc.spans) || c.nesting.spans != 0 {
				t.Errorf("after 1 s %d of %d spans have come, %d wait", len(c.out), len(tc.spans), c.nesting.spans)
			}
		})
	}
}

func newSpanIn(trace byte, s *Span, parent uint64) *Span {
	s.ParentID = spanID(parent)
	return top(trace, s)
}

// A start takes minutes, and its top comes last.
func TestSpansOfALongStartDoNotWait(t *testing.T) {
	c := newTimed(Options{Run: run}, epoch)
	var longest time.Duration
	came := make(map[*Span]time.Time)
	for i := range 600 {
		s := statement(7, uint64(i+10), 1, 0)
		c.advance(epoch.Add(time.Duration(i) * 50 * time.Millisecond))
		came[s] = c.now
		before := len(c.out)
		c.Add(s, c.now)
		c.collect()
		if i >= 30 && len(c.out) != before+1 {
			t.Fatalf("span %d waits", i)
		}
		for _, s := range c.out[before:] {
			longest = max(longest, c.now.Sub(came[s]))
		}
	}
	c.Add(top(7, newSpan(lightningd, 1, 0, "lightningd/startup", 0, 60*second)), c.now)
	c.collect()
	if len(c.out) != 601 || longest > time.Second {
		t.Errorf("%d of 601 spans came, one after %v", len(c.out), longest)
	}
	c.advance(c.now.Add(2 * markWait))
	if n := len(c.nesting.trees) + len(c.nesting.queue) + len(c.nesting.marks); n != 0 {
		t.Errorf("%d trees are remembered", n)
	}
}

func TestSpansThatWaitAreBounded(t *testing.T) {
	c := New(Options{Run: run})
	for i := range maxNesting + 100 {
		s := statement(0, uint64(2*i+10), uint64(2*i+11), 0)
		copy(s.TraceID[:], fmt.Sprintf("%016d", i+1))
		c.Add(s, epoch)
	}
	if c.nesting.spans != maxNesting || len(c.Ready()) != 100 {
		t.Errorf("%d spans wait, want %d", c.nesting.spans, maxNesting)
	}
}

// TestNestingInRecordings measures how much of lightningd's work on requests of
// plugins is in the requests' traces, and how long spans wait at most.
func TestNestingInRecordings(t *testing.T) {
	for name, file := range recordings(t) {
		spans := load(t, file)
		c := newTimed(among(spans...), spans[0].Start())
		most := 0
		for _, s := range spans {
			c.send(s)
			most = max(most, c.nesting.spans)
		}
		longest := c.waited
		c.Flush(c.now)
		c.collect()
		f := look(c.out)
		t.Logf("%s: %d of %d requests have their command below them, %d are linked to it; at most %d spans waited, at most %v",
			name, f.nested, f.requests, f.served, most, longest)
		if longest > time.Second {
			t.Errorf("%s: a span waited %v", name, longest)
		}
		if (name == "xpay" || name == "pay") && f.nested*100 < f.requests*90 {
			t.Errorf("%s: only %d of %d", name, f.nested, f.requests)
		}
	}
}
