package correlate

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/process"
)

// traffic is a node that knows which command served which request.
type traffic struct {
	random *rand.Rand
	spans  []*Span
	served map[trace.SpanID]trace.SpanID // command by request, as sent
	id     uint64
}

// asked is a request of a plugin that lightningd has not begun to work on.
type asked struct {
	plugin *process.Identity
	path   string
	method string
	at     int64 // µs
}

// newTraffic has plugins ask a lightningd that does one thing at a time, in the order in
// which they ask: each sends a request after a time of gap µs at most, without waiting
// for the answer to the one before. Some methods are answered long after the work.
func newTraffic(seed uint64, plugins, requests int, gap int64) *traffic {
	f := &traffic{random: rand.New(rand.NewPCG(seed, 2)), served: make(map[trace.SpanID]trace.SpanID)} //nolint:gosec // not for security
	methods := []string{"datastore", "listpeerchannels", "askrene-reserve", "getroutes", "injectpaymentonion"}
	var queue []asked
	for p := range plugins {
		plugin := newProcess(int32(p+1), fmt.Sprintf("plugin%d", p))
		at := f.random.Int64N(gap)
		for n := range requests {
			choice := len(methods)
			if p > 0 {
				choice = 3 // only the first one pays
			}
			method := methods[f.random.IntN(choice)]
			path := fmt.Sprintf("cli:pay#%d/cln:pay#%d/%s:%s#%d", p, p*requests+n/8+1, plugin.Name, method, n+1)
			queue = append(queue, asked{plugin, path, method, at})
			at += 1 + f.random.Int64N(gap)
		}
	}
	slices.SortFunc(queue, func(a, b asked) int { return cmp.Compare(a.at, b.at) })
	var free int64 // when lightningd is
	for _, q := range queue {
		free = f.serve(q, max(free, q.at)+10+f.random.Int64N(40))
	}
	slices.SortStableFunc(f.spans, func(a, b *Span) int { return cmp.Compare(a.Timestamp+a.Duration, b.Timestamp+b.Duration) })
	return f
}

// serve has lightningd begin to work on q, and returns when it has done that.
func (f *traffic) serve(q asked, start int64) (end int64) {
	end = start + 20 + f.random.Int64N(300)
	answered := end + 20 + f.random.Int64N(2000)
	if q.method == "injectpaymentonion" || q.method == "getroutes" {
		answered += f.random.Int64N(3 * second)
	}
	f.id += 2
	command := newCommand(f.id, q.method, start, end-start)
	request := newRequest(q.plugin, f.id+1, q.path, q.at, answered-q.at)
	for _, s := range []*Span{command, request} {
		copy(s.TraceID[8:], s.ID[:])
		s.TraceID[0] = 1
	}
	request.Detail = q.method
	f.served[request.ID] = command.ID
	f.spans = append(f.spans, command, request)
	return end
}

// pair loses that share of the spans, and counts the requests that came, those that were
// paired, and those that were paired with a command that served another one.
func (f *traffic) pair(loss float64) (requests, pairs, wrong int) {
	var left []*Span
	for _, s := range f.spans {
		if f.random.Float64() >= loss {
			left = append(left, new(*s))
		}
	}
	c := New(Options{Run: run})
	c.Group = false // so that links say which command it was
	for _, s := range replay(c, left) {
		if s.Name != cln.SpanRequest {
			continue
		}
		requests++
		if s.Paired {
			pairs++
			if servedBy(nil, s) != f.served[s.ID] {
				wrong++
			}
		}
	}
	return requests, pairs, wrong
}

// TestPairsAreTrue holds the pairs against traffic of which it is known which command
// served which request. What is whole gives no wrong pair. Where spans are lost, a request
// and the command of another one may both be gone without a trace.
func TestPairsAreTrue(t *testing.T) {
	for _, tc := range []struct {
		loss     float64
		perWrong int // pairs for each wrong one, at least; 0: none may be wrong
	}{{0, 0}, {0.02, 0}, {0.05, 0}, {0.2, 2000}} {
		allPairs, allWrong := 0, 0
		for _, f := range []struct {
			what    string
			plugins int
			gap     int64
			least   int // percent that are paired if nothing is lost
		}{
			{"calm, one plugin", 1, 200_000, 97},
			{"calm, six plugins", 6, 400_000, 85},
			{"a flood, one plugin", 1, 600, 60},
			{"a flood, six plugins", 6, 3000, 15},
		} {
			requests, pairs, wrong := 0, 0, 0
			for seed := range uint64(3) {
				r, p, w := newTraffic(seed, f.plugins, 3000/f.plugins, f.gap).pair(tc.loss)
				requests, pairs, wrong = requests+r, pairs+p, wrong+w
			}
			t.Logf("%s, %.0f %% lost: %d of %d requests are paired, %d wrongly", f.what, tc.loss*100, pairs, requests, wrong)
			if tc.loss == 0 && pairs*100 < requests*f.least {
				t.Errorf("%s: %d of %d requests are paired, want %d %%", f.what, pairs, requests, f.least)
			}
			allPairs, allWrong = allPairs+pairs, allWrong+wrong
		}
		if allWrong*tc.perWrong > allPairs || tc.perWrong == 0 && allWrong > 0 {
			t.Errorf("with %.0f %% lost %d of %d pairs are wrong", tc.loss*100, allWrong, allPairs)
		}
	}
}
