package socket

import (
	"math"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	type coming struct {
		at    time.Duration
		count int64
	}
	steady := func(from, to time.Duration, count int64) (list []coming) {
		for at := from; at < to; at += time.Second {
			list = append(list, coming{at, count})
		}
		return list
	}
	for _, tc := range []struct {
		name string
		come []coming
		at   time.Duration
		want float64
	}{
		{"nothing yet", nil, 0, 0},
		{"first second", []coming{{0, 30}, {900 * time.Millisecond, 12}}, 999 * time.Millisecond, 42},
		{"ten seconds after the start", []coming{{0, 30}}, 9 * time.Second, 3},
		{"an hour of ten a second", steady(0, time.Hour, 10), time.Hour - time.Second, 10},
		{"last second of the minute", []coming{{0, 60}}, 59 * time.Second, 1},
		{"a minute later", []coming{{0, 60}}, time.Minute, 0},
		{"a flood that has passed", append(steady(0, 90*time.Second, 16400), coming{150 * time.Second, 6}), 150 * time.Second, 0.1},
		{"a gap, then silence", []coming{{0, 6000}, {time.Hour, 120}}, time.Hour + 59*time.Second, 2},
		{"a gap of almost the window", []coming{{0, 480}, {59 * time.Second, 120}}, 59 * time.Second, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRate()
			after := func(d time.Duration) time.Time { return r.base.Add(time.Minute + d) }
			for _, c := range tc.come {
				r.add(c.count, after(c.at))
			}
			if got := r.perSecond(after(tc.at)); math.Abs(got-tc.want) > 1e-9 {
				t.Errorf("got %v a second, want %v", got, tc.want)
			}
		})
	}
}

// What has come counts, also while nobody takes it.
func TestRateIsThatOfWhatComes(t *testing.T) {
	q := newRing()
	q.put(40, func(int) Datagram { return Datagram{Payload: []byte("x")} }, time.Now())
	if got := q.rate.perSecond(time.Now()); got < 10 {
		t.Errorf("%v a second", got)
	}
}

func TestDiscardCounts(t *testing.T) {
	q := newRing()
	putAll(q, "one", "two", "three")
	takeFrom(q, 1)
	q.release()
	q.discard()
	if dropped, bytes := q.dropped.Load(), q.droppedBytes.Load(); dropped != 2 || bytes != 8 {
		t.Errorf("%d dropped, %d bytes", dropped, bytes)
	}
	if q.tail.Load() != q.head.Load() || len(takeFrom(q, 1)) != 0 {
		t.Error("something is left")
	}
}
