package correlate

import (
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
)

const paying = "cli:xpay#1/cln:xpay#2/cln-xpay"

// step makes a span of a payment of later CLN.
func step(id, parent uint64, name string, start, duration int64) *Span {
	s := newSpan(newProcess(1, "cln-xpay"), id, parent, cln.PrefixXpay+name, start, duration)
	s.TraceID[15] = 200
	return s
}

func TestPaymentOfLaterCLNIsInItsRequestsTrace(t *testing.T) {
	routes := newRequest(newProcess(1, "cln-xpay"), 1, paying+":getroutes#1", 100, 50)
	part := newRequest(routes.Process, 2, paying+":injectpaymentonion#2", 200, 90*second)
	same := func(s *Span) *Span { s.Process = routes.Process; return s }
	findRoutes, sendPart, whole := same(step(11, 10, "getroutes", 90, 70)), same(step(12, 10, "injectpaymentonion", 190, 90*second+20)),
		same(step(10, 0, "payment", 50, 90*second+500))
	sent := whole.TraceID
	c := newTimed(Options{Run: run}, epoch)
	c.send(routes, findRoutes)
	c.advance(epoch.Add(60 * time.Second))
	if len(c.roots) != 0 {
		t.Error("the root was added while the payment was open")
	}
	c.send(part, sendPart, whole)
	c.advance(c.now.Add(quiet + tick))
	var root *Span
	for _, s := range c.out {
		if s.Synthetic {
			root = s
		}
	}
	if root == nil || root.Duration != whole.Duration || len(c.roots) != 1 {
		t.Fatalf("%d roots, %+v, want one of the payment's length", len(c.roots), root)
	}
	for _, s := range []*Span{findRoutes, sendPart, whole} {
		if s.TraceID != routes.TraceID || s.SentTraceID != sent || s.SentID.IsValid() {
			t.Errorf("%s is not in the request's trace: %+v", s.Name, s)
		}
	}
	if whole.ParentID != root.ID || findRoutes.ParentID != whole.ID || sendPart.ParentID != whole.ID {
		t.Error("their parents are others")
	}
	if c.paid.Len() != 0 {
		t.Errorf("%d payments are remembered", c.paid.Len())
	}
}

func TestPaymentWithoutEvidenceStaysAsSent(t *testing.T) {
	p := newProcess(1, "cln-xpay")
	for _, tc := range []struct {
		what string
		s    *Span // the step
		req  *Span // what came before
	}{
		{"its request is lost", step(11, 10, "getroutes", 90, 70), newRequest(p, 1, paying+":askrene-reserve#1", 100, 50)},
		{"another one came since", step(11, 10, "getroutes", 90, 70), newRequest(p, 1, paying+":getroutes#1", 80, 50)},
		{"of another process", step(11, 10, "getroutes", 90, 70), newRequest(newProcess(2, "other"), 1, paying+":getroutes#1", 100, 50)},
	} {
		t.Run(tc.what, func(t *testing.T) {
			tc.s.Process = p
			whole := step(10, 0, "payment", 50, 300)
			whole.Process = p
			want := whole.TraceID
			c := newTimed(Options{Run: run}, epoch)
			c.send(tc.req, tc.s, whole)
			if tc.s.TraceID != want || whole.TraceID != want || whole.ParentID.IsValid() {
				t.Errorf("%+v and %+v", tc.s.Span, whole.Span)
			}
		})
	}
}

func TestPaymentOfAPluginThatEndedHoldsNoRoot(t *testing.T) {
	p := newProcess(1, "cln-xpay")
	routes, find := newRequest(p, 1, paying+":getroutes#1", 100, 50), step(11, 10, "getroutes", 90, 70)
	find.Process = p
	c := newTimed(Options{Run: run}, epoch)
	c.send(routes, find)
	c.send(newRequest(newProcess(3, "cln-xpay"), 5, "cli:x#8/cln:x#9/cln-xpay:getinfo#1", 1*second, 50))
	c.advance(epoch.Add(10 * time.Second))
	if len(c.roots) != 2 {
		t.Errorf("%d roots, want 2", len(c.roots))
	}
}

func TestLinksLeadOnlyToTracesThatAreExported(t *testing.T) {
	s := newRequest(newProcess(1, "pay"), 99, "cli:x#1/cln:x#2/pay:a#3", 0, 12*second)
	command := newCommand(1, "a", 110, 15)
	for _, exported := range []bool{true, false} {
		s, command := new(*s), new(*command)
		c := newTimed(Options{Run: run, Sampled: func(id trace.TraceID) bool { return exported || id != command.TraceID }}, epoch)
		c.send(command, s)
		c.advance(c.now.Add(time.Second))
		if len(s.Links) == 1 != exported || !s.Paired {
			t.Errorf("the command's trace is exported: %v; links %v", exported, s.Links)
		}
	}
}

// TestLaterCLNInRecordings measures how many spans of payments are in their request's
// trace.
func TestLaterCLNInRecordings(t *testing.T) {
	spans := load(t, recordings(t)["payments-sender-next"])
	c := newTimed(among(spans...), spans[0].Start())
	c.send(spans...)
	c.Flush(c.now)
	c.collect()
	steps, joined := 0, 0
	for _, s := range c.out {
		if strings.HasPrefix(s.Name, cln.PrefixXpay) {
			steps++
			if s.SentTraceID.IsValid() {
				joined++
			}
		}
	}
	t.Logf("%d of %d spans of payments are in their request's trace", joined, steps)
	if joined != steps || steps == 0 {
		t.Errorf("%d of %d", joined, steps)
	}
	if f := look(c.out); len(f.orphans) > 0 {
		t.Error(f.orphans)
	}
}
