package correlate

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/process"
)

// recordings returns the larger recordings that CLNTRACE_CORPUS names, by name. They
// are not part of the project.
func recordings(t *testing.T) map[string]string {
	t.Helper()
	dir := os.Getenv("CLNTRACE_CORPUS")
	if dir == "" {
		t.Skip("skipped: CLNTRACE_CORPUS names no directory of recordings")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in %s: %v", dir, err)
	}
	byName := make(map[string]string)
	for _, file := range files {
		byName[strings.TrimSuffix(filepath.Base(file), ".jsonl.gz")] = file
	}
	return byName
}

func newCommand(id uint64, method string, start, duration int64) *Span {
	s := newSpan(lightningd, id, 0, cln.SpanCommand, start, duration)
	s.Detail = method
	return s
}

func TestRequestsArePairedByTheirOrder(t *testing.T) {
	pay, xpay := newProcess(1, "pay"), newProcess(2, "cln-xpay")
	req := func(p *process.Identity, n int, method string, start, end int64) *Span {
		return newRequest(p, uint64(1000+100*int(p.PID)+n), fmt.Sprintf("cli:x#1/cln:x#2/%s:%s#%d", p.Name, method, n), start, end-start)
	}
	cmd := newCommand
	for _, tc := range []struct {
		what  string
		spans []*Span        // in the order of arrival
		want  map[int]uint64 // command of each request, by its place in spans
	}{
		{"two of a method at once, answered in order", []*Span{
			cmd(1, "a", 20, 1), cmd(2, "a", 30, 1), req(pay, 1, "a", 10, 40), req(pay, 2, "a", 11, 41),
		}, map[int]uint64{2: 1, 3: 2}},
		{"the second is answered first", []*Span{
			cmd(1, "a", 20, 1), cmd(2, "a", 30, 1), req(pay, 2, "a", 11, 41), req(pay, 1, "a", 10, 50),
		}, map[int]uint64{2: 2, 3: 1}},
		{"others between them bound them", []*Span{
			cmd(1, "a", 20, 1), cmd(2, "b", 22, 1), cmd(3, "a", 30, 1), cmd(4, "a", 32, 1), cmd(5, "b", 34, 1),
			req(pay, 2, "b", 11, 28), req(pay, 1, "a", 10, 41),
		}, map[int]uint64{5: 2, 6: 1}},
		{"an open one may have taken the last one", []*Span{
			cmd(1, "b", 18, 1), cmd(2, "waitsendpay", 20, 1), cmd(3, "a", 22, 1), cmd(4, "b", 24, 1),
			req(pay, 1, "b", 9, 19), req(pay, 4, "b", 23, 30), req(pay, 3, "a", 19, 40),
		}, map[int]uint64{4: 1, 5: 4}},
		{"one that was sent during it, and is open, may have taken its command", []*Span{
			cmd(1, "b", 18, 1), cmd(2, "a", 20, 1), req(pay, 1, "b", 9, 19), req(pay, 3, "a", 11, 40),
		}, nil},
		{"a command too many", []*Span{
			cmd(1, "a", 20, 1), cmd(2, "a", 22, 1), cmd(3, "a", 30, 1), req(pay, 1, "a", 10, 40), req(pay, 2, "a", 11, 41),
		}, nil},
		{"another plugin's takes one away", []*Span{
			cmd(1, "a", 20, 1), cmd(2, "a", 30, 1), req(pay, 1, "a", 10, 40), req(xpay, 1, "a", 25, 45),
		}, map[int]uint64{2: 1, 3: 2}},
		{"one is lost", []*Span{
			cmd(2, "a", 30, 1), req(pay, 1, "a", 10, 40), req(pay, 2, "a", 35, 50),
		}, map[int]uint64{1: 2}},
		{"the command of one of two at once is lost", []*Span{
			cmd(1, "a", 20, 1), req(pay, 1, "a", 10, 40), req(pay, 2, "a", 11, 41),
		}, nil},
		{"the command of one of two plugins' is lost", []*Span{
			cmd(1, "a", 20, 1), req(pay, 1, "a", 10, 25), req(xpay, 1, "a", 15, 45),
		}, nil},
		{"the command of one is lost, and the request of the one before it", []*Span{
			cmd(1, "b", 2, 1), req(pay, 1, "b", 1, 5), cmd(2, "a", 20, 1), req(pay, 3, "a", 11, 41),
		}, nil},
		{"another's command is left over, but two have only one between them", []*Span{
			cmd(1, "a", 20, 1), cmd(2, "a", 42, 1), cmd(3, "a", 50, 1),
			req(pay, 1, "a", 10, 25), req(pay, 2, "a", 15, 30), req(xpay, 1, "a", 18, 60),
		}, nil},
		{"lightningd cannot have answered before it worked", []*Span{
			cmd(1, "a", 20, 1), req(pay, 1, "a", 10, 25), cmd(2, "a", 24, 5), req(pay, 2, "a", 23, 40),
		}, map[int]uint64{1: 1, 3: 2}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			out := correlateAll(New(Options{Run: run}), tc.spans)
			if sent := len(out) - look(out).synthetic; sent != len(tc.spans) {
				t.Errorf("%d spans became %d", len(tc.spans), sent)
			}
			for i, s := range tc.spans {
				if s.Name == cln.SpanCommand {
					continue
				}
				if got := servedBy(out, s); got != spanID(tc.want[i]) {
					t.Errorf("request %d was served by %s, want %d (0: nobody knows)", i, got, tc.want[i])
				}
			}
		})
	}
}

