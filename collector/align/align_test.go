package align

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Unix(1795630189, 0)

// letters is an Aligner of words: a span and a notification match if they share a
// letter.
func letters(doubt func(s, n string) bool) *Aligner[string, string] {
	return New(Rule[string, string]{
		Match: strings.ContainsAny, Doubt: doubt, Wait: 700 * time.Millisecond, Limit: 8,
	})
}

func pairs(r Result[string, string]) (list []string) {
	for _, p := range r.Pairs {
		list = append(list, p.Span+"="+p.Notification)
	}
	return list
}

func TestAlign(t *testing.T) {
	for _, tt := range []struct {
		name          string
		spans, notes  string // separated by blanks; a notification in capitals did not come, one with ? long ago
		pairs         string
		spansLeft     string
		notesLeft     string
		doubtOfLetter string
	}{
		{name: "nothing"},
		{name: "one", spans: "a", notes: "a", pairs: "a=a"},
		{name: "in order", spans: "a a a", notes: "a a a", pairs: "a=a a=a a=a"},
		{name: "one of two", spans: "a", notes: "a a", spansLeft: "a", notesLeft: "a a"},
		{name: "two of one", spans: "a a", notes: "a", spansLeft: "a a", notesLeft: "a"},
		{name: "no partner", spans: "a b c", notes: "a c", pairs: "a=a c=c", spansLeft: "b"},
		{name: "no partner on the other side", spans: "a c", notes: "a b c", pairs: "a=a c=c", notesLeft: "b"},
		{name: "order decides", spans: "ab ab", notes: "a b", pairs: "ab=a ab=b"},
		{name: "order forbids", spans: "a b", notes: "b a", spansLeft: "a b", notesLeft: "b a"},
		{name: "ambiguous between two that are not", spans: "a x b", notes: "a x x b", pairs: "a=a b=b", spansLeft: "x", notesLeft: "x x"},
		{name: "the missing one keeps its place", spans: "a a a", notes: "a A a", pairs: "a=a a=a", spansLeft: "a"},
		{name: "may be that of the missing one", spans: "a", notes: "A a", spansLeft: "a", notesLeft: "a"},
		{name: "may be that of one that is missing since long ago", spans: "a", notes: "A? a", spansLeft: "a", notesLeft: "a"},
		{name: "cannot be that of one that is missing since long ago", spans: "a", notes: "B? a", pairs: "a=a"},
		{name: "one that is missing since long ago proves nothing", spans: "a a", notes: "A? a", spansLeft: "a a", notesLeft: "a"},
		{name: "doubt", spans: "a b", notes: "a b", pairs: "b=b", spansLeft: "a", notesLeft: "a", doubtOfLetter: "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := letters(func(s, _ string) bool { return s == tt.doubtOfLetter })
			for _, s := range strings.Fields(tt.spans) {
				a.Span(s, start)
			}
			for _, n := range strings.Fields(tt.notes) {
				if name, long := strings.CutSuffix(strings.ToLower(n), "?"); long {
					a.Missing(name, start.Add(-time.Second), start)
				} else if name != n {
					a.Missing(name, start, start)
				} else {
					a.Notification(n, start)
				}
			}
			if r := a.Look(start.Add(699*time.Millisecond), false); !reflect.DeepEqual(r, Result[string, string]{}) {
				t.Errorf("too early: %v", r)
			}
			r := a.Look(start.Add(700*time.Millisecond), false)
			if got, want := fmt.Sprint(pairs(r), r.Spans, r.Notifications), fmt.Sprint(strings.Fields(tt.pairs), strings.Fields(tt.spansLeft), strings.Fields(tt.notesLeft)); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			if len(a.spans)+len(a.notes) > 0 {
				t.Errorf("%v and %v still wait", a.spans, a.notes)
			}
		})
	}
}

// What is young waits, and still counts as an alternative; so does what has waited
// too long, for as long as its partner may still be there.
func TestAlignWaits(t *testing.T) {
	a := letters(nil)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	a.Span("a", at(0))
	a.Notification("a", at(400)) // of the one before, or of the next
	a.Span("a", at(600))
	a.Span("b", at(650))
	a.Notification("b", at(650))
	if r := a.Look(at(800), false); len(r.Pairs) > 0 || len(r.Spans) != 1 {
		t.Errorf("at 800 ms: %v", r)
	}
	if r := a.Look(at(850), false); len(r.Pairs)+len(r.Spans)+len(r.Notifications) > 0 {
		t.Errorf("50 ms after the last look: %v", r)
	}
	r := a.Look(at(900), true)
	if fmt.Sprint(pairs(r), r.Spans, r.Notifications) != "[b=b] [a] [a]" {
		t.Errorf("the second a may be that of the first notification, or not: %v", r)
	}
}

// More than the limit are given up, and nothing is forgotten.
func TestAlignLimit(t *testing.T) {
	a := letters(nil)
	for range 9 {
		a.Span("a", start)
	}
	a.Notification("a", start)
	r := a.Look(start.Add(time.Second), false)
	if len(r.Pairs) != 1 || len(r.Spans) != 8 {
		t.Errorf("%v", r)
	}
}

// Against what can be said about the truth: of two streams that lack some, every
// pair that shares its letter with no other one is right, whatever else is missing.
func TestAlignUnique(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's
	type event struct{ id, mark int }
	for range 500 {
		a := New(Rule[event, event]{Match: func(s, n event) bool { return s.mark == n.mark }, Limit: 100})
		both, marks := 0, map[int]int{}
		list := make([]event, 1+random.IntN(20))
		for i := range list {
			list[i] = event{i, random.IntN(40)}
			marks[list[i].mark]++
		}
		for _, e := range list {
			span, note := random.IntN(4) > 0, random.IntN(4) > 0
			if span {
				a.Span(e, start)
			}
			if note {
				a.Notification(e, start)
			}
			if span && note && marks[e.mark] == 1 {
				both++
			}
		}
		for _, p := range a.Look(start, true).Pairs {
			if p.Span.mark != p.Notification.mark {
				t.Fatalf("%v", p)
			}
			if marks[p.Span.mark] == 1 {
				both--
				if p.Span != p.Notification {
					t.Fatalf("%v", p)
				}
			}
		}
		if both < 0 {
			t.Fatalf("%d too many", -both)
		}
	}
}

func BenchmarkAlign(b *testing.B) {
	a := New(Rule[int, int]{Match: func(s, n int) bool { return s == n }, Wait: time.Second, Limit: 512})
	now := start
	for i := range b.N {
		now = now.Add(20 * time.Millisecond) // 50 a second
		a.Span(i, now)
		a.Notification(i, now)
		if r := a.Look(now, false); len(r.Spans) > 0 {
			b.Fatal(r)
		}
	}
}
