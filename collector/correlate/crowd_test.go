package correlate

import (
	"fmt"
	"testing"

	"clntrace/collector/process"
)

// crowd returns maxPairing requests of one method by that many plugins, which are made
// every apart and open for takes, µs, each with a command of its own unless few is set:
// then there is one for all of them.
func crowd(plugins int, every, takes int64, few bool) []*Span {
	senders := make([]*process.Identity, plugins)
	for p := range senders {
		senders[p] = newProcess(int32(p+1), fmt.Sprintf("plugin%d", p))
	}
	var spans []*Span
	for i := range maxPairing {
		start, id := int64(i)*every, uint64(2*i+1)
		if i == 0 || !few {
			spans = append(spans, newCommand(id, "listpeers", start+5, 10))
		}
		p := senders[i%plugins]
		path := fmt.Sprintf("cli:x#1/cln:x#2/%s:listpeers#%d", p.Name, i/plugins+1)
		spans = append(spans, newRequest(p, id+1, path, start, takes))
	}
	for _, s := range spans {
		copy(s.TraceID[8:], s.ID[:])
	}
	return spans
}

// TestPairingACrowdIsBounded has so many requests of one method wait that comparing each
// with every other one would take seconds. Another plugin's request is paired nevertheless.
func TestPairingACrowdIsBounded(t *testing.T) {
	for _, tc := range []struct {
		what  string
		spans []*Span
	}{
		{"all open at once, and one command", crowd(5, 0, 1_000_000, true)},
		{"all open at once by many plugins, and one command", crowd(100, 0, 1_000_000, true)},
		{"one after another", crowd(5, 20, 17, false)},
		{"one after another by many plugins", crowd(100, 20, 17, false)},
		{"each open during the next ones", crowd(100, 20, 150, false)},
	} {
		c := New(Options{Run: run})
		now := epoch
		other := newRequest(newProcess(999, "other"), 1<<40, "cli:x#1/cln:x#3/other:getinfo#1", 0, 100)
		c.Correlate([]*Span{newCommand(1<<41, "getinfo", 20, 10), other}, now)
		for _, s := range tc.spans[:len(tc.spans)-2] { // the other one has its place
			c.Add(s, now)
		}
		most := 0
		for range (pairWait + pairAfter) / pairEvery {
			now = now.Add(pairEvery)
			c.Expire(now)
			for _, n := range c.nodes.known.Values() {
				most = max(most, maxEffort-n.effort)
			}
		}
		t.Logf("%s: %d comparisons at most", tc.what, most)
		if limit := maxEffort + maxPairing + maxEntries + maxAligned; most > limit {
			t.Errorf("%s: %d comparisons at once, want %d at most", tc.what, most, limit)
		}
		if len(c.pairings) > 0 {
			t.Errorf("%s: %d requests still wait", tc.what, len(c.pairings))
		}
		if !other.Paired {
			t.Errorf("%s: the other plugin's request was not paired", tc.what)
		}
	}
}
