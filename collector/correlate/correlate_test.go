package correlate

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"clntrace/collector/cln"
	"clntrace/collector/parents"
	"clntrace/collector/process"
	"clntrace/collector/recording"
	"clntrace/collector/zipkin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	lightningd = &process.Identity{PID: 100, Name: "lightningd", Known: true, StartTime: 5}
	run        = Run{PID: 100, StartTime: 5}
	epoch      = time.Unix(1795324398, 0)
)

func newProcess(pid int32, name string) *process.Identity {
	return &process.Identity{PID: pid, Name: name, Known: true, StartTime: 7, ParentPID: lightningd.PID, ParentStartTime: lightningd.StartTime}
}

// decode makes spans of recorded datagrams.
func decode(t testing.TB, datagrams []recording.Datagram) []*Span {
	t.Helper()
	var decoder zipkin.Decoder
	var details cln.Reader
	processes := make(map[int]*process.Identity)
	spans := make([]*Span, len(datagrams))
	for i, d := range datagrams {
		s := new(Span)
		if err := decoder.Decode(d.Payload, &s.Span); err != nil {
			t.Fatal(err)
		}
		if processes[d.PID] == nil {
			processes[d.PID] = newProcess(int32(d.PID), d.Exe)
			if d.Exe == lightningd.Name {
				processes[d.PID] = lightningd
			}
		}
		s.Process, s.Detail = processes[d.PID], details.Of(s.Name, s)
		spans[i] = s
	}
	return spans
}

// correlate sends spans through a Correlator, 1 ms apart, and returns all that
// come out.
func correlateAll(c *Correlator, spans []*Span) []*Span {
	now, awaited := epoch, parents.New(c.knownParent)
	for _, s := range spans {
		now = now.Add(time.Millisecond)
		s.Relative = awaited.Observe(s.Process, &s.Span, now)
		c.Add(s, now)
	}
	c.Flush(now)
	return c.Ready()
}

// replay sends spans through a Correlator when they ended, and looks for waits that
// are over as often as the decoder does.
func replay(c *Correlator, spans []*Span) []*Span {
	now, awaited := spans[0].End(), parents.New(c.knownParent)
	next := now
	for _, s := range spans {
		for end := s.End(); now.Before(end); {
			if next.After(end) {
				now = end
				break
			}
			now, next = next, next.Add(100*time.Millisecond)
			c.Expire(now)
		}
		s.Relative = awaited.Observe(s.Process, &s.Span, now)
		c.Add(s, now)
	}
	c.Flush(now)
	return c.Ready()
}

// among returns Options with which each sender of the spans is found.
func among(spans ...*Span) Options {
	return Options{Run: run, Child: func(parent int32, name string) *process.Identity {
		for _, s := range spans {
			if s.Process.Name == name && s.Process.ParentPID == parent {
				return s.Process
			}
		}
		return nil
	}}
}

func load(t testing.TB, path string) []*Span {
	t.Helper()
	list, err := recording.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, slices.DeleteFunc(list, func(d recording.Datagram) bool { return len(d.Payload) == 0 })) // notifications
}

// family is what a set of traces looks like.
type family struct {
	traces, requests, served, nested, synthetic int
	orphans                                     []string // spans whose parent does not exist
}

func look(spans []*Span) (f family) {
	type id struct {
		trace trace.TraceID
		span  trace.SpanID
	}
	known, traces := make(map[id]int), make(map[trace.TraceID]bool)
	for _, s := range spans {
		known[id{s.TraceID, s.ID}]++
		traces[s.TraceID] = true
	}
	f.traces = len(traces)
	for _, s := range spans {
		if n := known[id{s.TraceID, s.ID}]; n > 1 {
			f.orphans = append(f.orphans, fmt.Sprintf("%s stands there %d times", s.Name, n))
		}
		if s.ParentID.IsValid() && known[id{s.TraceID, s.ParentID}] == 0 {
			f.orphans = append(f.orphans, s.Name+" "+s.Tag("id"))
		}
		if s.Synthetic {
			f.synthetic++
		}
		if s.Name == cln.SpanRequest {
			f.requests++
			for _, l := range s.Links {
				if l.Relation == ServedBy && known[id{l.TraceID, l.SpanID}] == 1 {
					f.served++
				}
			}
		}
		if s.Name == cln.SpanCommand && s.SentTraceID.IsValid() {
			f.nested++
		}
	}
	return f
}

