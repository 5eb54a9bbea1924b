package correlate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/parents"
)

// timed is a Correlator and a clock.
type timed struct {
	*Correlator
	awaited *parents.Awaited
	now     time.Time
	next    time.Time                      // when the decoder looks for waits that are over
	roots   map[trace.SpanID]time.Duration // how long after its end each root was added
	came    map[*Span]time.Time
	// waited is the longest that a span has waited, but for cut ones, which wait to be
	// repaired.
	waited time.Duration
	out    []*Span
}

const tick = 100 * time.Millisecond // of the decoder

func newTimed(o Options, from time.Time) *timed {
	return &timed{Correlator: New(o), awaited: parents.New(o.KnownParent), now: from, next: from, roots: make(map[trace.SpanID]time.Duration), came: make(map[*Span]time.Time)}
}

// advance lets time pass.
func (c *timed) advance(to time.Time) {
	for ; !c.next.After(to); c.next = c.next.Add(tick) {
		c.now = c.next
		c.Expire(c.now)
		c.collect()
	}
	if to.After(c.now) {
		c.now = to
	}
}

func (c *timed) collect() {
	for _, s := range c.Ready() {
		if s.Synthetic {
			c.roots[s.ID] = c.now.Sub(s.End())
		} else if !s.WasCut() {
			c.waited = max(c.waited, c.now.Sub(c.came[s]))
		}
		delete(c.came, s)
		c.out = append(c.out, s)
	}
}

// send sends spans when they ended, in that order.
func (c *timed) send(spans ...*Span) {
	slices.SortStableFunc(spans, func(a, b *Span) int { return a.End().Compare(b.End()) })
	for _, s := range spans {
		c.advance(s.End())
		c.came[s] = c.now
		s.Relative = c.awaited.Observe(s.Process, &s.Span, c.now)
		c.Add(s, c.now)
	}
	c.collect()
}

// extent is when something was open, µs.
type extent struct{ start, end int64 }

// extents returns what the roots of each request have to cover: its spans, and those
// that followed at most 5 s later. It tells requests apart by the root of their path;
// later CLN's spans of payments belong to the request in whose trace they are.
func extents(spans []*Span) map[string][]extent {
	all := make(map[string][]extent)
	requests := make(map[trace.TraceID]string)
	for _, s := range spans {
		if root := s.path().Root(); root != "" && s.SentID.IsValid() {
			requests[s.TraceID] = string(root)
		}
	}
	for _, s := range spans {
		if root := requests[s.TraceID]; root != "" && (s.SentID.IsValid() || strings.HasPrefix(s.Name, cln.PrefixXpay)) {
			all[root] = append(all[root], extent{s.Timestamp, s.Timestamp + s.Duration})
		}
	}
	for root, list := range all {
		slices.SortFunc(list, func(a, b extent) int { return cmp.Compare(a.start, b.start) })
		joined := list[:1]
		for _, e := range list[1:] {
			if last := &joined[len(joined)-1]; e.start-last.end <= quiet.Microseconds() {
				last.end = max(last.end, e.end)
			} else {
				joined = append(joined, e)
			}
		}
		all[root] = joined
	}
	return all
}

// rightRoots compares the roots with what they have to cover.
func rightRoots(spans []*Span, want map[string][]extent) (right, wrong int, what []string) {
	roots := make(map[extent]int)
	for _, s := range spans {
		if s.Synthetic || s.Name == cln.SpanRequest && !s.ParentID.IsValid() && s.SentID.IsValid() {
			roots[extent{s.Timestamp, s.Timestamp + s.Duration}]++
		}
	}
	for request, list := range want {
		for _, e := range list {
			if roots[e] > 0 {
				roots[e]--
				right++
				continue
			}
			wrong++
			what = append(what, fmt.Sprintf("%s lacks a root of %d ms", request, (e.end-e.start)/1000))
		}
	}
	for e, n := range roots {
		if n > 0 {
			what = append(what, fmt.Sprintf("%d roots of %d ms too many", n, (e.end-e.start)/1000))
		}
	}
	return right, wrong, what
}

// percentile returns the share p of durations that is at most so long.
func percentile(list []time.Duration, p float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(int(p*float64(len(list))), len(list)-1)]
}

