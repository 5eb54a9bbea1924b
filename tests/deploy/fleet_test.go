//go:build linux

package deploy

import (
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"clntrace/tests/otlptest"
	"clntrace/tests/wait"
)

// seen is what has come of a trace.
type seen struct {
	root      string // cln.request.root
	instances map[any]bool
	ids       map[string]bool
	places    map[int]bool // where
	spans     int          // with those that came twice
}

// traces are those that have come, by trace id.
func traces(places []*otlptest.Receiver) map[string]*seen {
	found := map[string]*seen{}
	for place, r := range places {
		for _, s := range r.Spans() {
			trace := found[s.TraceID]
			if trace == nil {
				trace = &seen{instances: map[any]bool{}, ids: map[string]bool{}, places: map[int]bool{}}
				found[s.TraceID] = trace
			}
			if root, ok := s.Attributes["cln.request.root"].(string); ok {
				trace.root = root
			}
			trace.instances[s.Resource["service.instance.id"]], trace.ids[s.ID], trace.places[place] = true, true, true
			trace.spans++
		}
	}
	return found
}

// byRoot are the traces of payments.
func byRoot(found map[string]*seen) map[string]*seen {
	roots := map[string]*seen{}
	for _, trace := range found {
		if trace.root != "" {
			roots[trace.root] = trace
		}
	}
	return roots
}

// checkKept waits until all of the payments that must be kept have come, stops what
// has sent them, and expects that each of payments is whole or absent, and few of those
// that are not special.
func checkKept(t *testing.T, places []*otlptest.Receiver, payments, spansEach int, stop func()) map[string]*seen {
	t.Helper()
	wait.For(t, "the failing and the slow payments", func() bool {
		roots := byRoot(traces(places))
		for n := range payments {
			if trace := roots[requestRoot(n)]; mustKeep(n) && (trace == nil || len(trace.ids) < spansEach) {
				return false
			}
		}
		return true
	})
	stop()
	found, kept, twice := traces(places), 0, 0
	roots := byRoot(found)
	for n := range payments {
		trace := roots[requestRoot(n)]
		if trace == nil {
			continue
		}
		kept++
		twice += trace.spans - len(trace.ids)
		if len(trace.ids) != spansEach {
			t.Errorf("of payment %d came %d spans of %d", n, len(trace.ids), spansEach)
		}
	}
	t.Logf("%d of %d payments came, of %d spans each; %d spans came twice", kept, payments, spansEach, twice)
	if kept > 3*payments/4 {
		t.Errorf("%d of %d payments were kept, of which half must be, and 10 %% of the others", kept, payments)
	}
	return found
}

// One sampling Collector, fed by one clntrace.
func TestFleetSampling(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	c := startCollector(t, "fleet/sampling.yaml", "BACKEND="+strings.TrimPrefix(r.GRPCEndpoint(), "http://"))
	nodes, stop := startNodes(t, 1, c.address)
	const payments = 60
	spansEach := 0
	for n := range payments {
		spansEach = nodes[0].pay(t, n)
	}
	checkKept(t, []*otlptest.Receiver{r}, payments, spansEach, func() { stop(); c.stop() })
}

// Both tiers behind a hundred nodes. The gateway is killed while the sampling Collectors
// take nothing, so that whatever it had answered for would be lost with it.
func TestFleet(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 1)
	nodes, stop := startNodes(t, 100, f.gateway.address)
	crossing := across(t, f.gateway.address)
	spansEach := payAll(t, nodes, func() (repair func()) {
		f.signal(syscall.SIGSTOP)
		return func() {
			time.Sleep(onItsWay)
			f.gateway.kill()
			f.signal(syscall.SIGCONT)
			f.gateway.start()
		}
	})
	found := checkKept(t, f.places, rounds*len(nodes), spansEach, func() { stop(); f.stop() })
	for id, trace := range found {
		if len(trace.places) != 1 {
			t.Errorf("trace %s was in %d sampling Collectors", id, len(trace.places))
		}
	}
	for n := range rounds * len(nodes) {
		trace, node := byRoot(found)[requestRoot(n)], nodes[n%len(nodes)]
		if trace != nil && (len(trace.instances) != 1 || !trace.instances[node.id]) {
			t.Errorf("payment %d of node %s has spans of %v", n, node.id, trace.instances)
		}
	}
	if trace := found[crossing]; trace == nil || len(trace.instances) != 3 {
		t.Errorf("of the payment across three nodes came %+v", trace)
	}
	f.checkTempo(t, found)
}

// With a second pool, a sampling Collector may be killed with what it has not decided
// about.
func TestFleetSecondPool(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	nodes, stop := startNodes(t, 20, f.gateway.address)
	spansEach := payAll(t, nodes, func() (repair func()) {
		time.Sleep(onItsWay)
		f.sampling[0].kill()
		return f.sampling[0].start
	})
	found := checkKept(t, f.places, rounds*len(nodes), spansEach, func() { stop(); f.stop() })
	f.checkTempo(t, found)
}

// onItsWay is more than clntrace keeps a span, of which nothing tells: then it is as far
// as it can come.
const onItsWay = 3 * time.Second

// rounds is how often each node pays in payAll.
const rounds = 3

// payAll lets all nodes pay. In the middle of their second payments comes a fault, which
// is repaired before the third.
func payAll(t *testing.T, nodes []*simulated, fault func() (repair func())) (spansEach int) {
	t.Helper()
	for round := range rounds {
		repair := func() {}
		for i, node := range nodes {
			if round == 1 && i == len(nodes)/2 {
				repair = fault()
			}
			spansEach = node.pay(t, round*len(nodes)+i)
		}
		repair()
	}
	return spansEach
}

// checkTempo expects of Tempo, if there is one, what has been kept.
func (f *fleet) checkTempo(t *testing.T, found map[string]*seen) {
	t.Helper()
	if f.tempo == nil {
		return
	}
	twice := 0
	for id, trace := range found {
		wait.For(t, "trace "+id+" in Tempo", func() bool { // it can be asked a moment after it has answered
			spans, missing := f.tempo.trace(id), maps.Clone(trace.ids)
			for _, s := range spans {
				delete(missing, s.ID)
			}
			if len(missing) == 0 { // Tempo gives some of those that came twice another id
				twice += len(spans) - len(trace.ids)
			}
			return len(missing) == 0
		})
	}
	t.Logf("Tempo has %d traces, with %d spans twice", len(found), twice)
}