func xpay(t testing.TB) []*Span {
	t.Helper()
	list, err := recording.Xpay()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, list)
}

func TestPaymentBecomesOneTrace(t *testing.T) {
	before := look(xpay(t))
	spans := correlateAll(New(Options{Run: run}), xpay(t))
	after := look(spans)
	if len(after.orphans) != 0 {
		t.Errorf("parents are missing: %v", after.orphans)
	}
	if after.requests != 12 || after.nested != 12 || after.served != 0 {
		t.Errorf("%d of %d requests have their command below them, want 12 of 12", after.nested, after.requests)
	}
	if before.traces != 149 || after.traces != 128 {
		t.Errorf("%d traces became %d", before.traces, after.traces)
	}
	payment := make(map[string]int)
	var root *Span
	for _, s := range spans {
		if strings.HasPrefix(s.Request, "cli:xpay#") {
			payment[s.TraceID.String()]++
			if s.Synthetic {
				root = s
			}
		}
	}
	if len(payment) != 1 {
		t.Fatalf("the payment is in %d traces", len(payment))
	}
	if root == nil || root.Name != "xpay" || root.Process.Name != "cln-xpay" || root.ParentID.IsValid() || root.Duration < 100_000 {
		t.Errorf("its root is %+v", root)
	}
	for _, s := range spans {
		if s.TraceID == root.TraceID && (s.Timestamp < root.Timestamp || s.End().After(root.End())) {
			t.Errorf("%s is not within the root", s.Tag("id"))
		}
	}
}

func TestIDsDependOnPathAndRunAlone(t *testing.T) {
	ids := func(r Run, spans []*Span) []string {
		var all []string
		for _, s := range correlateAll(New(Options{Run: r}), spans) {
			if s.Request != "" {
				all = append(all, fmt.Sprint(s.TraceID, s.ID, s.ParentID, s.Name))
			}
		}
		slices.Sort(all)
		return all
	}
	want := ids(run, xpay(t))
	shuffled := xpay(t)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if got := ids(run, shuffled); !slices.Equal(got, want) {
		t.Error("in another order the ids are others")
	}
	if got := ids(Run{}, xpay(t)); !slices.Equal(got, want) {
		t.Error("the run found by the senders' parent is not that of lightningd")
	}
	later := xpay(t)
	again := make(map[*process.Identity]*process.Identity)
	for _, s := range later {
		if again[s.Process] == nil {
			p := *s.Process
			if p.StartTime++; p.ParentPID != 0 {
				p.ParentStartTime++
			}
			again[s.Process] = &p
		}
		s.Process = again[s.Process]
	}
	for _, id := range ids(Run{PID: 100, StartTime: 6}, later) {
		if slices.Contains(want, id) {
			t.Errorf("another run of lightningd makes the same id: %s", id)
		}
	}
}