// TestRootsInRecordings measures how many roots are right, and how long after the end
// of their requests they are added.
func TestRootsInRecordings(t *testing.T) {
	var delays []time.Duration
	right, wrong := 0, 0
	for name, file := range recordings(t) {
		spans := load(t, file)
		c := newTimed(among(spans...), spans[0].Start())
		c.send(spans...)
		here := slices.Collect(maps.Values(c.roots))
		c.Flush(c.now)
		c.collect()
		good, bad, what := rightRoots(c.out, extents(c.out))
		t.Logf("%s: %d roots right, %d wrong; added after p50 %v, p99 %v, at most %v", name, good, bad,
			percentile(here, 0.5), percentile(here, 0.99), percentile(here, 1))
		if len(what) > 0 {
			t.Errorf("%s: %v", name, what)
		}
		right, wrong, delays = right+good, wrong+bad, append(delays, here...)
	}
	longest := percentile(delays, 1)
	t.Logf("all: %d of %d roots right; added after p50 %v, p99 %v, at most %v", right, right+wrong,
		percentile(delays, 0.5), percentile(delays, 0.99), longest)
	if longest > 7*time.Second {
		t.Errorf("a root came %v after its request's end", longest)
	}
}

// TestRootsOfSlowPayments holds roots against a recording of payments that hang: in
// parts, eight at once, and failed ones with parts that go on.
func TestRootsOfSlowPayments(t *testing.T) {
	spans := load(t, "testdata/slow-payments.jsonl.gz")
	c := newTimed(among(spans...), spans[0].Start())
	c.send(spans...)
	c.advance(c.now.Add(quiet + tick))
	right, wrong, what := rightRoots(c.out, extents(c.out))
	if wrong > 0 || len(what) > 0 || right < 90 {
		t.Errorf("%d roots are right, %d wrong: %v", right, wrong, what)
	}
	for id, after := range c.roots {
		if after > quiet+2*tick {
			t.Errorf("root %s came %v after the end of its request", id, after)
		}
	}
}

const second = 1_000_000 // µs

func TestRootWaitsForWhatIsOpen(t *testing.T) {
	for _, tc := range []struct {
		what, plugin, method string
		lost                 bool          // the request's span
		want                 time.Duration // of the root
		incomplete           bool
		after                time.Duration // at which the root has come
	}{
		{"a payment that is held", "cln-xpay", "injectpaymentonion", false, 90*time.Second + 500*time.Microsecond, false, 96 * time.Second},
		{"a method that is answered at once", "cln-xpay", "datastore", true, 400 * time.Microsecond, false, 6 * time.Second},
		{"another client's method that waits", "chanbackup", "injectpaymentonion", true, 400 * time.Microsecond, false, 6 * time.Second},
		{"the span is lost", "cln-xpay", "injectpaymentonion", true, 400 * time.Microsecond, false, 601 * time.Second},
		{"that of a search for routes is lost", "cln-xpay", "getroutes", true, 400 * time.Microsecond, false, 31 * time.Second},
	} {
		t.Run(tc.what, func(t *testing.T) {
			p, id := newProcess(1, tc.plugin), "cli:xpay#1/cln:xpay#2/"+tc.plugin
			first := newRequest(p, 1, id+":askrene-reserve#1", 0, 400)
			slow := newRequest(p, 2, id+":"+tc.method+"#2", 500, 90*second)
			c := newTimed(Options{Run: run}, epoch)
			c.send(newCommand(3, "askrene-reserve", 100, 50), first, newCommand(4, tc.method, 700, 50))
			c.advance(epoch.Add(5 * time.Second))
			if !tc.lost {
				c.send(slow)
			}
			c.advance(epoch.Add(tc.after - time.Second))
			early := len(c.roots)
			c.advance(epoch.Add(tc.after))
			if early != 0 || len(c.roots) != 1 {
				t.Fatalf("%d roots before %v and %d then, want 0 and 1", early, tc.after-time.Second, len(c.roots))
			}
			root := c.out[len(c.out)-1]
			if got := time.Duration(root.Duration) * time.Microsecond; got != tc.want || root.Incomplete {
				t.Errorf("the root has %v and is incomplete: %v, want %v", got, root.Incomplete, tc.want)
			}
		})
	}
}

