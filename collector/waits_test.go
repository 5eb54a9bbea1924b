package collector

import (
	"reflect"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/process"
	"clntrace/collector/zipkin"
)

var (
	node1   = &process.Identity{Name: cln.Daemon, PID: 7}
	node2   = &process.Identity{Name: cln.Daemon, PID: 9}
	askrene = &process.Identity{Name: "cln-askrene", PID: 8, ParentPID: 7}
)

// spanOf is a span from start to end, in ms.
func spanOf(p *process.Identity, name string, start, end int64) *correlate.Span {
	return &correlate.Span{Process: p, Span: zipkin.Span{Name: name, Timestamp: start * 1000, Duration: (end - start) * 1000}}
}

func TestWhatIsLongWork(t *testing.T) {
	child := spanOf(node1, "extend_tip", 0, 100)
	child.ParentID = trace.SpanID{1}
	for name, tc := range map[string]struct {
		span *correlate.Span
		want bool
	}{
		"long":                {spanOf(node1, "extend_tip", 0, 50), true},
		"short":               {spanOf(node1, "extend_tip", 0, 49), false},
		"a child":             {child, false},
		"a plugin's":          {spanOf(askrene, "extend_tip", 0, 100), false},
		"the bitcoin backend": {spanOf(node1, cln.SpanBackend, 0, 100), false},
	} {
		if got := isWork(tc.span); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// A wait is told with what its own lightningd did in that time, the longest first.
func TestLongWaits(t *testing.T) {
	var w waits
	for _, s := range []*correlate.Span{
		spanOf(node1, "before", 0, 900), spanOf(node1, "overlaps", 800, 1200), spanOf(node2, "another node's", 1000, 2000),
		spanOf(node1, "within", 1300, 1900), spanOf(node1, "too little", 1950, 2600),
	} {
		w.worked(s, "")
	}
	now := time.Unix(1795324398, 0)
	pair := func(wait time.Duration, at time.Time) {
		s := spanOf(askrene, cln.SpanRequest, 1000, 2500)
		s.Detail, s.Wait, s.Paired = "listpeerchannels", wait, true
		p := pairing(s, nil)
		w.paired(s, &p, at)
	}
	pair(longWait-time.Millisecond, now)
	if long, _ := w.counts(); long != 0 {
		t.Errorf("%d waits of %v are long", long, longWait-time.Millisecond)
	}
	pair(999*time.Millisecond, now)
	pair(600*time.Millisecond, now) // not the longest
	want := waited{"cln-askrene", "listpeerchannels", 999 * time.Millisecond, now, []busy{{"within", 600 * time.Millisecond}, {"overlaps", 200 * time.Millisecond}}}
	if got, _ := w.facts(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	later := now.Add(warningLife + time.Second)
	pair(600*time.Millisecond, later) // the longest of the last hour
	if got, _ := w.facts(); got.wait != 600*time.Millisecond || got.at != later {
		t.Errorf("an hour later got %+v", got)
	}
	if long, _ := w.counts(); long != 3 {
		t.Errorf("%d waits are long, want 3", long)
	}
}

// A disk is slow when most answers to what writes are.
func TestSlowWrites(t *testing.T) {
	var w waits
	answer := func(method string, took time.Duration) (slow uint64) {
		s := spanOf(askrene, cln.SpanRequest, 0, took.Milliseconds())
		s.Detail, s.Paired = method, true
		p := pairing(s, nil)
		w.paired(s, &p, time.Now())
		_, slow = w.counts()
		return slow
	}
	for range 10 * writesJudged {
		answer("injectpaymentonion", time.Minute) // does not answer at once
	}
	for i := range writesJudged {
		took := 2 * time.Millisecond
		if i < writesJudged/2-1 {
			took = time.Second
		}
		if slow := answer("datastore", took); slow != 0 {
			t.Fatalf("slow with %d of %d answers", i+1, writesJudged)
		}
	}
	for range writesJudged {
		answer("datastore", 120*time.Millisecond)
	}
	if _, median := w.facts(); median < slowWrite {
		t.Errorf("the median of slow answers is %v", median)
	}
}