// TestCorpus holds larger recordings against what is promised of them. They
// are not part of the project.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("CLNTRACE_CORPUS")
	if dir == "" {
		t.Skip("skipped: CLNTRACE_CORPUS names no directory of recordings")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in %s: %v", dir, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl.gz")
		forged := 0
		if name == "weird" {
			forged = 1 // an id that names requests which never were
		}
		t.Run(name, func(t *testing.T) {
			before := look(load(t, file))
			in := load(t, file)
			out := correlateAll(New(among(in...)), in)
			after := look(out)
			if len(out) != len(in)+after.synthetic {
				t.Errorf("%d spans became %d, %d of them synthesized", len(in), len(out), after.synthetic)
			}
			if len(after.orphans) > len(before.orphans)+forged {
				t.Errorf("%d parents are missing, before it were %d: %v", len(after.orphans), len(before.orphans), after.orphans)
			}
			payments := make(map[string]map[trace.TraceID]bool)
			for _, s := range out {
				if strings.HasPrefix(s.Request, "cli:xpay#") || strings.HasPrefix(s.Request, "cli:pay#") {
					if payments[s.Request] == nil {
						payments[s.Request] = make(map[trace.TraceID]bool)
					}
					payments[s.Request][s.TraceID] = true
				}
			}
			for payment, traces := range payments {
				if len(traces) != 1 {
					t.Errorf("payment %s is in %d traces", payment, len(traces))
				}
			}
			t.Logf("%d spans, %d traces before, %d after; %d payments; %d requests, %d with their command below them, %d linked to it; %d roots added; parents missing: %d before, %d after",
				len(in), before.traces, after.traces, len(payments), after.requests, after.nested, after.served, after.synthetic, len(before.orphans), len(after.orphans))
		})
	}
}

// request makes a request's span.
func newRequest(p *process.Identity, id uint64, path string, start, duration int64) *Span {
	s := newSpan(p, id, 0, cln.SpanRequest, start, duration)
	s.Tags = []zipkin.Tag{{Key: cln.TagID, Value: path}, {Key: "error", Value: "false"}}
	s.Detail = new(cln.Reader).Of(s.Name, s)
	return s
}

func newSpan(p *process.Identity, id, parent uint64, name string, start, duration int64) *Span {
	s := &Span{Process: p, Span: zipkin.Span{
		ID: spanID(id), ParentID: spanID(parent), Name: name, Timestamp: epoch.UnixMicro() + start, Duration: duration,
	}}
	s.TraceID[0], s.TraceID[15] = 1, byte(id)
	return s
}

func spanID(n uint64) (id trace.SpanID) {
	for i := range id {
		id[7-i] = byte(n >> (8 * i))
	}
	return id
}

func TestTimersOnlyRequestIsItsOwnRoot(t *testing.T) {
	xpay, askrene := newProcess(1, "cln-xpay"), newProcess(2, "cln-askrene")
	in := []*Span{
		newRequest(askrene, 2, "timer/cln-xpay:getroutes#5/cln:getroutes#9/cln-askrene:listpeerchannels#1", 10, 10),
		newRequest(xpay, 1, "timer/cln-xpay:getroutes#5", 0, 100),
	}
	out := correlateAll(New(among(in...)), in)
	if len(out) != 2 || out[0].TraceID != out[1].TraceID || out[1].ParentID.IsValid() || out[0].ParentID != out[1].ID {
		t.Errorf("got %+v and %+v, want the second as the first one's parent and no root added", out[0].Span, out[1].Span)
	}
}

func TestRootIsAddedOnceWhenQuiet(t *testing.T) {
	c := New(Options{Run: run})
	p := newProcess(1, "pay")
	now := epoch
	add := func(id uint64, start int64, path string) {
		c.Add(newRequest(p, id, path, start, 10), now)
	}
	add(1, 0, "cli:pay#1/cln:pay#2/pay:a#3")
	now = now.Add(quiet - time.Millisecond)
	c.Expire(now)
	add(2, 50, "cli:pay#1/cln:pay#2/pay:b#4")
	now = now.Add(quiet - time.Millisecond)
	c.Expire(now)
	if n := len(c.Ready()); n != 2 {
		t.Fatalf("%d spans before the request was quiet for %v, want 2", n, quiet)
	}
	now = now.Add(time.Millisecond)
	c.Expire(now)
	roots := c.Ready()
	if len(roots) != 1 || roots[0].Duration != 60 || roots[0].Failed() || roots[0].Request != "cli:pay#1" {
		t.Fatalf("got %+v, want one root of 60 µs", roots)
	}
	add(3, 100, "cli:pay#1/cln:pay#2/pay:c#5")
	c.Flush(now)
	if late := c.Ready(); len(late) != 1 || late[0].ParentID != roots[0].ID {
		t.Errorf("a request that went on after its root brought %d spans, want itself alone under that root", len(late))
	}
}