func TestRootDoesNotWaitForWhatIsOver(t *testing.T) {
	p, id := newProcess(1, "cln-xpay"), "cli:xpay#1/cln:xpay#2/cln-xpay"
	for what, tc := range map[string]struct {
		payments Payments
		last     string
		want     bool // the root comes after 5 s
	}{
		"nothing says so":                     {nil, "askrene-unreserve", false},
		"its last request":                    {nil, cln.MethodFinish, true},
		"notifications know of no part":       {&knownPayments{}, "askrene-unreserve", false},
		"notifications say that parts ended":  {&knownPayments{known: true}, "askrene-unreserve", true},
		"notifications say that one has not":  {&knownPayments{known: true, open: true}, cln.MethodFinish, false},
		"notifications, after a last request": {&knownPayments{}, cln.MethodFinish, true},
	} {
		t.Run(what, func(t *testing.T) {
			c := newTimed(Options{Run: run, Payments: tc.payments}, epoch)
			c.send(newRequest(p, 1, id+":askrene-reserve#1", 0, 400), newCommand(4, cln.MethodSendPart, 700, 50),
				newRequest(p, 2, id+":"+tc.last+"#3", second, 400)) // the span of #2 is lost
			c.advance(epoch.Add(7 * time.Second))
			if came := len(c.roots) == 1; came != tc.want {
				t.Errorf("the root came: %v, want %v", came, tc.want)
			}
		})
	}
}

// TestRootDoesNotWaitForTheNextPayment has another payment, whose spans are lost, begin
// right before and after the last thing that the first one asked for.
func TestRootDoesNotWaitForTheNextPayment(t *testing.T) {
	p, id := newProcess(1, "cln-xpay"), "cli:xpay#1/cln:xpay#2/cln-xpay"
	c := newTimed(Options{Run: run}, epoch)
	c.send(newRequest(p, 1, id+":askrene-unreserve#1", 0, 400), newCommand(4, cln.MethodRoutes, 600, 50), newCommand(5, cln.MethodSendPart, 700, 50),
		newRequest(p, 2, id+":"+cln.MethodFinish+"#3", 500, 400), newCommand(6, cln.MethodSendPart, 1000, 50))
	c.advance(epoch.Add(6 * time.Second))
	if len(c.roots) != 1 {
		t.Errorf("%d roots after 6 s, want 1", len(c.roots))
	}
}

func TestRootOfOpenRequestIsIncompleteAtTheEnd(t *testing.T) {
	p := newProcess(1, "cln-xpay")
	c := newTimed(Options{Run: run}, epoch)
	c.send(newRequest(p, 1, "cli:xpay#1/cln:xpay#2/cln-xpay:askrene-reserve#1", 0, 400), newCommand(4, "injectpaymentonion", 700, 50),
		newRequest(p, 2, "cli:xpay#7/cln:xpay#8/cln-xpay:askrene-reserve#3", 1*second, 400))
	c.Flush(c.now)
	c.collect()
	for _, s := range c.out {
		if s.Synthetic && s.Incomplete != (s.Request == "cli:xpay#1") {
			t.Errorf("root of %s is incomplete: %v", s.Request, s.Incomplete)
		}
	}
	if len(c.roots) != 2 {
		t.Errorf("%d roots, want 2", len(c.roots))
	}
}

func TestEightPaymentsOfDifferentLengths(t *testing.T) {
	p := newProcess(1, "cln-xpay")
	c := newTimed(Options{Run: run}, epoch)
	var spans []*Span
	want := make(map[string][]extent)
	for i := range int64(8) {
		root := fmt.Sprintf("cli:xpay#%d/cln:xpay#%d", 100+i, 200+i)
		start, number := 1000*i, int(2*i)
		length := (8 - i) * 7 * second
		spans = append(spans,
			newCommand(uint64(10*i+1), "askrene-reserve", start+100, 50),
			newRequest(p, uint64(10*i+2), fmt.Sprintf("%s/cln-xpay:askrene-reserve#%d", root, number), start, 300),
			newCommand(uint64(10*i+3), "injectpaymentonion", start+600, 50),
			newRequest(p, uint64(10*i+4), fmt.Sprintf("%s/cln-xpay:injectpaymentonion#%d", root, number+1), start+400, length))
		want[root] = []extent{{epoch.UnixMicro() + start, epoch.UnixMicro() + start + 400 + length}}
	}
	c.send(spans...)
	c.advance(c.now.Add(quiet + tick))
	if _, wrong, what := rightRoots(c.out, want); wrong > 0 || len(what) > 0 {
		t.Error(what)
	}
	for id, after := range c.roots {
		if after > quiet+2*tick {
			t.Errorf("root %s came %v after the end of its request", id, after)
		}
	}
	for _, s := range c.out {
		if s.Name == cln.SpanRequest && !s.Paired {
			t.Errorf("%s is not paired", s.Tag(cln.TagID))
		}
	}
}

