package correlate

import (
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/process"
)

// child is a plugin that the lightningd with that pid, started at that time, started.
func child(parent int32, parentStart uint64, pid int32, start uint64, name string) *process.Identity {
	return &process.Identity{PID: pid, Name: name, Known: pid != 0, StartTime: start, ParentPID: parent, ParentStartTime: parentStart}
}

func node1(pid int32) *process.Identity {
	return &process.Identity{PID: pid, Name: "lightningd", Known: true, StartTime: 5}
}

func TestIDsOfWhatDiffersDiffer(t *testing.T) {
	const payment, timer = "cli:pay#1/cln:pay#2/pay:a#3", "timer/pay:a#4"
	plugin, unknown := child(100, 5, 1, 7, "pay"), &process.Identity{Name: "lightningd"}
	restarted := child(100, 5, 2, 70, "pay")
	seen := make(map[trace.TraceID]string)
	for _, tc := range []struct {
		what   string
		o      Options
		sender *process.Identity
		path   string
	}{
		{"a node", Options{Origin: []byte("a")}, plugin, payment},
		{"one of another container with the same pids", Options{Origin: []byte("b")}, plugin, payment},
		{"a later run of lightningd", Options{Origin: []byte("a")}, child(100, 6, 1, 8, "pay"), payment},
		{"an unknown sender", Options{Origin: []byte("a"), Unknown: func() []byte { return []byte("x") }}, unknown, payment},
		{"an unknown sender elsewhere", Options{Origin: []byte("a"), Unknown: func() []byte { return []byte("y") }}, unknown, payment},
		{"a timer", Options{Origin: []byte("a")}, plugin, timer},
		{"the timer of the plugin that was restarted", Options{Origin: []byte("a")}, restarted, timer},
	} {
		s := newRequest(tc.sender, 1, tc.path, 0, 10)
		correlateAll(New(tc.o), []*Span{s})
		if other := seen[s.TraceID]; other != "" {
			t.Errorf("%s has the trace id of %s", tc.what, other)
		}
		seen[s.TraceID] = tc.what
		again := newRequest(tc.sender, 9, tc.path, 5, 10)
		correlateAll(New(tc.o), []*Span{again})
		if again.TraceID != s.TraceID || again.ID != s.ID {
			t.Errorf("%s: after a restart of ours the ids are others", tc.what)
		}
	}
}

func TestWhatATimerCausedIsInItsTrace(t *testing.T) {
	xpay, askrene := child(100, 5, 1, 7, "cln-xpay"), child(100, 5, 2, 8, "cln-askrene")
	for _, tc := range []struct {
		what   string
		before []*Span
		child  func(int32, string) *process.Identity
	}{
		{"its plugin has been heard", []*Span{newRequest(xpay, 3, "cli:x#1/cln:x#2/cln-xpay:a#3", 0, 10)}, nil},
		{"its plugin is found", nil, func(parent int32, name string) *process.Identity {
			if parent == 100 && name == "cln-xpay" {
				return child(100, 5, 1, 7, "cln-xpay")
			}
			return nil
		}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			inner := newRequest(askrene, 2, "timer/cln-xpay:getroutes#5/cln:getroutes#9/cln-askrene:listpeerchannels#1", 10, 10)
			outer := newRequest(xpay, 1, "timer/cln-xpay:getroutes#5", 0, 100)
			correlateAll(New(Options{Child: tc.child}), append(tc.before, inner, outer))
			if inner.TraceID != outer.TraceID || inner.ParentID != outer.ID {
				t.Errorf("%+v and %+v", inner.Span, outer.Span)
			}
		})
	}
}

func TestTwoNodesOnOneSocketDoNotMix(t *testing.T) {
	// Both count from the start, so they have requests with the same path.
	const path, outerPath = "cli:pay#1/cln:pay#2/pay:a#3/cln:a#4/other:b#2", "cli:pay#1/cln:pay#2/pay:a#3"
	a, b := child(100, 5, 1, 7, "pay"), child(200, 5, 11, 7, "pay")
	gone := &process.Identity{PID: 12, Name: "lightningd"} // had exited before we looked
	command := func(id uint64, node int32, start int64) *Span {
		s := newCommand(id, "a", start, 5)
		s.Process = node1(node)
		return s
	}
	for _, own := range []Run{{}, {PID: 100, StartTime: 5}} {
		first, second := newRequest(a, 3, outerPath, 10, 100), newRequest(b, 4, outerPath, 10, 100)
		unknown := newRequest(gone, 5, outerPath, 10, 100)
		elsewhere := newRequest(b, 6, path, 20, 10)
		out := correlateAll(New(Options{Run: own}), []*Span{command(1, 100, 20), command(2, 200, 30), elsewhere, first, second, unknown})
		if servedBy(out, first) != spanID(1) || servedBy(out, second) != spanID(2) || unknown.Paired {
			t.Errorf("served by %s, %s and %v, want each by its own node and the unknown one by none", servedBy(out, first), servedBy(out, second), unknown.Links)
		}
		if first.TraceID == second.TraceID || unknown.TraceID == first.TraceID || unknown.TraceID == second.TraceID {
			t.Errorf("traces %s, %s and %s", first.TraceID, second.TraceID, unknown.TraceID)
		}
		if elsewhere.ParentID == first.ID || elsewhere.TraceID != second.TraceID {
			t.Error("a request is inside that of another node")
		}
	}
}