func TestRootFailsWithAChild(t *testing.T) {
	failed := newRequest(newProcess(1, "pay"), 1, "cli:pay#1/cln:pay#2/pay:a#3", 0, 10)
	failed.Tags[1].Value = "true"
	out := correlateAll(New(Options{Run: run}), []*Span{failed})
	if len(out) != 2 || !out[1].Synthetic || !out[1].Failed() {
		t.Errorf("got %+v", out)
	}
}

func TestOpenRequestsAreBounded(t *testing.T) {
	c := New(Options{Run: run})
	p := newProcess(1, "pay")
	for i := range maxRequests + 10 {
		s := newRequest(p, uint64(i+1), fmt.Sprintf("cli:pay#%d/cln:pay#%d/pay:a#1", i, i), int64(i), 1)
		c.Add(s, epoch)
	}
	c.Expire(epoch.Add(pairWait))
	ready := c.Ready()
	if len(ready) != maxRequests+20 || c.requests.open() != maxRequests {
		t.Errorf("%d spans and %d open requests, want the 10 oldest closed", len(ready), c.requests.open())
	}
	if first := ready[slices.IndexFunc(ready, func(s *Span) bool { return s.Synthetic })]; first.Request != "cli:pay#0" {
		t.Errorf("%s was closed first", first.Request)
	}
}

func TestIDsStayAsSent(t *testing.T) {
	p := newProcess(1, "pay")
	child := newRequest(p, 2, "cli:pay#1/cln:pay#2/pay:a#3", 0, 10)
	child.ParentID = spanID(9)
	for _, tc := range []struct {
		what  string
		group bool
		span  *Span
	}{
		{"grouping is off", false, newRequest(p, 1, "cli:pay#1/cln:pay#2/pay:a#3", 0, 10)},
		{"it has a parent", true, child},
		{"its id has no path", true, newRequest(p, 1, "pay:a#3", 0, 10)},
		{"it has no id", true, newRequest(p, 1, "", 0, 10)},
		{"it is no request", true, newSpan(p, 1, 0, "extend_tip", 0, 10)},
	} {
		t.Run(tc.what, func(t *testing.T) {
			want := tc.span.Span
			c := New(Options{Run: run})
			c.Group = tc.group
			out := correlateAll(c, []*Span{tc.span})
			if len(out) != 1 || out[0].TraceID != want.TraceID || out[0].ID != want.ID || out[0].ParentID != want.ParentID || out[0].SentID.IsValid() {
				t.Errorf("got %d spans, the first %+v, want %+v", len(out), out[0].Span, want)
			}
		})
	}
}

func TestEnclosesWhereIDsStayAsSent(t *testing.T) {
	xpay, askrene := newProcess(1, "cln-xpay"), newProcess(2, "cln-askrene")
	const outer = "cli:xpay#1/cln:xpay#2/cln-xpay:getroutes#3"
	c := New(Options{Run: run})
	c.Group = false
	out := correlateAll(c, []*Span{
		newRequest(askrene, 1, outer+"/cln:getroutes#4/cln-askrene:a#5", 0, 10),
		newRequest(askrene, 2, outer+"/cln:getroutes#4/cln-askrene:b#6", 10, 10),
		newRequest(xpay, 3, outer+"/cln:x#4/cln-xpay:own#6", 10, 10),
		newRequest(askrene, 4, "cli:xpay#1/cln:xpay#2/cln-xpay:other#3/cln:x#7/cln-askrene:c#7", 10, 10),
		newRequest(xpay, 5, outer, 0, 100),
	})
	want := []Link{{Encloses, out[0].TraceID, out[0].ID}, {Encloses, out[1].TraceID, out[1].ID}}
	if got := out[4].Links; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: what ran inside it in another process", got, want)
	}
}

