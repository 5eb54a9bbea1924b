package correlate

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/payments"
)

// tracked is a Tracker of payments, wired to a Correlator as the collector does it.
type tracked struct{ *payments.Tracker }

func (p tracked) Open(r Request) (open, known bool) {
	return p.HasOpen(r.TraceID), p.HasPaid(r.TraceID)
}

func (p tracked) Outcome(Request) Outcome { return OutcomeUnknown }

// notice is a notification and when it came.
type notice struct {
	at    time.Time
	event cln.Event
}

// notices reads the notifications of payments in the recording that slow-payments is of.
func notices(t *testing.T) (list []notice) {
	t.Helper()
	f, err := os.Open("../payments/testdata/sender.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			R    int64 `json:"r"`
			Note struct {
				Method string          `json:"method"`
				Params json.RawMessage `json:"params"`
			} `json:"note"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if e, err := cln.ParseNotification(line.Note.Method, line.Note.Params); err == nil {
			list = append(list, notice{time.Unix(0, line.R), e})
		}
	}
	if len(list) == 0 {
		t.Fatal("no notifications", lines.Err())
	}
	return list
}

// play sends spans and notifications when they came, and ends all waits.
func play(spans []*Span, notes []notice) *timed {
	p := tracked{payments.New()}
	p.SetMode(payments.All)
	o := among(spans...)
	o.Payments = p
	var c *timed
	o.Related = func(s *Span, now time.Time) {
		if !payments.Concerns(&s.Span, s.Process.Name) {
			return
		}
		var request payments.RequestID
		if _, ok := c.Root(s.TraceID); ok && s.Request != "" {
			request = s.TraceID
		}
		p.Observe(&s.Span, payments.Sender{Program: s.Process.Name, PID: s.Process.PID, StartTime: 1}, request, nil, now)
	}
	c = newTimed(o, spans[0].Start())
	slices.SortStableFunc(spans, func(a, b *Span) int { return a.End().Compare(b.End()) })
	advance := func(to time.Time) {
		for at := c.next; at.Before(to); at = at.Add(tick) {
			c.advance(at)
			p.Advance(at)
		}
	}
	for _, s := range spans {
		for len(notes) > 0 && notes[0].at.Before(s.End()) {
			advance(notes[0].at)
			p.Notify(notes[0].event, notes[0].at)
			notes = notes[1:]
		}
		advance(s.End())
		c.send(s)
	}
	advance(c.now.Add(time.Minute))
	return c
}

// TestPartsHoldRoots holds roots against a recording of payments, some of which hang, that
// lacks all commands from which the correlator could learn that a part is open, and some
// of the other spans.
func TestPartsHoldRoots(t *testing.T) {
	const path = "testdata/slow-payments.jsonl.gz"
	notes, whole := notices(t), load(t, path)
	pays := make(map[string]string) // the roots of the paths of requests with parts, by what the request asks for
	for _, s := range whole {
		if s.Detail == cln.MethodSendPart && s.Process.Name == "cln-xpay" {
			pays[s.path().FirstComponent()] = string(s.path().Root())
		}
	}
	if len(pays) < 20 {
		t.Fatalf("%d payments", len(pays))
	}
	for _, lost := range []int{0, 2, 5, 17, 30} {
		random := rand.New(rand.NewPCG(uint64(lost), 3)) //nolint:gosec // a test's
		var delays []time.Duration
		right := 0
		const rounds = 15
		for range rounds {
			c := play(slices.DeleteFunc(load(t, path), func(s *Span) bool {
				return s.Name == cln.SpanCommand && s.Detail == cln.MethodSendPart || random.IntN(100) < lost
			}), notes)
			want, got := make(map[string]extent), make(map[string][]extent)
			for _, s := range c.out {
				here := extent{s.Timestamp, s.Timestamp + s.Duration}
				switch root := pays[s.Request]; {
				case root == "":
				case s.Synthetic:
					got[root] = append(got[root], here)
				case string(s.path().Root()) == root:
					all, ok := want[root]
					if ok {
						here = extent{min(all.start, here.start), max(all.end, here.end)}
					}
					want[root] = here
				}
			}
			for root, all := range want {
				if slices.Equal(got[root], []extent{all}) {
					right++
				} else {
					t.Errorf("%d %% lost: %s has the roots %v, want one of %v", lost, root, got[root], all)
				}
			}
			delays = append(delays, slices.Collect(maps.Values(c.roots))...)
		}
		t.Logf("%d %% lost: %d of %d roots right; added after p50 %v, p99 %v, at most %v", lost, right, rounds*len(pays),
			percentile(delays, 0.5), percentile(delays, 0.99), percentile(delays, 1))
		if needless := percentile(delays, 0.9); needless > quiet+2*tick {
			t.Errorf("%d %% lost: one root in ten came %v after its request's end", lost, needless)
		}
	}
}
