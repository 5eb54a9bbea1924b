package stats

import (
	"math"
	"reflect"
	"sync"
	"testing"
	"time"
)

// entries are balanced, one for each thing that can happen to a span.
var entries = []Counts{
	{Received: 3, Bytes: 771, Refused: 1, Malformed: 1, Accepted: 1, Pending: 1},
	{Pending: -1, Exported: 1},
	{Pending: -1, Spooled: 1},
	{Spooled: -2, Exported: 1, RejectedByBackend: 1},
	{Received: 4, Accepted: 4, SampledOut: 1, Filtered: 1, DroppedQueueFull: 1, DroppedSpoolFull: 1, Truncated: 1},
	{Synthesized: 2, Pending: 2, Repaired: 1},
	{MissingParents: 7},
	{},
}

func TestLedgerIsBalancedAtEveryMoment(t *testing.T) {
	const writers, rounds = 4, 500
	var (
		l        Ledger
		writing  sync.WaitGroup
		reading  sync.WaitGroup
		finished = make(chan struct{})
	)
	for range 2 {
		reading.Go(func() {
			for {
				if c := l.Counts(); !c.Balanced() {
					t.Errorf("not balanced: %+v", c)
					return
				}
				l.Rate(start)
				select {
				case <-finished:
					return
				default:
				}
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			for i := range rounds * len(entries) {
				l.Book(entries[(i+w)%len(entries)], after(time.Duration(i)*time.Millisecond))
			}
		})
	}
	writing.Wait()
	close(finished)
	reading.Wait()

	var want Counts
	for _, e := range entries {
		if !e.Balanced() {
			t.Errorf("the entry %+v is not balanced", e)
		}
		for range writers * rounds {
			want = want.Add(e)
		}
	}
	if got := l.Counts(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBalancedMissesNothing(t *testing.T) {
	whole := Counts{
		Received: 10, Refused: 1, Malformed: 1, Accepted: 8, Synthesized: 1,
		Exported: 2, Pending: 1, Spooled: 1, SampledOut: 1, Filtered: 1, DroppedQueueFull: 1, DroppedSpoolFull: 1, RejectedByBackend: 1,
	}
	if !whole.Balanced() {
		t.Fatalf("%+v is balanced", whole)
	}
	outside := map[string]bool{"Bytes": true, "Truncated": true, "Repaired": true, "MissingParents": true}
	for i := range reflect.TypeFor[Counts]().NumField() {
		name := reflect.TypeFor[Counts]().Field(i).Name
		c := whole
		field := reflect.ValueOf(&c).Elem().Field(i)
		field.SetInt(field.Int() + 1)
		if c.Balanced() != outside[name] {
			t.Errorf("with one more in %s Balanced is %v", name, c.Balanced())
		}
	}
}

// distinct has another number in each field.
func distinct() (c Counts) {
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		v.Field(i).SetInt(int64(1000 + i))
	}
	return c
}

func TestAddForgetsNoField(t *testing.T) {
	sum := reflect.ValueOf(distinct().Add(distinct()))
	for i := range sum.NumField() {
		if got, want := sum.Field(i).Int(), int64(2*(1000+i)); got != want {
			t.Errorf("%s is %d, want %d", sum.Type().Field(i).Name, got, want)
		}
	}
}

func TestReportHasEveryCountUnderItsName(t *testing.T) {
	c := distinct()
	reported := []reflect.Value{reflect.ValueOf(DatagramsOf(c)), reflect.ValueOf(SpansOf(c))}
	counts := reflect.ValueOf(c)
	for i := range counts.NumField() {
		name, found := counts.Type().Field(i).Name, false
		for _, part := range reported {
			if f := part.FieldByName(name); f.IsValid() {
				found = true
				if got, want := f.Uint(), uint64(counts.Field(i).Int()); got != want {
					t.Errorf("%s.%s is %d, want %d", part.Type(), name, got, want)
				}
			}
		}
		if !found {
			t.Errorf("%s is not reported", name)
		}
	}
	// An entry that is still on its way can make a part negative.
	if got := SpansOf(Counts{Pending: -1}).Pending; got != 0 {
		t.Errorf("-1 pending is reported as %d", got)
	}
}

func TestRate(t *testing.T) {
	type booking struct {
		at    time.Duration
		spans int64
	}
	steady := func(from, to time.Duration, spans int64) (list []booking) {
		for at := from; at < to; at += time.Second {
			list = append(list, booking{at, spans})
		}
		return list
	}
	for _, tc := range []struct {
		name     string
		bookings []booking
		at       time.Duration
		want     float64
	}{
		{"nothing yet", nil, 0, 0},
		{"nothing accepted", []booking{{0, 0}}, time.Minute, 0},
		{"first second", []booking{{0, 30}, {900 * time.Millisecond, 12}}, 999 * time.Millisecond, 42},
		{"ten seconds after the start", []booking{{0, 30}}, 9 * time.Second, 3},
		{"half a minute of ten a second", steady(0, 30*time.Second, 10), 29 * time.Second, 10},
		{"an hour of ten a second", steady(0, time.Hour, 10), time.Hour - time.Second, 10},
		{"last second of the minute", []booking{{0, 60}}, 59 * time.Second, 1},
		{"a minute later", []booking{{0, 60}}, time.Minute, 0},
		{"a flood that has passed", append(steady(0, 90*time.Second, 16400), booking{150 * time.Second, 6}), 150 * time.Second, 0.1},
		{"a gap of an hour", []booking{{0, 6000}, {time.Hour, 120}}, time.Hour, 2},
		{"a gap, then silence", []booking{{0, 6000}, {time.Hour, 120}}, time.Hour + 59*time.Second, 2},
		{"a gap of exactly the window", []booking{{0, 6000}, {time.Minute, 120}}, time.Minute, 2},
		{"a gap of almost the window", []booking{{0, 480}, {59 * time.Second, 120}}, 59 * time.Second, 10},
		{"a clock that is set back", []booking{{time.Hour, 10}, {0, 20}}, 0, 30},
		{"a clock that is set back and catches up", []booking{{10 * time.Second, 10}, {0, 20}}, 19 * time.Second, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l Ledger
			for _, b := range tc.bookings {
				l.Book(Counts{Received: b.spans, Accepted: b.spans, Pending: b.spans}, after(b.at))
			}
			for range 2 { // looking changes nothing
				if got := l.Rate(after(tc.at)); math.Abs(got-tc.want) > 1e-9 {
					t.Errorf("got %v a second, want %v", got, tc.want)
				}
			}
		})
	}
}

func BenchmarkBook(b *testing.B) {
	var l Ledger
	b.ReportAllocs()
	for b.Loop() {
		l.Book(entries[0], start)
	}
}