func TestServedBy(t *testing.T) {
	plugin := newProcess(1, "pay")
	command := func(id uint64, method string, start, duration int64) *Span {
		s := newSpan(lightningd, id, 0, cln.SpanCommand, start, duration)
		s.Detail = method
		return s
	}
	for _, tc := range []struct {
		what     string
		commands []*Span
		want     uint64 // id of the command; 0: no link
	}{
		{"none", nil, 0},
		{"one", []*Span{command(1, "pay", 150, 10)}, 1},
		{"one at the very start", []*Span{command(1, "pay", 100, 10)}, 1},
		{"one that began before", []*Span{command(1, "pay", 99, 10)}, 0},
		{"one that began after", []*Span{command(1, "pay", 201, 10)}, 0},
		{"another method", []*Span{command(1, "xpay", 150, 10)}, 0},
		{"two", []*Span{command(1, "pay", 150, 10), command(2, "pay", 170, 10)}, 0},
		{"one of several", []*Span{command(1, "pay", 50, 10), command(2, "pay", 150, 10), command(3, "xpay", 170, 10)}, 2},
	} {
		t.Run(tc.what, func(t *testing.T) {
			s := newRequest(plugin, 99, "cli:x#1/cln:x#2/pay:pay#3", 100, 100)
			out := correlateAll(New(Options{Run: run}), append(tc.commands, s))
			got := servedBy(out, s)
			if got != spanID(tc.want) || len(s.Links) > 1 {
				t.Errorf("links %v, want one to %d (0: none)", s.Links, tc.want)
			}
		})
	}
}

func TestCandidatesAreBoundedInNumberAndTime(t *testing.T) {
	c := newCandidates[int, int]()
	for i := range maxCandidates + 5 {
		c.add(i%7, i, epoch)
	}
	held := 0
	for _, list := range c.byKey {
		held += len(list)
	}
	if held != maxCandidates || len(c.order) != maxCandidates {
		t.Errorf("%d candidates are held, %d in order, want %d", held, len(c.order), maxCandidates)
	}
	c.add(0, 0, epoch.Add(linkWindow+time.Second))
	if len(c.order) != 1 || len(c.byKey) != 1 {
		t.Errorf("after the window %d candidates are left, want the new one", len(c.order))
	}
}

func TestTakenCandidatesAgeDoesNotForgetLaterOnes(t *testing.T) {
	c := newCandidates[int, int]()
	c.add(1, 10, epoch)
	c.take(1)
	later := epoch.Add(linkWindow / 2)
	c.add(1, 11, later)
	c.expire(epoch.Add(1))
	if left := c.take(1); len(left) != 1 || left[0].value != 11 {
		t.Errorf("%v is left, want the later one", left)
	}
}

// TestHostileSenderTakesLittleMemory floods each table with what holds most in it.
func TestHostileSenderTakesLittleMemory(t *testing.T) {
	p, long := newProcess(1, "pay"), strings.Repeat("x", 900)
	method := func(i int) *Span {
		s := newSpan(lightningd, uint64(i+1), 0, cln.SpanCommand, 0, 1)
		s.Detail = fmt.Sprint(i, long, long)
		return s
	}
	for _, tc := range []struct {
		what  string
		count int
		span  func(i int) *Span
	}{
		{"requests", 3 * maxRequests, func(i int) *Span {
			return newRequest(p, uint64(i+1), fmt.Sprintf("cli:%d%s#1/cln:%s#%d/pay:a#1", i, long, long, i), 0, 1)
		}},
		{"requests inside others", 50_000, func(i int) *Span {
			return newRequest(p, uint64(i+1), fmt.Sprintf("cli:%s#1/cln:%s#1/pay:a#%d/cln:b#1/pay:c#%d", long, long, i/4, i), 0, 1)
		}},
		{"commands", 3 * maxCandidates, method},
	} {
		t.Run(tc.what, func(t *testing.T) {
			c := New(Options{Run: run})
			before := liveHeap()
			for i := range tc.count {
				c.Add(tc.span(i), epoch)
				c.Ready()
			}
			c.Expire(epoch.Add(nestWait)) // spans that wait are in the caller's account
			c.Ready()
			const most = 12 << 20
			grown := int64(liveHeap()) - int64(before)
			t.Logf("%.1f MiB", float64(grown)/(1<<20))
			if grown > most {
				t.Errorf("the heap has grown by %d bytes, want at most %d", grown, most)
			}
			runtime.KeepAlive(c)
		})
	}
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestLongNamesAreCutBetweenCharacters(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"xpay", "xpay"},
		{strings.Repeat("x", maxText+1), strings.Repeat("x", maxText)},
		{"x" + strings.Repeat("ü", maxText), "x" + strings.Repeat("ü", (maxText-1)/2)},
	} {
		if got := clip(tc.in); got != tc.want {
			t.Errorf("%q became %q", tc.in, got)
		}
	}
}