func TestSenderThatExitsAtOnceBelongsToTheOnlyNode(t *testing.T) {
	known, gone := newRequest(child(100, 5, 1, 7, "pay"), 2, "cli:pay#1/cln:pay#2/pay:a#3", 10, 100),
		newRequest(&process.Identity{PID: 12, Name: "lightningd"}, 3, "cli:pay#1/cln:pay#2/pay:a#3/cln:a#4/other:b#2", 20, 10)
	command := newCommand(1, "a", 15, 5)
	command.Process = node1(100)
	correlateAll(New(Options{}), []*Span{command, gone, known})
	if gone.TraceID != known.TraceID || gone.ParentID != known.ID {
		t.Errorf("%+v is not inside %+v", gone.Span, known.Span)
	}
}

// A wrapper, such as a shell, may stand between lightningd and its plugin, or between
// lightningd and us.
func TestPluginOfAWrapperBelongsToItsNode(t *testing.T) {
	const path = "cli:pay#1/cln:pay#2/pay:a#3"
	// 100 and 200 are nodes, and the other processes were started by a wrapper.
	parents := func(r Run) Run { return map[Run]Run{{7, 9}: {100, 5}, {8, 9}: {200, 5}}[r] }
	a, b := child(7, 9, 1, 10, "pay"), child(8, 9, 11, 10, "pay")
	for _, tc := range []struct {
		what    string
		o       Options
		nodes   []int32 // that are heard
		sender  *process.Identity
		command int // that served it, as an index of nodes; -1: none
	}{
		{"a wrapper of one node", Options{}, []int32{100}, a, 0},
		{"a wrapper of two nodes", Options{Parent: parents}, []int32{100, 200}, a, 0},
		{"a wrapper of the other node", Options{Parent: parents}, []int32{100, 200}, b, 1},
		{"a wrapper of two nodes that nobody can tell", Options{}, []int32{100, 200}, a, -1},
		{"we have a wrapper too", Options{Run: Run{7, 9}}, []int32{100}, a, 0},
		{"it may be of either node", Options{Run: Run{7, 9}}, []int32{100, 200}, a, -1},
		{"our node is not heard, but is one", Options{Run: Run{7, 9}, RunIsCertain: true}, []int32{100}, a, -1},
		{"another node's, and ours is not heard", Options{Run: Run{200, 5}, RunIsCertain: true, Parent: parents}, []int32{100}, b, -1},
		{"unknown, and ours is not heard", Options{Run: Run{200, 5}, RunIsCertain: true}, []int32{100}, &process.Identity{PID: 3}, -1},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var spans []*Span
			for i, pid := range tc.nodes {
				s := newCommand(uint64(i+1), "a", int64(20+i), 5)
				s.Process = node1(pid)
				spans = append(spans, s)
			}
			request := newRequest(tc.sender, 9, path, 10, 100)
			out := correlateAll(New(tc.o), append(spans, request))
			var want trace.SpanID
			if tc.command >= 0 {
				want = spanID(uint64(tc.command + 1))
			}
			if got := servedBy(out, request); got != want {
				t.Errorf("served by %s, want %s", got, want)
			}
		})
	}
}

// A sender can invent any number of names of plugins, and each search looks at all
// processes.
func TestInventedPluginsAreNotSearchedFor(t *testing.T) {
	searches := 0
	c := New(Options{Child: func(int32, string) *process.Identity { searches++; return nil }})
	for i := range 1000 {
		c.Add(newRequest(newProcess(1, "x"), uint64(i+1), fmt.Sprintf("timer/p%d:a#1/cln:a#2/x:b#3", i), 0, 10), epoch.Add(time.Duration(i)*100*time.Microsecond))
	}
	if kept := len(c.nodes.get(run).plugins); searches > 3 || kept > maxStreams {
		t.Errorf("%d searches in 100 ms, %d names kept", searches, kept)
	}
}