func TestMethodThatWaitsIsLearned(t *testing.T) {
	p := newProcess(1, "thirdparty")
	c := newTimed(Options{Run: run}, epoch)
	for i := range int64(2) {
		at := i * 60 * second
		root := fmt.Sprintf("cli:x#%d/cln:x#%d", 2*i+1, 2*i+2)
		c.send(
			newRequest(p, uint64(10*i+1), fmt.Sprintf("%s/thirdparty:listpeers#%d", root, 2*i+1), at, 300),
			newCommand(uint64(10*i+2), "ask-the-oracle", at+600, 50),
			newRequest(p, uint64(10*i+3), fmt.Sprintf("%s/thirdparty:ask-the-oracle#%d", root, 2*i+2), at+400, 20*second))
		c.advance(c.now.Add(quiet + tick))
	}
	var got []int64
	for _, s := range c.out {
		if s.Synthetic {
			got = append(got, s.Duration)
		}
	}
	if want := []int64{300, 400 + 20*second}; !slices.Equal(got, want) {
		t.Errorf("the roots have %v µs, want %v: only the second time it was known to wait", got, want)
	}
}

func TestRequestThatGoesOnAfterItsRoot(t *testing.T) {
	askrene := newProcess(1, "cln-askrene")
	at := func(id uint64, number int, start, duration int64) *Span {
		return newRequest(askrene, id, fmt.Sprintf("cln:init#41/cln-askrene:datastore#%d", number), start, duration)
	}
	c := newTimed(Options{Run: run}, epoch)
	first := at(1, 1, 0, 300)
	late := at(2, 2, 200, 20*second) // began before the root's end
	later := at(3, 3, 300*second, 300)
	again := at(4, 4, 302*second, 300)
	muchLater := at(5, 5, 600*second, 300)
	c.send(first, late, later, again, muchLater)
	c.Flush(c.now)
	c.collect()
	roots := make(map[trace.TraceID]*Span)
	for _, s := range c.out {
		if s.Synthetic {
			if roots[s.TraceID] != nil {
				t.Errorf("two roots in trace %s", s.TraceID)
			}
			roots[s.TraceID] = s
		}
	}
	if len(roots) != 3 || late.TraceID != first.TraceID || later.TraceID == first.TraceID || again.TraceID != later.TraceID ||
		muchLater.TraceID == later.TraceID || muchLater.TraceID == first.TraceID {
		t.Fatalf("%d roots; traces %s %s %s %s %s", len(roots), first.TraceID, late.TraceID, later.TraceID, again.TraceID, muchLater.TraceID)
	}
	origin := roots[first.TraceID]
	for _, s := range []*Span{first, late, later, again, muchLater} {
		if s.ParentID != roots[s.TraceID].ID {
			t.Errorf("%s is not below the root of its trace", s.Tag(cln.TagID))
		}
	}
	for id, root := range roots {
		if id == first.TraceID {
			continue
		}
		if want := []Link{{Continues, origin.TraceID, origin.ID}}; !slices.Equal(root.Links, want) || root.ID == origin.ID {
			t.Errorf("root %s has links %v, want %v", root.ID, root.Links, want)
		}
	}
}

func TestNoSecondRootWithTheSameID(t *testing.T) {
	p := newProcess(1, "cln-askrene")
	late := func(start int64) *Span {
		return newRequest(p, 77, "cln:init#41/cln-askrene:datastore#7", start, 300)
	}
	c := newTimed(Options{Run: run}, epoch)
	c.send(newRequest(p, 1, "cln:init#41/cln-askrene:datastore#1", 0, 300))
	c.advance(epoch.Add(10 * time.Second))
	for i := range maxRequests {
		c.Add(newRequest(p, uint64(i+2), fmt.Sprintf("cli:x#1/cln:x#%d/cln-askrene:a#%d", i+100, i+8), 10*second, 300), c.now)
	}
	c.advance(epoch.Add(20 * time.Second))
	c.send(late(20 * second))
	c.advance(epoch.Add(30 * time.Second))

	restarted := newTimed(Options{Run: run}, epoch)
	restarted.First = 60
	restarted.send(late(20 * second))
	restarted.advance(epoch.Add(30 * time.Second))

	type id struct {
		trace trace.TraceID
		span  trace.SpanID
	}
	seen := make(map[id]int)
	for _, s := range slices.Concat(c.out, restarted.out) {
		if s.Synthetic && s.Request == "cln:init#41" {
			seen[id{s.TraceID, s.ID}]++
		}
	}
	// The first one; and what went on, which both have met and computed alike.
	if len(seen) != 2 {
		t.Errorf("roots of the request: %v", seen)
	}
}