func truncate(s *Span) *Span {
	s.TraceID, s.Truncated = trace.TraceID{}, true
	return s
}

func TestCutSpansAreRepaired(t *testing.T) {
	p, other := newProcess(1, "lightningd"), newProcess(2, "pay")
	whole := func(id, parent uint64) *Span { return newSpan(p, id, parent, "whole", 0, 1) }
	cut := func(id, parent uint64) *Span { return truncate(newSpan(p, id, parent, "cut", 0, 1)) }
	elsewhere := newSpan(other, 1, 7, "whole", 0, 1)
	for _, tc := range []struct {
		what     string
		spans    []*Span
		repaired int64
	}{
		{"by a child that came before", []*Span{whole(1, 7), cut(7, 0)}, 1},
		{"by the parent that follows", []*Span{cut(7, 8), whole(8, 0)}, 1},
		{"by a child of the same parent", []*Span{whole(1, 8), cut(7, 8)}, 1},
		{"several by one parent", []*Span{cut(5, 8), cut(6, 8), whole(8, 0)}, 2},
		{"by a parent that is repaired itself", []*Span{cut(6, 7), cut(7, 8), whole(8, 0)}, 2},
		{"not by the child of another process", []*Span{elsewhere, cut(7, 0)}, 0},
		{"not without relatives", []*Span{whole(1, 2), cut(7, 8), whole(3, 0)}, 0},
	} {
		t.Run(tc.what, func(t *testing.T) {
			c := New(Options{Run: run})
			out := correlateAll(c, tc.spans)
			if len(out) != len(tc.spans) || c.Repaired != tc.repaired {
				t.Fatalf("%d of %d spans came out, %d repaired, want %d", len(out), len(tc.spans), c.Repaired, tc.repaired)
			}
			for _, s := range out {
				if !s.TraceID.IsValid() {
					t.Errorf("%+v has no trace id", s.Span)
				}
				if s.Name == "cut" && s.Truncated != (tc.repaired == 0) {
					t.Errorf("%+v is truncated: %v", s.Span, s.Truncated)
				}
			}
			if tc.repaired > 0 {
				if last, first := out[len(out)-1], out[0]; last.TraceID != first.TraceID {
					t.Errorf("the relatives are in traces %s and %s", first.TraceID, last.TraceID)
				}
			}
		})
	}
}

func TestCutSpanIsOfTheTraceThatAllAreOf(t *testing.T) {
	p, known := newProcess(1, "lightningd"), trace.TraceID{7}
	c := New(Options{Run: run, KnownParent: spanID(99), KnownTrace: known})
	for _, parent := range []uint64{99, 8, 0} {
		c.Add(truncate(newSpan(p, parent+1, parent, "cut", 0, 1)), epoch)
		if out := c.Ready(); len(out) != 1 || out[0].TraceID != known || out[0].Truncated {
			t.Errorf("with the parent %d: got %+v, want it repaired at once", parent, out)
		}
	}
	if c.Repaired != 3 {
		t.Errorf("%d repaired, want 3", c.Repaired)
	}
}