// servedBy returns the id of the command that served s, or zero: s is linked to it, or
// it is among the spans below s.
func servedBy(spans []*Span, s *Span) (id trace.SpanID) {
	for _, l := range s.Links {
		if l.Relation == ServedBy {
			id = l.SpanID
		}
	}
	for _, below := range spans {
		if below.Name == cln.SpanCommand && below.TraceID == s.TraceID && below.ParentID == s.ID {
			id = below.ID
		}
	}
	return id
}

func TestNumberThatCameBeforeIsNotPaired(t *testing.T) {
	p := newProcess(1, "pay")
	first, forged := newRequest(p, 11, "cli:x#1/cln:x#2/pay:a#3", 10, 15), newRequest(p, 12, "cli:y#1/cln:y#2/pay:a#3", 28, 12)
	correlateAll(New(Options{Run: run}), []*Span{newCommand(1, "a", 20, 1), first, newCommand(2, "a", 30, 1), forged})
	if !first.Paired || forged.Paired {
		t.Errorf("paired %v and %v, want the first alone", first.Paired, forged.Paired)
	}
}

func TestWaitAndWorkOfARequest(t *testing.T) {
	s := newRequest(newProcess(1, "pay"), 99, "cli:x#1/cln:x#2/pay:a#3", 100, 50)
	correlateAll(New(Options{Run: run}), []*Span{newCommand(1, "a", 110, 15), s})
	if !s.Paired || s.Wait != 10*time.Microsecond || s.Work != 15*time.Microsecond {
		t.Errorf("paired %v, wait %v, work %v, want 10 µs and 15 µs", s.Paired, s.Wait, s.Work)
	}
}

func TestRequestWaitsOnlySoLongToBePaired(t *testing.T) {
	c := New(Options{Run: run})
	s := newRequest(newProcess(1, "pay"), 99, "cli:x#1/cln:x#2/pay:a#3", 100, 50)
	for _, s := range []*Span{newCommand(1, "a", 110, 5), newCommand(2, "a", 120, 5), s} {
		c.Add(s, epoch)
	}
	c.Expire(epoch.Add(pairWait - 1))
	if out := c.Ready(); len(out) != 0 {
		t.Fatalf("%d spans came out, want none", len(out))
	}
	c.Expire(epoch.Add(pairWait))
	if out := c.Ready(); len(out) != 1 || out[0] != s || s.Paired {
		t.Errorf("got %v, want the request, unpaired", out)
	}
	c.Expire(epoch.Add(nestWait))
	if out := c.Ready(); len(out) != 2 || out[0].Name != cln.SpanCommand || out[0].ParentID.IsValid() {
		t.Errorf("got %v, want the commands as they came", out)
	}
}

// paired is what pairing has found in a recording.
type paired struct {
	requests, pairs, wrong int
}

// pairAll pairs a recording of which each span is lost with that probability, and
// counts the pairs that are other ones than truth says.
func pairAll(spans []*Span, loss float64, seed uint64, truth map[trace.SpanID]trace.SpanID) (p paired, found map[trace.SpanID]trace.SpanID) {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // not for security
	var left []*Span
	for _, s := range spans {
		if random.Float64() >= loss {
			left = append(left, new(*s))
		}
	}
	found = make(map[trace.SpanID]trace.SpanID)
	below := make(map[trace.SpanID]trace.SpanID) // commands by their parent
	out := replay(New(among(spans...)), left)
	for _, s := range out {
		if s.Name == cln.SpanCommand {
			below[s.ParentID] = s.ID
		}
	}
	for _, s := range out {
		if s.Name != cln.SpanRequest {
			continue
		}
		p.requests++
		if !s.Paired {
			continue
		}
		p.pairs++
		id := s.SentID
		if !id.IsValid() {
			id = s.ID
		}
		if found[id] = servedBy(nil, s); !found[id].IsValid() {
			found[id] = below[s.ID]
		}
	}
	owner := make(map[trace.SpanID]trace.SpanID) // of each command, as far as is known
	for id, command := range truth {
		owner[command] = id
	}
	for id, command := range found {
		if is, known := owner[command]; known && is != id {
			p.wrong++
		}
	}
	return p, found
}

// TestPairsInRecordings measures how many requests are paired with lightningd's work
// on them, whole and with spans lost. Where nothing is lost, requests come one by one
// or their order leaves one way only, so those pairs are the truth that the others
// are held against.
func TestPairsInRecordings(t *testing.T) {
	total := make(map[float64]*paired)
	for name, file := range recordings(t) {
		spans := load(t, file)
		whole, truth := pairAll(spans, 0, 0, nil)
		t.Logf("%s: %d of %d requests are paired", name, whole.pairs, whole.requests)
		// When a node starts, each of twenty plugins sends its first request at once, the
		// same one; those of "weird" are cut.
		starts := strings.Contains(name, "startup") || strings.HasSuffix(name, "-next")
		if least := whole.requests * 99 / 100; whole.pairs < least && !starts && name != "weird" {
			t.Errorf("%s: %d of %d requests are paired, want %d", name, whole.pairs, whole.requests, least)
		}
		for _, loss := range []float64{0.02, 0.05} {
			if total[loss] == nil {
				total[loss] = new(paired)
			}
			for seed := range uint64(2) {
				p, _ := pairAll(spans, loss, seed, truth)
				total[loss].requests += p.requests
				total[loss].pairs += p.pairs
				total[loss].wrong += p.wrong
			}
		}
	}
	for loss, p := range total {
		t.Logf("with %.0f %% lost: %d of %d requests are paired, %d of them wrong", loss*100, p.pairs, p.requests, p.wrong)
		if p.wrong*5000 > p.pairs {
			t.Errorf("with %.0f %% lost %d of %d pairs are wrong", loss*100, p.wrong, p.pairs)
		}
	}
}