func TestTimersRequestAfterItsRoot(t *testing.T) {
	xpay, askrene := newProcess(1, "cln-xpay"), newProcess(2, "cln-askrene")
	inner := newRequest(askrene, 2, "timer/cln-xpay:x#5/cln:x#9/cln-askrene:listpeerchannels#1", 10, 10)
	outer := newRequest(xpay, 1, "timer/cln-xpay:x#5", 0, 30*second)
	c := newTimed(among(inner, outer), epoch)
	c.send(inner, outer)
	c.Flush(c.now)
	c.collect()
	if len(c.roots) != 1 || outer.TraceID != inner.TraceID || outer.ParentID != inner.ParentID || outer.ID == inner.ParentID {
		t.Errorf("%d roots; %+v and %+v", len(c.roots), inner.Span, outer.Span)
	}
}

func TestEnclosingRequestWithAParentJoinsWhatItEncloses(t *testing.T) {
	xpay, askrene := newProcess(1, "cln-xpay"), newProcess(2, "cln-askrene")
	const path = "cli:xpay#1/cln:xpay#2/cln-xpay:getroutes#3"
	inner := newRequest(askrene, 1, path+"/cln:getroutes#4/cln-askrene:a#5", 10, 10)
	outer := newRequest(xpay, 2, path, 0, 100)
	outer.ParentID = spanID(99)
	out := correlateAll(New(Options{Run: run}), []*Span{inner, outer})
	if f := look(out); len(f.orphans) != 0 || f.synthetic != 1 || f.traces != 1 {
		t.Errorf("%+v", f)
	}
	if root := out[len(out)-1]; root.Duration != 100 {
		t.Errorf("the root covers %d µs, want 100", root.Duration)
	}
}

// payments says what it has been told.
type knownPayments struct {
	open, known bool
	outcome     Outcome
	asked       Request
}

func (p *knownPayments) Open(r Request) (open, known bool) { p.asked = r; return p.open, p.known }

func (p *knownPayments) Outcome(Request) Outcome { return p.outcome }

func TestPaymentsSayWhetherARequestIsOpenAndHowItEnded(t *testing.T) {
	failed := newRequest(newProcess(1, "cln-xpay"), 1, "cli:xpay#1/cln:xpay#2/cln-xpay:injectpaymentonion#3", 0, 500)
	failed.Tags[1].Value = "true" // a part failed before another one succeeded
	known := &knownPayments{open: true, outcome: OutcomeSucceeded}
	c := newTimed(Options{Run: run, Payments: known}, epoch)
	c.send(failed)
	c.advance(epoch.Add(time.Hour))
	if len(c.roots) != 0 {
		t.Fatal("the root was added while the payment was open")
	}
	known.open = false
	c.advance(c.now.Add(quiet)) // spans of what has ended may come later than the notification
	if len(c.roots) != 0 {
		t.Fatal("the root was added before the payment's last span could come")
	}
	c.advance(c.now.Add(2 * tick))
	if len(c.roots) != 1 || c.out[1].Failed() {
		t.Errorf("got %d roots, want one that has not failed", len(c.roots))
	}
	want := Request{
		TraceID: failed.TraceID, Process: failed.Process, Method: "xpay", Client: "cli:xpay#1",
		Start: failed.Start(), End: failed.End(),
	}
	if known.asked != want {
		t.Errorf("asked about %+v, want %+v", known.asked, want)
	}
}

func TestRequestAsAWhole(t *testing.T) {
	failed := newRequest(newProcess(1, "pay"), 1, "cli:pay#1/cln:pay#2/pay:a#3", 0, 10)
	failed.Tags[1].Value = "true"
	c := newTimed(Options{Run: run}, epoch)
	c.send(failed)
	c.advance(epoch.Add(quiet + tick))
	want := []Whole{{failed.Process, "pay", 10 * time.Microsecond, true, failed.TraceID}}
	if got := c.Whole(); !slices.Equal(got, want) || len(c.Whole()) != 0 {
		t.Errorf("got %+v, want %+v, and that once", got, want)
	}
}