func TestCutSpanWaitsForItsParentOnlySoLong(t *testing.T) {
	p := newProcess(1, "lightningd")
	c := New(Options{Run: run})
	s := truncate(newSpan(p, 7, 8, "cut", 0, 1))
	c.Add(s, epoch)
	c.Expire(epoch.Add(repairWait - 1))
	if len(c.Ready()) != 0 {
		t.Fatal("it did not wait")
	}
	c.Expire(epoch.Add(repairWait))
	if out := c.Ready(); len(out) != 1 || !out[0].TraceID.IsValid() || !out[0].Truncated {
		t.Fatalf("got %+v", out)
	}
	c.Add(newSpan(p, 8, 0, "whole", 0, 1), epoch.Add(repairWait))
	if c.Repaired != 0 || len(c.orphans) != 0 {
		t.Errorf("%d repaired after the wait, %d still waited for", c.Repaired, len(c.orphans))
	}
}

func TestHostileIDsDoNoHarm(t *testing.T) {
	in := load(t, "../../tests/testdata/weird.jsonl.gz")
	out := correlateAll(New(Options{Run: run}), in)
	f := look(out)
	// One client claims to be inside requests that never were: it gets what it
	// asked for, a parent that does not exist.
	forged := []string{"jsonrpc sl/ash/cln:pay#1/cln-xpay:fake#2/cln:sql#91/sql:listpeerchannels#9"}
	if len(out) != len(in)+f.synthetic || !slices.Equal(f.orphans, forged) {
		t.Errorf("%d spans became %d, %d of them synthesized; parents missing: %v", len(in), len(out), f.synthetic, f.orphans)
	}
}

func FuzzRequestIDs(f *testing.F) {
	f.Add("cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459", "cli:xpay#4021/cln:xpay#824")
	f.Add("timer/cln-xpay:askrene-age#4", "sl/ash/cln:pay#1/cln-xpay:fake#2/cln:sql#91/sql:listpeerchannels#9")
	f.Add("////", "#")
	f.Fuzz(func(t *testing.T, a, b string) {
		p := newProcess(1, "pay")
		out := correlateAll(New(Options{Run: run}), []*Span{newRequest(p, 1, a, 0, 10), newRequest(p, 2, b, 5, 10)})
		sent := 0
		for _, s := range out {
			if !s.Synthetic {
				sent++
			}
			if !s.TraceID.IsValid() || !s.ID.IsValid() || s.ID == s.ParentID || s.Name == "" || s.Duration < 0 {
				t.Errorf("%q, %q: not a valid span: %+v", a, b, s)
			}
		}
		if sent != 2 {
			t.Errorf("%q, %q: %d of 2 spans came out", a, b, sent)
		}
	})
}

func BenchmarkCorrelate(b *testing.B) {
	list, err := recording.Xpay()
	if err != nil {
		b.Fatal(err)
	}
	spans := decode(b, list)
	c := New(Options{Run: run})
	now := epoch
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s := *spans[i%len(spans)]
		now = now.Add(50 * time.Microsecond)
		c.Add(&s, now)
		if i++; i%64 == 0 {
			c.Expire(now)
			c.Ready()
		}
	}
}

func TestSpanThatMeetsADefectGoesItsWay(t *testing.T) {
	var told error
	c := New(Options{Defect: func(err error) { told = err }})
	// Without a process, which grouping asks for.
	s := newRequest(nil, 1, "cli:xpay#1/cln:xpay#2/cln-xpay:getroutes#3", 1000, 10)
	c.Add(s, epoch)
	if ready := c.Ready(); len(ready) != 1 || ready[0] != s {
		t.Errorf("ready are %v", ready)
	}
	if told == nil {
		t.Error("nobody was told")
	}
}
