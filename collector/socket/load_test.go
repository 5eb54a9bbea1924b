package socket

import (
	"math"
	"testing"
	"time"
)

// A flood is when many come and some are refused; neither alone is one.
func TestFloodIsNoticed(t *testing.T) {
	const limit = 10
	type drains struct {
		count int
		each  int           // datagrams
		gap   time.Duration // between them
	}
	for _, tc := range []struct {
		what string
		is   []drains
		want bool
	}{
		{"a node's highest peak, refused in part", []drains{{1000, limit + 1, 600 * time.Microsecond}}, false},
		{"many, none refused", []drains{{10_000, 5, 20 * time.Microsecond}}, false},
		{"many, and one drain found the queue full", []drains{{1000, 5, 20 * time.Microsecond}, {1, limit + 1, 0}, {1000, 5, 20 * time.Microsecond}}, true},
		{"not for long yet", []drains{{100, limit + 1, 50 * time.Microsecond}}, false},
		{"for long enough", []drains{{300, limit + 1, 50 * time.Microsecond}}, true},
		{"the thread lost the processor", []drains{{300, limit + 1, 50 * time.Microsecond}, {3, limit + 1, 20 * time.Millisecond}}, true},
		{"it became slower", []drains{{300, limit + 1, 50 * time.Microsecond}, {3, limit + 1, floodMemory}}, false},
		{"none are refused any more", []drains{{300, limit + 1, 50 * time.Microsecond}, {10_000, 5, 20 * time.Microsecond}}, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			now := time.Now()
			l := load{pressure: new(pressure), limit: limit, charges: new(charges), fewest: math.MaxInt, window: now}
			for _, d := range tc.is {
				for range d.count {
					now = now.Add(d.gap)
					l.observe(0, d.each, nil, now)
				}
			}
			if got := l.flooded.Load(); got != tc.want {
				t.Errorf("a flood: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestBacklogIsNoticed(t *testing.T) {
	for _, tc := range []struct {
		what   string
		limit  int
		counts []int
		want   bool
	}{
		{"a short queue that is full", 10, []int{11}, true},
		{"a short queue that is not", 10, []int{10}, false},
		{"a long queue with a backlog", 512, []int{batchLen, batchLen, 1}, true},
		{"a long queue with less", 512, []int{batchLen, batchLen - 1}, false},
		{"what may have come while it was read", 512, []int{batchLen, batchLen - 1, batchLen}, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			if batchLen != 64 {
				t.Skip("skipped: the numbers are those of batches of 64")
			}
			r := scripted(&script{counts: tc.counts}, tc.limit, newRing())
			r.drain(time.Now().Add(time.Minute))
			if got := !r.load.backlogAt.IsZero(); got != tc.want {
				t.Errorf("a backlog: %v, want %v", got, tc.want)
			}
		})
	}
}

// The kernel lets in one more than the limit, so that many tell that it was
// full; what comes after a call that could have emptied it may be new.
func TestFullQueueIsNoticed(t *testing.T) {
	const b = batchLen
	if b != 64 {
		t.Skip("skipped: the numbers are those of batches of 64")
	}
	for _, tc := range []struct {
		name   string
		limit  int
		counts []int
		full   bool
		calls  int
	}{
		{"10, empty", 10, nil, false, 1},
		{"10, one", 10, []int{1}, false, 1},
		{"10, at the limit", 10, []int{10}, false, 1},
		{"10, full", 10, []int{11}, true, 1},
		{"10, full, and more while it was read", 10, []int{40}, true, 1},
		{"10, full, and a whole batch while it was read", 10, []int{b, 3}, true, 2},
		{"64, almost full", 64, []int{63}, false, 1},
		{"64, at the limit", 64, []int{b, 0}, false, 2},
		{"64, full", 64, []int{b, 1}, true, 2},
		{"63, full", 63, []int{b, 0}, true, 2},
		{"100, at the limit", 100, []int{b, 36}, false, 2},
		{"100, full", 100, []int{b, 37}, true, 2},
		{"512, a burst", 512, []int{b, b, 5}, false, 3},
		{"512, almost full", 512, append(times(7, b), 63), false, 8},
		{"512, at the limit", 512, append(times(8, b), 0), false, 9},
		{"512, full", 512, append(times(8, b), 1), true, 9},
		{"512, full, and more while it was read", 512, append(times(20, b), 7), true, 21},
		{"unknown", 0, append(times(20, b), 7), false, 21},
		{"error at once", 10, []int{-1, 11}, false, 1},
		{"error later", 10, []int{b, -1, 11}, true, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, s := newRing(), &script{counts: tc.counts}
			r := scripted(s, tc.limit, q)
			r.drain(time.Now().Add(time.Minute))
			if full := r.load.queueFull.Load() == 1; full != tc.full {
				t.Errorf("full is %v, want %v", full, tc.full)
			}
			if s.calls != tc.calls {
				t.Errorf("%d calls, want %d", s.calls, tc.calls)
			}
			want := 0
			for _, n := range tc.counts[:min(tc.calls, len(tc.counts))] {
				want += max(n, 0)
			}
			if got := len(takeFrom(q, 1<<20)); got != want {
				t.Errorf("%d datagrams, want %d", got, want)
			}
		})
	}
}
